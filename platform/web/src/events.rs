//! The tenant's committed events as a stream of server-sent events.

use crate::app::{App, Credential};
use crate::caller::Caller;
use crate::edge::bearer;
use crate::extract::Query;
use crate::handlers;
use crate::module::{Access, Module, PermissionInfo, Route};
use crate::problem::Result;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use kernel::{Error, TenantId, Timestamp};
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;
use store::{Event, EventId};
use tokio::sync::watch;
use tokio::time::Instant;

/// May see the tenant's events.
const EVENTS_READ: &str = "events.read";
/// Events taken from the store at once, and so the most that one stream holds.
const BATCH: u32 = 32;
/// Other nodes' commits show by looking, at least this often.
const LOOK_MS: u64 = 1_000;
/// Under a stream of commits it looks no more often than this.
const PAUSE_MS: u64 = 50;
/// After so long the credential is asked about again, and a comment goes out that keeps proxies from hanging up.
const HEARTBEAT_MS: u64 = 15_000;
/// Kinds of events that one stream may ask for.
const MAX_TYPES: usize = 32;

/// The module with the events' route.
pub fn events_module() -> Module {
    Module {
        permissions: &[PermissionInfo { name: EVENTS_READ, description: "Follow everything that happens in the tenant" }],
        routes: vec![Route::new(Access::Tenant(EVENTS_READ), handlers!(events))],
        ..Module::new("events", &[])
    }
}

#[derive(serde::Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Only events of these types, separated by commas: `order.placed,order.cancelled`.
    #[param(max_length = 2048)]
    types: Option<String>,
    /// Begin after this event (or `start`: from the first one) when there is no `Last-Event-ID` header. Without either: from now on.
    #[param(max_length = 16)]
    after: Option<String>,
}

/// An event as it goes over the wire.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Event)]
struct EventView<'a> {
    #[schema(value_type = String, example = "evt_0ABCDEFGHIJ")]
    id: EventId,
    #[serde(rename = "type")]
    #[schema(example = "order.placed")]
    kind: &'a str,
    version: u16,
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    subject: &'a str,
    #[schema(value_type = String, format = DateTime)]
    occurred_at: Timestamp,
    correlation_id: Option<&'a str>,
    #[schema(value_type = Object)]
    payload: &'a RawValue,
}

/// Follow the tenant's events.
///
/// The committed events, in order, as `text/event-stream`; the data of each is an `Event`. Reconnecting with `Last-Event-ID` (as
/// browsers do) goes on after that event without a gap.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "events",
    params(Filter, ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event")),
    responses((status = 200, body = EventView, content_type = "text/event-stream"))
)]
async fn events(State(app): State<App>, caller: Caller, headers: HeaderMap, Query(filter): Query<Filter>) -> Result<Response> {
    let tenant = caller.tenant()?;
    let after = match (headers.get("last-event-id"), filter.after.as_deref()) {
        (Some(id), _) => event_id("Last-Event-ID", id.to_str().unwrap_or(""))?,
        (None, Some("start")) => 0,
        (None, Some(id)) => event_id("after", id)?,
        // Ids rise with time, so the last possible one of the millisecond before this is behind everything new.
        (None, None) => EventId::first_at(app.clock().now().unix_ms()).as_i64() - 1,
    };
    let types: Vec<String> =
        filter.types.as_deref().unwrap_or("").split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect();
    if types.len() > MAX_TYPES {
        return Err(Error::field("types", "too_many", format!("at most {MAX_TYPES} types")).into());
    }
    let open = OpenStream(app.0.metrics.event_streams.clone());
    if open.0.inc() >= i64::from(app.config().event_streams) {
        return Err(Error::overloaded("server.too_many_streams", "too many event streams are open").retry_after_ms(5_000).into());
    }
    let commits = app.store().committed(app.store().shard_of(tenant), app.store().lane_of(tenant));
    let now = Instant::now();
    let stream = Stream {
        stopping: app.stopping(),
        app,
        tenant,
        token: bearer(&headers)?.to_owned(),
        after,
        types,
        ready: VecDeque::from([Bytes::from_static(b"retry: 2000\n\n")]),
        commits,
        looked: now - Duration::from_millis(LOOK_MS),
        beat: now,
        _open: open,
    };
    let body =
        futures_util::stream::unfold(
            stream,
            |mut stream| async move { stream.next().await.map(|chunk| (Ok::<_, Infallible>(chunk), stream)) },
        );
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("text/event-stream")), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, Body::from_stream(body)).into_response())
}

fn event_id(field: &str, text: &str) -> kernel::Result<i64> {
    text.parse().map(EventId::as_i64).map_err(|error: Error| Error::field(field, "invalid", error.detail()))
}

/// Counts a stream as long as it is open. Made before the count is raised, so that a refusal lowers it again.
struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One subscriber. It reads from the store only when its client has taken what was read before.
struct Stream {
    app: App,
    tenant: TenantId,
    token: String,
    /// The last event that was read.
    after: i64,
    types: Vec<String>,
    ready: VecDeque<Bytes>,
    /// Of the tenant's lane: wakes the stream at once.
    commits: watch::Receiver<i64>,
    stopping: watch::Receiver<bool>,
    looked: Instant,
    beat: Instant,
    _open: OpenStream,
}

impl Stream {
    /// The next piece, or none at the end: when the server stops, the credential is no longer good, or the store fails. Clients reconnect.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(chunk);
            }
            if *self.stopping.borrow() {
                return None;
            }
            if self.beat.elapsed() >= Duration::from_millis(HEARTBEAT_MS) {
                self.beat = Instant::now();
                self.still_allowed().await?;
                return Some(Bytes::from_static(b": still here\n\n"));
            }
            self.commits.mark_unchanged();
            self.looked = Instant::now();
            let events = self.app.store().tenant_events_after(self.tenant, self.after, BATCH).await.ok()?;
            let full = events.len() == BATCH as usize;
            for event in events {
                self.after = self.after.max(event.id.as_i64());
                if self.types.is_empty() || self.types.contains(&event.kind) {
                    self.ready.push_back(frame(&event));
                }
            }
            if self.ready.is_empty() && !full {
                self.wait().await;
            }
        }
    }

    /// Until a commit, or until it is time to look anyway.
    async fn wait(&mut self) {
        let commit = async {
            if self.commits.changed().await.is_err() {
                // The store is closing; the next look will say so.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = commit => {}
            _ = self.stopping.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(LOOK_MS)) => {}
        }
        tokio::time::sleep_until(self.looked + Duration::from_millis(PAUSE_MS)).await;
    }

    /// None when the credential has been revoked or has lost the permission.
    async fn still_allowed(&self) -> Option<()> {
        let identity =
            self.app.authenticator().authenticate(self.app.store(), Credential::Bearer(&self.token), Some(self.tenant)).await.ok()?;
        let same = identity.tenant.is_none_or(|own| own == self.tenant) && !identity.platform;
        (same && identity.permissions.contains(EVENTS_READ)).then_some(())
    }
}

/// One event in the form of server-sent events. Its JSON has no line breaks: serde_json escapes those of texts, and payloads are checked.
fn frame(event: &Event) -> Bytes {
    let null = RawValue::NULL;
    let payload: Option<&RawValue> = if event.payload.contains(['\n', '\r']) { None } else { serde_json::from_str(&event.payload).ok() };
    let view = EventView {
        id: event.id,
        kind: &event.kind,
        version: event.version,
        tenant_id: event.tenant_id,
        subject: &event.subject,
        occurred_at: event.occurred_at,
        correlation_id: event.correlation_id.as_deref(),
        payload: payload.unwrap_or(null),
    };
    let json = serde_json::to_string(&view).unwrap_or_else(|_| "null".to_owned());
    Bytes::from(format!("id: {}\nevent: {}\ndata: {json}\n\n", event.id, event.kind))
}
