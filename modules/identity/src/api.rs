//! What the command line, the application and other modules may ask of this module. The functions that change something may be called
//! by any process: they raise the epochs that running servers look at.

use crate::commands::{self, ChangeMember, ChangeTenant, Join, Joining, NewApiKey, NewPublishableKey, NewUser, SetPassword};
use crate::model::{self, ApiKeyId, Known, Settings, TenantStatus, UserId, UserStatus};
use crate::queries::MemberRow;
use crate::{password, queries, token};
use kernel::{Error, ErrorKind, Result, Rng, Scope, TenantId, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use store::{Read, Store, Tx};

pub use crate::commands::{By, NewTenant};
pub use crate::queries::{ApiKeyInfo, Member, TenantInfo, UserInfo};

/// Makes a tenant. Errors: `identity.slug_taken`, `request.invalid`.
pub async fn create_tenant(store: &Store, by: By, new: NewTenant) -> Result<TenantId> {
    Ok(store.write(Scope::Platform, commands::create_tenant, (by, new)).await?.id)
}

/// The tenant with this slug, made when there is none. Tells whether it was made.
pub async fn ensure_tenant(store: &Store, by: By, new: NewTenant) -> Result<(TenantId, bool)> {
    if let Some(tenant) = find_tenant(store, &new.slug).await? {
        return Ok((tenant.id, false));
    }
    match create_tenant(store, by, new.clone()).await {
        Ok(id) => Ok((id, true)),
        // Another process was quicker.
        Err(error) if error.kind() == ErrorKind::Conflict => match find_tenant(store, &new.slug).await? {
            Some(tenant) => Ok((tenant.id, false)),
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// The tenant with this slug or id.
pub async fn find_tenant(store: &Store, name: &str) -> Result<Option<TenantInfo>> {
    let id = name.parse::<TenantId>().ok();
    let slug = name.to_owned();
    let find = move |read: &mut Read<'_>| match id {
        Some(id) => queries::tenant(read, id),
        None => queries::tenant_by_slug(read, &slug),
    };
    store.read(Scope::Platform, find).await
}

/// Up to `limit` tenants with ids below `before` (all: `i64::MAX`), newest first.
pub async fn list_tenants(store: &Store, before: i64, limit: u32) -> Result<Vec<TenantInfo>> {
    store.read(Scope::Platform, move |read| queries::tenants(read, before, limit)).await
}

/// Suspends a tenant, lets it in again, or closes it for ever; it holds at once, on every node.
/// Errors: `identity.tenant_not_found`, `identity.tenant_closed`.
pub async fn set_tenant_status(store: &Store, by: By, tenant: TenantId, status: TenantStatus) -> Result<()> {
    let change = ChangeTenant { by, tenant, expected: web::IfMatch(None), name: None, status: Some(status), plan: None };
    store.write(Scope::Platform, commands::change_tenant, change).await?;
    Ok(())
}

/// Replaces a tenant's settings. Errors: `request.invalid`.
pub async fn put_settings(store: &Store, by: By, tenant: TenantId, settings: Settings) -> Result<()> {
    settings.check()?;
    store.write(tenant, commands::put_settings, (by, web::IfMatch(None), settings)).await?;
    Ok(())
}

/// The settings of the scope's tenant, for commands and queries of other modules.
pub fn settings(read: &mut Read<'_>) -> Result<Settings> {
    Ok(queries::settings(read)?.0)
}

/// The feature flags of the scope's tenant; one that is not there is off.
pub fn flags(read: &mut Read<'_>) -> Result<BTreeMap<String, bool>> {
    Ok(queries::flags(read)?.0)
}

/// Adds an administrative change to the audit trail of the transaction's tenant: `action` such as `product.delete`, `subject` the id of
/// what was changed, and how it was and is (4 KiB of JSON are kept of each).
pub fn audit(
    tx: &mut Tx<'_>,
    by: &By,
    action: &str,
    subject: &str,
    before: Option<serde_json::Value>,
    after: Option<serde_json::Value>,
) -> Result<()> {
    commands::audit(tx, by, action, subject, before, after)
}

async fn hashed(rng: &Arc<dyn Rng>, password: String) -> Result<String> {
    let rng = rng.clone();
    let job = tokio::task::spawn_blocking(move || password::hash_blocking(&password, &*rng));
    job.await.map_err(|e| Error::internal("a password's thread failed").caused_by(e))?
}

/// Makes a user. Errors: `identity.email_taken`, `request.invalid`.
pub async fn create_user(store: &Store, by: By, rng: &Arc<dyn Rng>, email: &str, name: &str, password: String) -> Result<UserId> {
    let email = model::normal_email(email)?;
    let name = model::check_name("name", name, 100)?;
    model::check_password("password", &password, &email)?;
    let password_hash = hashed(rng, password).await?;
    store.write(Scope::Platform, commands::create_user, (by, NewUser { email, name, password_hash })).await
}

/// The user with this address, made when there is none; one that is there keeps name and password. Tells whether it was made.
pub async fn ensure_user(store: &Store, by: By, rng: &Arc<dyn Rng>, email: &str, name: &str, password: String) -> Result<(UserId, bool)> {
    if let Some(user) = find_user(store, email).await? {
        return Ok((user.id, false));
    }
    match create_user(store, by, rng, email, name, password).await {
        Ok(id) => Ok((id, true)),
        Err(error) if error.kind() == ErrorKind::Conflict => match find_user(store, email).await? {
            Some(user) => Ok((user.id, false)),
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// The user with this address. Errors: `request.invalid` when it is no address.
pub async fn find_user(store: &Store, email: &str) -> Result<Option<UserInfo>> {
    let email = model::normal_email(email)?;
    let row = store.read(Scope::Platform, move |read| queries::user_by_email(read, &email)).await?;
    Ok(row.map(|u| UserInfo { id: u.id, email: u.email, name: u.name }))
}

/// Sets a password and ends the user's sessions. Errors: `identity.user_not_found`, `request.invalid`.
pub async fn set_password(store: &Store, by: By, rng: &Arc<dyn Rng>, user: &UserInfo, password: String) -> Result<()> {
    model::check_password("password", &password, &user.email)?;
    let password_hash = hashed(rng, password).await?;
    store.write(Scope::Platform, commands::set_password, SetPassword { by, user: user.id, password_hash }).await
}

/// Shuts a user out everywhere, or lets them in again. Errors: `identity.user_not_found`.
pub async fn set_user_status(store: &Store, by: By, user: UserId, status: UserStatus) -> Result<()> {
    store.write(Scope::Platform, commands::set_user_status, (by, user, status)).await
}

/// Makes a user a platform administrator, or no longer. Errors: `identity.user_not_found`.
pub async fn set_platform_admin(store: &Store, by: By, user: UserId, admin: bool) -> Result<()> {
    store.write(Scope::Platform, commands::set_platform_admin, (by, user, admin)).await
}

/// Makes a user a member with this role, or changes the role. Errors: `identity.last_owner`, `request.invalid` for an unknown role.
pub async fn put_member(store: &Store, by: By, known: &Arc<Known>, tenant: TenantId, user: UserId, role: &str) -> Result<()> {
    store.write(Scope::Platform, commands::join, Join { user: Joining::Known(user), tenant }).await?;
    let put = ChangeMember { by, known: known.clone(), user, role: role.to_owned() };
    store.write(tenant, commands::put_member, put).await?;
    store.write(Scope::Platform, commands::raise_epoch, user.as_i64()).await
}

/// Up to `limit` members with ids below `before` (all: `i64::MAX`), newest accounts first.
pub async fn list_members(store: &Store, tenant: TenantId, before: i64, limit: u32) -> Result<Vec<Member>> {
    let rows = store.read(tenant, move |read| queries::members(read, before, limit)).await?;
    with_users(store, rows).await
}

/// Memberships with the users' names, which are on the home shard.
pub(crate) async fn with_users(store: &Store, rows: Vec<MemberRow>) -> Result<Vec<Member>> {
    let ids = rows.iter().map(|row| row.0.as_i64()).collect();
    let mut users: HashMap<i64, UserInfo> = store.read(Scope::Platform, move |read| queries::users_by_ids(read, ids)).await?;
    let named = |(id, role, joined_at, updated_at): MemberRow| {
        let unnamed = || UserInfo { id, email: String::new(), name: String::new() };
        Member { user: users.remove(&id.as_i64()).unwrap_or_else(unnamed), role, joined_at, updated_at }
    };
    Ok(rows.into_iter().map(named).collect())
}

/// An API key to be made.
#[derive(Clone, Debug)]
pub struct ApiKeySpec {
    /// For people.
    pub name: String,
    /// What it allows.
    pub permissions: Vec<String>,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
}

/// Makes an API key and gives its id and its text, which is stored nowhere. Errors: `request.invalid`, `identity.too_many`.
pub async fn create_api_key(
    store: &Store,
    by: By,
    rng: &dyn Rng,
    known: &Arc<Known>,
    tenant: TenantId,
    spec: ApiKeySpec,
) -> Result<(ApiKeyId, String)> {
    let id: ApiKeyId = store.ids().next();
    let text = token::api_key(tenant, id, &token::secret(rng));
    let ApiKeySpec { name, permissions, expires_at } = spec;
    let new = NewApiKey { by, known: known.clone(), id, name, key_hash: token::hash(&text), permissions, expires_at };
    store.write(tenant, commands::create_api_key, new).await?;
    Ok((id, text))
}

/// Makes a publishable key for pages of these origins, or of any, and gives its id and its text, which is no secret.
/// Errors: `request.invalid`, `identity.too_many`.
pub async fn create_publishable_key(
    store: &Store,
    by: By,
    tenant: TenantId,
    name: String,
    origins: Vec<String>,
) -> Result<(ApiKeyId, String)> {
    let id: ApiKeyId = store.ids().next();
    let made = store.write(tenant, commands::create_publishable_key, NewPublishableKey { by, id, name, origins }).await?;
    Ok((id, made.prefix))
}

/// Up to `limit` API keys with ids below `before` (all: `i64::MAX`), newest first, revoked ones too.
pub async fn list_api_keys(store: &Store, known: &Arc<Known>, tenant: TenantId, before: i64, limit: u32) -> Result<Vec<ApiKeyInfo>> {
    let known = known.clone();
    store.read(tenant, move |read| queries::api_keys(read, before, limit, &known)).await
}

/// Revokes an API key. Errors: `identity.api_key_not_found`.
pub async fn revoke_api_key(store: &Store, by: By, known: &Arc<Known>, tenant: TenantId, id: ApiKeyId) -> Result<()> {
    store.write(tenant, commands::revoke_api_key, (by, known.clone(), id)).await?;
    store.write(Scope::Platform, commands::raise_epoch, tenant.as_i64()).await
}
