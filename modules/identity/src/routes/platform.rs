//! What the platform's administrators do. Each use leaves an entry in the platform's audit trail, reads too.

use super::{by, tenant};
use crate::auth::Auth;
use crate::commands::{self, ChangeTenant, NewTenant, Used};
use crate::model::{OWNER, Plan, TenantStatus};
use crate::queries::{self, AuditRecord, TenantInfo, TenantReport};
use axum::Json;
use axum::extract::State;
use kernel::{Page, Result as Outcome, Scope, TenantId};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use utoipa::ToSchema;
use web::{App, Body, Caller, Created, IfMatch, Keyed, Paging, PagingParams, Params, Result, Versioned};

/// Notes a read, before its answer is given.
async fn note(app: &App, caller: &Caller, tenant: Option<TenantId>, action: &'static str, detail: serde_json::Value) -> Outcome<()> {
    app.store().write(caller.platform_call(), commands::note_use, Used { by: by(caller), tenant, action, detail }).await
}

/// A tenant to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantBody {
    /// Unique over the platform; 3 to 40 of a-z, 0-9 and single inner hyphens. It never changes.
    #[schema(min_length = 3, max_length = 40, example = "acme")]
    slug: String,
    /// For people.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// What it subscribes to; `free` when missing.
    plan: Option<Plan>,
}

/// Makes a tenant. Invite its owner next.
#[utoipa::path(post, path = "/api/v1/platform/tenants", tag = "platform", request_body = TenantBody, responses(
    (status = 201, body = TenantInfo),
    (status = 409, description = "The slug is taken, or the idempotency key was used for something else."),
))]
pub(crate) async fn create_tenant(State(app): State<App>, caller: Caller, new: Keyed<TenantBody>) -> Result<Created<TenantInfo>> {
    let TenantBody { slug, name, plan } = new.body;
    let tenant = NewTenant { slug, name, plan: plan.unwrap_or(Plan::Free) };
    let once = app.submit(&caller, new.key, commands::create_tenant, (by(&caller), tenant)).await?;
    Ok(Created(format!("/api/v1/platform/tenants/{}", once.value.id), once.value))
}

/// The tenants, newest first.
#[utoipa::path(get, path = "/api/v1/platform/tenants", tag = "platform", params(PagingParams), responses((status = 200, body = Page<TenantInfo>)))]
pub(crate) async fn list_tenants(State(app): State<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<TenantInfo>>> {
    let page = paging.request("identity.tenants")?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), page.limit + 1);
    note(&app, &caller, None, "tenants.list", json!({"limit": page.limit})).await?;
    let rows = app.store().read(Scope::Platform, move |read| queries::tenants(read, before, limit)).await?;
    Ok(Json(paging.page("identity.tenants", rows, |t| t.id.as_i64())?))
}

/// One tenant.
#[utoipa::path(get, path = "/api/v1/platform/tenants/{tenant}", tag = "platform",
    params(("tenant" = TenantId, Path, description = "The tenant.")),
    responses((status = 200, body = TenantInfo, headers(("ETag" = String, description = "The version, for `If-Match`.")))))]
pub(crate) async fn get_tenant(State(app): State<App>, caller: Caller, Params(id): Params<TenantId>) -> Result<Versioned<TenantInfo>> {
    let tenant = app.store().read(Scope::Platform, move |read| queries::tenant(read, id)).await?.ok_or_else(commands::tenant_not_found)?;
    note(&app, &caller, Some(id), "tenants.read", json!({"tenant": id})).await?;
    Ok(Versioned(tenant.version, tenant))
}

/// What to change of a tenant; what is missing stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantChange {
    /// For people.
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Suspended: nobody of it gets in. Closed: the same, for ever.
    status: Option<TenantStatus>,
    /// What it subscribes to.
    plan: Option<Plan>,
}

/// Changes a tenant's name, status or plan, at once.
#[utoipa::path(patch, path = "/api/v1/platform/tenants/{tenant}", tag = "platform", request_body = TenantChange,
    params(("tenant" = TenantId, Path, description = "The tenant."), ("If-Match" = Option<String>, Header, description = "The `ETag` of the tenant that was changed.")),
    responses(
        (status = 200, body = TenantInfo, headers(("ETag" = String, description = "The new version."))),
        (status = 409, description = "It is closed."),
        (status = 412, description = "It has been changed since."),
    ))]
pub(crate) async fn change_tenant(
    State(app): State<App>,
    caller: Caller,
    Params(tenant): Params<TenantId>,
    expected: IfMatch,
    Body(body): Body<TenantChange>,
) -> Result<Versioned<TenantInfo>> {
    let change = ChangeTenant { by: by(&caller), tenant, expected, name: body.name, status: body.status, plan: body.plan };
    let after = app.store().write(caller.call()?, commands::change_tenant, change).await?;
    app.part::<Auth>().notice(app.store()).await?;
    Ok(Versioned(after.version, after))
}

/// Who is to own a tenant.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnerInvitation {
    /// The person's address.
    #[schema(max_length = 254)]
    email: String,
}

/// Invites an owner into a tenant. The token is shown once.
#[utoipa::path(post, path = "/api/v1/platform/tenants/{tenant}/invitations", tag = "platform", request_body = OwnerInvitation,
    params(("tenant" = TenantId, Path, description = "The tenant.")),
    responses(
        (status = 201, body = tenant::InvitationMade),
        (status = 409, description = "Too many open invitations, or the idempotency key was used for something else."),
    ))]
pub(crate) async fn invite_owner(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<TenantId>,
    new: Keyed<OwnerInvitation>,
) -> Result<Created<tenant::InvitationMade>> {
    app.store().read(Scope::Platform, move |read| queries::tenant(read, id)).await?.ok_or_else(commands::tenant_not_found)?;
    note(&app, &caller, Some(id), "tenants.invite_owner", json!({"tenant": id})).await?;
    let body = tenant::NewInvitation { email: new.body.email, role: OWNER.to_owned() };
    let made = tenant::invite(&app, &caller, id, Keyed { key: new.key, body }).await?;
    Ok(Created(format!("/api/v1/tenants/{id}/invitations"), made))
}

/// Every tenant with the numbers of its users and working API keys, newest first.
#[utoipa::path(get, path = "/api/v1/platform/reports/tenants", tag = "platform", params(PagingParams), responses((status = 200, body = Page<TenantReport>)))]
pub(crate) async fn report_tenants(State(app): State<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<TenantReport>>> {
    let page = paging.request("identity.report_tenants")?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), page.limit + 1);
    note(&app, &caller, None, "reports.tenants", json!({"limit": page.limit})).await?;
    let store = app.store();
    let tenants = store.read(Scope::Platform, move |read| queries::tenants(read, before, limit)).await?;
    let mut by_shard: BTreeMap<u16, Vec<i64>> = BTreeMap::new();
    for tenant in &tenants {
        by_shard.entry(store.shard_of(tenant.id)).or_default().push(tenant.id.as_i64());
    }
    let mut counts: HashMap<i64, (i64, i64)> = HashMap::new();
    for (shard, ids) in by_shard {
        counts.extend(store.read_shard(shard, move |read| queries::report_counts(read, ids)).await?);
    }
    let report = |tenant: TenantInfo| {
        let (users, api_keys) = counts.get(&tenant.id.as_i64()).copied().unwrap_or_default();
        TenantReport { shard: store.shard_of(tenant.id), tenant, users, api_keys }
    };
    Ok(Json(paging.page("identity.report_tenants", tenants.into_iter().map(report).collect(), |r| r.tenant.id.as_i64())?))
}

/// Every change and every use of the platform's rights, newest first.
#[utoipa::path(get, path = "/api/v1/platform/audit-log", tag = "platform", params(PagingParams), responses((status = 200, body = Page<AuditRecord>)))]
pub(crate) async fn audit_log(State(app): State<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<AuditRecord>>> {
    let page = paging.request("identity.platform_audit")?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), page.limit + 1);
    note(&app, &caller, None, "audit_log.read", json!({"limit": page.limit})).await?;
    let rows = app.store().read(Scope::Platform, move |read| queries::platform_audit_log(read, before, limit)).await?;
    Ok(Json(paging.page("identity.platform_audit", rows, |r| r.id.as_i64())?))
}
