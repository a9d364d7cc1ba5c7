//! Each step of a checkout failing, timing out and being unknown, in turn and in pairs: it always ends as `docs/checkout.md` says.

use super::world::{World, setup};
use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::{TestApp, TestResponse};

/// What the provider does about the authorisation, and how a checkout may end then: its state and reason.
const AUTHORISATION: &[(&str, &[(&str, &str)])] = &[
    ("approve", &[("completed", "")]),
    ("soft_decline", &[("failed", "*")]),
    ("hard_decline", &[("failed", "*")]),
    ("timeout_before", &[("completed", "")]),
    ("timeout_after", &[("completed", "")]),
    ("late", &[("completed", "")]),
    ("error_after", &[("completed", "")]),
    ("outage", &[("completed", ""), ("failed", "*")]),
    ("answer_twice", &[("completed", "")]),
    ("callback_first", &[("completed", "")]),
    ("callback_twice", &[("completed", "")]),
    ("callback_out_of_order", &[("completed", "")]),
    ("callback_lost", &[("completed", "")]),
    ("callback_lies", &[("completed", "")]),
    ("stale", &[("completed", "")]),
];

/// What it does about the capture: whatever that is, the order stands.
const CAPTURE: &[&str] = &[
    "",
    "+capture:timeout_before",
    "+capture:timeout_after",
    "+capture:late",
    "+capture:error_after",
    "+capture:outage",
    "+capture:answer_twice",
    "+capture:callback_first",
    "+capture:callback_twice",
    "+capture:callback_out_of_order",
    "+capture:callback_lost",
    "+capture:callback_lies",
    "+capture:stale",
];

/// What became of the stock while the payment was not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stock {
    /// It is still kept.
    Kept,
    /// Its time was over, and nobody else has bought it.
    Expired,
    /// Its time was over, and somebody else has.
    Gone,
}

fn fits(checkout: &Value, ends: &[(&str, &str)]) -> bool {
    let (state, reason) = (checkout["state"].as_str().unwrap_or_default(), checkout["reason"].as_str().unwrap_or_default());
    ends.iter().any(|(end, why)| *end == state && (*why == reason || *why == "*" && !reason.is_empty()))
}

/// Lets all the questions, retries and deadlines come, and looks how each has ended: what was not sold is free.
async fn settled(world: &World, cases: &[(String, &[(&str, &str)])], begun: Vec<TestResponse>, item: &str) {
    for _ in 0..8 {
        world.later(60_000).await;
    }
    world.later(2 * 3_600_000).await;
    let mut sold = 0;
    for ((token, ends), begun) in cases.iter().zip(begun) {
        let checkout_id = begun.expect(201).text("checkout_id");
        let checkout = world.checkout(&checkout_id).await;
        assert!(fits(&checkout, ends), "{token}: {checkout}");
        sold += i64::from(checkout["state"] == "completed");
    }
    assert_eq!(world.level(item).await, (cases.len() as i64, sold));
}

testkit::both_engines! {
    setup: setup;

    async fn each_fault_ends_as_documented(app: TestApp) {
        let world = World::new(app).await;
        let authorising = AUTHORISATION.iter().map(|(token, ends)| (format!("tok_{token}"), *ends));
        let capturing = CAPTURE.iter().map(|capture| (format!("tok_approve{capture}"), AUTHORISATION[0].1));
        let cases: Vec<(String, &[(&str, &str)])> = authorising.chain(capturing).collect();
        let (variant, item) = world.variant("TEA-01", "4.95", Some(cases.len() as i64)).await;
        let mut begun = Vec::new();
        for (token, _) in &cases {
            begun.push(world.buy(&variant, 1, token, 300).await);
            // One that is answered: silence in a row, and the provider would be left alone for a while.
            world.buy(&variant, 1, "tok_hard_decline", 10_000).await.expect(201);
        }
        settled(&world, &cases, begun, &item).await;
    }

    /// All at once: the provider is silent so often that it is left alone for a while, which is an outage to those who come then.
    async fn each_pair_of_faults_ends_as_documented(app: TestApp) {
        let world = World::new(app).await;
        let pair = |token: &str, capture: &str| format!("tok_{token}{capture}");
        const ENDS: &[(&str, &str)] = &[("completed", ""), ("failed", "outage")];
        let cases: Vec<(String, &[(&str, &str)])> = AUTHORISATION
            .iter()
            .flat_map(|(token, ends)| {
                let ends = if ends.contains(&("completed", "")) { ENDS } else { *ends };
                CAPTURE.iter().map(move |capture| (pair(token, capture), ends))
            })
            .collect();
        let (variant, item) = world.variant("TEA-01", "4.95", Some(cases.len() as i64)).await;
        let begun = join_all(cases.iter().map(|(token, _)| world.buy(&variant, 1, token, 0))).await;
        settled(&world, &cases, begun, &item).await;
    }

    async fn a_payment_that_is_known_too_late_is_for_what_is_left(app: TestApp) {
        let mut world = World::deaf(app).await;
        for (stock, end) in
            [(Stock::Kept, ("completed", "")), (Stock::Expired, ("completed", "")), (Stock::Gone, ("failed", "stock_gone"))]
        {
            let (variant, item) = world.variant(&format!("{stock:?}"), "10", Some(1)).await;
            let before = world.charges().len();
            // The answer is lost, and nobody can be asked for a while.
            let begun = world.buy(&variant, 1, "tok_timeout_after", 0).await.expect(201).text("checkout_id");
            while world.charges().len() == before {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
            world.offline().await;
            if stock != Stock::Kept {
                world.later(16 * 60_000).await;
                let waiting = world.checkout(&begun).await;
                assert_eq!(world.level(&item).await, (1, 0), "its time was over: {waiting}");
            }
            if stock == Stock::Gone {
                let reserve = json!({ "reference": "walk-in", "lines": [{ "variant_id": variant, "quantity": 1 }] });
                world.acme.post("/api/v1/inventory/reservations").json(&reserve).send().await.expect(201);
            }
            world.online().await;
            world.later(5 * 60_000).await;
            let checkout = world.checkout(&begun).await;
            assert!(fits(&checkout, &[end]), "{stock:?}: {checkout}");
            assert_eq!(world.level(&item).await, (1, 1), "{stock:?}");
            let charges = world.charges();
            let charge = charges.last().expect("a charge");
            let taken = charge.captured_minor - charge.refunded_minor;
            assert_eq!(taken, if end.0 == "completed" { 1_000 } else { 0 }, "{stock:?}: {charge:?}");
        }
    }
}
