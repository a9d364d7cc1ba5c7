//! Every end that `docs/checkout.md` lists is reached, and no other one is.

use super::super::model::{CheckoutId, Heard};
use super::super::place::hear;
use super::world::{World, setup};
use kernel::Actor;
use orders::api::By;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use store::Tx;
use testkit::TestApp;

const DOCUMENT: &str = include_str!("../../../../../docs/checkout.md");
/// What the sandbox says of a card that it declines; the document's example is another provider's.
const DECLINED: &str = "stolen_card";
const DAY_MS: i64 = 86_400_000;

/// State and reason of each row of the document's table of ends; `declined` for a provider's word.
fn documented() -> BTreeSet<(String, String)> {
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>());
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let ends = cells.filter(|cells| matches!(cells[0], "completed`" | "failed`")).flat_map(|cells| {
        let reasons = match cells[1] {
            "" => vec![String::new()],
            said if said.starts_with("what the provider said") => vec!["declined".to_owned()],
            reasons => words(reasons.split(';').next().unwrap_or_default()),
        };
        let state = cells[0].trim_end_matches('`').to_owned();
        reasons.into_iter().map(move |reason| (state.clone(), reason))
    });
    ends.collect()
}

/// A word that comes so early only by a race is told as the log would tell it.
fn told_refunded(tx: &mut Tx<'_>, checkout_id: &CheckoutId) -> kernel::Result<()> {
    hear(tx, *checkout_id, Heard::Refunded, "payment_refunded", &By { actor: Actor::SYSTEM, request_id: None })
}

impl World {
    async fn operate(&self, checkout: &Value, operation: &str, status: u16) {
        let intent_id = checkout["payment"]["intent_id"].as_str().expect("a payment");
        self.acme.post(format!("/api/v1/payments/intents/{intent_id}/{operation}")).send().await.expect(status);
        self.app.drained().await;
    }
}

testkit::both_engines! {
    setup: setup;

    async fn every_end_is_documented_and_reached(app: TestApp) {
        let mut world = World::deaf(app).await;
        let mut reached = BTreeSet::new();
        let buy = async |world: &World, token: &str, capture: &str, hold_minutes: i64| {
            let (variant, _) = world.variant(&format!("{token}-{capture}-{hold_minutes}-{}", world.charges().len()), "10", Some(1)).await;
            world.configure(capture, hold_minutes).await;
            let wait_ms = if token == "tok_timeout_after" { 0 } else { 10_000 };
            (world.buy(&variant, 1, token, wait_ms).await.expect(201).json, variant)
        };
        let reach = async |world: &World, reached: &mut BTreeSet<(String, String)>, checkout: &Value| {
            let now = world.checkout(checkout["checkout_id"].as_str().expect("an id")).await;
            let reason = now["reason"].as_str().unwrap_or_default();
            let reason = if reason == DECLINED { "declined" } else { reason };
            reached.insert((now["state"].as_str().expect("a state").to_owned(), reason.to_owned()));
        };

        let (bought, _) = buy(&world, "tok_approve", "automatic", 15).await;
        reach(&world, &mut reached, &bought).await;
        let (declined, _) = buy(&world, "tok_hard_decline", "automatic", 15).await;
        reach(&world, &mut reached, &declined).await;
        let (voided, _) = buy(&world, "tok_approve", "manual", 15).await;
        world.operate(&voided, "void", 200).await;
        reach(&world, &mut reached, &voided).await;

        let (cancelled, _) = buy(&world, "tok_requires_action", "automatic", 15).await;
        let path = format!("/api/v1/storefront/checkouts/{}/cancel", cancelled["checkout_id"].as_str().expect("an id"));
        world.acme.post(path).send().await.expect(200);
        reach(&world, &mut reached, &cancelled).await;
        let (expired, _) = buy(&world, "tok_requires_action", "automatic", 15).await;
        world.later(20 * 60_000).await;
        reach(&world, &mut reached, &expired).await;
        // The time to confirm is over before the stock's is.
        let (unconfirmed, _) = buy(&world, "tok_requires_action", "automatic", 120).await;
        world.leap(70 * 60_000).await;
        reach(&world, &mut reached, &unconfirmed).await;
        // Somebody of the shop's own lets a payment go that waits.
        let (let_go, _) = buy(&world, "tok_requires_action", "automatic", 120).await;
        world.operate(&let_go, "void", 200).await;
        reach(&world, &mut reached, &let_go).await;
        let (refunded, _) = buy(&world, "tok_requires_action", "automatic", 15).await;
        let checkout_id: CheckoutId = refunded["checkout_id"].as_str().expect("an id").parse().expect("an id");
        world.app.store().write(world.app.tenant("acme"), told_refunded, checkout_id).await.expect("it is heard");
        reach(&world, &mut reached, &refunded).await;

        // Known too late, when the goods are somebody else's.
        let before = world.charges().len();
        let (gone, variant) = buy(&world, "tok_timeout_after", "automatic", 15).await;
        while world.charges().len() == before {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        world.offline().await;
        world.later(16 * 60_000).await;
        let reserve = json!({ "reference": "walk-in", "lines": [{ "variant_id": variant, "quantity": 1 }] });
        world.acme.post("/api/v1/inventory/reservations").json(&reserve).send().await.expect(201);
        world.online().await;
        world.later(10 * 60_000).await;
        reach(&world, &mut reached, &gone).await;

        // What was set aside has run out: at the provider when it was to be taken, and by our own clock before anybody has asked.
        let (not_taken, _) = buy(&world, "tok_approve", "manual", 15).await;
        world.later_there(8 * DAY_MS);
        world.operate(&not_taken, "capture", 200).await;
        reach(&world, &mut reached, &not_taken).await;
        let (run_out, _) = buy(&world, "tok_approve", "manual", 15).await;
        world.leap(8 * DAY_MS).await;
        reach(&world, &mut reached, &run_out).await;

        assert_eq!(reached, documented());
    }
}
