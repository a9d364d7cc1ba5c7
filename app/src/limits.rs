//! Rate limits: the rules that a server starts with, and `brandos limits`.

use crate::cli;
use crate::config::{Config, LimitOptions};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use kernel::{Clock, Rng};
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use traffic::{Countries, DEFAULT_RULES, GENEROUS_RULES, Limiter, LimiterConfig, RuleFile, SharedConfig};

/// A token is no longer than this.
const MAX_TOKEN: u64 = 8 * 1024;
/// Nor an answer.
const MAX_ANSWER: usize = 4 << 20;
/// How long the server may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The limiter of a server, watching its file of rules and sharing its state as configured; none when limits are off. Errors: wrong rules, with the line.
pub(crate) async fn start(options: &LimitOptions, clock: Arc<dyn Clock>, rng: &dyn Rng) -> Outcome<Option<Arc<Limiter>>> {
    if options.rules == "off" {
        return Ok(None);
    }
    let config = LimiterConfig { keys: options.keys, ..LimiterConfig::default() };
    let limiter = Arc::new(Limiter::new(read(&options.rules)?, config, clock, rng));
    if let Some(path) = &options.countries {
        limiter.know_countries(Countries::read(Path::new(path))?);
    }
    if let Some(url) = &options.redis {
        limiter.share(SharedConfig { nodes: options.nodes, ..SharedConfig::new(url.as_str()) }).await?;
    }
    if !matches!(options.rules.as_str(), "default" | "generous") {
        tokio::spawn(traffic::watch(Arc::downgrade(&limiter), PathBuf::from(&options.rules)));
    }
    Ok(Some(limiter))
}

fn read(rules: &str) -> Outcome<RuleFile> {
    let read = match rules {
        "default" => RuleFile::parse("default", DEFAULT_RULES),
        "generous" => RuleFile::parse("generous", GENEROUS_RULES),
        path => RuleFile::read(Path::new(path)),
    };
    read.map_err(Into::into)
}

/// `brandos limits ...`.
pub(crate) async fn limits(config: Config, command: cli::Limits, out: Output) -> Outcome<Exit> {
    match command {
        cli::Limits::Check { file } => check(&file, out),
        cli::Limits::List { url, token_file } => list(&config, url, &token_file, out).await,
    }
}

fn check(name: &str, out: Output) -> Outcome<Exit> {
    let file = read(name)?;
    let row = |rule: &traffic::Rule| {
        let quota = rule.quota();
        let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
        let mut row = vec![rule.name().to_owned(), word(json!(quota.algorithm())), quota.limit().to_string()];
        row.push(format!("{} s", quota.per_us() as f64 / 1e6));
        row.push(if quota.burst() > 0 { quota.burst().to_string() } else { "-".to_owned() });
        row.push(word(json!(rule.when_away())));
        row.push(if rule.dry_run() { "yes" } else { "no" }.to_owned());
        row
    };
    let rows: Vec<Vec<String>> = file.rules().iter().map(row).collect();
    out.table(&["RULE", "ALGORITHM", "LIMIT", "PER", "BURST", "WHEN AWAY", "DRY RUN"], &rows);
    out.line(format!("{} rules, {} blocked networks", file.rules().len(), file.blocked()));
    out.value(&json!({ "ok": true, "rules": file.rules().len(), "blocked_networks": file.blocked() }));
    Ok(Exit::Ok)
}

async fn list(config: &Config, url: Option<String>, token_file: &str, out: Output) -> Outcome<Exit> {
    let url = url.unwrap_or_else(|| format!("http://{}", config.web.listen));
    if !url.starts_with("http://") {
        return Err(Failure::usage("--url is the server's plain HTTP address, such as http://127.0.0.1:8080"));
    }
    let token = read_token(token_file)?;
    let request = hyper::Request::builder()
        .uri(format!("{}/api/v1/platform/limits", url.trim_end_matches('/')))
        .header("authorization", format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())
        .map_err(|_| Failure::usage("--url is no URL, or the token has characters that no token has"))?;
    let away = |why: String| Failure::new(Exit::Unavailable, "cli.no_answer", format!("{url} does not answer: {why}"));
    let client = Client::builder(TokioExecutor::new()).build_http();
    let asked = tokio::time::timeout(ANSWER_WITHIN, async {
        let response = client.request(request).await.map_err(|error| away(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| away(error.to_string()))?.to_bytes();
        Ok::<_, Failure>((status, serde_json::from_slice::<Value>(&body).unwrap_or_default()))
    });
    let (status, answer) = asked.await.map_err(|_| away("it takes too long".to_owned()))??;
    if !status.is_success() {
        let detail = format!("the server refused: {status} {}", answer["detail"].as_str().unwrap_or_default());
        return Err(Failure::new(Exit::Refused, "cli.refused", detail));
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let limited = answer["limited"].as_array().cloned().unwrap_or_default();
    let rows: Vec<Vec<String>> =
        limited.iter().map(|key| ["rule", "key", "refused", "last_at", "until"].map(|field| text(&key[field])).to_vec()).collect();
    out.table(&["RULE", "WHO", "REFUSED", "LAST", "UNTIL"], &rows);
    out.line(format!("{} refused lately; {} keys remembered, {} forgotten early", rows.len(), answer["keys"], answer["evictions"]));
    out.value(&answer);
    Ok(Exit::Ok)
}

fn read_token(file: &str) -> Outcome<String> {
    let mut text = String::new();
    let read = if file == "-" {
        std::io::stdin().take(MAX_TOKEN).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(MAX_TOKEN).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::file("cannot read", Path::new(file), &error))?;
    Ok(text.trim().to_owned())
}
