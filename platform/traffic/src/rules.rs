//! Rules as data: the TOML file, checked as a whole, and what a request is matched against.

use crate::address::{Network, Networks};
use crate::algorithm::{Algorithm, Quota};
use crate::lease::MAX_LEASE;
use kernel::{Error, Result, TenantId};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;

/// The rules that are used unless others are configured.
pub const DEFAULT_RULES: &str = include_str!("../rules/default.toml");
/// Rules that nobody meets by hand, for the demo and for tests.
pub const GENEROUS_RULES: &str = include_str!("../rules/generous.toml");

/// The most rules of a file.
const MAX_RULES: usize = 64;
/// The most overrides of a rule.
const MAX_OVERRIDES: usize = 10_000;
/// The most entries of the block list.
const MAX_BLOCKED: usize = 1_000_000;
/// The longest file, in bytes.
pub(crate) const MAX_FILE: u64 = 64 * 1024 * 1024;

/// A request's headers: the value of one by its lower-case name.
pub type Headers<'a> = dyn Fn(&str) -> Option<&'a str> + Sync + 'a;

/// Who asks for what: everything that a rule can look at. What is not known is none, and no rule that needs it applies.
#[derive(Clone, Copy, Default)]
pub struct Subject<'a> {
    /// The route's template, such as `/api/v1/orders/{id}`.
    pub route: &'a str,
    /// GET, POST, ...
    pub method: &'a str,
    /// The client's address.
    pub ip: Option<IpAddr>,
    /// The tenant in which an authenticated caller asks. Not one that somebody unknown merely names, who could use up its quota.
    pub tenant: Option<TenantId>,
    /// The number of the user's id.
    pub user: Option<i64>,
    /// The number of the API key's id.
    pub api_key: Option<i64>,
    /// The tenant's plan.
    pub plan: Option<&'a str>,
    /// ISO 3166 code of the client's country.
    pub country: Option<&'a str>,
    /// The request's headers, asked by lower-case name.
    pub headers: Option<&'a Headers<'a>>,
    /// A limit of the business or of another program, which only rules that match this service count.
    pub service: Option<&'a str>,
    /// What the service's limit is about, in its own words.
    pub name: Option<&'a str>,
    /// How much the request costs, at least 1; each rule multiplies it with its own cost.
    pub cost: u32,
}

/// What a quota belongs to: one for each value of these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum KeyPart {
    Ip,
    User,
    ApiKey,
    Tenant,
    Route,
    Method,
    Plan,
    Country,
    Name,
    Header(Box<str>),
}

/// What is done when the state that nodes share can't be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenAway {
    /// The request passes.
    #[default]
    Open,
    /// The request is refused with 503.
    Closed,
    /// This node counts by itself, with its share of the limit.
    Local,
}

/// A rule's quota, and those of tenants with one of their own (none: without a limit).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quotas {
    pub(crate) base: Quota,
    pub(crate) tenants: HashMap<TenantId, Option<Quota>>,
}

impl Quotas {
    #[inline]
    pub(crate) fn of(&self, tenant: Option<TenantId>) -> Option<&Quota> {
        match tenant {
            Some(tenant) if !self.tenants.is_empty() => match self.tenants.get(&tenant) {
                Some(own) => own.as_ref(),
                None => Some(&self.base),
            },
            _ => Some(&self.base),
        }
    }
}

impl Quotas {
    /// A node's part of them, where there are so many.
    pub(crate) fn shared_by(&self, nodes: u32) -> Quotas {
        let part = |number: u32| (number / nodes.max(1)).max(1);
        let of = |quota: &Quota| Quota::new(quota.algorithm(), part(quota.limit()), quota.per_us(), part(quota.burst())).unwrap_or(*quota);
        if nodes <= 1 {
            return self.clone();
        }
        Quotas { base: of(&self.base), tenants: self.tenants.iter().map(|(id, own)| (*id, own.as_ref().map(of))).collect() }
    }
}

/// A rule as the file has it, checked.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(crate) name: Box<str>,
    pub(crate) key: Vec<KeyPart>,
    pub(crate) quotas: Quotas,
    pub(crate) cost: u32,
    pub(crate) dry_run: bool,
    pub(crate) when_away: WhenAway,
    /// The most tokens of one key that a node holds; 0: each decision is made in Redis.
    pub(crate) lease: u32,
    routes: Vec<Box<str>>,
    methods: Vec<Box<str>>,
    tenants: Vec<TenantId>,
    users: Vec<i64>,
    api_keys: Vec<i64>,
    plans: Vec<Box<str>>,
    countries: Vec<Box<str>>,
    ips: Networks,
    except_ips: Networks,
    headers: Vec<(Box<str>, Box<str>)>,
    service: Option<Box<str>>,
    /// Only for addresses that hold so many connections open.
    pub(crate) connections: u32,
}

impl Rule {
    /// Whether it has to know the country.
    pub(crate) fn asks_country(&self) -> bool {
        !self.countries.is_empty() || self.key.contains(&KeyPart::Country)
    }

    /// Its name, by which its state is kept when the rules change.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its quota for tenants without one of their own.
    pub fn quota(&self) -> &Quota {
        &self.quotas.base
    }
    /// Whether it only counts what it would refuse.
    pub fn dry_run(&self) -> bool {
        self.dry_run
    }
    /// What it does when the shared state is away.
    pub fn when_away(&self) -> WhenAway {
        self.when_away
    }

    /// Whether it can be decided before it is known who asks.
    pub(crate) fn is_anonymous(&self) -> bool {
        let known_before = |part: &KeyPart| !matches!(part, KeyPart::User | KeyPart::ApiKey | KeyPart::Tenant | KeyPart::Plan);
        self.key.iter().all(known_before)
            && self.tenants.is_empty()
            && self.users.is_empty()
            && self.api_keys.is_empty()
            && self.plans.is_empty()
            && self.service.is_none()
    }

    /// Whether it is about every request, as far as it is no service's.
    pub(crate) fn is_unconditional(&self) -> bool {
        let lists = [&self.routes, &self.methods, &self.plans, &self.countries];
        lists.iter().all(|list| list.is_empty())
            && self.service.is_none()
            && self.tenants.is_empty()
            && self.users.is_empty()
            && self.api_keys.is_empty()
            && self.ips.is_empty()
            && self.except_ips.is_empty()
            && self.headers.is_empty()
    }

    /// Whether it is about this request. Its key may still be unknown.
    #[inline]
    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        let among = |list: &[Box<str>], value: Option<&str>| list.is_empty() || value.is_some_and(|v| list.iter().any(|item| **item == *v));
        let number = |list: &[i64], value: Option<i64>| list.is_empty() || value.is_some_and(|v| list.contains(&v));
        if self.service.as_deref() != subject.service {
            return false;
        }
        let route = |pattern: &str| match pattern.strip_suffix('*') {
            Some(head) => subject.route.starts_with(head),
            None => subject.route == pattern,
        };
        (self.routes.is_empty() || self.routes.iter().any(|pattern| route(pattern)))
            && (self.methods.is_empty() || self.methods.iter().any(|method| **method == *subject.method))
            && (self.tenants.is_empty() || subject.tenant.is_some_and(|tenant| self.tenants.contains(&tenant)))
            && number(&self.users, subject.user)
            && number(&self.api_keys, subject.api_key)
            && among(&self.plans, subject.plan)
            && among(&self.countries, subject.country)
            && (self.ips.is_empty() || subject.ip.is_some_and(|ip| self.ips.contains(ip)))
            && (self.except_ips.is_empty() || !subject.ip.is_some_and(|ip| self.except_ips.contains(ip)))
            && self.headers.iter().all(|(name, wanted)| {
                subject.headers.and_then(|headers| headers(name)).is_some_and(|value| **wanted == *"*" || value == &**wanted)
            })
    }
}

/// A whole file of rules, checked.
#[derive(Clone, Debug, Default)]
pub struct RuleFile {
    pub(crate) rules: Vec<Rule>,
    pub(crate) block: Networks,
    pub(crate) connections_per_ip: Option<u32>,
}

impl RuleFile {
    /// Reads and checks a file's text. `name` is what errors call it.
    /// Errors: `limits.invalid_rules`, with the line: an unknown field, a zero window, a negative cost, a limit that can never pass, and
    /// whatever else could not be meant.
    pub fn parse(name: &str, text: &str) -> Result<RuleFile> {
        let wrong = |at: usize, why: String| {
            let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            Error::invalid("limits.invalid_rules", format!("{name}:{line}: {why}"))
        };
        let raw: RawFile =
            toml::from_str(text).map_err(|error| wrong(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        check(raw).map_err(|(span, why)| wrong(span.start, why))
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// How many networks are blocked.
    pub fn blocked(&self) -> usize {
        self.block.len()
    }

    /// The most connections that one address may hold open.
    pub fn connections_per_ip(&self) -> Option<u32> {
        self.connections_per_ip
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    block: Vec<Spanned<String>>,
    #[serde(default)]
    connections: RawConnections,
    #[serde(default, rename = "rule")]
    rules: Vec<Spanned<RawRule>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConnections {
    per_ip: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: Spanned<String>,
    #[serde(default)]
    key: Vec<Spanned<String>>,
    algorithm: Algorithm,
    limit: Spanned<i64>,
    per: Spanned<String>,
    burst: Option<Spanned<i64>>,
    cost: Option<Spanned<i64>>,
    #[serde(default, rename = "match")]
    matches: RawMatch,
    #[serde(default)]
    except_ip: Vec<Spanned<String>>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    when_away: WhenAway,
    lease: Option<Spanned<i64>>,
    #[serde(default, rename = "override")]
    overrides: Vec<Spanned<RawOverride>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMatch {
    #[serde(default)]
    route: Vec<Spanned<String>>,
    #[serde(default)]
    method: Vec<Spanned<String>>,
    #[serde(default)]
    tenant: Vec<Spanned<String>>,
    #[serde(default)]
    user: Vec<Spanned<String>>,
    #[serde(default)]
    api_key: Vec<Spanned<String>>,
    #[serde(default)]
    plan: Vec<String>,
    #[serde(default)]
    country: Vec<Spanned<String>>,
    #[serde(default)]
    ip: Vec<Spanned<String>>,
    #[serde(default)]
    header: HashMap<String, String>,
    service: Option<String>,
    connections: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOverride {
    tenant: Spanned<String>,
    limit: Option<Spanned<i64>>,
    burst: Option<Spanned<i64>>,
    #[serde(default)]
    unlimited: bool,
}

type Place = Range<usize>;
type Checked<T> = std::result::Result<T, (Place, String)>;

fn check(raw: RawFile) -> Checked<RuleFile> {
    if raw.block.len() > MAX_BLOCKED {
        return Err((raw.block[MAX_BLOCKED].span(), format!("the block list has more than {MAX_BLOCKED} entries")));
    }
    let connections_per_ip = match &raw.connections.per_ip {
        Some(most) => Some(number(most, 1, "the number of connections")?),
        None => None,
    };
    let mut file = RuleFile { rules: Vec::new(), block: networks(&raw.block)?, connections_per_ip };
    for rule in raw.rules {
        let span = rule.span();
        if file.rules.len() == MAX_RULES {
            return Err((span, format!("there are more than {MAX_RULES} rules")));
        }
        let rule = check_rule(rule.into_inner(), &span)?;
        if file.rules.iter().any(|other| other.name == rule.name) {
            return Err((span, format!("there are two rules called {:?}", rule.name)));
        }
        file.rules.push(rule);
    }
    Ok(file)
}

fn check_rule(raw: RawRule, span: &Place) -> Checked<Rule> {
    let name = raw.name.get_ref();
    let named = (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !named {
        return Err((raw.name.span(), "a name has 1 to 64 lower-case letters, digits and _".to_owned()));
    }
    let key: Vec<KeyPart> = raw.key.iter().map(key_part).collect::<Checked<_>>()?;
    let per_us = duration_us(raw.per.get_ref()).ok_or_else(|| {
        (raw.per.span(), format!("{:?} is not a length of time such as \"500ms\", \"1s\", \"1m\", \"1h\" or \"1d\"", raw.per.get_ref()))
    })?;
    let limit = number(&raw.limit, 0, "a limit")?;
    let burst = raw.burst.as_ref().map(|burst| number(burst, 0, "a burst")).transpose()?;
    if let Some(given) = &raw.burst
        && !matches!(raw.algorithm, Algorithm::TokenBucket | Algorithm::LeakyBucket)
    {
        return Err((given.span(), "only token_bucket and leaky_bucket have a burst".to_owned()));
    }
    if raw.burst.as_ref().is_some_and(|burst| *burst.get_ref() == 0) && raw.algorithm == Algorithm::TokenBucket {
        return Err((raw.burst.as_ref().map_or(span.clone(), Spanned::span), "a bucket of 0 can never let anything pass".to_owned()));
    }
    let blame = if per_us == 0 { raw.per.span() } else { raw.limit.span() };
    let base = Quota::new(raw.algorithm, limit, per_us, burst.unwrap_or(0)).map_err(|why| (blame, why.to_owned()))?;
    let cost = match &raw.cost {
        Some(cost) => number(cost, 1, "a cost")?,
        None => 1,
    };
    let can_pass = |quota: &Quota, place: Place| {
        if cost > quota.most() {
            return Err((place, format!("this can never pass: a request costs {cost}, and at most {} pass at once", quota.most())));
        }
        Ok(())
    };
    can_pass(&base, raw.cost.as_ref().map_or(raw.limit.span(), Spanned::span))?;
    let lease = match &raw.lease {
        Some(lease) if matches!(raw.algorithm, Algorithm::LeakyBucket | Algorithm::SlidingLog) => {
            return Err((lease.span(), "a leaky_bucket and a sliding_log have no lease: they are about the very moment".to_owned()));
        }
        Some(lease) => {
            let most = base.most().min(MAX_LEASE);
            let tokens = number(lease, cost, "a lease")?;
            if tokens > most {
                return Err((lease.span(), format!("a lease is at most {most}: what passes at once, and no more than {MAX_LEASE}")));
            }
            tokens
        }
        None => 0,
    };
    if raw.overrides.len() > MAX_OVERRIDES {
        return Err((span.clone(), format!("a rule has at most {MAX_OVERRIDES} overrides")));
    }
    let mut tenants = HashMap::new();
    for own in raw.overrides {
        let place = own.span();
        let own = own.into_inner();
        let tenant = tenant(&own.tenant)?;
        let quota = match (&own.limit, own.unlimited) {
            (None, true) => None,
            (Some(limit), false) => {
                let most = number(limit, 0, "a limit")?;
                let burst = own.burst.as_ref().map(|burst| number(burst, 0, "a burst")).transpose()?.or(burst).unwrap_or(0);
                let quota = Quota::new(raw.algorithm, most, per_us, burst).map_err(|why| (limit.span(), why.to_owned()))?;
                can_pass(&quota, limit.span())?;
                Some(quota)
            }
            _ => return Err((place, "an override has a limit, or unlimited = true".to_owned())),
        };
        if tenants.insert(tenant, quota).is_some() {
            return Err((place, format!("tenant {tenant} has two overrides")));
        }
    }
    let ids = |list: &[Spanned<String>]| list.iter().map(id_number).collect::<Checked<Vec<i64>>>();
    let boxed = |list: &[Spanned<String>]| list.iter().map(|text| text.get_ref().as_str().into()).collect::<Vec<Box<str>>>();
    if let Some(route) = raw.matches.route.iter().find(|route| !route.get_ref().starts_with('/')) {
        return Err((route.span(), "a route begins with /, such as /api/v1/orders/{id} or /api/v1/reports/*".to_owned()));
    }
    if let Some(method) = raw.matches.method.iter().find(|m| !m.get_ref().bytes().all(|b| b.is_ascii_uppercase())) {
        return Err((method.span(), "a method is written in capitals".to_owned()));
    }
    if let Some(country) =
        raw.matches.country.iter().find(|c| c.get_ref().len() != 2 || !c.get_ref().bytes().all(|b| b.is_ascii_uppercase()))
    {
        return Err((country.span(), "a country is two capital letters (ISO 3166)".to_owned()));
    }
    Ok(Rule {
        name: name.as_str().into(),
        key,
        quotas: Quotas { base, tenants },
        cost,
        dry_run: raw.dry_run,
        when_away: raw.when_away,
        lease,
        routes: boxed(&raw.matches.route),
        methods: boxed(&raw.matches.method),
        tenants: raw.matches.tenant.iter().map(tenant).collect::<Checked<_>>()?,
        users: ids(&raw.matches.user)?,
        api_keys: ids(&raw.matches.api_key)?,
        plans: raw.matches.plan.into_iter().map(Into::into).collect(),
        countries: boxed(&raw.matches.country),
        ips: networks(&raw.matches.ip)?,
        except_ips: networks(&raw.except_ip)?,
        headers: raw.matches.header.into_iter().map(|(name, value)| (name.to_ascii_lowercase().into(), value.into())).collect(),
        service: raw.matches.service.map(Into::into),
        connections: raw.matches.connections.as_ref().map(|least| number(least, 1, "the number of connections")).transpose()?.unwrap_or(0),
    })
}

fn key_part(text: &Spanned<String>) -> Checked<KeyPart> {
    Ok(match text.get_ref().as_str() {
        "ip" => KeyPart::Ip,
        "user" => KeyPart::User,
        "api_key" => KeyPart::ApiKey,
        "tenant" => KeyPart::Tenant,
        "route" => KeyPart::Route,
        "method" => KeyPart::Method,
        "plan" => KeyPart::Plan,
        "country" => KeyPart::Country,
        "name" => KeyPart::Name,
        other => match other.strip_prefix("header:") {
            Some(name) if !name.is_empty() => KeyPart::Header(name.to_ascii_lowercase().into()),
            _ => {
                let known = "ip, user, api_key, tenant, route, method, plan, country, name or header:NAME";
                return Err((text.span(), format!("a key is made of {known}, not {other:?}")));
            }
        },
    })
}

fn number(value: &Spanned<i64>, least: u32, what: &str) -> Checked<u32> {
    let most = 1_000_000_000;
    match u32::try_from(*value.get_ref()) {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err((value.span(), format!("{what} is a whole number from {least} to {most}, not {}", value.get_ref()))),
    }
}

fn networks(texts: &[Spanned<String>]) -> Checked<Networks> {
    let parse = |text: &Spanned<String>| text.get_ref().parse::<Network>().map_err(|error| (text.span(), error.detail().to_owned()));
    texts.iter().map(parse).collect()
}

fn tenant(text: &Spanned<String>) -> Checked<TenantId> {
    text.get_ref().parse().map_err(|_| (text.span(), format!("{:?} is not a tenant's id (ten_...)", text.get_ref())))
}

/// The number of an id of whatever kind: they are all written alike after their prefix.
fn id_number(text: &Spanned<String>) -> Checked<i64> {
    let digits = text.get_ref().split_once('_').map(|(_, digits)| digits);
    let id = digits.and_then(|digits| format!("ten_{digits}").parse::<TenantId>().ok());
    id.map(TenantId::as_i64).ok_or_else(|| (text.span(), format!("{:?} is not an id", text.get_ref())))
}

/// `500ms`, `1s`, `1m`, `1h`, `1d` in microseconds.
fn duration_us(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text.get(..digits)?.parse().ok()?;
    let unit = match text.get(digits..)? {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3_600),
        "d" => Duration::from_secs(86_400),
        _ => return None,
    };
    number.checked_mul(unit.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[rule]]\nname = \"a\"\nkey = [\"ip\"]\nalgorithm = \"token_bucket\"\nlimit = 10\nper = \"1s\"\n";

    fn refused(text: &str) -> String {
        let error = RuleFile::parse("rules.toml", text).expect_err("refused");
        assert_eq!(error.code(), "limits.invalid_rules");
        error.detail().to_owned()
    }

    #[test]
    fn the_shipped_files_are_valid() {
        let rules = RuleFile::parse("default", DEFAULT_RULES).unwrap();
        let figures = |name: &str| {
            let rule = rules.rules.iter().find(|rule| *rule.name == *name).unwrap();
            (rule.quotas.base.limit(), rule.quotas.base.per_us() / 1_000_000, rule.quotas.base.burst())
        };
        assert_eq!(figures("ip"), (100, 60, 0));
        assert_eq!(figures("ip_burst"), (10, 1, 10));
        assert_eq!(figures("user"), (500, 60, 0));
        assert_eq!(figures("tenant"), (1_000, 60, 0));
        assert_eq!(figures("orders"), (10, 1, 100));
        assert_eq!([figures("plan_free"), figures("plan_basic"), figures("plan_premium")].map(|f| f.0), [100, 1_000, 10_000]);
        assert_eq!(rules.rules.iter().find(|rule| *rule.name == *"sign_in").unwrap().when_away, WhenAway::Closed);
        RuleFile::parse("generous", GENEROUS_RULES).unwrap();
        assert_eq!(RuleFile::parse("empty", "").unwrap().rules.len(), 0);
    }

    #[test]
    fn the_examples_of_the_documentation_are_valid() {
        let text = include_str!("../../../docs/traffic.md");
        let mut examples = 0;
        for block in text.split("```toml\n").skip(1) {
            let example = block.split("```").next().unwrap();
            if example.contains("[[rule]]") {
                examples += 1;
                assert!(!RuleFile::parse("docs/traffic.md", example).unwrap().rules.is_empty());
            }
        }
        assert_eq!(examples, 1);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        let with = |line: &str| format!("{GOOD}{line}\n");
        for (text, line, words) in [
            (with("limits = 3"), 7, "unknown field `limits`"),
            (with("cost = -1"), 7, "a cost is a whole number from 1"),
            (with("cost = 0"), 7, "a cost is a whole number from 1"),
            (with("cost = 11"), 7, "this can never pass: a request costs 11, and at most 10 pass at once"),
            (with("burst = 0"), 7, "a bucket of 0"),
            (with("match = { route = [\"orders\"] }"), 7, "a route begins with /"),
            (with("match = { routes = [\"/orders\"] }"), 7, "unknown field `routes`"),
            (with("match = { method = [\"post\"] }"), 7, "a method is written in capitals"),
            (with("match = { tenant = [\"acme\"] }"), 7, "is not a tenant's id"),
            (with("match = { country = [\"Germany\"] }"), 7, "a country is two capital letters"),
            (with("except_ip = [\"10.0.0.1/8\"]"), 7, "is not an address or a network"),
            (with("when_away = \"maybe\""), 7, "unknown variant `maybe`"),
            (with("[[rule.override]]\ntenant = \"ten_00000000001\"\nlimit = 0"), 9, "a limit of 0 can never pass"),
            (with("[[rule.override]]\ntenant = \"ten_00000000001\""), 7, "an override has a limit, or unlimited = true"),
            (GOOD.replace("\"1s\"", "\"0s\""), 6, "a window of zero length"),
            (GOOD.replace("\"1s\"", "\"1 second\""), 6, "is not a length of time"),
            (GOOD.replace("\"1s\"", "\"32d\""), 5, "a window is at most 31 days"),
            (GOOD.replace("limit = 10", "limit = 0"), 5, "a limit of 0 can never pass"),
            (GOOD.replace("limit = 10", "limit = -10"), 5, "a limit is a whole number"),
            (GOOD.replace("limit = 10\n", ""), 1, "missing field `limit`"),
            (GOOD.replace("token_bucket", "sliding_log").replace("= 10", "= 2000"), 5, "takes at most 1000"),
            (GOOD.replace("token_bucket", "fixed_window") + "burst = 5", 7, "only token_bucket and leaky_bucket have a burst"),
            (GOOD.replace("token_bucket", "leaky_bucket") + "burst = 500", 5, "would wait more than 10 s"),
            (GOOD.replace("[\"ip\"]", "[\"address\"]"), 3, "a key is made of ip, user"),
            (format!("{GOOD}\n{GOOD}"), 8, "there are two rules called \"a\""),
            ("block = [\n  \"192.0.2.0/24\",\n  \"192.0.2.1/24\",\n]".to_owned(), 3, "is not an address or a network"),
            (with("match = { connections = 0 }"), 7, "the number of connections is a whole number from 1"),
            (with("lease = 11"), 7, "a lease is at most 10"),
            (with("lease = 0"), 7, "a lease is a whole number from 1"),
            (GOOD.replace("token_bucket", "sliding_log") + "lease = 5", 7, "have no lease"),
            ("[connections]\nper_ip = 0".to_owned(), 2, "the number of connections"),
            ("rule = [".to_owned(), 1, ""),
        ] {
            let said = refused(&text);
            assert!(
                said.starts_with(&format!("rules.toml:{line}: ")) && said.contains(words),
                "{said}\n  wanted line {line}: {words}\n{text}"
            );
        }
    }

    #[test]
    fn a_rule_matches_what_it_says() {
        let of = |matches: &str| {
            let text = format!("{GOOD}{matches}\n");
            RuleFile::parse("rules.toml", &text).unwrap().rules.remove(0)
        };
        let tenant: TenantId = "ten_00000000005".parse().unwrap();
        let headers = |name: &str| (name == "x-client").then_some("app");
        let subject = Subject {
            route: "/api/v1/orders/{id}",
            method: "GET",
            ip: Some("192.0.2.9".parse().unwrap()),
            tenant: Some(tenant),
            user: Some(7),
            plan: Some("basic"),
            headers: Some(&headers),
            cost: 1,
            ..Subject::default()
        };
        for (matches, yes) in [
            ("", true),
            ("match = { route = [\"/api/v1/orders\"] }", false),
            ("match = { route = [\"/api/v1/orders/*\"] }", true),
            ("match = { route = [\"/x\", \"/api/v1/orders/{id}\"] }", true),
            ("match = { method = [\"POST\"] }", false),
            ("match = { method = [\"GET\"], plan = [\"basic\", \"free\"] }", true),
            ("match = { plan = [\"free\"] }", false),
            ("match = { tenant = [\"ten_00000000005\"] }", true),
            ("match = { tenant = [\"ten_00000000006\"] }", false),
            ("match = { user = [\"usr_00000000007\"] }", true),
            ("match = { api_key = [\"key_00000000007\"] }", false),
            ("match = { country = [\"DE\"] }", false),
            ("match = { ip = [\"192.0.2.0/24\"] }", true),
            ("match = { ip = [\"192.0.3.0/24\"] }", false),
            ("except_ip = [\"192.0.2.0/24\"]", false),
            ("match = { header = { X-Client = \"app\" } }", true),
            ("match = { header = { x-client = \"*\" } }", true),
            ("match = { header = { x-client = \"web\" } }", false),
            ("match = { service = \"checkout\" }", false),
        ] {
            assert_eq!(of(matches).matches(&subject), yes, "{matches}");
        }
        assert!(of("match = { service = \"checkout\" }").matches(&Subject { service: Some("checkout"), ..subject }));
        assert!(!of("").matches(&Subject { service: Some("checkout"), ..subject }), "other programs' limits are their own");
    }
}
