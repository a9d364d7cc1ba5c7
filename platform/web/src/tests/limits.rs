//! Rate limits at the edge: headers, refusals, who pays, the block list, proxies, the decision service.

use super::*;
use kernel::SeededRng;
use traffic::{Limiter, LimiterConfig, RuleFile};

/// A bench whose limits stand still with its clock.
fn limited(rules: &str, proxies: &[&str]) -> (Bench, Arc<ManualClock>) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(kernel::Timestamp::from_micros(1_767_614_400_000_000)));
    let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock.clone(), 1)) };
    let store = Store::open(StoreConfig::sqlite(folder.path().join("web.db")), &[things().migrations], environment).unwrap();
    let rules = RuleFile::parse("rules", rules).unwrap();
    let limiter = Arc::new(Limiter::new(rules, LimiterConfig::default(), clock.clone(), &SeededRng::new(3)));
    let config = WebConfig { trusted_proxies: proxies.iter().map(|p| (*p).to_owned()).collect(), ..WebConfig::default() };
    let modules = vec![things(), crate::limits_module()];
    let web = App::builder(store, Arc::new(Fake)).config(config).modules(modules).limits(limiter).build().unwrap();
    (Bench { web, _folder: folder }, clock)
}

const RULES: &str = r#"
    block = ["203.0.113.0/24"]
    [[rule]]
    name = "ip"
    key = ["ip"]
    algorithm = "token_bucket"
    limit = 1
    per = "1s"
    burst = 5
    [[rule]]
    name = "user"
    key = ["user"]
    algorithm = "fixed_window"
    limit = 3
    per = "1m"
    [[rule]]
    name = "checkout"
    key = ["name"]
    match = { service = "checkout" }
    algorithm = "fixed_window"
    limit = 2
    per = "1h"
"#;

impl Bench {
    /// GET from an address.
    async fn from(&self, ip: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().uri(path).extension(crate::Peer(ip.parse().unwrap()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, body) = self.web.handle(request.body(HttpBody::empty()).unwrap()).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, json: serde_json::from_slice(&body).unwrap_or_default(), body }
    }
}

const USER: (&str, &str) = ("authorization", "Bearer 5:acme:things.read,limits.decide");

#[tokio::test]
async fn answers_tell_what_is_left_and_refusals_when_to_come_again() {
    let (bench, clock) = limited(RULES, &[]);
    let answer = bench.from("192.0.2.1", "/api/v1/me", &[USER]).await;
    assert_eq!(answer.status, 200);
    // The user's three are nearer to their end than the address's five.
    let told = |answer: &Answer| {
        ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit"].map(|h| answer.header(h).to_owned())
    };
    assert_eq!(told(&answer), ["3", "2", "1767614460", "\"user\";r=2;t=60"]);
    let mut policies: Vec<&str> = answer.header("ratelimit-policy").split(", ").collect();
    policies.sort_unstable();
    assert_eq!(policies, ["\"ip\";q=5;w=5", "\"user\";q=3;w=60"]);
    clock.advance_ms(500);
    for _ in 0..2 {
        assert_eq!(bench.from("192.0.2.1", "/api/v1/me", &[USER]).await.status, 200);
    }
    let refused = bench.from("192.0.2.1", "/api/v1/me", &[USER]).await;
    refused.is_problem(429, "limits.exceeded", "");
    assert_eq!((refused.header("retry-after"), &refused.json["retry_after_seconds"]), ("60", &json!(60)));
    assert_eq!(told(&refused), ["3", "0", "1767614460", "\"user\";r=0;t=60"]);
    // What the user's rule refused cost the address nothing: two of its five are left.
    let public = bench.from("192.0.2.1", "/api/v1/probe", &[]).await;
    assert_eq!((public.status, public.header("x-ratelimit-remaining")), (200, "1"));
    bench.from("192.0.2.1", "/api/v1/probe", &[]).await;
    let refused = bench.from("192.0.2.1", "/api/v1/probe", &[]).await;
    refused.is_problem(429, "limits.exceeded", "");
    assert_eq!(refused.header("retry-after"), "1");
    // And the other way round.
    let other = ("authorization", "Bearer 6:acme:things.read");
    assert_eq!(bench.from("192.0.2.1", "/api/v1/me", &[other]).await.status, 429);
    assert_eq!(bench.from("192.0.2.2", "/api/v1/me", &[other]).await.header("x-ratelimit-remaining"), "2");
}

#[tokio::test]
async fn who_is_not_recognised_pays_by_address_and_probes_pay_nothing() {
    let (bench, _) = limited(RULES, &[]);
    let wrong = ("authorization", "Bearer nonsense");
    for _ in 0..5 {
        assert_eq!(bench.from("192.0.2.1", "/api/v1/me", &[wrong]).await.status, 401);
    }
    bench.from("192.0.2.1", "/api/v1/me", &[wrong]).await.is_problem(429, "limits.exceeded", "");
    bench.from("192.0.2.1", "/api/v1/me", &[USER]).await.is_problem(429, "limits.exceeded", "");
    assert_eq!(bench.from("192.0.2.1", "/health/live", &[]).await.status, 200);
    // Someone unknown can name a tenant, and can't use up what is the tenant's; a bench without limits says nothing of any.
    let plain = super::bench().get("/api/v1/probe", &[]).await;
    assert_eq!((plain.status, plain.header("x-ratelimit-limit"), plain.header("ratelimit")), (200, "", ""));
}

#[tokio::test]
async fn blocked_addresses_and_proxies() {
    let (bench, _) = limited(RULES, &["10.0.0.0/8"]);
    bench.from("203.0.113.9", "/api/v1/probe", &[]).await.is_problem(403, "limits.blocked", "");
    bench.from("203.0.113.9", "/docs", &[]).await.is_problem(403, "limits.blocked", "");
    let through = |client: &'static str| ("x-forwarded-for", client);
    bench.from("10.0.0.1", "/api/v1/probe", &[through("203.0.113.9")]).await.is_problem(403, "limits.blocked", "");
    assert_eq!(bench.from("192.0.2.1", "/api/v1/probe", &[through("203.0.113.9")]).await.status, 200, "anyone can write the header");
    for _ in 0..5 {
        assert_eq!(bench.from("10.0.0.1", "/api/v1/probe", &[through("2001:db8::1")]).await.status, 200);
    }
    assert_eq!(bench.from("10.0.0.1", "/api/v1/probe", &[through("2001:db8::2")]).await.status, 429, "the same /64");
    assert_eq!(bench.from("10.0.0.1", "/api/v1/probe", &[through("192.0.2.7")]).await.status, 200, "another client of the same proxy");
}

#[tokio::test]
async fn other_programs_ask_for_decisions() {
    let (bench, _) = limited(RULES, &[]);
    let ask = async |token: &'static str, body: Value| {
        let headers = [("authorization", token), ("content-type", "application/json")];
        bench.send("POST", "/api/v1/limits/decisions", &headers, body.to_string()).await
    };
    let acme = "Bearer 5:acme:limits.decide";
    let answer = ask(acme, json!({ "service": "checkout", "name": "customer-1" })).await;
    let level = json!({ "rule": "checkout", "limit": 2, "window_ms": 3_600_000, "remaining": 1, "reset_ms": 3_600_000 });
    assert_eq!(answer.json, json!({ "allowed": true, "delay_ms": 0, "retry_after_ms": null, "limits": [level] }));
    let again = ask(acme, json!({ "service": "checkout", "name": "customer-1", "cost": 2 })).await;
    assert_eq!((again.status, &again.json["allowed"], &again.json["retry_after_ms"]), (200, &json!(false), &json!(3_600_000)));
    let globex = ask("Bearer 6:globex:limits.decide", json!({ "service": "checkout", "name": "customer-1", "cost": 2 })).await;
    assert_eq!(globex.json["allowed"], json!(true), "each tenant counts for itself");
    ask("Bearer 7:acme:limits.decide", json!({ "service": "nothing" })).await.is_problem(404, "limits.unknown_service", "");
    ask("Bearer 7:acme:limits.decide", json!({ "service": "checkout", "name": "x", "cost": 0 })).await.is_problem(
        400,
        "request.invalid",
        "cost",
    );
    ask("Bearer 8:acme:things.read", json!({ "service": "checkout" })).await.is_problem(403, "request.forbidden", "");
    // And the operator sees who is limited.
    let seen = bench.get("/api/v1/platform/limits", &[("authorization", "Bearer 1:platform:platform.limits.read")]).await;
    assert_eq!((&seen.json["limited"][0]["key"], &seen.json["limited"][0]["rule"]), (&json!("name=customer-1"), &json!("checkout")));
    assert_eq!(seen.json["rules"].as_array().unwrap().len(), 3);
    let metrics = bench.get("/metrics", &[]).await;
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(text.contains("limits_refused_total{rule=\"checkout\"} 1"), "{text}");
    // A service is known also while the state that nodes share is away and nothing is counted.
    bench.web.app().limits().unwrap().share(traffic::SharedConfig::new("redis://127.0.0.1:1/")).await.unwrap();
    let open = ask(acme, json!({ "service": "checkout", "name": "customer-1" })).await;
    assert_eq!((open.status, &open.json["allowed"], &open.json["limits"]), (200, &json!(true), &json!([])));
    ask("Bearer 7:acme:limits.decide", json!({ "service": "nothing" })).await.is_problem(404, "limits.unknown_service", "");
}

#[tokio::test]
async fn a_queue_delays() {
    let rules = "[[rule]]\nname = \"queue\"\nkey = [\"ip\"]\nalgorithm = \"leaky_bucket\"\nlimit = 20\nper = \"1s\"\nburst = 1\n";
    let (bench, _) = limited(rules, &[]);
    assert_eq!(bench.from("192.0.2.1", "/api/v1/probe", &[]).await.status, 200);
    let begun = std::time::Instant::now();
    assert_eq!(bench.from("192.0.2.1", "/api/v1/probe", &[]).await.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(50), "it waited for its turn");
    bench.from("192.0.2.1", "/api/v1/probe", &[]).await.is_problem(429, "limits.exceeded", "");
}

#[tokio::test]
async fn shoppers_with_the_same_key_are_limited_each_by_its_address() {
    let (bench, _clock) = limited(RULES, &[]);
    let pk = ("authorization", "Bearer pk-any:acme:storefront.use");
    for shopper in 1..=20 {
        let answer = bench.from(&format!("192.0.2.{shopper}"), "/api/v1/storefront/shelf", &[pk]).await;
        assert_eq!(answer.status, 200, "more than any user may ask: {}", answer.json);
        assert!(!answer.header("ratelimit-policy").contains("user"), "{}", answer.header("ratelimit-policy"));
    }
    for _ in 0..4 {
        assert_eq!(bench.from("192.0.2.1", "/api/v1/storefront/shelf", &[pk]).await.status, 200);
    }
    bench.from("192.0.2.1", "/api/v1/storefront/shelf", &[pk]).await.is_problem(429, "limits.exceeded", "");
    assert_eq!(bench.from("192.0.2.2", "/api/v1/storefront/shelf", &[pk]).await.status, 200);
}
