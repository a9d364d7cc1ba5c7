//! What modules, tools and audits read of sagas.

use crate::commands;
use crate::saga::{Saga, SagaId, SagaView};
use crate::scope::{call_for, keyed, tenant_of};
use crate::{Decision, Kind, sql};
use kernel::{Error, Result, Scope, TenantId, Timestamp};
use store::{Read, Store, Tx};

/// For how long a saga may be due, or its lease have run out, before the audit speaks of it, in milliseconds.
const OVERDUE_MS: i64 = 10 * 60_000;

/// The saga with this business key. In the scope of its owner.
pub fn find(read: &mut Read<'_>, kind: Kind, key: &str) -> Result<Option<SagaView>> {
    find_named(read, kind.name, key)
}

/// The same by the kind's name.
pub fn find_named(read: &mut Read<'_>, kind: &str, key: &str) -> Result<Option<SagaView>> {
    let (scope, tenant) = (read.scope(), read.scope().tenant());
    let found: Option<Saga> = read.opt(sql::FIND, &keyed(scope, &(kind, key))[..])?;
    Ok(found.map(|saga| SagaView::of(saga, tenant)))
}

/// One saga with all that it knows. In the scope of its owner. Errors: `workflow.not_found`.
pub fn inspect(read: &mut Read<'_>, id: SagaId) -> Result<SagaView> {
    let (scope, tenant) = (read.scope(), read.scope().tenant());
    let found: Option<Saga> = read.opt(sql::LOAD, &keyed(scope, &(id,))[..])?;
    let found =
        found.ok_or_else(|| Error::not_found("workflow.not_found", "there is no such saga; ended ones are kept for a while only"))?;
    Ok(SagaView::of(found, tenant))
}

/// Up to `limit` (1 to 101, for whoever wants to know whether there is another page) sagas, parked ones alone or all of them, the newest first, older than `before`. In the scope of their
/// owner.
pub fn list(read: &mut Read<'_>, parked: bool, before: Option<SagaId>, limit: u32) -> Result<Vec<SagaView>> {
    let (scope, tenant) = (read.scope(), read.scope().tenant());
    let statement = if parked { sql::LIST_PARKED } else { sql::LIST };
    let before = before.map_or(i64::MAX, SagaId::as_i64);
    let sagas: Vec<Saga> = read.all(statement, &keyed(scope, &(before, limit.clamp(1, kernel::MAX_PAGE + 1)))[..])?;
    Ok(sagas.into_iter().map(|saga| SagaView::of(saga, tenant)).collect())
}

/// Up to `limit` (1 to 100) parked sagas of a shard, of whatever tenant, in the order of tenants and ids, after these.
pub async fn parked_of_shard(
    store: &Store,
    shard: u16,
    after: Option<(Option<TenantId>, SagaId)>,
    limit: u32,
) -> Result<Vec<(Option<TenantId>, SagaId)>> {
    let (tenant, id) = after.map_or((-1, 0), |(tenant, id)| (tenant.map_or(0, TenantId::as_i64), id.as_i64()));
    let limit = limit.clamp(1, kernel::MAX_PAGE);
    let rows: Vec<(i64, SagaId)> = store.read_shard(shard, move |read| read.all(sql::PARKED_OF_SHARD, (tenant, id, limit))).await?;
    Ok(rows.into_iter().map(|(tenant, id)| (tenant_of(tenant), id)).collect())
}

/// What a person does about a saga.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// [`crate::retry`].
    Retry,
    /// [`crate::cancel_saga`].
    Cancel,
    /// [`crate::decide`].
    Decide(Decision),
}

/// One saga of a tenant, or of the platform on a shard. Errors: `workflow.not_found`.
pub async fn inspect_of(store: &Store, tenant: Option<TenantId>, shard: u16, id: SagaId) -> Result<SagaView> {
    match tenant {
        Some(tenant) => store.read(tenant, move |read| inspect(read, id)).await,
        None => store.read_shard(shard, move |read| inspect(read, id)).await,
    }
}

/// The same as [`list`] for a tenant, or for the platform on a shard.
pub async fn list_of(
    store: &Store,
    tenant: Option<TenantId>,
    shard: u16,
    parked: bool,
    before: Option<SagaId>,
    limit: u32,
) -> Result<Vec<SagaView>> {
    match tenant {
        Some(tenant) => store.read(tenant, move |read| list(read, parked, before, limit)).await,
        None => store.read_shard(shard, move |read| list(read, parked, before, limit)).await,
    }
}

/// Does it in a transaction of its own. Errors: those of the three, and the store's.
pub async fn act(store: &Store, tenant: Option<TenantId>, shard: u16, id: SagaId, act: Act) -> Result<()> {
    let act_on = |tx: &mut Tx<'_>, (id, act): &(SagaId, Act)| match act {
        Act::Retry => commands::retry(tx, *id),
        Act::Cancel => commands::cancel_saga(tx, *id),
        Act::Decide(decision) => commands::decide(tx, *id, decision),
    };
    store.write(call_for(tenant, shard), act_on, (id, act)).await
}

/// For audits, on the platform's scope of a shard: what has been due for ten minutes and was not looked at (leased by a process that
/// died, with nobody to take over; or of a kind or version that no program here knows), as text, if there is anything.
pub fn overdue(read: &mut Read<'_>) -> Result<Option<String>> {
    type Row = (i64, SagaId, String, u16, i64, Timestamp);
    on_platform(read)?;
    let before = read.now().plus_ms(-OVERDUE_MS);
    let rows: Vec<Row> = read.all(sql::OVERDUE, (before,))?;
    let texts: Vec<String> =
        rows.iter().map(|(_, id, kind, version, _, at)| format!("{id} ({kind} version {version}) since {at}")).collect();
    Ok((!texts.is_empty()).then(|| format!("due and not looked at: {}", texts.join(", "))))
}

/// For audits, on the platform's scope of a shard: the first parked sagas, as text, if there are any.
pub fn parked(read: &mut Read<'_>) -> Result<Option<String>> {
    on_platform(read)?;
    let rows: Vec<(i64, SagaId)> = read.all(sql::PARKED_OF_SHARD, (-1_i64, 0_i64, 10_u32))?;
    let texts: Vec<String> = rows.iter().map(|(_, id)| id.to_string()).collect();
    Ok((!texts.is_empty()).then(|| format!("parked and waiting for a person: {}", texts.join(", "))))
}

fn on_platform(read: &Read<'_>) -> Result<()> {
    match read.scope() {
        Scope::Platform => Ok(()),
        Scope::Tenant(_) => Err(Error::internal("an audit of all sagas ran in a tenant's scope")),
    }
}
