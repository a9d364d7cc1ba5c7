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

/// What it does about a capture, a void or a refund, all of which it does in the end.
const FAULTS: &[&str] = &[
    "timeout_before",
    "timeout_after",
    "late",
    "error_after",
    "outage",
    "answer_twice",
    "callback_first",
    "callback_twice",
    "callback_out_of_order",
    "callback_lost",
    "callback_lies",
    "stale",
];

/// Nothing, and each fault of one kind of operation, as a part of a token.
fn faults(of: &str) -> Vec<String> {
    std::iter::once(String::new()).chain(FAULTS.iter().map(|fault| format!("+{of}:{fault}"))).collect()
}

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

/// Lets all the questions, retries and deadlines come, those too that follow from a deadline.
async fn in_time(world: &World) {
    for _ in 0..8 {
        world.later(60_000).await;
    }
    world.leap(2 * 3_600_000).await;
    for _ in 0..8 {
        world.later(60_000).await;
    }
}

/// Lets all of that come, and looks how each has ended: what was not sold is free.
async fn settled(world: &World, cases: &[(String, &[(&str, &str)])], begun: Vec<TestResponse>, item: &str) {
    in_time(world).await;
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
        // Whatever it does about the capture, the order stands.
        let capturing = faults("capture").into_iter().map(|capture| (format!("tok_approve{capture}"), AUTHORISATION[0].1));
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
        const ENDS: &[(&str, &str)] = &[("completed", ""), ("failed", "outage")];
        let cases: Vec<(String, &[(&str, &str)])> = AUTHORISATION
            .iter()
            .flat_map(|(token, ends)| {
                let ends = if ends.contains(&("completed", "")) { ENDS } else { *ends };
                faults("capture").into_iter().map(move |capture| (format!("tok_{token}{capture}"), ends))
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

    /// A shopper who never confirms, and a provider that has every fault when it is told to let go.
    async fn whatever_letting_go_does_nothing_stays_reserved(app: TestApp) {
        let world = World::new(app).await;
        let cases: Vec<String> = faults("void").into_iter().map(|void| format!("tok_requires_action{void}")).collect();
        let (variant, item) = world.variant("TEA-01", "4.95", Some(cases.len() as i64)).await;
        let begun = join_all(cases.iter().map(|token| world.buy(&variant, 1, token, 10_000))).await;
        let cases: Vec<(String, &[(&str, &str)])> = cases.into_iter().map(|token| (token, &[("failed", "expired")] as _)).collect();
        settled(&world, &cases, begun, &item).await;
        assert!(world.charges().iter().all(|charge| !charge.open && charge.captured_minor == 0), "{:?}", world.charges());
    }

    /// Known too late, when the goods are somebody else's: failing, unknown and not done, unknown and done, of the capture with each of the
    /// refund, and of the void where nothing was taken yet.
    async fn whatever_giving_back_does_nobody_pays_for_nothing(app: TestApp) {
        let mut world = World::deaf(app).await;
        let unheard = |of: &str| {
            let faults = ["outage", "timeout_before", "timeout_after"].map(|fault| format!("+{of}:{fault}"));
            std::iter::once(String::new()).chain(faults)
        };
        let taken = unheard("capture").flat_map(|capture| unheard("refund").map(move |refund| ("automatic", format!("{capture}{refund}"))));
        let cases: Vec<(&str, String)> = taken.chain(unheard("void").map(|void| ("manual", void))).collect();
        // One more, for those that are declined.
        let stock = cases.len() as i64 + 1;
        let (variant, item) = world.variant("TEA-01", "4.95", Some(stock)).await;
        let mut begun = Vec::new();
        for (capture, faults) in &cases {
            world.configure(capture, 15).await;
            begun.push(world.buy(&variant, 1, &format!("tok_timeout_after{faults}"), 0).await);
            // One that is answered: silence in a row, and the provider would be left alone for a while.
            world.buy(&variant, 1, "tok_hard_decline", 10_000).await.expect(201);
        }
        while world.charges().iter().filter(|charge| charge.decline.is_none()).count() < cases.len() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        world.offline().await;
        world.later(16 * 60_000).await;
        let reserve = json!({ "reference": "walk-in", "lines": [{ "variant_id": variant, "quantity": stock }] });
        world.acme.post("/api/v1/inventory/reservations").json(&reserve).send().await.expect(201);
        world.online().await;
        in_time(&world).await;
        for ((_, faults), begun) in cases.iter().zip(begun) {
            let checkout = world.checkout(&begun.expect(201).text("checkout_id")).await;
            assert!(fits(&checkout, &[("failed", "stock_gone")]), "{faults}: {checkout}");
        }
        assert_eq!(world.level(&item).await, (stock, 0), "the walk-in's own time is over by now, too");
        let kept: Vec<_> =
            world.charges().into_iter().filter(|charge| charge.open || charge.captured_minor != charge.refunded_minor).collect();
        assert!(kept.is_empty(), "{} of {stock}: {:?}", kept.len(), kept.first());
    }

    /// A provider that never says what became of it: nothing is guessed, no stock is held for it, and a person ends it.
    async fn what_is_never_answered_waits_for_a_person(app: TestApp) {
        let world = World::new(app).await;
        world.app.allow_parked();
        let tokens = ["tok_silent", "tok_mute", "tok_approve+capture:silent", "tok_approve+capture:mute"];
        let (variant, item) = world.variant("TEA-01", "4.95", Some(5)).await;
        let mut begun = Vec::new();
        for token in tokens {
            begun.push(world.buy(&variant, 1, token, 300).await.expect(201).text("checkout_id"));
            world.buy(&variant, 1, "tok_hard_decline", 10_000).await.expect(201);
        }
        world.later(16 * 60_000).await;
        assert_eq!(world.level(&item).await, (5, 2), "two orders, and two whose time is over");
        world.leap(25 * 3_600_000).await;
        world.later(60_000).await;
        let mut states = Vec::new();
        for checkout_id in &begun {
            states.push(world.checkout(checkout_id).await["state"].clone());
        }
        assert_eq!(states, ["paying", "paying", "completed", "completed"]);
        assert_eq!(world.level(&item).await, (5, 2));
        let tasks = world.acme.get("/api/v1/payments/tasks").send().await.expect(200).json;
        assert_eq!(tasks["data"].as_array().expect("tasks").len(), tokens.len(), "{tasks}");
        // The person has asked the provider by telephone: it has done nothing, and will not.
        let parked = world.acme.get("/api/v1/workflows?which=parked").send().await.expect(200).json;
        let parked = parked["data"].as_array().expect("sagas").clone();
        assert_eq!(parked.len(), tokens.len());
        for saga in &parked {
            let path = format!("/api/v1/workflows/{}/decide", saga["id"].as_str().expect("an id"));
            world.acme.post(path).json(&json!({ "refused": "never_done" })).send().await.expect(200);
        }
        world.app.drained().await;
        let ends = [("failed", "expired"), ("failed", "expired"), ("completed", "capture_failed"), ("completed", "capture_failed")];
        for (checkout_id, end) in begun.iter().zip(ends) {
            let checkout = world.checkout(checkout_id).await;
            assert!(fits(&checkout, &[end]), "{end:?}: {checkout}");
        }
        assert_eq!(world.level(&item).await, (5, 2));
    }
}
