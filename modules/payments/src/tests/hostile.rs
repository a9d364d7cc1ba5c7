//! Many seeded runs against a provider that misbehaves at every step, with processes that die at every point: at the end there is no
//! double charge, no lost capture, no state that went back, nothing stuck, and the provider's books are ours.
//!
//! `BRANDOS_PAYMENT_SEEDS` sets how many runs there are, 24 unless said, from the seed `BRANDOS_PAYMENT_SEED_FROM` on. A failure names its
//! seed; `BRANDOS_PAYMENT_SEED` runs that one alone.

use super::world::{Psp, add_psp, psp_config, setup_within, stand};
use crate::model::intent_of;
use sandbox::{Charge, SandboxConfig, Status};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use testkit::{Client, Engine, Setup, TestApp};
use workflow::{Fate, Point};

/// A call is given up after so long, and a provider that lets it wait does so for a little longer, in milliseconds.
const CALL_MS: u64 = 80;
const HANG_MS: u64 = 110;

const RATES: &str = "timeout_before=0.06,timeout_after=0.06,late=0.05,error_after=0.06,outage=0.04,answer_twice=0.05,callback_first=0.05,\
callback_twice=0.05,callback_out_of_order=0.05,callback_lost=0.05,callback_lies=0.05,stale=0.06,soft_decline=0.12,hard_decline=0.05,requires_action=0.12";

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// A process that dies at one of twenty points.
fn mortal(setup: Setup, seed: u64) -> Setup {
    let count = AtomicU64::new(0);
    setup.probe(move |_, _| {
        let dice = Dice(seed ^ count.fetch_add(1, Relaxed).wrapping_mul(0xD134_2543_DE82_EF95)).below(20);
        if dice == 0 { Fate::Die } else { Fate::Go }
    })
}

struct Run {
    app: TestApp,
    acme: Client,
    psps: [Psp; 2],
    dice: Dice,
    /// How far along each payment was when it was last looked at.
    seen: HashMap<String, (u32, i64, i64)>,
}

fn rank(state: &str) -> u32 {
    let order = ["initiated", "requires_action", "authorized", "partly_captured", "captured", "partly_refunded", "disputed"];
    order.iter().position(|known| *known == state).map_or(99, |rank| rank as u32)
}

impl Run {
    async fn start(engine: Engine, seed: u64) -> Option<Run> {
        let app = TestApp::start(engine, mortal(setup_within(CALL_MS), seed)).await?;
        let config =
            |seed: u64| SandboxConfig { seed, rates: RATES.parse().expect("rates"), hang_ms: HANG_MS, late_ms: 60, ..psp_config() };
        let psps = [add_psp(&app, config(seed), true).await, add_psp(&app, config(!seed), true).await];
        let rules = json!({ "rules": [{ "provider_id": psps[0].id, "weight": 3 }, { "provider_id": psps[1].id }] });
        let acme = app.client("acme", &["*"]);
        acme.put("/api/v1/payments/routing").json(&rules).send().await.expect(200);
        Some(Run { app, acme, psps, dice: Dice(seed), seen: HashMap::new() })
    }

    async fn later(&self, ms: i64) {
        for psp in &self.psps {
            psp.clock.advance_ms(ms);
        }
        self.app.advance_ms(ms).await;
    }

    /// Makes a payment, by three requests with one key at once.
    async fn pay(&mut self, number: usize) -> String {
        let capture = if self.dice.below(2) == 0 { "manual" } else { "automatic" };
        let amount = 1_000 + self.dice.below(9_000);
        let body =
            json!({ "amount_minor": amount, "currency": "EUR", "token": "tok_random", "confirm": true, "capture": capture, "wait_ms": 50 });
        let send = || send_until_taken(self.acme.clone(), "/api/v1/payments/intents".to_owned(), format!("pay-{number}"), body.clone());
        let (a, b, c) = tokio::join!(send(), send(), send());
        let id = |answer: &Value| answer["intent_id"].as_str().expect("an id").to_owned();
        assert!(id(&a.1) == id(&b.1) && id(&b.1) == id(&c.1), "one key, one payment");
        format!("/api/v1/payments/intents/{}", id(&a.1))
    }

    /// Looks at a payment: nothing has gone back.
    async fn look(&mut self, path: &str) -> Value {
        let intent = self.acme.get(path).send().await.expect(200).json;
        let amount = |name: &str| intent[name].as_i64().expect("an amount");
        let now = (rank(stand(&intent).0), amount("captured_minor"), amount("refunded_minor"));
        let before = self.seen.insert(path.to_owned(), now).unwrap_or_default();
        assert!(now.0 >= before.0 && now.1 >= before.1 && now.2 >= before.2, "it went back: {before:?} {intent}");
        intent
    }

    async fn act(&mut self, path: &str, number: usize) {
        let intent = self.look(path).await;
        let left = |a: &str, b: &str| intent[a].as_i64().expect("an amount") - intent[b].as_i64().expect("an amount");
        let key = format!("act-{number}");
        let (what, body) = match stand(&intent).0 {
            "requires_action" if self.dice.below(4) > 0 => {
                let outcome = if self.dice.below(4) > 0 { "pass" } else { "fail" };
                return self.confirm(&intent, outcome).await;
            }
            "requires_action" if self.dice.below(2) == 0 => ("void", json!({ "wait_ms": 0 })),
            "authorized" if self.dice.below(4) == 0 => ("void", json!({ "wait_ms": 0 })),
            "authorized" | "partly_captured" => {
                let amount = 1 + self.dice.below(left("amount_minor", "captured_minor").max(1) as u64);
                ("capture", json!({ "amount_minor": amount, "last": self.dice.below(3) == 0, "wait_ms": 0 }))
            }
            "captured" | "partly_refunded" => {
                let amount = 1 + self.dice.below(left("captured_minor", "refunded_minor").max(1) as u64);
                ("refund", json!({ "amount_minor": amount, "wait_ms": 0 }))
            }
            _ => return,
        };
        let send = || send_until_taken(self.acme.clone(), format!("{path}/{what}"), key.clone(), body.clone());
        let (a, b) = tokio::join!(send(), send());
        // What one key did is done once; a refusal is not stored, and may be another one the next time.
        assert!(matches!(a.0, 200 | 409) && matches!(b.0, 200 | 409), "{} {}", a.1, b.1);
    }

    /// The customer's word, at the provider's page.
    async fn confirm(&self, intent: &Value, outcome: &str) {
        let psp = self.psps.iter().find(|psp| intent["provider_id"] == *psp.id).expect("the provider");
        let url = format!("{}/challenge/{}", psp.url, intent["provider_charge"].as_str().expect("a charge"));
        let body = json!({ "outcome": outcome }).to_string().into();
        let client = crate::tests::world::client();
        let answer = client.send(client::Request { method: client::Method::POST, url, headers: Vec::new(), body }).await;
        assert_eq!(answer.expect("an answer").status, 200);
    }

    /// Compares every payment with the providers' books.
    async fn compare(&mut self, paths: &[String]) {
        let tasks = self.acme.get("/api/v1/payments/tasks").send().await.expect(200).json;
        assert_eq!(tasks["data"], json!([]), "nothing was beyond doubt's deadline");
        let mut charges: BTreeMap<String, Vec<Charge>> = BTreeMap::new();
        for charge in self.psps.iter().flat_map(|psp| psp.sandbox.books()) {
            let (intent_id, _) = intent_of(&charge.reference).expect("a reference of ours");
            charges.entry(intent_id.to_string()).or_default().push(charge);
        }
        for path in paths {
            let intent = self.look(path).await;
            let of = charges.remove(intent["intent_id"].as_str().expect("an id")).unwrap_or_default();
            let live: Vec<&Charge> = of.iter().filter(|charge| matches!(charge.status, Status::Authorized | Status::Captured)).collect();
            assert!(live.len() <= 1, "a double charge: {intent} {live:?}");
            let amounts = live.first().map_or((0, 0), |charge| (charge.captured_minor, charge.refunded_minor));
            let ours = (intent["captured_minor"].as_i64().expect("an amount"), intent["refunded_minor"].as_i64().expect("an amount"));
            assert_eq!(ours, amounts, "the books differ: {intent} {of:?}");
            let (state, _) = stand(&intent);
            let holds = !matches!(state, "failed" | "reversed" | "expired");
            assert_eq!(holds, live.len() == 1, "{state}: {of:?}");
            let open = (intent["capturing_minor"].as_i64(), intent["refunding_minor"].as_i64());
            assert_eq!(open, (Some(0), Some(0)), "stuck: {intent}");
            assert!(!matches!(state, "initiated" | "requires_action"), "stuck: {intent}");
            let pending = intent["operations"].as_array().expect("operations").iter().any(|operation| operation["state"] == "pending");
            assert!(!pending, "stuck: {intent}");
        }
        assert!(charges.is_empty(), "charges of no payment: {charges:?}");
    }
}

/// Status and body of a request, sent again while the machine has too much to do.
async fn send_until_taken(client: Client, path: String, key: String, body: Value) -> (u16, Value) {
    loop {
        let answer = client.post(&path).key(&key).json(&body).send().await;
        if answer.status != 503 {
            return (answer.status.as_u16(), answer.json);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn run(engine: Engine, seed: u64) -> bool {
    let Some(mut run) = Run::start(engine, seed).await else { return false };
    let mut paths = Vec::new();
    for number in 0..5 {
        paths.push(run.pay(number).await);
    }
    for number in 0..12 {
        let chosen = run.dice.below(paths.len() as u64) as usize;
        let path = paths[chosen].clone();
        run.act(&path, number).await;
        if run.dice.below(2) == 0 {
            let ms = run.dice.below(40_000) as i64;
            run.later(ms).await;
        }
    }
    // Time for every lease and question: a slow machine takes answers for lost that were given, and a payment in doubt has an hour to be
    // asked about.
    for _ in 0..20 {
        run.later(90_000).await;
    }
    // Time for every deadline, and for what a provider does late.
    for _ in 0..4 {
        tokio::time::sleep(std::time::Duration::from_millis(70)).await;
        run.later(1_900_000).await;
    }
    run.later(26 * 3_600_000).await;
    run.compare(&paths).await;
    run.app.finish().await;
    true
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

async fn runs(engine: Engine, usual: u64) {
    if let Some(seed) = number("BRANDOS_PAYMENT_SEED") {
        run(engine, seed).await;
        return;
    }
    let from = number("BRANDOS_PAYMENT_SEED_FROM").unwrap_or(0);
    let seeds = from + number("BRANDOS_PAYMENT_SEEDS").unwrap_or(usual);
    let next = Arc::new(AtomicU64::new(from));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let next = next.clone();
            tokio::spawn(async move {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let one = tokio::spawn(run(engine, seed)).await;
                    assert!(one.is_ok(), "seed {seed} failed; see above");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("every seed ends well");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_provider_does_its_books_are_ours_sqlite() {
    runs(Engine::Sqlite, 24).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_provider_does_its_books_are_ours_postgres() {
    runs(Engine::Postgres, 6).await;
}

/// Fifty at once with one key, and the process dies at the same point of each of its sagas.
async fn fifty_and_a_death(engine: Engine, point: Point) {
    let died = Arc::new(Mutex::new(HashMap::new()));
    let known = died.clone();
    let probe = move |at: Point, saga| {
        let first = at == point && known.lock().expect("a lock").insert(saga, ()).is_none();
        if first { Fate::Die } else { Fate::Go }
    };
    let Some(app) = TestApp::start(engine, setup_within(1_000).probe(probe)).await else { return };
    let psp = add_psp(&app, psp_config(), true).await;
    let acme = app.client("acme", &["*"]);
    let body = json!({ "amount_minor": 4_200, "currency": "EUR", "token": "tok_approve", "confirm": true, "wait_ms": 0 });
    let all: Vec<_> = (0..50)
        .map(|_| tokio::spawn(send_until_taken(acme.clone(), "/api/v1/payments/intents".to_owned(), "the-one".to_owned(), body.clone())))
        .collect();
    let mut ids = Vec::new();
    for one in all {
        let (status, answer) = one.await.expect("an answer");
        assert_eq!(status, 201, "{answer}");
        ids.push(answer["intent_id"].as_str().expect("an id").to_owned());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
    for _ in 0..4 {
        psp.clock.advance_ms(60_000);
        app.advance_ms(60_000).await;
    }
    let path = format!("/api/v1/payments/intents/{}", ids[0]);
    assert_eq!(stand(&acme.get(&path).send().await.expect(200).json), ("captured", 4_200), "{point:?}");
    assert!(died.lock().expect("a lock").len() >= 2, "both sagas died at {point:?}");
    let books = psp.sandbox.books();
    assert_eq!((books.len(), books[0].captured_minor, books[0].captures.len()), (1, 4_200, 1), "{point:?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_charge_wherever_the_process_dies_sqlite() {
    for point in Point::ALL {
        fifty_and_a_death(Engine::Sqlite, point).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_charge_wherever_the_process_dies_postgres() {
    for point in Point::ALL {
        fifty_and_a_death(Engine::Postgres, point).await;
    }
}
