//! Rate limits at the edge: who the client is, when the rules are asked, what the answer's headers say; and the routes about limits.

use crate::app::{App, Identity};
use crate::caller::Caller;
use crate::extract::Body;
use crate::handlers;
use crate::module::{Access, Module, PermissionInfo, Route};
use crate::problem;
use axum::Json;
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use kernel::{ActorKind, Error, Result, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;
use traffic::{Decision, Limiter, Networks, Outcome, Rules, Subject, Take};
use utoipa::ToSchema;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The headers above, for pages of other origins.
pub(crate) const EXPOSED: &str = "ratelimit, ratelimit-policy, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset";

/// Sees how often who is limited.
const LIMITS_READ: &str = "platform.limits.read";
/// Asks for decisions about the limits of a service of one's own.
const LIMITS_DECIDE: &str = "limits.decide";

/// The address at the other end of the connection, put into each request's extensions by whatever holds the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// What the answer says of the quotas.
pub(crate) struct Told([(HeaderName, HeaderValue); 5]);

impl Told {
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        headers.extend(self.0);
    }
}

/// The client's address, if the connection's is known.
pub(crate) fn client_ip(headers: &HeaderMap, peer: Option<&Peer>, trusted: &Networks) -> Option<IpAddr> {
    let peer = peer?.0;
    if trusted.is_empty() {
        return Some(traffic::plain(peer));
    }
    // What is no text ends the walk like any other thing that is no address.
    Some(traffic::client(peer, headers.get_all(X_FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or("?")), trusted))
}

/// A request on its way through the limits of its route.
pub(crate) struct Asking<'a> {
    app: &'a App,
    route: &'a str,
    parts: &'a Parts,
    ip: Option<IpAddr>,
}

impl<'a> Asking<'a> {
    /// None when there are no limits.
    pub(crate) fn new(app: &'a App, route: &'a str, parts: &'a Parts) -> Option<Asking<'a>> {
        app.limits()?;
        let ip = client_ip(&parts.headers, parts.extensions.get::<Peer>(), app.trusted_proxies());
        Some(Asking { app, route, parts, ip })
    }

    async fn decide(&self, identity: Option<&Identity>, take: Take) -> (Result<Duration>, Option<Told>) {
        let Some(limiter) = self.app.limits() else { return (Ok(Duration::ZERO), None) };
        let header = |name: &str| self.parts.headers.get(name).and_then(|value| value.to_str().ok());
        let id_of = |kind: ActorKind| identity.filter(|identity| identity.actor.kind == kind).map(|identity| identity.actor.id);
        let subject = Subject {
            route: self.route,
            method: self.parts.method.as_str(),
            ip: self.ip,
            tenant: identity.and_then(|identity| identity.tenant),
            user: id_of(ActorKind::User),
            api_key: id_of(ActorKind::ApiKey),
            plan: identity.and_then(|identity| identity.plan),
            headers: Some(&header),
            cost: 1,
            ..Subject::default()
        };
        let rules = limiter.rules();
        let decision = limiter.decide_shared(&rules, &subject, take).await;
        let told = (take != Take::Peek || !decision.admitted()).then(|| told(&rules, &decision)).flatten();
        (verdict(&rules, &decision), told)
    }

    /// Before anything is looked up: refuses whom the rules that need no identity refuse already. Takes nothing.
    pub(crate) async fn enter(&self, told: &mut Option<Told>) -> Result<()> {
        let (verdict, say) = self.decide(None, Take::Peek).await;
        if verdict.is_err() {
            *told = say;
        }
        verdict.map(|_| ())
    }

    /// Whoever was not recognised pays by its address.
    pub(crate) async fn unknown(&self, told: &mut Option<Told>) -> Result<()> {
        let (verdict, say) = self.decide(None, Take::Anonymous).await;
        *told = say;
        verdict.map(|_| ())
    }

    /// All rules at once, all or none; waits as long as a queue says.
    pub(crate) async fn take(&self, identity: Option<&Identity>, told: &mut Option<Told>) -> Result<()> {
        let (verdict, say) = self.decide(identity, Take::All).await;
        *told = say;
        let delay = verdict?;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }
}

/// How long to wait, or why not at all.
fn verdict(rules: &Rules, decision: &Decision<'_>) -> Result<Duration> {
    match decision.outcome {
        Outcome::Admitted => Ok(Duration::from_micros(decision.delay_us)),
        Outcome::Limited { rule, retry_us } => {
            let (most, window_us) = decision.tightest().map_or((0, 0), |level| level.quota.allowance());
            let detail = format!("the limit `{}` of {most} in {} is used up", rules.name(rule), seconds(window_us));
            Err(Error::limited("limits.exceeded", detail).retry_after_ms(retry_us.div_ceil(1000).try_into().unwrap_or(u32::MAX)))
        }
        Outcome::Blocked => Err(blocked()),
        Outcome::Away { rule } => {
            let detail = format!("the limit `{}` can't be looked up at the moment, and lets nothing pass without", rules.name(rule));
            Err(Error::unavailable("limits.away", detail).retry_after_ms(2_000))
        }
    }
}

pub(crate) fn blocked() -> Error {
    Error::forbidden("limits.blocked", "requests from this address are not answered")
}

fn seconds(us: u64) -> String {
    if us < 1_000_000 { format!("{} ms", us / 1000) } else { format!("{} s", us / 1_000_000) }
}

/// The header trio that everybody knows, about the tightest rule; and the IETF's fields, about all of them.
fn told(rules: &Rules, decision: &Decision<'_>) -> Option<Told> {
    let tightest = decision.tightest()?;
    let (left, reset_us) = decision.left(tightest);
    let (most, _) = tightest.quota.allowance();
    let reset_s = reset_us.div_ceil(1_000_000);
    let reset_at = (decision.now_us() + reset_us).div_ceil(1_000_000);
    // Most answers carry them: one piece of memory for all five.
    let mut text = String::with_capacity(128 + 64 * decision.levels.len());
    let mut ends = [0; 5];
    let _ = write!(text, "{most}");
    ends[0] = text.len();
    let _ = write!(text, "{left}");
    ends[1] = text.len();
    let _ = write!(text, "{reset_at}");
    ends[2] = text.len();
    let _ = write!(text, "\"{}\";r={left};t={reset_s}", rules.name(tightest.rule));
    ends[3] = text.len();
    for (n, level) in decision.levels.iter().enumerate() {
        text.push_str(if n == 0 { "" } else { ", " });
        text.push_str(&rules.policy(level));
    }
    ends[4] = text.len();
    let text = bytes::Bytes::from(text);
    let value = |n: usize| HeaderValue::from_maybe_shared(text.slice(if n == 0 { 0 } else { ends[n - 1] }..ends[n])).ok();
    Some(Told([(LIMIT, value(0)?), (REMAINING, value(1)?), (RESET, value(2)?), (RATE_LIMIT, value(3)?), (RATE_LIMIT_POLICY, value(4)?)]))
}

/// The module with the routes about limits.
pub fn limits_module() -> Module {
    Module {
        permissions: &[
            PermissionInfo { name: LIMITS_READ, description: "See the rate limits, and who is limited" },
            PermissionInfo { name: LIMITS_DECIDE, description: "Ask whether a limit of a service of one's own lets something pass" },
        ],
        routes: vec![
            Route::new(Access::Platform(LIMITS_READ), handlers!(limits)),
            Route::new(Access::Tenant(LIMITS_DECIDE), handlers!(decide)).body_limit(16 * 1024),
        ],
        ..Module::new("limits", &[])
    }
}

/// The limits of this node.
#[derive(Serialize, ToSchema)]
struct Limits {
    /// The rules, in the order of their file.
    rules: Vec<RuleInfo>,
    /// Networks on the block list.
    blocked_networks: usize,
    /// The most connections that one address may hold open.
    connections_per_ip: Option<u32>,
    /// Keys that are remembered now.
    keys: u64,
    /// Keys that were forgotten before their time, for want of memory.
    evictions: u64,
    /// Who was refused on this node, those refused last first; at most 1,024.
    limited: Vec<LimitedInfo>,
}

/// A rule.
#[derive(Serialize, ToSchema)]
struct RuleInfo {
    /// Its name.
    #[schema(example = "ip")]
    name: String,
    /// How it counts.
    #[schema(example = "sliding_counter")]
    #[schema(value_type = String)]
    algorithm: traffic::Algorithm,
    /// So many ...
    limit: u32,
    /// ... in so long, in milliseconds.
    per_ms: u64,
    /// Size of the bucket or the queue.
    burst: u32,
    /// Whether it only counts what it would refuse.
    dry_run: bool,
    /// What it does when the shared state is away.
    #[schema(value_type = String)]
    when_away: traffic::WhenAway,
}

/// Who was refused.
#[derive(Serialize, ToSchema)]
struct LimitedInfo {
    /// By which rule.
    rule: String,
    /// Who.
    #[schema(example = "ip=192.0.2.1")]
    key: String,
    /// How often since it was first noted.
    refused: u64,
    /// When last.
    last_at: Timestamp,
    /// When it could pass again, as of then.
    until: Timestamp,
}

/// The rate limits of this node, and who is limited.
#[utoipa::path(get, path = "/api/v1/platform/limits", tag = "platform", responses((status = 200, body = Limits)))]
async fn limits(State(app): State<App>) -> problem::Result<Json<Limits>> {
    let Some(limiter) = app.limits() else {
        let none = Limits { rules: Vec::new(), blocked_networks: 0, connections_per_ip: None, keys: 0, evictions: 0, limited: Vec::new() };
        return Ok(Json(none));
    };
    let rules = limiter.rules();
    let file = rules.file();
    let rule = |rule: &traffic::Rule| RuleInfo {
        name: rule.name().to_owned(),
        algorithm: rule.quota().algorithm(),
        limit: rule.quota().limit(),
        per_ms: rule.quota().per_us() / 1000,
        burst: rule.quota().burst(),
        dry_run: rule.dry_run(),
        when_away: rule.when_away(),
    };
    let limited = |key: traffic::LimitedKey| LimitedInfo {
        rule: key.rule.into(),
        key: key.key.into(),
        refused: key.refused,
        last_at: key.last_at,
        until: key.until,
    };
    Ok(Json(Limits {
        rules: file.rules().iter().map(rule).collect(),
        blocked_networks: file.blocked(),
        connections_per_ip: file.connections_per_ip(),
        keys: limiter.live_keys(),
        evictions: limiter.evictions(),
        limited: limiter.limited().into_iter().map(limited).collect(),
    }))
}

/// What a program asks about.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Question {
    /// The service, as `match.service` of the rules has it. What one tenant counts is nothing to another.
    #[schema(max_length = 64, example = "checkout")]
    service: String,
    /// What it is about, for rules whose key has `name`.
    #[serde(default)]
    #[schema(max_length = 256, example = "customer-17")]
    name: Option<String>,
    /// The client's address, for rules whose key has `ip`.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "192.0.2.1")]
    ip: Option<IpAddr>,
    /// How much it costs; 1 unless given.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000)]
    cost: Option<u32>,
}

/// The decision.
#[derive(Serialize, ToSchema)]
struct Answer {
    /// Whether it may pass. If so, it has been counted.
    allowed: bool,
    /// How long it should wait first, in milliseconds.
    delay_ms: u64,
    /// When it could pass, in milliseconds from now, if it may not.
    retry_after_ms: Option<u64>,
    /// What each rule says.
    limits: Vec<AnswerLevel>,
}

/// What a rule says.
#[derive(Serialize, ToSchema)]
struct AnswerLevel {
    /// The rule.
    rule: String,
    /// So many ...
    limit: u32,
    /// ... in so long, in milliseconds.
    window_ms: u64,
    /// What is left.
    remaining: u32,
    /// After so long all of it is there again, in milliseconds.
    reset_ms: u64,
}

/// Asks the limits of a service of one's own, for programs that are not BrandOS: counted with BrandOS's rules, decided all or none.
#[utoipa::path(post, path = "/api/v1/limits/decisions", tag = "limits", request_body = Question, responses(
    (status = 200, body = Answer, description = "Decided, one way or the other"),
))]
async fn decide(State(app): State<App>, caller: Caller, Body(question): Body<Question>) -> problem::Result<Json<Answer>> {
    let long = |field: &'static str, text: Option<&str>, most: usize| match text {
        Some(text) if text.is_empty() || text.len() > most => {
            Err(Error::field(field, "length", format!("must have 1 to {most} characters")))
        }
        _ => Ok(()),
    };
    long("service", Some(&question.service), 64)?;
    long("name", question.name.as_deref(), 256)?;
    let cost = question.cost.unwrap_or(1);
    if !(1..=1_000_000).contains(&cost) {
        return Err(Error::field("cost", "range", "must be from 1 to 1000000").into());
    }
    let tenant = caller.tenant()?;
    let subject = Subject {
        service: Some(&question.service),
        name: question.name.as_deref(),
        ip: question.ip,
        tenant: Some(tenant),
        cost,
        ..Subject::default()
    };
    let unknown = || Error::not_found("limits.unknown_service", "no rule is about this service, or none with these attributes");
    let limiter: &Limiter = app.limits().ok_or_else(unknown)?;
    let rules = limiter.rules();
    let decision = limiter.decide_shared(&rules, &subject, Take::All).await;
    // No level says anything either when all of them are on trial, or open while the shared state is away.
    if decision.levels.is_empty() && decision.admitted() && !limiter.knows(&rules, &subject) {
        return Err(unknown().into());
    }
    let retry_after_ms = match decision.outcome {
        Outcome::Admitted | Outcome::Blocked => None,
        Outcome::Limited { retry_us, .. } => Some(retry_us.div_ceil(1000)),
        Outcome::Away { .. } => Some(2_000),
    };
    let level = |level: &traffic::Level<'_>| {
        let ((limit, window_us), (remaining, reset_us)) = (level.quota.allowance(), decision.left(level));
        let rule = rules.name(level.rule).to_owned();
        AnswerLevel { rule, limit, window_ms: window_us / 1000, remaining, reset_ms: reset_us.div_ceil(1000) }
    };
    Ok(Json(Answer {
        allowed: decision.admitted(),
        delay_ms: decision.delay_us.div_ceil(1000),
        retry_after_ms,
        limits: decision.levels.iter().map(level).collect(),
    }))
}
