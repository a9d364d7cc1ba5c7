//! The kit tests itself, with a module of counters.

use crate::{Setup, TestApp};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use store::{Event, Migration, NewEvent, Tx};
use web::{Access, App, Audit, AuditCheck, AuditOutcome, Body, Caller, Module, PermissionInfo, Result, Route, handlers};

const TABLES: &str = "
CREATE TABLE counters_counts (tenant_id BIGINT NOT NULL, made BIGINT NOT NULL, seen BIGINT NOT NULL, PRIMARY KEY (tenant_id));";

fn count(tx: &mut Tx<'_>, by: &i64) -> kernel::Result<i64> {
    let sql = "INSERT INTO counters_counts (tenant_id, made, seen) VALUES ($1, $2, 0)
        ON CONFLICT (tenant_id) DO UPDATE SET made = counters_counts.made + excluded.made RETURNING made";
    let (made,) = tx.write_opt::<(i64,)>(sql, (*by,))?.ok_or_else(|| kernel::Error::internal("an upsert returns its row"))?;
    tx.emit(NewEvent::new("count.raised", 1, "counter", &json!({ "by": by })));
    Ok(made)
}

fn see(tx: &mut Tx<'_>, events: &[Event]) -> kernel::Result<()> {
    let by: i64 = events.iter().filter_map(|event| serde_json::from_str::<Value>(&event.payload).ok()?["by"].as_i64()).sum();
    tx.exec("UPDATE counters_counts SET seen = seen + CAST($2 AS BIGINT) WHERE tenant_id = $1", (by,))
}

fn all_seen(read: &mut store::Read<'_>) -> kernel::Result<AuditOutcome> {
    let counts = read.opt::<(i64, i64)>("SELECT made, seen FROM counters_counts WHERE tenant_id = $1", ())?;
    Ok(AuditOutcome { ok: counts.is_none_or(|(made, seen)| made == seen), detail: format!("{counts:?}") })
}

#[utoipa::path(post, path = "/api/v1/counters", request_body = i64, responses((status = 200, body = i64)))]
async fn raise(State(app): State<App>, caller: Caller, Body(by): Body<i64>) -> Result<Json<i64>> {
    Ok(Json(app.store().write(caller.call()?, count, by).await?))
}

fn module() -> Module {
    Module {
        permissions: &[PermissionInfo { name: "counters.write", description: "Count" }],
        routes: vec![Route::new(Access::Tenant("counters.write"), handlers!(raise))],
        consumers: vec![log::Consumer::sql("counters.seen", &["count.raised"], see)],
        audits: vec![Audit { name: "counters.all_seen", check: AuditCheck::Tenant(all_seen) }],
        ..Module::new("counters", &[Migration { number: 1, name: "first", sql: TABLES }])
    }
}

crate::both_engines! {
    setup: || Setup::new(vec![module()]);

    async fn a_story_runs_on_each_engine(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        assert_eq!(acme.post("/api/v1/counters").json(&2).send().await.expect(200).json, 2);
        assert_eq!(acme.post("/api/v1/counters").json(&3).send().await.expect(200).json, 5);
        let stranger = app.client("globex", &["counters.write"]);
        assert_eq!(stranger.post("/api/v1/counters").json(&1).send().await.expect(200).json, 1);
        app.client("acme", &[]).post("/api/v1/counters").json(&1).send().await.expect_problem(403, "request.forbidden");
        app.post("/api/v1/counters").json(&1).send().await.expect_problem(401, "request.unauthenticated");
        let wrong = acme.post("/api/v1/counters").raw("application/json", "[").send().await.expect_problem(400, "request.invalid");
        assert!(wrong.names_field("body"));
        app.drained().await;
        let seen = |read: &mut store::Read<'_>| read.one::<(i64,)>("SELECT seen FROM counters_counts WHERE tenant_id = $1", ());
        assert_eq!(app.store().read(app.tenant("acme"), seen).await.unwrap(), (5,));
        assert_eq!(app.store().read(app.tenant("globex"), seen).await.unwrap(), (1,));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "counters.all_seen")]
async fn what_an_audit_finds_fails_the_test() {
    let setup = Setup::new(vec![Module { consumers: Vec::new(), ..module() }]);
    crate::run(crate::Engine::Sqlite, setup, |app| async move {
        app.client("acme", &["*"]).post("/api/v1/counters").json(&2).send().await.expect(200);
    })
    .await;
}
