//! Reads, and the shapes in which they go over the wire.

use crate::model::{
    self, ApiKeyId, AuditEntryId, BUILT_IN_ROLES, InvitationId, Known, Plan, SessionId, Settings, TenantStatus, UserId, UserStatus,
};
use crate::sql;
use crate::token::{self, Hash};
use kernel::{ActorKind, Error, Result, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use store::{Args, FromRow, Read, Row, Sql};
use utoipa::ToSchema;

// ---- platform scope -------------------------------------------------------------------------------------------------

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantInfo {
    /// Its id.
    pub id: TenantId,
    /// Its short name, unique over the platform; never changes.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Where it stands.
    pub status: TenantStatus,
    /// What it has subscribed to.
    pub plan: Plan,
    /// Raised with each change; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
}

impl FromRow for TenantInfo {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(TenantInfo {
            id: row.get(0)?,
            slug: row.get(1)?,
            name: row.get(2)?,
            status: row.get(3)?,
            plan: row.get(4)?,
            version: row.get(5)?,
            created_at: row.get(6)?,
            updated_at: row.get(7)?,
        })
    }
}

pub(crate) fn tenant(read: &mut Read<'_>, id: TenantId) -> Result<Option<TenantInfo>> {
    read.opt(sql::TENANT, (id,))
}

pub(crate) fn tenant_by_slug(read: &mut Read<'_>, slug: &str) -> Result<Option<TenantInfo>> {
    read.opt(sql::TENANT_BY_SLUG, (slug,))
}

/// Newest first, up to `limit`, those with ids below `before`.
pub(crate) fn tenants(read: &mut Read<'_>, before: i64, limit: u32) -> Result<Vec<TenantInfo>> {
    read.all(sql::TENANTS_PAGE, (before, limit))
}

/// A user, with what must not leave the module.
#[derive(Clone)]
pub(crate) struct UserRow {
    pub(crate) id: UserId,
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) password_hash: String,
    pub(crate) status: UserStatus,
    pub(crate) token_version: i64,
}

impl FromRow for UserRow {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(UserRow {
            id: row.get(0)?,
            email: row.get(1)?,
            name: row.get(2)?,
            password_hash: row.get(3)?,
            status: row.get(4)?,
            token_version: row.get(5)?,
        })
    }
}

pub(crate) fn user(read: &mut Read<'_>, id: UserId) -> Result<Option<UserRow>> {
    read.opt(sql::USER, (id,))
}

pub(crate) fn user_by_email(read: &mut Read<'_>, email: &str) -> Result<Option<UserRow>> {
    read.opt(sql::USER_BY_EMAIL, (email,))
}

/// A user as others see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserInfo {
    /// Their id.
    pub id: UserId,
    /// Their address, in lower case.
    pub email: String,
    /// Their name.
    pub name: String,
}

/// Addresses and names of up to a page of users.
pub(crate) fn users_by_ids(read: &mut Read<'_>, ids: Vec<i64>) -> Result<HashMap<i64, UserInfo>> {
    let rows = read.all::<(UserId, String, String)>(sql::USERS_BY_IDS, (ids,))?;
    Ok(rows.into_iter().map(|(id, email, name)| (id.as_i64(), UserInfo { id, email, name })).collect())
}

/// What the home shard knows of an access token's session.
pub(crate) struct SessionAccess {
    pub(crate) user: UserId,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) expires_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
    pub(crate) user_status: UserStatus,
    pub(crate) token_version: i64,
    /// None when the session has no tenant.
    pub(crate) tenant_status: Option<TenantStatus>,
    pub(crate) platform_admin: bool,
    /// None when the session has no tenant.
    pub(crate) plan: Option<Plan>,
}

pub(crate) fn session_access(read: &mut Read<'_>, session: SessionId) -> Result<Option<SessionAccess>> {
    type Columns =
        (UserId, Option<TenantId>, Timestamp, Option<Timestamp>, UserStatus, i64, Option<TenantStatus>, Option<i64>, Option<Plan>);
    Ok(read.opt::<Columns>(sql::SESSION_ACCESS, (session,))?.map(
        |(user, tenant, expires_at, revoked_at, user_status, token_version, tenant_status, admin, plan)| SessionAccess {
            user,
            tenant,
            expires_at,
            revoked_at,
            user_status,
            token_version,
            tenant_status,
            platform_admin: admin.is_some(),
            plan,
        },
    ))
}

/// The tenants to look for a user's memberships in, at most 100.
pub(crate) fn user_tenants(read: &mut Read<'_>, user: UserId) -> Result<Vec<TenantInfo>> {
    let ids: Vec<i64> = read.all::<(i64,)>(sql::USER_TENANTS, (user,))?.into_iter().map(|(id,)| id).collect();
    read.all(sql::TENANTS_BY_IDS, (ids,))
}

/// A row of the report over all tenants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct TenantReport {
    /// The tenant.
    #[serde(flatten)]
    pub tenant: TenantInfo,
    /// The shard that it lives on.
    pub shard: u16,
    /// How many users it has.
    pub users: i64,
    /// How many of its API keys work.
    pub api_keys: i64,
}

/// Numbers of users and of working API keys of tenants that live on this shard.
pub(crate) fn report_counts(read: &mut Read<'_>, tenants: Vec<i64>) -> Result<HashMap<i64, (i64, i64)>> {
    let now = read.now();
    let mut counts: HashMap<i64, (i64, i64)> = HashMap::new();
    for (tenant, users) in read.all::<(i64, i64)>(sql::REPORT_MEMBERS, (tenants.clone(),))? {
        counts.entry(tenant).or_default().0 = users;
    }
    for (tenant, keys) in read.all::<(i64, i64)>(sql::REPORT_API_KEYS, (tenants, now))? {
        counts.entry(tenant).or_default().1 = keys;
    }
    Ok(counts)
}

// ---- tenant scope ---------------------------------------------------------------------------------------------------

pub(crate) fn count(read: &mut Read<'_>, sql: Sql, args: impl Args) -> Result<i64> {
    Ok(read.one::<(i64,)>(sql, args)?.0)
}

fn stored<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::internal(format!("stored {what} can't be read")).caused_by(e))
}

/// The tenant's settings and their version; defaults and 1 as long as nobody has set any.
pub(crate) fn settings(read: &mut Read<'_>) -> Result<(Settings, i64)> {
    match read.opt::<(String, i64, String, i64)>(sql::SETTINGS, ())? {
        Some((settings, version, ..)) => Ok((stored("settings", &settings)?, version)),
        None => Ok((Settings::default(), 1)),
    }
}

/// The tenant's feature flags and their version.
pub(crate) fn flags(read: &mut Read<'_>) -> Result<(BTreeMap<String, bool>, i64)> {
    match read.opt::<(String, i64, String, i64)>(sql::SETTINGS, ())? {
        Some((.., flags, version)) => Ok((stored("flags", &flags)?, version)),
        None => Ok((BTreeMap::new(), 1)),
    }
}

/// What a member may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberAccess {
    pub(crate) role: String,
    pub(crate) permissions: Vec<&'static str>,
}

/// None if the user is no member.
pub(crate) fn member_access(read: &mut Read<'_>, user: UserId, known: &Known) -> Result<Option<MemberAccess>> {
    let Some((role, custom)) = read.opt::<(String, Option<String>)>(sql::MEMBER_ACCESS, (user,))? else { return Ok(None) };
    let permissions = match (known.built_in(&role), custom) {
        (Some(permissions), _) => permissions,
        (None, Some(names)) => permissions(&names, known)?,
        (None, None) => return Err(Error::internal(format!("a member has the role {role}, which does not exist"))),
    };
    Ok(Some(MemberAccess { role, permissions }))
}

/// Stored names as permissions; those that are no longer known are left out.
pub(crate) fn permissions(names: &str, known: &Known) -> Result<Vec<&'static str>> {
    let names: Vec<String> = stored("permissions", names)?;
    Ok(known.of_tenant(names.iter().map(String::as_str)))
}

/// What a role of this tenant holds. Errors: `request.invalid` for field `role` when there is none of that name.
pub(crate) fn role_permissions(read: &mut Read<'_>, role: &str, known: &Known) -> Result<Vec<&'static str>> {
    if let Some(permissions) = known.built_in(role) {
        return Ok(permissions);
    }
    let custom = read.opt::<(String, String, String, Timestamp)>(sql::ROLE, (role,))?;
    let (_, _, names, _) = custom.ok_or_else(|| Error::field("role", "unknown", "is not a role of this tenant"))?;
    permissions(&names, known)
}

pub(crate) fn members_of_role(read: &mut Read<'_>, role: &str) -> Result<i64> {
    count(read, sql::MEMBERS_OF_ROLE, (role,))
}

/// A member of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Member {
    /// Who.
    pub user: UserInfo,
    /// Their role.
    #[schema(example = "manager")]
    pub role: String,
    /// When they joined.
    pub joined_at: Timestamp,
    /// When their role was changed last.
    pub updated_at: Timestamp,
}

/// A membership without the user's name, which is on the home shard.
pub(crate) type MemberRow = (UserId, String, Timestamp, Timestamp);

pub(crate) fn member(read: &mut Read<'_>, user: UserId) -> Result<Option<MemberRow>> {
    read.opt(sql::MEMBER, (user,))
}

pub(crate) fn members(read: &mut Read<'_>, before: i64, limit: u32) -> Result<Vec<MemberRow>> {
    read.all(sql::MEMBERS_PAGE, (before, limit))
}

/// A role and what it allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Role {
    /// Its name.
    pub name: String,
    /// For people.
    pub description: String,
    /// Whether every tenant has it, and nobody can change it.
    pub built_in: bool,
    /// What it allows, sorted.
    pub permissions: Vec<String>,
}

fn owned(permissions: &[&str]) -> Vec<String> {
    permissions.iter().map(|p| (*p).to_owned()).collect()
}

fn role_of((name, description, names, _): (String, String, String, Timestamp), known: &Known) -> Result<Role> {
    Ok(Role { name, description, built_in: false, permissions: owned(&permissions(&names, known)?) })
}

pub(crate) fn custom_role(read: &mut Read<'_>, name: &str, known: &Known) -> Result<Option<Role>> {
    read.opt(sql::ROLE, (name,))?.map(|row| role_of(row, known)).transpose()
}

/// The built-in roles and the tenant's own, at most 55.
pub(crate) fn roles(read: &mut Read<'_>, known: &Known) -> Result<Vec<Role>> {
    let built_in = BUILT_IN_ROLES.iter().map(|r| Role {
        name: r.name.to_owned(),
        description: r.description.to_owned(),
        built_in: true,
        permissions: owned(&known.built_in(r.name).unwrap_or_default()),
    });
    let mut all: Vec<Role> = built_in.collect();
    for row in read.all(sql::ROLES, ())? {
        all.push(role_of(row, known)?);
    }
    Ok(all)
}

/// Where an invitation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvitationStatus {
    /// Waits for an answer.
    Open,
    /// Was accepted.
    Accepted,
    /// Was withdrawn.
    Revoked,
    /// Was not accepted in time.
    Expired,
}

/// An offer to join a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvitationInfo {
    /// Its id.
    pub id: InvitationId,
    /// Who is invited.
    pub email: String,
    /// The role that they will have.
    pub role: String,
    /// Where it stands.
    pub status: InvitationStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be accepted.
    pub expires_at: Timestamp,
}

pub(crate) struct InvitationRow {
    pub(crate) id: InvitationId,
    pub(crate) email: String,
    pub(crate) role: String,
    pub(crate) token_hash: Hash,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    pub(crate) accepted_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
}

impl FromRow for InvitationRow {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(InvitationRow {
            id: row.get(0)?,
            email: row.get(1)?,
            role: row.get(2)?,
            token_hash: row.get(3)?,
            created_at: row.get(4)?,
            expires_at: row.get(5)?,
            accepted_at: row.get(6)?,
            revoked_at: row.get(7)?,
        })
    }
}

impl InvitationRow {
    fn status(&self, now: Timestamp) -> InvitationStatus {
        match (self.accepted_at, self.revoked_at) {
            (Some(_), _) => InvitationStatus::Accepted,
            (_, Some(_)) => InvitationStatus::Revoked,
            _ if self.expires_at <= now => InvitationStatus::Expired,
            _ => InvitationStatus::Open,
        }
    }

    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        self.status(now) == InvitationStatus::Open
    }

    pub(crate) fn info(self, now: Timestamp) -> InvitationInfo {
        let status = self.status(now);
        InvitationInfo { id: self.id, email: self.email, role: self.role, status, created_at: self.created_at, expires_at: self.expires_at }
    }
}

pub(crate) fn invitation(read: &mut Read<'_>, id: InvitationId) -> Result<Option<InvitationRow>> {
    read.opt(sql::INVITATION, (id,))
}

pub(crate) fn invitations(read: &mut Read<'_>, before: i64, limit: u32) -> Result<Vec<InvitationInfo>> {
    let now = read.now();
    let rows = read.all::<InvitationRow>(sql::INVITATIONS_PAGE, (before, limit))?;
    Ok(rows.into_iter().map(|row| row.info(now)).collect())
}

/// An API key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKeyInfo {
    /// Its id.
    pub id: ApiKeyId,
    /// What the key's text begins with; the rest is secret. Of a publishable key, which is none, it is all of it.
    #[schema(example = "bos_live_00000000001abcdefghijk")]
    pub prefix: String,
    /// Its name for people.
    pub name: String,
    /// What it allows, sorted.
    pub permissions: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was used last, to the hour.
    pub last_used_at: Option<Timestamp>,
    /// Whether it is no secret and opens the storefront alone.
    pub publishable: bool,
    /// Of a publishable key: the origins whose pages may use it; none for any.
    pub origins: Vec<String>,
}

type ApiKeyRow = (ApiKeyId, String, String, Timestamp, Option<Timestamp>, Option<Timestamp>, Option<Timestamp>, bool, String);

fn origins(json: &str) -> Result<Vec<String>> {
    serde_json::from_str(json).map_err(|e| Error::internal("the origins of a key are not of their form").caused_by(e))
}

fn api_key_info(tenant: TenantId, row: ApiKeyRow, known: &Known) -> Result<ApiKeyInfo> {
    let (id, name, names, created_at, expires_at, revoked_at, last_used_at, publishable, allowed) = row;
    let permissions = owned(&permissions(&names, known)?);
    let prefix = if publishable { token::publishable_key(tenant, id) } else { token::api_key_prefix(tenant, id) };
    let origins = origins(&allowed)?;
    Ok(ApiKeyInfo { id, prefix, name, permissions, created_at, expires_at, revoked_at, last_used_at, publishable, origins })
}

pub(crate) fn api_key(read: &mut Read<'_>, id: ApiKeyId, known: &Known) -> Result<Option<ApiKeyInfo>> {
    let tenant = read.tenant()?;
    read.opt(sql::API_KEY, (id,))?.map(|row| api_key_info(tenant, row, known)).transpose()
}

pub(crate) fn api_keys(read: &mut Read<'_>, before: i64, limit: u32, known: &Known) -> Result<Vec<ApiKeyInfo>> {
    let tenant = read.tenant()?;
    let rows = read.all::<ApiKeyRow>(sql::API_KEYS_PAGE, (before, limit))?;
    rows.into_iter().map(|row| api_key_info(tenant, row, known)).collect()
}

/// What decides whether a key is good.
pub(crate) struct ApiKeyAccess {
    pub(crate) key_hash: Hash,
    pub(crate) permissions: Vec<&'static str>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
    pub(crate) last_used_at: Option<Timestamp>,
    /// Of a publishable key: the origins whose pages may use it.
    pub(crate) publishable: Option<Vec<String>>,
}

pub(crate) fn api_key_access(read: &mut Read<'_>, id: ApiKeyId, known: &Known) -> Result<Option<ApiKeyAccess>> {
    type Columns = (Hash, String, Option<Timestamp>, Option<Timestamp>, Option<Timestamp>, bool, String);
    let Some((key_hash, names, expires_at, revoked_at, last_used_at, publishable, allowed)) =
        read.opt::<Columns>(sql::API_KEY_ACCESS, (id,))?
    else {
        return Ok(None);
    };
    let permissions = permissions(&names, known)?;
    let publishable = publishable.then(|| origins(&allowed)).transpose()?;
    Ok(Some(ApiKeyAccess { key_hash, permissions, expires_at, revoked_at, last_used_at, publishable }))
}

// ---- audit trails ---------------------------------------------------------------------------------------------------

/// One administrative change, or one use of the platform's rights.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AuditRecord {
    /// Its id.
    pub id: AuditEntryId,
    /// When.
    pub occurred_at: Timestamp,
    /// The tenant concerned; always there in a tenant's own trail.
    pub tenant_id: Option<TenantId>,
    /// What kind of actor.
    pub actor_kind: ActorKind,
    /// The user (`usr_...`) or key (`key_...`); null for the system.
    pub actor: Option<String>,
    /// What was done.
    #[schema(example = "member.change")]
    pub action: String,
    /// To what: an id or a name.
    pub subject: String,
    /// How it was, at most 4 KiB.
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// How it is since.
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
    /// The request.
    pub request_id: Option<String>,
}

fn actor(kind: &str, id: i64) -> (ActorKind, Option<String>) {
    match kind {
        "user" => (ActorKind::User, Some(UserId::from_i64(id).to_string())),
        "api_key" => (ActorKind::ApiKey, Some(ApiKeyId::from_i64(id).to_string())),
        _ => (ActorKind::System, None),
    }
}

impl AuditRecord {
    fn read(row: &dyn Row, tenant_id: Option<TenantId>, at: usize) -> Result<AuditRecord> {
        let (actor_kind, actor) = actor(&row.get::<String>(at)?, row.get(at + 1)?);
        let json = |text: Option<String>| text.map(|t| stored("audit entry", &t)).transpose();
        Ok(AuditRecord {
            id: row.get(0)?,
            tenant_id,
            actor_kind,
            actor,
            action: row.get(at + 2)?,
            subject: row.get(at + 3)?,
            before: json(row.get(at + 4)?)?,
            after: json(row.get(at + 5)?)?,
            request_id: row.get(at + 6)?,
            occurred_at: row.get(at + 7)?,
        })
    }
}

/// The tenant's trail, newest first.
pub(crate) fn audit_log(read: &mut Read<'_>, before: i64, limit: u32) -> Result<Vec<AuditRecord>> {
    let tenant = read.tenant()?;
    let mut records = Vec::new();
    read.each(sql::AUDIT_PAGE, (before, limit), |row| {
        records.push(AuditRecord::read(row, Some(tenant), 1)?);
        Ok(())
    })?;
    Ok(records)
}

/// The platform's trail, newest first.
pub(crate) fn platform_audit_log(read: &mut Read<'_>, before: i64, limit: u32) -> Result<Vec<AuditRecord>> {
    let mut records = Vec::new();
    read.each(sql::PLATFORM_AUDIT_PAGE, (before, limit), |row| {
        records.push(AuditRecord::read(row, row.get(1)?, 2)?);
        Ok(())
    })?;
    Ok(records)
}

/// The check of `brandos audit`: every active tenant with members has an owner, and every role that is held exists.
pub(crate) fn members_are_sound(read: &mut Read<'_>) -> Result<web::AuditOutcome> {
    let (mut members, mut owners, mut lost) = (0_u64, 0_u64, 0_u64);
    let custom: Vec<String> = read.all::<(String, String, String, Timestamp)>(sql::ROLES, ())?.into_iter().map(|r| r.0).collect();
    read.each(sql::MEMBER_ROLES, (), |row| {
        let (role, held): (String, i64) = (row.get(0)?, row.get(1)?);
        members += held as u64;
        if role == model::OWNER {
            owners += held as u64;
        }
        if !custom.contains(&role) && !BUILT_IN_ROLES.iter().any(|r| r.name == role) {
            lost += held as u64;
        }
        Ok(())
    })?;
    let ok = lost == 0 && (members == 0 || owners > 0);
    Ok(web::AuditOutcome { ok, detail: format!("{members} members, {owners} owners, {lost} with a role that does not exist") })
}
