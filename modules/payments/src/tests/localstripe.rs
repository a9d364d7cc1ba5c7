//! The Stripe adapter against a server that we didn't write: `localstripe` from PyPI, which ignores idempotency keys.
//!
//! It is installed, pinned, into `target/localstripe` when it is missing there. Without Python or its packages the test is skipped, and says
//! so; in CI that is a failure.
#![allow(clippy::print_stderr, reason = "tests")]

use crate::adapter::{Adapter, ChargeStatus, Found, Order, Secrets, Told};
use crate::model::ProviderKind;
use client::{Client, Method, Request};
use kernel::{Clock as _, SystemClock, Timestamp};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const VERSION: &str = "1.15.10";
const SECRET: &str = "whsec_of_a_test_that_is_long_enough";

/// The interpreter that has it; none, said loudly, where it can't be installed.
fn python() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/localstripe");
    let python = folder.join("bin/python");
    let run = |command: &mut Command| -> Result<String, String> {
        let output = command.output().map_err(|error| error.to_string())?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(text) } else { Err(text) }
    };
    let version = "import importlib.metadata as m; print(m.version('localstripe'))";
    if run(Command::new(&python).args(["-c", version])).is_ok_and(|known| known.trim() == VERSION) {
        return Some(python);
    }
    let package = format!("localstripe=={VERSION}");
    let made = run(Command::new("python3").args(["-m", "venv"]).arg(&folder))
        .and_then(|_| run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", &package])));
    match made {
        Ok(_) => Some(python),
        Err(why) => {
            assert!(std::env::var("CI").is_err(), "localstripe {VERSION} can't be installed: {why}");
            eprintln!("SKIPPED: localstripe {VERSION} can't be installed: {why}");
            None
        }
    }
}

/// A server of its own, in a folder of its own, ended with the test.
struct Stripe {
    child: Child,
    url: String,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Drop for Stripe {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stripe {
    async fn start() -> Option<Stripe> {
        let python = python()?;
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("an address").port();
        // By itself it would listen on every address, and keep what it was told in a file for the next one.
        let program = format!(
            "import localstripe.server as s; type(s.store).dump_to_disk = lambda self: None; s.web.run_app(s.app, host='127.0.0.1', port={port})"
        );
        let child = Command::new(python)
            .args(["-c", &program])
            .current_dir(folder.path())
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("localstripe starts");
        let client = crate::tests::world::client();
        let stripe = Stripe { child, url: format!("http://127.0.0.1:{port}"), client, _folder: folder };
        for _ in 0..200 {
            if stripe.call(Method::GET, "/v1/payment_intents", &[]).await.is_some() {
                return Some(stripe);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("localstripe does not answer");
    }

    /// Something that only a test asks for. None without an answer.
    async fn call(&self, method: Method, path: &str, form: &[(&str, &str)]) -> Option<serde_json::Value> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let headers =
            vec![("authorization", "Bearer sk_test_x".to_owned()), ("content-type", "application/x-www-form-urlencoded".to_owned())];
        let answer = self.client.send(Request { method, url: format!("{}{path}", self.url), headers, body: body.into() }).await.ok()?;
        Some(serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    /// A payment method with this test card, as a browser would make it.
    async fn card(&self, number: &str) -> String {
        let form =
            [("type", "card"), ("card[number]", number), ("card[exp_month]", "12"), ("card[exp_year]", "2040"), ("card[cvc]", "123")];
        let made = self.call(Method::POST, "/v1/payment_methods", &form).await.expect("an answer");
        made["id"].as_str().unwrap_or_else(|| panic!("no payment method: {made}")).to_owned()
    }

    fn adapter(&self) -> Adapter {
        let secrets =
            Secrets { api_key: "sk_test_x".to_owned(), webhook_secrets: vec!["another one for rotation".to_owned(), SECRET.to_owned()] };
        Adapter { kind: ProviderKind::Stripe, base_url: self.url.clone(), secrets, honours_keys: false, client: self.client.clone() }
    }
}

fn authorize(reference: &str, token: &str, amount_minor: i64) -> Order {
    let currency = "EUR".parse().expect("a currency");
    Order::Authorize { reference: reference.to_owned(), token: token.to_owned(), amount_minor, currency }
}

#[track_caller]
fn charge(told: Told) -> Box<crate::adapter::Charge> {
    match told {
        Told::Charge { charge } => charge,
        other => panic!("{other:?}"),
    }
}

/// Keeps what is posted to it: the signature header and the body.
async fn receiver() -> (String, Arc<Mutex<Vec<(String, Vec<u8>)>>>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let kept = got.clone();
    let take = move |headers: axum::http::HeaderMap, body: axum::body::Bytes| async move {
        let signature = headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        kept.lock().expect("a lock").push((signature, body.to_vec()));
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/", axum::routing::post(take))).await });
    (url, got)
}

#[tokio::test]
async fn speaks_stripe() {
    let Some(stripe) = Stripe::start().await else { return };
    let adapter = stripe.adapter();
    let since: Timestamp = SystemClock.now();
    let (hook, got) = receiver().await;
    stripe.call(Method::POST, "/_config/webhooks/ours", &[("url", &hook), ("secret", SECRET)]).await.expect("an answer");

    // Authorise, find by reference, capture, refund in parts.
    let good = stripe.card("4242424242424242").await;
    let order = authorize("pay_a-1", &good, 10_000);
    assert_eq!(adapter.find(&order, since).await, Found::Absent);
    let held = charge(adapter.perform(&order).await);
    assert_eq!(
        (held.status, held.amount_minor, held.captured_minor, held.reference.as_str()),
        (ChargeStatus::Authorized, 10_000, 0, "pay_a-1")
    );
    let Found::Charge(found) = adapter.find(&order, since).await else { panic!("it is there") };
    assert_eq!((found.id.as_str(), order.is_done_in(&found)), (held.id.as_str(), true));
    let currency = "EUR".parse().expect("a currency");
    let capture = Order::Capture { charge: held.id.clone(), reference: "pop_1".into(), amount_minor: 10_000, currency, last: true };
    assert!(!capture.is_done_in(&found));
    let taken = charge(adapter.perform(&capture).await);
    assert_eq!((taken.status, taken.captured_minor, taken.open), (ChargeStatus::Captured, 10_000, false));
    let Found::Charge(found) = adapter.retrieve(&held.id).await else { panic!("it is there") };
    assert!(capture.is_done_in(&found));
    assert!(matches!(adapter.perform(&capture).await, Told::Refused { .. }), "captured once");
    let refund =
        |reference: &str, amount_minor: i64| Order::Refund { charge: held.id.clone(), reference: reference.into(), amount_minor, currency };
    let part = refund("pop_2", 4_000);
    assert!(!part.is_done_in(&found));
    let back = charge(adapter.perform(&part).await);
    assert_eq!((back.refunded_minor, part.is_done_in(&back), refund("pop_3", 1).is_done_in(&back)), (4_000, true, false));
    assert_eq!(charge(adapter.perform(&refund("pop_3", 1_000)).await).refunded_minor, 5_000);

    // It ignores idempotency keys: what is in doubt is asked about, and not done again.
    let again = charge(adapter.resolve(&part, since, since).await);
    assert_eq!(again.refunded_minor, 5_000);
    assert!(matches!(adapter.resolve(&authorize("pay_never-1", &good, 1), since, since).await, Told::Unknown { .. }));

    // Void.
    let voided = charge(adapter.perform(&authorize("pay_b-1", &good, 700)).await);
    let void = Order::Void { charge: voided.id.clone(), reference: "pop_4".into(), rest: false };
    let voided = charge(adapter.perform(&void).await);
    assert_eq!((voided.status, void.is_done_in(&voided)), (ChargeStatus::Voided, true));

    // Declined, unknown, and confirmed by the customer.
    let declined = stripe.card("4000000000000341").await;
    let said = charge(adapter.perform(&authorize("pay_c-1", &declined, 700)).await);
    assert_eq!((said.status, said.decline.clone()), (ChargeStatus::Declined, Some(("card_declined".to_owned(), true))));
    assert!(matches!(adapter.perform(&authorize("pay_d-1", "pm_none", 700)).await, Told::Refused { .. }));
    let strong = stripe.card("4000002500003155").await;
    let order = authorize("pay_e-1", &strong, 900);
    let waiting = charge(adapter.perform(&order).await);
    assert_eq!(waiting.status, ChargeStatus::RequiresAction);
    let intent = stripe.call(Method::GET, &format!("/v1/payment_intents/{}", waiting.id), &[]).await.expect("an answer");
    let secret = intent["client_secret"].as_str().expect("a secret");
    let confirm = format!("/v1/payment_intents/{}/_authenticate", waiting.id);
    stripe.call(Method::POST, &confirm, &[("client_secret", secret), ("success", "true")]).await.expect("an answer");
    let Found::Charge(confirmed) = adapter.find(&order, since).await else { panic!("it is there") };
    assert_eq!(confirmed.status, ChargeStatus::Authorized);

    // Its webhooks: believed when they are signed and of now.
    for _ in 0..100 {
        if !got.lock().expect("a lock").is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (signature, body) = got.lock().expect("a lock")[0].clone();
    let header = |name: &str| if name == "stripe-signature" { signature.clone() } else { String::new() };
    let now = SystemClock.now();
    let callback = adapter.callback(&header, &body, now).expect("signed").expect("about a charge");
    assert_eq!(callback.charge, held.id);
    let code = |result: kernel::Result<Option<crate::adapter::Callback>>| result.err().map(|error| error.code());
    assert_eq!(code(adapter.callback(&header, &body, now.plus_ms(600_000))), Some("payments.callback_out_of_time"));
    assert_eq!(code(adapter.callback(&header, &[&body[..], b" "].concat(), now)), Some("payments.callback_forged"));
    assert_eq!(code(adapter.callback(&|_| String::new(), &body, now)), Some("payments.callback_malformed"));
    let mut stranger = stripe.adapter();
    stranger.secrets.webhook_secrets = vec!["not the one with which it is signed".to_owned()];
    assert_eq!(code(stranger.callback(&header, &body, now)), Some("payments.callback_forged"));

    // A wrong key: certainly not done.
    let mut nobody = stripe.adapter();
    nobody.secrets.api_key = "pk".to_owned();
    assert!(matches!(nobody.perform(&authorize("pay_f-1", &good, 1)).await, Told::Outage { .. }));
}
