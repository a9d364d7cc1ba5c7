//! Requests that are taken in while the store is away, and done when it is back: what the edge and whoever keeps them say to each other.
//!
//! A route says of itself that it may be taken in ([`crate::Route::taken_in`]): its handler checks the request without the store and then runs
//! one command under the request's idempotency key, through [`crate::App::submit`] or its like. When that ends with the store away, the edge
//! hands the request over as it came, and [`crate::Web::again`] does it later under the same key. So whatever became of the first attempt, and
//! however often the client or anybody else tries again, it happens once.

use crate::app::App;
use crate::caller::Caller;
use crate::extract::IDEMPOTENCY_KEY;
use crate::problem::Problem;
use axum::Json;
use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use kernel::{Actor, Error, ErrorKind, Id, Result, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Marks the temporary ids of what was taken in (`qor_...`).
pub enum IntakeEntity {}
impl kernel::Entity for IntakeEntity {
    const PREFIX: &'static str = "qor";
}
/// The temporary id of a request that was taken in.
pub type IntakeId = Id<IntakeEntity>;

/// Where something stands that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntakeState {
    /// It is written down, and done when the database is back.
    Waiting,
    /// It was done.
    Placed,
    /// It could not be done; `code` says why.
    Refused,
}

impl IntakeState {
    /// As it is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            IntakeState::Waiting => "waiting",
            IntakeState::Placed => "placed",
            IntakeState::Refused => "refused",
        }
    }

    /// From what [`IntakeState::as_str`] gave. Errors: `internal`.
    pub fn parse(text: &str) -> Result<IntakeState> {
        let all = [IntakeState::Waiting, IntakeState::Placed, IntakeState::Refused];
        all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| Error::internal(format!("{text} is no state of an intake")))
    }
}

/// Something that was taken in while the database was away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TakenIn {
    /// Its temporary id.
    pub intake_id: IntakeId,
    /// Where it stands.
    pub state: IntakeState,
    /// Where that can be asked for, for at least 24 hours.
    pub status_url: String,
    /// Where what it has become is, such as `/api/v1/orders/ord_...`.
    pub location: Option<String>,
    /// Of one that was refused: why, as the code of a problem.
    pub code: Option<String>,
    /// The same for a person.
    pub detail: Option<String>,
    /// When it was taken in.
    pub taken_in_at: Timestamp,
    /// When it was done or refused.
    pub ended_at: Option<Timestamp>,
}

/// A request that may be done later.
#[derive(Clone, Debug)]
pub struct Deferred {
    /// Whose data it is about.
    pub tenant: TenantId,
    /// Who asks.
    pub actor: Actor,
    /// The id of the request.
    pub request_id: Arc<str>,
    /// Its path.
    pub path: String,
    /// The caller's idempotency key. None: whoever takes it in gives it one.
    pub key: Option<String>,
    /// Its body, which the handler has found in order.
    pub body: Bytes,
}

/// Who takes requests in.
pub trait Intake: Send + Sync + 'static {
    /// Writes a request down, once for each key, and answers when that is durable. Errors: why it can't be taken in, with a time after which
    /// to try again; `idempotency.key_reused`.
    fn take_in(self: Arc<Self>, request: Deferred) -> BoxFuture<'static, Result<TakenIn>>;

    /// Whether there is room for more.
    fn has_room(&self) -> bool;
}

/// Makes a request one that is done again: whoever asks was let in when it was taken in, and is known by this now.
#[derive(Clone)]
pub(crate) struct Again(pub(crate) crate::app::Identity);

/// What is kept of a request while its handler runs.
pub(crate) struct Kept {
    tenant: TenantId,
    actor: Actor,
    request_id: Arc<str>,
    uri: Uri,
    key: Option<HeaderValue>,
    body: Bytes,
}

impl Kept {
    /// None where the request is in no tenant.
    pub(crate) fn of(parts: &Parts, body: &Bytes) -> Option<Kept> {
        let caller = parts.extensions.get::<Caller>()?;
        Some(Kept {
            tenant: caller.tenant?,
            actor: caller.actor,
            request_id: caller.request_id.clone(),
            uri: parts.uri.clone(),
            key: parts.headers.get(IDEMPOTENCY_KEY).cloned(),
            body: body.clone(),
        })
    }

    /// The handler's answer, or, if that is that the store is away, that the request was taken in.
    pub(crate) async fn unless_done(self, intake: &Arc<dyn Intake>, response: Response) -> Response {
        let unknown = match response.extensions().get::<Problem>() {
            Some(Problem(error)) if may_wait(error, self.key.is_some()) => error.kind() == ErrorKind::Unknown,
            _ => return response,
        };
        // The handler has refused a key that is no text.
        let key = self.key.as_ref().and_then(|key| key.to_str().ok()).map(str::to_owned);
        let (tenant, actor, request_id, body) = (self.tenant, self.actor, self.request_id, self.body);
        match intake.clone().take_in(Deferred { tenant, actor, request_id, path: self.uri.path().to_owned(), key, body }).await {
            Ok(taken) => {
                let mut answer = (StatusCode::ACCEPTED, Json(&taken)).into_response();
                if let Ok(place) = HeaderValue::from_maybe_shared(Bytes::from(taken.status_url.clone())) {
                    answer.headers_mut().insert(LOCATION, place);
                }
                answer
            }
            // That it was not taken in does not say that it was not done.
            Err(_) if unknown => response,
            Err(error) => Problem(error).into_response(),
        }
    }
}

/// Whether a request that ended so may be done later. One whose outcome is unknown only under its own key: without one, doing it again
/// might do it twice.
fn may_wait(error: &Error, keyed: bool) -> bool {
    match error.code() {
        "store.unavailable" => true,
        "store.unknown_outcome" => keyed,
        _ => false,
    }
}

impl Deferred {
    /// The request as it came, under its key, on behalf of whom `identity` says.
    pub(crate) fn request(self, key: &str, identity: crate::app::Identity) -> Result<axum::extract::Request> {
        let mut request = axum::http::Request::post(self.path)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, self.body.len())
            .header(IDEMPOTENCY_KEY, key)
            .body(Body::from(self.body))
            .map_err(|error| Error::internal("what was taken in is no request").caused_by(error))?;
        let mut caller = Caller::nobody(self.request_id);
        caller.tenant = Some(self.tenant);
        request.extensions_mut().insert(caller);
        request.extensions_mut().insert(Again(identity));
        Ok(request)
    }
}

/// Who takes in what this route can't do now: for routes that say so, but not for what is done again.
pub(crate) fn intake_of(app: &App, may: bool, again: bool) -> Option<&Arc<dyn Intake>> {
    app.0.intake.as_ref().filter(|_| may && !again)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has no room.
    struct Full;

    impl Intake for Full {
        fn take_in(self: Arc<Self>, _: Deferred) -> BoxFuture<'static, Result<TakenIn>> {
            Box::pin(std::future::ready(Err(Error::overloaded("test.full", "nothing was done"))))
        }

        fn has_room(&self) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_not_told_to_be_undone() {
        let intake: Arc<dyn Intake> = Arc::new(Full);
        let away = Error::unavailable("store.unavailable", "it is away");
        let unknown = Error::unknown("store.unknown_outcome", "nobody knows");
        for (error, told) in [(away, "test.full"), (unknown, "store.unknown_outcome")] {
            let kept = Kept {
                tenant: TenantId::from_i64(1),
                actor: Actor::SYSTEM,
                request_id: "request".into(),
                uri: Uri::from_static("/api/v1/orders"),
                key: Some(HeaderValue::from_static("key")),
                body: Bytes::new(),
            };
            let answer = kept.unless_done(&intake, Problem(error).into_response()).await;
            assert_eq!(answer.extensions().get::<Problem>().map(|problem| problem.0.code()), Some(told));
        }
    }

    #[test]
    fn only_what_is_done_once_may_wait() {
        let away = Error::unavailable("store.unavailable", "it is away");
        let unknown = Error::unknown("store.unknown_outcome", "nobody knows");
        assert!(may_wait(&away, false) && may_wait(&away, true), "nothing was done");
        assert!(may_wait(&unknown, true) && !may_wait(&unknown, false), "without a key it might be done twice");
        for code in ["store.overloaded", "store.disk_full", "store.deadline", "store.closed"] {
            assert!(!may_wait(&Error::unavailable(code, "the store is there"), true), "{code}");
        }
    }
}
