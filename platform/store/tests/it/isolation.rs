//! The walls between tenants, each tried with the other one taken away.

use crate::common::{Place, administer, open_account, tenant};
use crate::store::{Engine, ShardConfig, Sql, Store};
use kernel::ErrorKind;

/// Statements that name the tenant and would still reach beyond it.
const PLANTED: &[(&str, &str)] = &[
    ("only selected", "SELECT account, $1 FROM bank_accounts"),
    ("an OR", "SELECT account, balance FROM bank_accounts WHERE tenant_id = $1 OR account = 1"),
    ("another parameter first", "SELECT account, balance FROM bank_accounts WHERE balance > $1 AND tenant_id = account"),
    (
        "a join without the tenant",
        "SELECT b.account, b.balance FROM bank_accounts a JOIN bank_accounts b ON b.account = a.account WHERE a.tenant_id = $1",
    ),
    ("a subquery over all", "SELECT (SELECT count(*) FROM bank_accounts), 0 FROM bank_accounts WHERE tenant_id = $1"),
];

async fn two_tenants(place: &Place) -> Store {
    let store = place.node(1);
    for (owner, account) in [(7, 1), (7, 2), (8, 1)] {
        store.write(tenant(owner), open_account, (account, owner * 100)).await.expect("opened");
    }
    store
}

async fn visible(store: &Store, owner: i64, sql: &'static str) -> kernel::Result<Vec<(i64, i64)>> {
    store.read(tenant(owner), move |read| read.all(sql, ())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_refuses_planted_statements() {
    let place = Place::new(Engine::Sqlite).expect("SQLite is inside");
    let store = two_tenants(&place).await;
    for (what, sql) in PLANTED {
        let error = visible(&store, 8, sql).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Internal, "{what}");
    }
    for (what, sql) in [
        ("an update of all", "UPDATE bank_accounts SET balance = 0 WHERE $1 > 0"),
        ("a delete of all", "DELETE FROM bank_accounts WHERE $1 > 0"),
        ("an insert for another", "INSERT INTO bank_accounts (account, tenant_id, balance) VALUES ($1, 7, 5)"),
        ("a row that changes hands", "UPDATE bank_accounts SET tenant_id = 7 WHERE tenant_id = $1"),
    ] {
        let outcome = store.write(tenant(8), move |tx, ()| tx.exec(sql, ()), ()).await;
        assert!(outcome.is_err(), "{what}");
    }
    // A statement in which $2 comes first is right: parameters are numbered, not named.
    const SECOND_FIRST: &str = "SELECT account, balance FROM bank_accounts WHERE account = $2 AND tenant_id = $1";
    let found: Vec<(i64, i64)> = store.read(tenant(8), |read| read.all(SECOND_FIRST, (1_i64,))).await.expect("read");
    assert_eq!(found, [(1, 800)]);
    assert_eq!(
        visible(&store, 7, "SELECT account, balance FROM bank_accounts WHERE tenant_id = $1 ORDER BY account").await.expect("read"),
        [(1, 700), (2, 700)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn row_security_holds_where_predicates_fail() {
    let Some(place) = Place::new(Engine::Postgres) else { return };
    let store = two_tenants(&place).await;
    for (what, sql) in [
        ("no predicate", "SELECT account, balance FROM bank_accounts WHERE $1 > 0"),
        ("an OR", "SELECT account, balance FROM bank_accounts WHERE tenant_id = $1 OR account > 0"),
        (
            "a join without the tenant",
            "SELECT b.account, b.balance FROM bank_accounts a JOIN bank_accounts b ON b.balance > 0 WHERE a.tenant_id = $1",
        ),
    ] {
        assert_eq!(visible(&store, 8, sql).await.expect(what), [(1, 800)], "{what}");
    }
    store
        .write(tenant(8), |tx, ()| tx.exec("UPDATE bank_accounts SET balance = 1 WHERE $1 > 0", ()), ())
        .await
        .expect("touches its own rows");
    store.write(tenant(8), |tx, ()| tx.exec("DELETE FROM bank_accounts WHERE $1 > 0", ()), ()).await.expect("touches its own rows");
    const OTHERS: &str = "INSERT INTO bank_accounts (account, tenant_id, balance) VALUES (9, CAST($1 AS BIGINT) - 1, 5)";
    store.write(tenant(8), |tx, ()| tx.exec(OTHERS, ()), ()).await.expect_err("an insert for another tenant");
    let sql = Sql::per_engine("SELECT 1", "SELECT account, balance FROM bank_accounts WHERE $1 > 0 ORDER BY account");
    let kept: Vec<(i64, i64)> = store.read(tenant(7), move |read| read.all(sql, ())).await.unwrap_or_default();
    assert_eq!(kept, [], "a statement that names no tenant on one engine is refused on both");
    assert_eq!(
        visible(&store, 7, "SELECT account, balance FROM bank_accounts WHERE $1 > 0 ORDER BY account").await.expect("read"),
        [(1, 700), (2, 700)]
    );
    // The platform's own tables are closed to a tenant's scope.
    visible(&store, 8, "SELECT tenant, shard FROM store_directory WHERE tenant = $1").await.expect_err("no right");
}

#[tokio::test(flavor = "multi_thread")]
async fn predicates_hold_where_row_security_is_off() {
    let Some(place) = Place::new(Engine::Postgres) else { return };
    let store = two_tenants(&place).await;
    let ShardConfig::Postgres { url, .. } = &place.shard else { return };
    administer(url, "ALTER TABLE bank_accounts DISABLE ROW LEVEL SECURITY; ALTER TABLE bank_accounts NO FORCE ROW LEVEL SECURITY");
    assert_eq!(visible(&store, 8, "SELECT account, balance FROM bank_accounts WHERE tenant_id = $1").await.expect("read"), [(1, 800)]);
    store
        .write(tenant(8), |tx, ()| tx.exec("UPDATE bank_accounts SET balance = 1 WHERE tenant_id = $1", ()), ())
        .await
        .expect("touches its own rows");
    assert_eq!(
        visible(&store, 7, "SELECT account, balance FROM bank_accounts WHERE tenant_id = $1 ORDER BY account").await.expect("read"),
        [(1, 700), (2, 700)]
    );
}
