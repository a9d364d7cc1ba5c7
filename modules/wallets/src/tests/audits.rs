//! The audits find what they are there for.

use super::world::{World, by_amount, setup};
use serde_json::json;
use store::Tx;
use testkit::TestApp;
use web::{AuditCheck, AuditOutcome};

async fn audit(world: &World, name: &str) -> AuditOutcome {
    let audit = crate::audits::audits().into_iter().find(|audit| audit.name == name).expect("an audit");
    let AuditCheck::Tenant(check) = audit.check else { panic!("{name} is the platform's") };
    world.app.store().read(world.app.tenant("acme"), check).await.expect("it runs")
}

/// Breaks something by SQL, sees an audit find it, and mends it.
async fn finds(world: &World, name: &str, damage: &'static str, repair: &'static str) {
    assert!(audit(world, name).await.ok, "{name} before");
    let run = |tx: &mut Tx<'_>, sql: &&'static str| tx.exec(*sql, ());
    world.app.store().write(world.app.tenant("acme"), run, damage).await.expect("the damage is done");
    let found = audit(world, name).await;
    assert!(!found.ok, "{name} does not find it: {damage}");
    world.app.store().write(world.app.tenant("acme"), run, repair).await.expect("it is mended");
    assert!(audit(world, name).await.ok, "{name} after");
}

testkit::both_engines! {
    setup: setup;

    async fn they_find_what_is_wrong(app: TestApp) {
        let world = World::new(app);
        let (alice, bob) = (world.wallet("alice", "user", 60_000, json!({ "level": 1 })).await, world.user("bob", 0).await);
        world.judge(by_amount(), [150, 200, 900]).await;
        world.send(&alice, &bob, 5_000, json!({})).await.expect(201);
        world.send(&alice, &bob, 20_000, json!({})).await.expect(202);
        const BALANCES: &str = "wallets.balances_equal_the_ledgers";
        finds(
            &world,
            BALANCES,
            "UPDATE wallets_transfers SET amount_minor = 5001 WHERE tenant_id = $1 AND amount_minor = 5000",
            "UPDATE wallets_transfers SET amount_minor = 5000 WHERE tenant_id = $1 AND amount_minor = 5001",
        )
        .await;
        finds(
            &world,
            BALANCES,
            "UPDATE wallets_transfers SET status = 'denied' WHERE tenant_id = $1 AND status = 'in_review'",
            "UPDATE wallets_transfers SET status = 'in_review' WHERE tenant_id = $1 AND status = 'denied'",
        )
        .await;
        finds(
            &world,
            "wallets.limits_hold",
            "UPDATE wallets_accounts SET day_minor = day_minor - 1 WHERE tenant_id = $1 AND day_minor > 0",
            "UPDATE wallets_accounts SET day_minor = day_minor + 1 WHERE tenant_id = $1 AND day_minor > 0",
        )
        .await;
        finds(
            &world,
            "wallets.reviews_are_queued",
            "UPDATE wallets_pending SET is_open = FALSE WHERE tenant_id = $1",
            "UPDATE wallets_pending SET is_open = TRUE WHERE tenant_id = $1",
        )
        .await;
        finds(
            &world,
            "wallets.reviews_are_queued",
            "UPDATE wallets_pending SET hold_id = NULL, attempts_left = hold_id WHERE tenant_id = $1",
            "UPDATE wallets_pending SET hold_id = attempts_left WHERE tenant_id = $1",
        )
        .await;
        // A day above its limit, after the limits were set.
        world.app.advance_ms(2 * 86_400_000).await;
        world.send(&alice, &bob, 9_000, json!({})).await.expect(201);
        finds(
            &world,
            "wallets.limits_hold",
            "UPDATE wallets_policies SET body = REPLACE(body, '\"per_day_minor\":250000', '\"per_day_minor\":8999') WHERE tenant_id = $1",
            "UPDATE wallets_policies SET body = REPLACE(body, '\"per_day_minor\":8999', '\"per_day_minor\":250000') WHERE tenant_id = $1",
        )
        .await;
        // The review's own expiry has come and gone meanwhile.
    }
}
