//! Many hands at once: whatever they do, no money comes or goes, no limit is passed, and each wait has its entry (the audits at the end
//! of each test see to that). `BRANDOS_WALLETS_STEPS=20000` for a long one.

use super::world::{World, by_amount, setup};
use kernel::{Rng as _, SeededRng};
use serde_json::{Value, json};
use std::sync::Arc;
use testkit::TestApp;

const HANDS: u64 = 16;

fn steps() -> u64 {
    std::env::var("BRANDOS_WALLETS_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(600)
}

/// One thing that somebody does.
async fn act(world: &World, rng: &SeededRng, people: &[String], shops: &[String]) {
    let some = |list: &[String]| list[rng.below(list.len() as u64) as usize].clone();
    let (from, to) = (some(people), some(people));
    // Mostly small; some are challenged (100.00), reviewed (200.00) or denied (300.00).
    let minor = if rng.below(6) == 0 { 10_000 * (1 + rng.below(3) as i64) } else { 1 + rng.below(500) as i64 };
    let answer = match rng.below(10) {
        0..=4 => world.send(&from, &to, minor, json!({})).await,
        5 | 6 => world.send(&from, &some(shops), minor, json!({ "kind": "payment" })).await,
        7 => {
            let holder = ["x", "refuse"][rng.below(2) as usize];
            let body = json!({ "amount_minor": minor, "currency": "EUR", "iban": "DE89370400440532013000", "holder": holder });
            world.post(&format!("/api/v1/wallets/{from}/withdrawals"), body).await
        }
        8 => {
            let body = json!({ "asker_wallet_id": to, "payer_wallet_id": from, "amount_minor": minor, "currency": "EUR" });
            let asked = world.post("/api/v1/wallet-requests", body).await;
            if asked.status.as_u16() != 201 {
                asked
            } else {
                let id = asked.text("request_id");
                world.acme.post(format!("/api/v1/wallet-requests/{id}/accept")).send().await
            }
        }
        _ => {
            let queue = world.get("/api/v1/wallet-reviews").await;
            let Some(id) = queue["data"][0]["transfer"]["transfer_id"].as_str() else { return };
            let how = ["approve", "reject"][rng.below(2) as usize];
            world.post(&format!("/api/v1/wallet-reviews/{id}/{how}"), json!({ "reason": "looked at it" })).await
        }
    };
    // A busy machine may refuse: nothing was done.
    let refused = answer.json["code"].as_str();
    assert!(refused.is_none_or(|code| code.starts_with("wallets.") || code == "store.overloaded"), "{}", answer.json);
    if answer.json["status"] == "challenged" && rng.below(2) == 0 {
        let id = answer.json["transfer_id"].as_str().expect("an id");
        let code = world.get(&format!("/api/v1/wallet-transfers/{id}/code")).await["one_time_code"].clone();
        world.post(&format!("/api/v1/wallet-transfers/{id}/confirm"), json!({ "one_time_code": code })).await;
    }
}

testkit::both_engines! {
    setup: setup;

    async fn money_is_conserved_whatever_people_do(app: TestApp) {
        let world = Arc::new(World::new(app));
        world.judge(by_amount(), [100, 200, 300]).await;
        let (mut people, mut shops) = (Vec::new(), Vec::new());
        for n in 0..12 {
            people.push(world.wallet(&format!("p{n}"), "user", 100_000, json!({ "level": n % 3 })).await);
        }
        for n in 0..2 {
            shops.push(world.wallet(&format!("s{n}"), "merchant", 0, json!({})).await);
        }
        let hands = (0..HANDS).map(|hand| {
            let (world, people, shops) = (world.clone(), people.clone(), shops.clone());
            tokio::spawn(async move {
                let rng = SeededRng::new(hand);
                for _ in 0..steps() / HANDS {
                    act(&world, &rng, &people, &shops).await;
                }
            })
        });
        for hand in futures_util::future::join_all(hands).await {
            hand.expect("no panic");
        }
        world.app.drained().await;
        // Everything that is left to wait runs out, and what is held comes back.
        world.app.advance_ms(8 * 86_400_000).await;
        let balance = world.get("/api/v1/ledger/trial-balance").await;
        assert_eq!(balance["balanced"], true, "{balance}");
        let mut sum = 0;
        for wallet in people.iter().chain(&shops) {
            let (posted, available) = world.balance(wallet).await;
            assert_eq!(posted, available, "nothing is held any more");
            sum += posted;
        }
        let total = |lines: &Value, kind: &str, side: &str| -> i64 {
            let lines = lines["lines"].as_array().expect("lines");
            lines.iter().filter(|line| line["type"] == kind).map(|line| line[side].as_i64().expect("an amount")).sum()
        };
        // What is at the bank is in wallets or was earned.
        let bank = total(&balance, "asset", "debits_minor") - total(&balance, "asset", "credits_minor");
        let fees = total(&balance, "income", "credits_minor") - total(&balance, "income", "debits_minor");
        assert_eq!(bank, sum + fees);
    }
}
