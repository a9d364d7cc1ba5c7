//! Configuration: one table of documented options; a TOML file, then `BRANDOS_*`, then flags; each value knows where it came from.

use crate::exit::{Failure, Outcome};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::de::{DeTable, DeValue};

/// What an option takes.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Any text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number within bounds, both included.
    Number(i64, i64),
    /// `true` or `false`.
    Switch,
    /// Texts; in the environment and on the command line separated by commas.
    List,
    /// An IP address and a port such as `127.0.0.1:8080`.
    Address,
}

/// How `brandos config` shows an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// As it is.
    Plain,
    /// Never: only whether it is set.
    Secret,
    /// As URLs, without their passwords.
    Urls,
}

/// An option, documented where it is defined. The environment's name is `BRANDOS_` + the key in capitals with `_` for `.`.
struct OptionInfo {
    key: &'static str,
    kind: Kind,
    /// As it would stand in the TOML file; empty text or list means "not set".
    default: &'static str,
    shown: Shown,
    doc: &'static str,
}

const fn option(key: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> OptionInfo {
    OptionInfo { key, kind, default, shown: Shown::Plain, doc }
}

/// Every option there is. [`Config::typed`] reads each of them; a test walks both.
const OPTIONS: &[OptionInfo] = &[
    option("data", Kind::Text, "\"./brandos-data\"", "The data folder: the embedded databases and the lock file. Made when it is missing."),
    OptionInfo {
        key: "database",
        kind: Kind::List,
        default: "[]",
        shown: Shown::Urls,
        doc: "PostgreSQL 15+ databases instead of the embedded SQLite, one URL a shard, the home shard first:\n\
              [\"postgres://brandos:password@db1/brandos\"]. Append shards at the end; never reorder them.",
    },
    OptionInfo {
        key: "replicas",
        kind: Kind::List,
        default: "[]",
        shown: Shown::Urls,
        doc: "Streaming replicas of the PostgreSQL databases, for reads: [\"postgres://brandos:password@db2/brandos\"]. Of another shard than\n\
              the home shard with its number before it: \"1=postgres://...\". At most 16 for each shard. One that lags or is away is not asked.",
    },
    option(
        "node",
        Kind::Number(0, 511),
        "0",
        "This node's number, unlike that of every other node that serves the same databases: it is part of every id.",
    ),
    OptionInfo {
        key: "secret",
        kind: Kind::Text,
        default: "\"\"",
        shown: Shown::Secret,
        doc: "The platform's secret, at least 32 characters, the same on all its nodes: access tokens and cursors are signed with keys\n\
              derived from it. Without one, random ones are kept in the home shard.",
    },
    option(
        "store.shards",
        Kind::Number(1, 64),
        "1",
        "Number of embedded SQLite shards (files). Can grow, never shrink. Unused with PostgreSQL.",
    ),
    option(
        "store.lanes",
        Kind::Number(1, 64),
        "4",
        "Write lanes made in a new PostgreSQL shard; an existing shard keeps its own number. SQLite has one.",
    ),
    option(
        "store.prepared_statements",
        Kind::Switch,
        "true",
        "Prepare statements under names on PostgreSQL, in sessions of their own. Switch off behind a pooler in transaction mode, such as PgBouncer.",
    ),
    option("store.readers", Kind::Number(1, 256), "4", "Read connections for each shard."),
    option(
        "store.queue_commands",
        Kind::Number(1, 1_000_000),
        "8192",
        "The most commands that wait on one lane; more are answered 503 at once.",
    ),
    option("store.queue_bytes", Kind::Number(65_536, 17_179_869_184), "67108864", "The most bytes that wait on one lane."),
    option("store.queue_tenant_commands", Kind::Number(1, 1_000_000), "4096", "The most commands of one tenant that wait on its lane."),
    option(
        "store.queue_wait_ms",
        Kind::Number(0, 60_000),
        "25",
        "The longest that an accepted command is expected to wait on its lane, in milliseconds; 0 for no such bound.",
    ),
    option(
        "payments.base_urls",
        Kind::List,
        "[\"https://api.stripe.com\"]",
        "Beginnings of the addresses at which payment providers may be called; tenants choose among these. Without a port: any port.",
    ),
    option(
        "payments.call_timeout_ms",
        Kind::Number(10, 12_000),
        "10000",
        "How long one call to a payment provider may take, in milliseconds.",
    ),
    option(
        "payments.rates",
        Kind::Text,
        "\"\"",
        "Where exchange rates for display come from each minute: the path of a JSON file, or an http(s) address. Empty: no rates.",
    ),
    option(
        "shipping.base_urls",
        Kind::List,
        "[]",
        "Beginnings of the addresses at which carriers may be called; tenants choose among these. Without a port: any port.",
    ),
    option("shipping.call_timeout_ms", Kind::Number(10, 12_000), "10000", "How long one call to a carrier may take, in milliseconds."),
    option(
        "webhooks.allow_private",
        Kind::Switch,
        "false",
        "Whether webhooks may go over plain HTTP and to addresses beside the server: loopback, private networks. For tests.",
    ),
    option(
        "webhooks.timeout_ms",
        Kind::Number(10, 15_000),
        "10000",
        "How long one attempt to deliver a webhook may take, in milliseconds.",
    ),
    option(
        "wallets.payout_url",
        Kind::Text,
        "\"\"",
        "The address of the bank that pays withdrawals out, such as https://bank.example/v1; see docs/wallets.md. Empty: nothing can be withdrawn.",
    ),
    OptionInfo {
        key: "wallets.payout_token",
        kind: Kind::Text,
        default: "\"\"",
        shown: Shown::Secret,
        doc: "The bearer token that the bank at wallets.payout_url is shown.",
    },
    option("web.listen", Kind::Address, "\"127.0.0.1:8080\"", "Where the HTTP server listens. Port 0 takes a free one."),
    option(
        "web.base_domain",
        Kind::Text,
        "\"\"",
        "The domain whose subdomains name tenants: with \"brandos.example\", acme.brandos.example is tenant acme. Empty: no subdomains.",
    ),
    option("web.plain_subdomains", Kind::List, "[\"api\", \"www\"]", "Subdomains of web.base_domain that name no tenant."),
    option("web.tls_cert", Kind::Text, "\"\"", "PEM file with the certificate chain. Empty: plain HTTP. Needs web.tls_key."),
    option("web.tls_key", Kind::Text, "\"\"", "PEM file with the private key of web.tls_cert."),
    option(
        "web.cors_origins",
        Kind::List,
        "[]",
        "Origins whose pages may call the API, such as [\"https://shop.example\"], or [\"*\"] for all. Empty: none but its own.",
    ),
    option(
        "web.trusted_proxies",
        Kind::List,
        "[]",
        "Networks of the proxies whose X-Forwarded-For tells the client's address, such as [\"10.0.0.0/8\"]. Empty: none is believed.",
    ),
    option(
        "web.body_limit_bytes",
        Kind::Number(1_024, 67_108_864),
        "1048576",
        "The most bytes of a request's body, where a route has no limit of its own.",
    ),
    option("web.header_limit_bytes", Kind::Number(8_192, 1_048_576), "16384", "The most bytes of a request's line and headers together."),
    option(
        "web.header_timeout_ms",
        Kind::Number(100, 600_000),
        "30000",
        "How long the headers of a request may take, and how long a kept-alive connection may idle.",
    ),
    option("web.body_timeout_ms", Kind::Number(100, 600_000), "20000", "How long a request's body may take."),
    option("web.request_timeout_ms", Kind::Number(100, 600_000), "30000", "How long a request may take until its answer begins."),
    option("web.concurrency", Kind::Number(1, 1_000_000), "4096", "The most requests in flight; more are answered 503 with Retry-After."),
    option("web.connections", Kind::Number(1, 1_000_000), "16384", "The most connections open; more wait to be accepted."),
    option("web.event_streams", Kind::Number(0, 1_000_000), "1024", "The most event streams open."),
    option("web.shutdown_ms", Kind::Number(0, 600_000), "20000", "How long a shutdown waits for the requests in flight."),
    option(
        "limits.rules",
        Kind::Text,
        "\"generous\"",
        "The rules of rate limits: generous (nobody meets them by hand), default (for a server that strangers reach), off,\n\
         or a file, which is read again within 50 ms of a change. `brandos limits check FILE` says what is wrong with one.",
    ),
    option(
        "limits.keys",
        Kind::Number(1_000, 100_000_000),
        "262144",
        "Keys (addresses, users, tenants by rule) whose use is remembered, in 21 to 25 bytes each; when there are more, those that have used little of their quota are forgotten.",
    ),
    OptionInfo {
        key: "limits.redis",
        kind: Kind::Text,
        default: "\"\"",
        shown: Shown::Urls,
        doc: "Redis 7+ in which all nodes count together: redis://:password@host:6379/, redis+sentinel://:password@host:port,host:port/master or redis-cluster://:password@host:port,host:port. Empty: each node counts by itself.",
    },
    option(
        "limits.countries",
        Kind::Text,
        "\"\"",
        "A file in MaxMind's format (.mmdb) that knows addresses' countries, for rules that ask for them. Read at the start. Empty: none.",
    ),
    option(
        "limits.nodes",
        Kind::Number(1, 1_000),
        "1",
        "How many nodes share limits.redis: while it is away, a rule with when_away = local gives each its part.",
    ),
    option(
        "cache.bytes",
        Kind::Number(1_000_000, 1_000_000_000_000),
        "100000000",
        "Memory of all caches of this process together, in bytes.",
    ),
    OptionInfo {
        key: "cache.redis",
        kind: Kind::List,
        default: "[]",
        shown: Shown::Urls,
        doc: "Redis 7+ servers through which nodes share what they remember: [\"redis://:password@host:6379/\"]. The first carries the\n\
              messages between nodes; values are spread over all of them. Empty: each node remembers for itself.",
    },
    option(
        "intake.enabled",
        Kind::Switch,
        "true",
        "While PostgreSQL is away, write new orders down in the data folder, answer 202, and place them when it is back. Unused with SQLite.",
    ),
    option("intake.orders", Kind::Number(1, 10_000_000), "100000", "The most orders that wait so; more are answered 503."),
    option("intake.bytes", Kind::Number(65_536, 1_000_000_000_000), "268435456", "The most bytes of the orders that wait so."),
    option("intake.tenant_orders", Kind::Number(1, 10_000_000), "10000", "The most orders of one tenant that wait so."),
    option(
        "resilience.policies",
        Kind::Text,
        "\"\"",
        "A TOML file that says how dependencies are called: docs/traffic.md. Empty: the defaults for all of them.",
    ),
    option(
        "log.format",
        Kind::Word(&["auto", "pretty", "json"]),
        "\"auto\"",
        "How logs look on stderr. auto: pretty on a terminal, json elsewhere.",
    ),
    option(
        "log.level",
        Kind::Text,
        "\"info\"",
        "Which logs are written: error, warn, info, debug, trace, or a filter such as \"info,brandos_store=debug\".",
    ),
];

/// Variables that begin with `BRANDOS_` and are no options: those of tests and benchmarks, and where the file is.
const NOT_OPTIONS: &[&str] = &["BRANDOS_CONFIG", "BRANDOS_TEST_", "BRANDOS_BENCH_", "BRANDOS_CRASH_", "BRANDOS_ENGINES_"];

/// A value of one option.
#[derive(Clone, Debug, PartialEq)]
enum Setting {
    Text(String),
    Number(i64),
    Switch(bool),
    List(Vec<String>),
}

impl fmt::Display for Setting {
    /// As it would stand in the TOML file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Text(text) => write!(f, "{}", toml::Value::String(text.clone())),
            Setting::Number(number) => write!(f, "{number}"),
            Setting::Switch(on) => write!(f, "{on}"),
            Setting::List(items) => {
                let items: Vec<String> = items.iter().map(|item| toml::Value::String(item.clone()).to_string()).collect();
                write!(f, "[{}]", items.join(", "))
            }
        }
    }
}

/// Where an option's value came from.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    Default,
    /// The file's name and the line, from 1.
    File(String, usize),
    /// The variable's name.
    Environment(String),
    /// The flag's name.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File(name, line) => write!(f, "{name}:{line}"),
            Source::Environment(name) => write!(f, "environment {name}"),
            Source::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// What the configuration is made from, so that tests need no process of their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// The file's name and text.
    pub(crate) file: Option<(String, String)>,
    /// The environment, or at least its `BRANDOS_*`.
    pub(crate) environment: Vec<(String, String)>,
    /// Flag name, option key and value; a later one wins.
    pub(crate) flags: Vec<(String, String, String)>,
}

/// The effective configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `data`.
    pub(crate) data: PathBuf,
    /// `database`.
    pub(crate) database: Vec<String>,
    /// `replicas`.
    pub(crate) replicas: Vec<String>,
    /// `node`.
    pub(crate) node: u16,
    /// `secret`.
    pub(crate) secret: Option<String>,
    /// `store.*`.
    pub(crate) store: StoreOptions,
    /// `payments.*`.
    pub(crate) payments: PaymentOptions,
    /// `webhooks.*`.
    pub(crate) webhooks: WebhookOptions,
    /// `shipping.base_urls` and `shipping.call_timeout_ms`.
    pub(crate) carriers: (Vec<String>, u64),
    /// `wallets.payout_url` and `wallets.payout_token`.
    pub(crate) payouts: Option<(String, String)>,
    /// `web.*`.
    pub(crate) web: web::WebConfig,
    /// `limits.*`.
    pub(crate) limits: LimitOptions,
    /// `cache.*`.
    pub(crate) cache: CacheOptions,
    /// `intake.*`; none when it is not enabled.
    pub(crate) intake: Option<crate::flows::intake::Bounds>,
    /// `resilience.policies`.
    pub(crate) policies: Option<String>,
    /// `log.*`.
    pub(crate) log: LogOptions,
    settings: BTreeMap<&'static str, (Setting, Source)>,
}

/// The options of section `store`.
#[derive(Clone, Debug)]
pub(crate) struct StoreOptions {
    pub(crate) shards: u16,
    pub(crate) lanes: u16,
    pub(crate) prepared_statements: bool,
    pub(crate) readers: usize,
    pub(crate) queue_commands: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) queue_tenant_commands: usize,
    pub(crate) queue_wait_ms: u32,
}

/// The options of section `payments`.
#[derive(Clone, Debug)]
pub(crate) struct PaymentOptions {
    pub(crate) base_urls: Vec<String>,
    pub(crate) call_timeout_ms: u64,
    pub(crate) rates: Option<String>,
}

/// The options of section `webhooks`.
#[derive(Clone, Debug)]
pub(crate) struct WebhookOptions {
    pub(crate) allow_private: bool,
    pub(crate) timeout_ms: u64,
}

/// The options of section `cache`.
#[derive(Clone, Debug)]
pub(crate) struct CacheOptions {
    pub(crate) bytes: u64,
    pub(crate) redis: Vec<String>,
}

/// The options of section `limits`.
#[derive(Clone, Debug)]
pub(crate) struct LimitOptions {
    pub(crate) rules: String,
    pub(crate) keys: usize,
    pub(crate) redis: Option<String>,
    pub(crate) countries: Option<String>,
    pub(crate) nodes: u32,
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Auto,
    Pretty,
    Json,
}

/// The options of section `log`.
#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
}

impl Config {
    /// Puts the configuration together. Errors: every wrong or unknown option with its name and place, at once.
    pub(crate) fn build(given: &Given) -> Outcome<Config> {
        let mut problems = Vec::new();
        let mut settings: BTreeMap<&'static str, (Setting, Source)> = BTreeMap::new();
        for info in OPTIONS {
            settings.insert(info.key, (default_of(info), Source::Default));
        }
        if let Some((name, text)) = &given.file {
            read_file(name, text, &mut settings, &mut problems);
        }
        read_environment(&given.environment, &mut settings, &mut problems);
        for (flag, key, value) in &given.flags {
            match OPTIONS.iter().find(|o| o.key == key) {
                None => problems.push(format!("flag {flag}: unknown option `{key}`{}", suggestion(key))),
                Some(info) => match from_text(info, value) {
                    Ok(setting) => _ = settings.insert(info.key, (setting, Source::Flag(flag.clone()))),
                    Err(why) => problems.push(format!("flag {flag}: `{key}` {why}")),
                },
            }
        }
        if problems.is_empty() {
            let config = Config::typed(settings);
            config.check(&mut problems);
            if problems.is_empty() {
                return Ok(config);
            }
        }
        let more = problems.len().saturating_sub(20);
        problems.truncate(20);
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        Err(Failure::new(crate::exit::Exit::Usage, "cli.config", format!("the configuration is wrong: {}", problems.join("\n  "))))
    }

    /// Reads every option into its type. The kinds and bounds were checked when the settings were made.
    fn typed(settings: BTreeMap<&'static str, (Setting, Source)>) -> Config {
        let config = {
            let get = |key: &str| &settings.get(key).expect("every option is in the table").0;
            let text = |key: &str| match get(key) {
                Setting::Text(text) => text.clone(),
                other => unreachable!("{key} is text, not {other}"),
            };
            let filled = |key: &str| Some(text(key)).filter(|t| !t.is_empty());
            let number = |key: &str| match get(key) {
                Setting::Number(number) => *number,
                other => unreachable!("{key} is a number, not {other}"),
            };
            let list = |key: &str| match get(key) {
                Setting::List(items) => items.clone(),
                other => unreachable!("{key} is a list, not {other}"),
            };
            let switch = |key: &str| matches!(get(key), Setting::Switch(true));
            Config {
                data: PathBuf::from(text("data")),
                database: list("database"),
                replicas: list("replicas"),
                node: number("node") as u16,
                secret: filled("secret"),
                store: StoreOptions {
                    shards: number("store.shards") as u16,
                    lanes: number("store.lanes") as u16,
                    prepared_statements: switch("store.prepared_statements"),
                    readers: number("store.readers") as usize,
                    queue_commands: number("store.queue_commands") as usize,
                    queue_bytes: number("store.queue_bytes") as usize,
                    queue_tenant_commands: number("store.queue_tenant_commands") as usize,
                    queue_wait_ms: number("store.queue_wait_ms") as u32,
                },
                payments: PaymentOptions {
                    base_urls: list("payments.base_urls"),
                    call_timeout_ms: number("payments.call_timeout_ms") as u64,
                    rates: filled("payments.rates"),
                },
                webhooks: WebhookOptions {
                    allow_private: switch("webhooks.allow_private"),
                    timeout_ms: number("webhooks.timeout_ms") as u64,
                },
                carriers: (list("shipping.base_urls"), number("shipping.call_timeout_ms") as u64),
                payouts: filled("wallets.payout_url").map(|url| (url, text("wallets.payout_token"))),
                web: web::WebConfig {
                    listen: text("web.listen").parse().expect("an address was checked"),
                    base_domain: filled("web.base_domain"),
                    plain_subdomains: list("web.plain_subdomains"),
                    body_limit_bytes: number("web.body_limit_bytes") as usize,
                    header_limit_bytes: number("web.header_limit_bytes") as usize,
                    header_timeout_ms: number("web.header_timeout_ms") as u64,
                    body_timeout_ms: number("web.body_timeout_ms") as u64,
                    request_timeout_ms: number("web.request_timeout_ms") as u64,
                    concurrency: number("web.concurrency") as u32,
                    connections: number("web.connections") as usize,
                    event_streams: number("web.event_streams") as u32,
                    cors_origins: list("web.cors_origins"),
                    trusted_proxies: list("web.trusted_proxies"),
                    tls_cert: filled("web.tls_cert").map(PathBuf::from),
                    tls_key: filled("web.tls_key").map(PathBuf::from),
                    shutdown_ms: number("web.shutdown_ms") as u64,
                },
                limits: LimitOptions {
                    rules: text("limits.rules"),
                    keys: number("limits.keys") as usize,
                    redis: filled("limits.redis"),
                    countries: filled("limits.countries"),
                    nodes: number("limits.nodes") as u32,
                },
                cache: CacheOptions { bytes: number("cache.bytes") as u64, redis: list("cache.redis") },
                intake: switch("intake.enabled").then(|| crate::flows::intake::Bounds {
                    orders: number("intake.orders") as usize,
                    bytes: number("intake.bytes") as usize,
                    tenant_orders: number("intake.tenant_orders") as usize,
                }),
                policies: filled("resilience.policies"),
                log: LogOptions {
                    format: match text("log.format").as_str() {
                        "json" => LogFormat::Json,
                        "pretty" => LogFormat::Pretty,
                        _ => LogFormat::Auto,
                    },
                    level: text("log.level"),
                },
                settings: BTreeMap::new(),
            }
        };
        Config { settings, ..config }
    }

    /// What only several options together can get wrong, and what their kind can't tell.
    fn check(&self, problems: &mut Vec<String>) {
        let place = |key: &str| self.settings.get(key).map_or_else(String::new, |(_, source)| source.to_string());
        let mut wrong = |key: &str, why: &str| problems.push(format!("{}: `{key}` {why}", place(key)));
        if self.data.as_os_str().is_empty() {
            wrong("data", "must name a folder");
        }
        if self.database.len() > 64 {
            wrong("database", "names more than 64 shards");
        }
        if self.database.iter().any(|url| !is_postgres(url)) {
            wrong("database", "must be PostgreSQL URLs such as postgres://user:password@host/database");
        }
        let of_shard: Option<Vec<usize>> = self.replicas.iter().map(|replica| Some(usize::from(replica_of(replica)?.0))).collect();
        match of_shard {
            None => {
                wrong("replicas", "must be PostgreSQL URLs such as postgres://user:password@host/database, or 1=postgres://... for shard 1")
            }
            Some(shards) if shards.iter().any(|shard| *shard >= self.database.len()) => {
                wrong("replicas", "names a replica of a shard that `database` does not have");
            }
            Some(shards) if shards.iter().any(|shard| shards.iter().filter(|other| *other == shard).count() > 16) => {
                wrong("replicas", "names more than 16 replicas of one shard");
            }
            Some(_) => {}
        }
        if self.secret.as_ref().is_some_and(|s| s.len() < 32) {
            wrong("secret", "must have at least 32 characters");
        }
        match (&self.web.tls_cert, &self.web.tls_key) {
            (Some(_), None) => wrong("web.tls_cert", "needs web.tls_key beside it"),
            (None, Some(_)) => wrong("web.tls_key", "needs web.tls_cert beside it"),
            _ => {}
        }
        if self.web.cors_origins.iter().any(|origin| origin != "*" && !origin.starts_with("https://") && !origin.starts_with("http://")) {
            wrong("web.cors_origins", "must be origins such as https://shop.example, or *");
        }
        if let Some(wrong_one) = self.web.trusted_proxies.iter().find(|text| text.parse::<traffic::Network>().is_err()) {
            wrong("web.trusted_proxies", &format!("holds {wrong_one:?}, which is no network such as 10.0.0.0/8"));
        }
        if self.cache.redis.len() > 64 || self.cache.redis.iter().any(|url| !url.starts_with("redis://")) {
            wrong("cache.redis", "must be up to 64 URLs such as redis://:password@host:6379/");
        }
        if self.limits.redis.as_ref().is_some_and(|url| traffic::check_redis_url(url).is_err()) {
            wrong(
                "limits.redis",
                "must be a URL such as redis://:password@host:6379/, redis+sentinel://host:port,host:port/master or redis-cluster://host:port,host:port",
            );
        }
        if self.log.level.parse::<tracing_subscriber::filter::Targets>().is_err() {
            wrong("log.level", "is not a level (error, warn, info, debug, trace) or a filter such as info,brandos_store=debug");
        }
    }

    /// The replicas of a shard.
    pub(crate) fn replicas_of(&self, shard: u16) -> Vec<String> {
        self.replicas
            .iter()
            .filter_map(|replica| replica_of(replica))
            .filter(|(of, _)| *of == shard)
            .map(|(_, url)| url.to_owned())
            .collect()
    }

    /// Whether nobody has said anything about the option.
    pub(crate) fn is_default(&self, key: &str) -> bool {
        self.settings.get(key).is_none_or(|(_, source)| *source == Source::Default)
    }

    /// Every option with its value as it may be shown, and where it came from.
    pub(crate) fn shown(&self) -> Vec<(&'static str, String, String)> {
        OPTIONS
            .iter()
            .filter_map(|info| self.settings.get(info.key).map(|(setting, source)| (info.key, masked(info, setting), source.to_string())))
            .collect()
    }
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// The shard and the URL out of an item of `replicas`.
fn replica_of(item: &str) -> Option<(u16, &str)> {
    let (shard, url) = match item.split_once('=') {
        Some((shard, url)) if !is_postgres(item) => (shard.parse().ok()?, url),
        _ => (0, item),
    };
    is_postgres(url).then_some((shard, url))
}

/// A commented file with every option at its default.
pub(crate) fn example() -> String {
    let mut text = String::from(
        "# BrandOS configuration. Every option is shown with its default; remove the # to change it.\n\
         # The environment (BRANDOS_ + the name in capitals, _ for .) wins over this file, and flags win over both.\n",
    );
    let mut section = "";
    for info in OPTIONS {
        let (in_section, name) = info.key.rsplit_once('.').unwrap_or(("", info.key));
        if in_section != section {
            section = in_section;
            text.push_str(&format!("\n[{section}]\n"));
        }
        text.push('\n');
        for line in info.doc.lines() {
            text.push_str(&format!("# {line}\n"));
        }
        match info.kind {
            Kind::Number(low, high) => text.push_str(&format!("# From {low} to {high}. {}\n", variable(info.key))),
            Kind::Word(words) => text.push_str(&format!("# One of {}. {}\n", words.join(", "), variable(info.key))),
            _ => text.push_str(&format!("# {}\n", variable(info.key))),
        }
        text.push_str(&format!("#{name} = {}\n", info.default));
    }
    text
}

fn variable(key: &str) -> String {
    format!("BRANDOS_{}", key.to_ascii_uppercase().replace('.', "_"))
}

fn masked(info: &OptionInfo, setting: &Setting) -> String {
    match (info.shown, setting) {
        (Shown::Secret, Setting::Text(text)) if !text.is_empty() => "\"***\"".to_owned(),
        (Shown::Urls, Setting::Text(url)) if !url.is_empty() => Setting::Text(without_password(url)).to_string(),
        (Shown::Urls, Setting::List(urls)) => Setting::List(urls.iter().map(|url| without_password(url)).collect()).to_string(),
        _ => setting.to_string(),
    }
}

/// `postgres://user:***@host/database`, and no password in the query either.
pub(crate) fn without_password(url: &str) -> String {
    let url = match url.split_once('?') {
        Some((head, query)) if query.contains("password") => format!("{head}?***"),
        _ => url.to_owned(),
    };
    let Some((scheme, rest)) = url.split_once("://") else { return "***".to_owned() };
    match rest.rsplit_once('@') {
        Some((credentials, host)) => match credentials.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
            None => url,
        },
        None => url,
    }
}

fn default_of(info: &OptionInfo) -> Setting {
    let value = DeValue::parse(info.default).expect("the defaults are TOML");
    from_toml(info, value.get_ref()).expect("the defaults are of their kind")
}

fn read_file(name: &str, text: &str, settings: &mut BTreeMap<&'static str, (Setting, Source)>, problems: &mut Vec<String>) {
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            return problems.push(format!("{name}:{line}: {}", error.message()));
        }
    };
    for (key, value) in table.get_ref() {
        match value.get_ref() {
            DeValue::Table(section) => {
                for (inner, value) in section {
                    let key = format!("{}.{}", key.get_ref(), inner.get_ref());
                    set_from_file(name, line_of(text, inner.span().start), &key, value.get_ref(), settings, problems);
                }
            }
            other => set_from_file(name, line_of(text, key.span().start), key.get_ref(), other, settings, problems),
        }
    }
}

fn set_from_file(
    name: &str,
    line: usize,
    key: &str,
    value: &DeValue<'_>,
    settings: &mut BTreeMap<&'static str, (Setting, Source)>,
    problems: &mut Vec<String>,
) {
    match OPTIONS.iter().find(|o| o.key == key) {
        None => problems.push(format!("{name}:{line}: unknown option `{key}`{}", suggestion(key))),
        Some(info) => match from_toml(info, value) {
            Ok(setting) => _ = settings.insert(info.key, (setting, Source::File(name.to_owned(), line))),
            Err(why) => problems.push(format!("{name}:{line}: `{key}` {why}")),
        },
    }
}

fn read_environment(
    environment: &[(String, String)],
    settings: &mut BTreeMap<&'static str, (Setting, Source)>,
    problems: &mut Vec<String>,
) {
    for (name, value) in environment {
        if !name.starts_with("BRANDOS_") || NOT_OPTIONS.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        match OPTIONS.iter().find(|o| variable(o.key) == *name) {
            None => problems.push(format!("environment {name}: there is no such option; `brandos config --example` lists them")),
            Some(info) => match from_text(info, value) {
                Ok(setting) => _ = settings.insert(info.key, (setting, Source::Environment(name.clone()))),
                Err(why) => problems.push(format!("environment {name}: `{}` {why}", info.key)),
            },
        }
    }
}

fn from_toml(info: &OptionInfo, value: &DeValue<'_>) -> Result<Setting, String> {
    match (info.kind, value) {
        (Kind::Text, DeValue::String(text)) => Ok(Setting::Text(text.to_string())),
        (Kind::Word(_) | Kind::Address, DeValue::String(text)) => from_text(info, text),
        (Kind::Number(..), DeValue::Integer(number)) => {
            let number = i64::from_str_radix(number.as_str(), number.radix()).map_err(|_| "is too large a number".to_owned())?;
            from_text(info, &number.to_string())
        }
        (Kind::Switch, DeValue::Boolean(on)) => Ok(Setting::Switch(*on)),
        (Kind::List, DeValue::Array(items)) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                _ => Err("must be a list of texts".to_owned()),
            })
            .collect::<Result<_, _>>()
            .map(Setting::List),
        (kind, _) => Err(format!("must be {}", expected(kind))),
    }
}

fn from_text(info: &OptionInfo, text: &str) -> Result<Setting, String> {
    let wrong = || format!("must be {}", expected(info.kind));
    match info.kind {
        Kind::Text => Ok(Setting::Text(text.to_owned())),
        Kind::Word(words) if words.contains(&text) => Ok(Setting::Text(text.to_owned())),
        Kind::Word(_) => Err(wrong()),
        Kind::Number(low, high) => match text.parse() {
            Ok(number) if (low..=high).contains(&number) => Ok(Setting::Number(number)),
            _ => Err(wrong()),
        },
        Kind::Switch => text.parse().map(Setting::Switch).map_err(|_| wrong()),
        Kind::List => Ok(Setting::List(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())),
        Kind::Address => text.parse::<SocketAddr>().map(|_| Setting::Text(text.to_owned())).map_err(|_| wrong()),
    }
}

fn expected(kind: Kind) -> String {
    match kind {
        Kind::Text => "a text".to_owned(),
        Kind::Word(words) => format!("one of {}", words.join(", ")),
        Kind::Number(low, high) => format!("a whole number from {low} to {high}"),
        Kind::Switch => "true or false".to_owned(),
        Kind::List => "a list of texts".to_owned(),
        Kind::Address => "an address and a port such as 127.0.0.1:8080".to_owned(),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|b| **b == b'\n').count() + 1
}

/// The nearest option, when it is near enough to be what was meant.
fn suggestion(key: &str) -> String {
    let near = OPTIONS.iter().map(|o| (distance(key, o.key), o.key)).min();
    match near {
        Some((edits, name)) if edits <= 3 => format!("; did you mean `{name}`?"),
        _ => match OPTIONS.iter().find(|o| o.key.rsplit_once('.').is_some_and(|(_, last)| last == key)) {
            Some(info) => format!("; did you mean `{}`?", info.key),
            None => "; `brandos config --example` lists them".to_owned(),
        },
    }
}

/// Levenshtein's distance, for texts as short as option names.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Given {
        Given {
            file: Some(("brandos.toml".to_owned(), file.to_owned())),
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            flags: flags.iter().map(|(k, v)| (format!("--set {k}"), (*k).to_owned(), (*v).to_owned())).collect(),
        }
    }

    #[test]
    fn later_sources_win_and_each_value_knows_where_it_came_from() {
        let config = Config::build(&given(
            "data = \"a\"\n\n[store]\nreaders = 2\nlanes = 8\n",
            &[("BRANDOS_STORE_READERS", "3"), ("HOME", "/")],
            &[("node", "7")],
        ))
        .expect("valid");
        assert_eq!((config.store.readers, config.store.lanes, config.node), (3, 8, 7));
        let shown = config.shown();
        let source = |key: &str| shown.iter().find(|(k, _, _)| *k == key).map(|(_, value, source)| format!("{value} from {source}"));
        assert_eq!(source("data").as_deref(), Some("\"a\" from brandos.toml:1"));
        assert_eq!(source("store.readers").as_deref(), Some("3 from environment BRANDOS_STORE_READERS"));
        assert_eq!(source("store.lanes").as_deref(), Some("8 from brandos.toml:5"));
        assert_eq!(source("node").as_deref(), Some("7 from flag --set node"));
        assert_eq!(source("web.listen").as_deref(), Some("\"127.0.0.1:8080\" from default"));
    }

    #[test]
    fn a_wrong_option_is_refused_with_its_name_and_place() {
        type Pairs = &'static [(&'static str, &'static str)];
        let table: &[(&str, Pairs, Pairs, &str)] = &[
            ("[store]\nreeders = 4", &[], &[], "brandos.toml:2: unknown option `store.reeders`; did you mean `store.readers`?"),
            ("readers = 4", &[], &[], "brandos.toml:1: unknown option `readers`; did you mean `store.readers`?"),
            ("\n[store]\nreaders = 0", &[], &[], "brandos.toml:3: `store.readers` must be a whole number from 1 to 256"),
            ("[store]\nreaders = \"4\"", &[], &[], "brandos.toml:2: `store.readers` must be a whole number from 1 to 256"),
            ("[web]\nlisten = \"8080\"", &[], &[], "brandos.toml:2: `web.listen` must be an address and a port"),
            ("data = [1]", &[], &[], "brandos.toml:1: `data` must be a text"),
            ("data = ", &[], &[], "brandos.toml:1: "),
            ("database = [\"mysql://x\"]", &[], &[], "brandos.toml:1: `database` must be PostgreSQL URLs"),
            ("replicas = [\"db2\"]", &[], &[], "brandos.toml:1: `replicas` must be PostgreSQL URLs"),
            ("replicas = [\"x=postgres://db2/b\"]", &[], &[], "brandos.toml:1: `replicas` must be PostgreSQL URLs"),
            ("replicas = [\"postgres://db2/b\"]", &[], &[], "brandos.toml:1: `replicas` names a replica of a shard that"),
            (
                "database = [\"postgres://db/b\"]",
                &[("BRANDOS_REPLICAS", "postgres://db2/b,1=postgres://db2/b")],
                &[],
                "environment BRANDOS_REPLICAS: `replicas` names a replica of a shard that `database` does not have",
            ),
            ("", &[("BRANDOS_LOG_FORMAT", "xml")], &[], "environment BRANDOS_LOG_FORMAT: `log.format` must be one of auto, pretty, json"),
            ("", &[("BRANDOS_LISTEN", "x")], &[], "environment BRANDOS_LISTEN: there is no such option"),
            ("", &[], &[("node", "512")], "flag --set node: `node` must be a whole number from 0 to 511"),
            ("", &[("BRANDOS_SECRET", "short")], &[], "environment BRANDOS_SECRET: `secret` must have at least 32 characters"),
            ("[web]\ntls_key = \"k.pem\"", &[], &[], "brandos.toml:2: `web.tls_key` needs web.tls_cert"),
        ];
        for (file, environment, flags, expected) in table {
            let failure = Config::build(&given(file, environment, flags)).expect_err(expected);
            assert!(failure.detail.contains(expected), "{expected:?} is not in {:?}", failure.detail);
            assert_eq!(failure.exit, crate::exit::Exit::Usage);
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        let secret = "0123456789abcdef0123456789abcdef";
        let urls = "postgres://u:p%40ss@db/x,postgresql://db/y?password=p%40ss,postgres://u@db/z";
        let config = Config::build(&given("", &[("BRANDOS_SECRET", secret), ("BRANDOS_DATABASE", urls)], &[])).expect("valid");
        let shown = format!("{:?}", config.shown());
        assert!(!shown.contains(secret) && !shown.contains("p%40ss"), "{shown}");
        assert!(shown.contains("postgres://u:***@db/x") && shown.contains("postgres://u@db/z"), "{shown}");
    }

    #[test]
    fn replicas_belong_to_their_shards() {
        let file = "database = [\"postgres://a/x\", \"postgres://b/x\"]\nreplicas = [\"postgres://u:p@c/x?a=b\", \"1=postgresql://u:p@d/x\", \"0=postgres://e/x\"]";
        let config = Config::build(&given(file, &[], &[])).expect("valid");
        assert_eq!(config.replicas_of(0), ["postgres://u:p@c/x?a=b", "postgres://e/x"]);
        assert_eq!(config.replicas_of(1), ["postgresql://u:p@d/x"]);
        assert!(!format!("{:?}", config.shown()).contains(":p@"), "no password is shown");
        let many = format!("database = [\"postgres://a/x\"]\nreplicas = [{}]", "\"postgres://c/x\",".repeat(17));
        let failure = Config::build(&given(&many, &[], &[])).expect_err("too many");
        assert!(failure.detail.contains("brandos.toml:2: `replicas` names more than 16 replicas of one shard"), "{}", failure.detail);
    }

    #[test]
    fn the_example_is_valid_and_says_the_defaults() {
        let commented: String =
            example().lines().filter(|l| !l.starts_with("# ")).map(|l| l.strip_prefix('#').unwrap_or(l).to_owned() + "\n").collect();
        let from_example = Config::build(&given(&commented, &[], &[])).expect("the example is valid");
        let defaults = Config::build(&Given::default()).expect("the defaults are valid");
        let values = |c: &Config| c.shown().into_iter().map(|(k, v, _)| (k, v)).collect::<Vec<_>>();
        assert_eq!(values(&from_example), values(&defaults));
        assert!(from_example.shown().iter().all(|(_, _, source)| source.starts_with("brandos.toml:")));
    }
}
