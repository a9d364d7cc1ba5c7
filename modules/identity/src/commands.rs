//! What changes: plain functions over a transaction. Those on the platform's scope say so; the rest run in a tenant's.

use crate::model::{self, ApiKeyId, Grantor, InvitationId, Known, OWNER, Plan, SessionId, Settings, TenantStatus, UserId, UserStatus};
use crate::queries::{self, InvitationRow, TenantInfo, UserRow};
use crate::sql;
use crate::token::{self, Hash};
use kernel::{Actor, ActorKind, Error, Result, TenantId, Timestamp};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use store::Tx;

/// The most custom roles of a tenant.
const MAX_ROLES: i64 = 50;
/// The most invitations of a tenant that wait for an answer.
const MAX_OPEN_INVITATIONS: i64 = 1000;
/// The most API keys of a tenant that are not revoked.
const MAX_API_KEYS: i64 = 500;
/// Buckets of [`raise_epoch`].
pub(crate) const BUCKETS: usize = 64;

/// Who makes a change, for rights and for the audit trail.
#[derive(Clone, Debug)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// Whether they act as the platform's administrator, and so aren't bounded by rights within a tenant.
    pub platform: bool,
    /// The request, if it came by one.
    pub request_id: Option<Arc<str>>,
}

impl By {
    /// The platform itself: the command line, a job.
    pub const SYSTEM: By = By { actor: Actor::SYSTEM, platform: true, request_id: None };
}

// ---- audit trail and epochs -----------------------------------------------------------------------------------------

fn kind_word(kind: ActorKind) -> &'static str {
    match kind {
        ActorKind::User => "user",
        ActorKind::ApiKey => "api_key",
        ActorKind::System => "system",
    }
}

/// Adds to the audit trail of the transaction's tenant. `subject` is the id or name of what was changed.
pub(crate) fn audit(tx: &mut Tx<'_>, by: &By, action: &str, subject: &str, before: Option<Json>, after: Option<Json>) -> Result<()> {
    let (id, now) = (tx.new_id::<model::AuditEntry>(), tx.now());
    let (before, after) = (model::audit_json(before), model::audit_json(after));
    let row = (id, kind_word(by.actor.kind), by.actor.id, action, subject, before, after, by.request_id.as_deref(), now);
    tx.exec(sql::AUDIT_INSERT, row)
}

/// Adds to the platform's own audit trail. On the platform's scope.
pub(crate) fn audit_platform(
    tx: &mut Tx<'_>,
    by: &By,
    tenant: Option<TenantId>,
    action: &str,
    subject: &str,
    before: Option<Json>,
    after: Option<Json>,
) -> Result<()> {
    let (id, now) = (tx.new_id::<model::AuditEntry>(), tx.now());
    let (before, after) = (model::audit_json(before), model::audit_json(after));
    let row = (id, tenant, kind_word(by.actor.kind), by.actor.id, action, subject, before, after, by.request_id.as_deref(), now);
    tx.exec(sql::PLATFORM_AUDIT_INSERT, row)
}

/// One entry for the platform's audit trail, such as the use of a report. On the platform's scope.
pub(crate) struct Used {
    pub(crate) by: By,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) action: &'static str,
    pub(crate) detail: Json,
}

pub(crate) fn note_use(tx: &mut Tx<'_>, used: &Used) -> Result<()> {
    audit_platform(tx, &used.by, used.tenant, used.action, "platform", None, Some(used.detail.clone()))
}

/// The bucket whose epoch covers a user or a tenant.
pub(crate) fn bucket(id: i64) -> usize {
    ((id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - BUCKETS.ilog2())) as usize
}

/// Makes every node ask again what this user, or everybody in this tenant, may do. On the platform's scope, in or after the transaction
/// that changed it, and before the change is acknowledged.
pub(crate) fn raise_epoch(tx: &mut Tx<'_>, id: &i64) -> Result<()> {
    tx.exec(sql::EPOCH_RAISE, (bucket(*id) as i64,))
}

// ---- secrets (platform) ---------------------------------------------------------------------------------------------

/// A secret of the platform, made of `fresh` when there is none yet.
pub(crate) fn secret(tx: &mut Tx<'_>, (name, fresh): &(&'static str, [u8; 32])) -> Result<Vec<u8>> {
    let now = tx.now();
    tx.exec(sql::SECRET_INSERT, (*name, fresh, now))?;
    Ok(tx.one::<(Vec<u8>,)>(sql::SECRET, (*name,))?.0)
}

// ---- tenants (platform) ---------------------------------------------------------------------------------------------

/// A tenant to be made.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// Its short name in host names and paths; unique over the platform.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Its plan.
    pub plan: Plan,
}

/// On the platform's scope. Errors: `identity.slug_taken`.
pub(crate) fn create_tenant(tx: &mut Tx<'_>, (by, new): &(By, NewTenant)) -> Result<TenantInfo> {
    model::check_slug(&new.slug)?;
    let name = model::check_name("name", &new.name, 200)?;
    let taken = || {
        Error::conflict("identity.slug_taken", "another tenant has this slug").with_field("slug", "taken", "is the slug of another tenant")
    };
    if queries::tenant_by_slug(tx, &new.slug)?.is_some() {
        return Err(taken());
    }
    let (id, now) = (tx.new_id(), tx.now());
    let status = TenantStatus::Active;
    let tenant = TenantInfo { id, slug: new.slug.clone(), name, status, plan: new.plan, version: 1, created_at: now, updated_at: now };
    tx.must(sql::TENANT_INSERT, (id, &new.slug, &tenant.name, tenant.status, tenant.plan, now), taken)?;
    audit_platform(
        tx,
        by,
        Some(id),
        "tenant.create",
        &id.to_string(),
        None,
        Some(json!({"slug": tenant.slug, "name": tenant.name, "plan": tenant.plan})),
    )?;
    Ok(tenant)
}

/// A change of a tenant by the platform's administrator; what is none stays.
pub(crate) struct ChangeTenant {
    pub(crate) by: By,
    pub(crate) tenant: TenantId,
    pub(crate) expected: web::IfMatch,
    pub(crate) name: Option<String>,
    pub(crate) status: Option<TenantStatus>,
    pub(crate) plan: Option<Plan>,
}

/// On the platform's scope. Errors: `identity.tenant_not_found`, `identity.tenant_closed`, `request.precondition_failed`.
pub(crate) fn change_tenant(tx: &mut Tx<'_>, change: &ChangeTenant) -> Result<TenantInfo> {
    let before = queries::tenant(tx, change.tenant)?.ok_or_else(tenant_not_found)?;
    change.expected.check(before.version)?;
    let mut after = before.clone();
    if let Some(name) = &change.name {
        after.name = model::check_name("name", name, 200)?;
    }
    after.status = change.status.unwrap_or(before.status);
    after.plan = change.plan.unwrap_or(before.plan);
    if !before.status.may_become(after.status) {
        return Err(Error::failed_precondition("identity.tenant_closed", "a closed tenant stays closed"));
    }
    if after == before {
        return Ok(before);
    }
    after.version += 1;
    after.updated_at = tx.now();
    tx.must(sql::TENANT_UPDATE, (after.id, &after.name, after.status, after.plan, after.updated_at), tenant_not_found)?;
    let side = |t: &TenantInfo| Some(json!({"name": t.name, "status": t.status, "plan": t.plan}));
    audit_platform(tx, &change.by, Some(after.id), "tenant.change", &after.id.to_string(), side(&before), side(&after))?;
    raise_epoch(tx, &after.id.as_i64())?;
    Ok(after)
}

pub(crate) fn tenant_not_found() -> Error {
    Error::not_found("identity.tenant_not_found", "there is no such tenant")
}

// ---- users (platform) -----------------------------------------------------------------------------------------------

/// A user to be made; checked and hashed before.
#[derive(Clone)]
pub(crate) struct NewUser {
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) password_hash: String,
}

fn email_taken() -> Error {
    Error::conflict("identity.email_taken", "there is an account with this e-mail address").with_field(
        "email",
        "taken",
        "has an account already",
    )
}

fn insert_user(tx: &mut Tx<'_>, new: &NewUser) -> Result<UserId> {
    if queries::user_by_email(tx, &new.email)?.is_some() {
        return Err(email_taken());
    }
    let (id, now) = (tx.new_id(), tx.now());
    tx.must(sql::USER_INSERT, (id, &new.email, &new.name, &new.password_hash, now), email_taken)?;
    Ok(id)
}

/// On the platform's scope. Errors: `identity.email_taken`.
pub(crate) fn create_user(tx: &mut Tx<'_>, (by, new): &(By, NewUser)) -> Result<UserId> {
    let id = insert_user(tx, new)?;
    audit_platform(tx, by, None, "user.create", &id.to_string(), None, Some(json!({"email": new.email})))?;
    Ok(id)
}

/// Who joins a tenant.
pub(crate) enum Joining {
    /// Somebody with an account.
    Known(UserId),
    /// Somebody whose account is made now.
    New(NewUser),
}

/// A user who is about to join a tenant.
pub(crate) struct Join {
    pub(crate) user: Joining,
    pub(crate) tenant: TenantId,
}

/// Makes the account if need be, and notes where to look for memberships. On the platform's scope. Errors: `identity.email_taken`.
pub(crate) fn join(tx: &mut Tx<'_>, join: &Join) -> Result<UserId> {
    let user = match &join.user {
        Joining::Known(user) => *user,
        Joining::New(new) => insert_user(tx, new)?,
    };
    tx.exec(sql::USER_TENANT_INSERT, (user, join.tenant))?;
    Ok(user)
}

/// The other half of a removal: the user's sessions in the tenant end. On the platform's scope.
pub(crate) fn leave(tx: &mut Tx<'_>, (user, tenant): &(UserId, TenantId)) -> Result<()> {
    let now = tx.now();
    tx.exec(sql::USER_TENANT_DELETE, (*user, *tenant))?;
    tx.exec(sql::SESSIONS_REVOKE_OF_MEMBER, (*user, *tenant, now))?;
    raise_epoch(tx, &user.as_i64())
}

/// A new password, which ends every session. On the platform's scope.
pub(crate) struct SetPassword {
    pub(crate) by: By,
    pub(crate) user: UserId,
    pub(crate) password_hash: String,
}

pub(crate) fn set_password(tx: &mut Tx<'_>, set: &SetPassword) -> Result<()> {
    let now = tx.now();
    tx.must(sql::USER_PASSWORD, (set.user, &set.password_hash, now), user_not_found)?;
    tx.exec(sql::SESSIONS_REVOKE_OF_USER, (set.user, now))?;
    audit_platform(tx, &set.by, None, "user.set_password", &set.user.to_string(), None, None)?;
    raise_epoch(tx, &set.user.as_i64())
}

/// Lets a user in or shuts them out everywhere, at once. On the platform's scope.
pub(crate) fn set_user_status(tx: &mut Tx<'_>, (by, user, status): &(By, UserId, UserStatus)) -> Result<()> {
    let before: UserRow = queries::user(tx, *user)?.ok_or_else(user_not_found)?;
    if before.status == *status {
        return Ok(());
    }
    let now = tx.now();
    tx.must(sql::USER_STATUS, (*user, *status, now), user_not_found)?;
    tx.exec(sql::SESSIONS_REVOKE_OF_USER, (*user, now))?;
    let side = |s: UserStatus| Some(json!({"status": s}));
    audit_platform(tx, by, None, "user.set_status", &user.to_string(), side(before.status), side(*status))?;
    raise_epoch(tx, &user.as_i64())
}

/// Makes a user a platform administrator, or no longer. On the platform's scope.
pub(crate) fn set_platform_admin(tx: &mut Tx<'_>, (by, user, admin): &(By, UserId, bool)) -> Result<()> {
    queries::user(tx, *user)?.ok_or_else(user_not_found)?;
    let before = tx.opt::<(i64,)>(sql::PLATFORM_ADMIN, (*user,))?.is_some();
    if before == *admin {
        return Ok(());
    }
    let now = tx.now();
    if *admin {
        tx.exec(sql::PLATFORM_ADMIN_INSERT, (*user, now))?;
    } else {
        tx.exec(sql::PLATFORM_ADMIN_DELETE, (*user,))?;
    }
    let side = |admin: bool| Some(json!({"platform_admin": admin}));
    audit_platform(tx, by, None, "user.set_platform_admin", &user.to_string(), side(before), side(*admin))?;
    raise_epoch(tx, &user.as_i64())
}

pub(crate) fn user_not_found() -> Error {
    Error::not_found("identity.user_not_found", "there is no such user")
}

// ---- sign-in and sessions (platform) --------------------------------------------------------------------------------

/// Counts an attempt before the password is looked at, so that many at once don't get past the limit. Success clears the count.
/// Errors: `identity.too_many_attempts`.
pub(crate) fn begin_attempt(tx: &mut Tx<'_>, email_hash: &Hash) -> Result<()> {
    let now = tx.now();
    if let Some((failures, last_at)) = tx.opt::<(i64, Timestamp)>(sql::ATTEMPTS, (email_hash,))? {
        let left_ms = model::left_to_wait_ms(failures, last_at, now);
        if left_ms > 0 {
            let detail = "too many failed attempts for this address; wait as long as Retry-After says";
            return Err(Error::new(kernel::ErrorKind::Limited, "identity.too_many_attempts", detail).retry_after_ms(left_ms as u32));
        }
    }
    tx.exec(sql::ATTEMPTS_FORGET, (now.plus_ms(-model::FAILURES_KEPT_MS),))?;
    tx.exec(sql::ATTEMPT_UPSERT, (email_hash, now))
}

pub(crate) fn clear_attempts(tx: &mut Tx<'_>, email_hash: &Hash) -> Result<()> {
    tx.exec(sql::ATTEMPTS_DELETE, (email_hash,))
}

/// A session to be opened after the password was right.
pub(crate) struct OpenSession {
    pub(crate) by: By,
    pub(crate) user: UserId,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) refresh: token::Refresh,
    pub(crate) idle_ms: i64,
}

/// Opens a session, and ends the user's oldest beyond 50. Gives when its refresh token expires, and whether sessions were ended.
pub(crate) fn open_session(tx: &mut Tx<'_>, open: &OpenSession) -> Result<(Timestamp, bool)> {
    let now = tx.now();
    tx.exec(sql::SESSIONS_DELETE_ENDED, (open.user, now))?;
    let ended = tx.count(sql::SESSIONS_DELETE_OLDEST, (open.user,))? > 0;
    if ended {
        raise_epoch(tx, &open.user.as_i64())?;
    }
    let expires_at = now.plus_ms(open.idle_ms);
    let token::Refresh { session, family, current } = open.refresh;
    tx.exec(sql::SESSION_INSERT, (session, open.user, open.tenant, &family, &current, now, expires_at))?;
    if open.tenant.is_none() {
        audit_platform(tx, &open.by, None, "session.open", &session.to_string(), None, None)?;
    }
    Ok((expires_at, ended))
}

/// A refresh token and the hash of the next.
pub(crate) struct Rotate {
    pub(crate) presented: token::Refresh,
    pub(crate) next: Hash,
    pub(crate) idle_ms: i64,
    pub(crate) longest_ms: i64,
}

/// What became of a refresh token. The refusals are outcomes and not errors, since one of them has to be committed.
pub(crate) enum Rotated {
    /// The session goes on.
    Fresh { user: UserId, tenant: Option<TenantId>, token_version: i64, expires_at: Timestamp },
    /// A genuine token that was used before: somebody has a copy, so the session is ended.
    Reused,
    /// Unknown, expired, ended, or the user is shut out.
    Refused,
}

type SessionRow = (UserId, Option<TenantId>, Hash, Hash, Timestamp, Timestamp, Option<Timestamp>, UserStatus, i64);

pub(crate) fn rotate(tx: &mut Tx<'_>, rotate: &Rotate) -> Result<Rotated> {
    let Rotate { presented, next, .. } = rotate;
    let Some(row) = tx.opt::<SessionRow>(sql::SESSION_TO_REFRESH, (presented.session,))? else { return Ok(Rotated::Refused) };
    let (user, tenant, family, current, created_at, expires_at, revoked_at, status, token_version) = row;
    let now = tx.now();
    if !token::same(&family, &presented.family) || revoked_at.is_some() || expires_at <= now || status != UserStatus::Active {
        return Ok(Rotated::Refused);
    }
    if !token::same(&current, &presented.current) {
        tx.exec(sql::SESSION_REVOKE, (presented.session, now))?;
        raise_epoch(tx, &user.as_i64())?;
        return Ok(Rotated::Reused);
    }
    let expires_at = now.plus_ms(rotate.idle_ms).min(created_at.plus_ms(rotate.longest_ms));
    let ended = || Error::unauthenticated("identity.session_ended", "the session has ended; sign in again");
    tx.must(sql::SESSION_ROTATE, (presented.session, &current, next, now, expires_at), ended)?;
    Ok(Rotated::Fresh { user, tenant, token_version, expires_at })
}

/// Ends one session, or all of the user's. On the platform's scope.
pub(crate) fn sign_out(tx: &mut Tx<'_>, (user, session, everywhere): &(UserId, SessionId, bool)) -> Result<()> {
    let now = tx.now();
    if *everywhere {
        tx.exec(sql::SESSIONS_REVOKE_OF_USER, (*user, now))?;
    } else {
        tx.exec(sql::SESSION_REVOKE, (*session, now))?;
    }
    raise_epoch(tx, &user.as_i64())
}

// ---- settings -------------------------------------------------------------------------------------------------------

/// Replaces the settings. Gives the new version. Errors: `request.precondition_failed`.
pub(crate) fn put_settings(tx: &mut Tx<'_>, (by, expected, settings): &(By, web::IfMatch, Settings)) -> Result<i64> {
    let (before, version) = queries::settings(tx)?;
    expected.check(version)?;
    if before == *settings {
        return Ok(version);
    }
    let text = serde_json::to_string(settings).map_err(|e| Error::internal("settings do not serialise").caused_by(e))?;
    tx.exec(sql::SETTINGS_UPSERT, (text, version + 1))?;
    audit(tx, by, "settings.change", "settings", Some(json!(before)), Some(json!(settings)))?;
    Ok(version + 1)
}

/// Replaces the feature flags. Gives the new version. Errors: `request.precondition_failed`.
pub(crate) fn put_flags(tx: &mut Tx<'_>, (by, expected, flags): &(By, web::IfMatch, BTreeMap<String, bool>)) -> Result<i64> {
    let (before, version) = queries::flags(tx)?;
    expected.check(version)?;
    if before == *flags {
        return Ok(version);
    }
    let text = serde_json::to_string(flags).map_err(|e| Error::internal("flags do not serialise").caused_by(e))?;
    tx.exec(sql::FLAGS_UPSERT, (text, version + 1))?;
    audit(tx, by, "flags.change", "flags", Some(json!(before)), Some(json!(flags)))?;
    Ok(version + 1)
}

// ---- members and roles ----------------------------------------------------------------------------------------------

/// What the one who asks holds now, read in the same transaction as the change. Errors: `identity.cannot_grant`.
fn grantor(tx: &mut Tx<'_>, by: &By, known: &Known) -> Result<Grantor> {
    let gone = || Error::forbidden("identity.cannot_grant", "you are no longer a member");
    if by.platform {
        return Ok(Grantor::Platform);
    }
    match by.actor.kind {
        ActorKind::System => Ok(Grantor::Platform),
        ActorKind::User => {
            let access = queries::member_access(tx, UserId::from_i64(by.actor.id), known)?.ok_or_else(gone)?;
            Ok(Grantor::Holder { owner: access.role == OWNER, permissions: access.permissions })
        }
        ActorKind::ApiKey => {
            let key = queries::api_key(tx, ApiKeyId::from_i64(by.actor.id), known)?.ok_or_else(gone)?;
            Ok(Grantor::Holder { owner: false, permissions: known.of_tenant(key.permissions.iter().map(String::as_str)) })
        }
    }
}

fn last_owner() -> Error {
    Error::failed_precondition("identity.last_owner", "a tenant keeps at least one owner; make another member an owner first")
}

fn member_not_found() -> Error {
    Error::not_found("identity.member_not_found", "there is no such member")
}

/// Gives a member another role.
pub(crate) struct ChangeMember {
    pub(crate) by: By,
    pub(crate) known: Arc<Known>,
    pub(crate) user: UserId,
    pub(crate) role: String,
}

/// Errors: `identity.member_not_found`, `identity.cannot_grant`, `identity.last_owner`.
pub(crate) fn change_member(tx: &mut Tx<'_>, change: &ChangeMember) -> Result<()> {
    let grantor = grantor(tx, &change.by, &change.known)?;
    let before = queries::member_access(tx, change.user, &change.known)?.ok_or_else(member_not_found)?;
    let permissions = queries::role_permissions(tx, &change.role, &change.known)?;
    grantor.check(&before.role, &before.permissions)?;
    grantor.check(&change.role, &permissions)?;
    if before.role == change.role {
        return Ok(());
    }
    if before.role == OWNER && queries::members_of_role(tx, OWNER)? < 2 {
        return Err(last_owner());
    }
    let now = tx.now();
    tx.must(sql::MEMBER_SET_ROLE, (change.user, &change.role, now), member_not_found)?;
    audit(tx, &change.by, "member.change", &change.user.to_string(), Some(json!({"role": before.role})), Some(json!({"role": change.role})))
}

/// Errors: `identity.member_not_found`, `identity.cannot_grant`, `identity.last_owner`.
pub(crate) fn remove_member(tx: &mut Tx<'_>, (by, known, user): &(By, Arc<Known>, UserId)) -> Result<()> {
    let grantor = grantor(tx, by, known)?;
    let before = queries::member_access(tx, *user, known)?.ok_or_else(member_not_found)?;
    grantor.check(&before.role, &before.permissions)?;
    if before.role == OWNER && queries::members_of_role(tx, OWNER)? < 2 {
        return Err(last_owner());
    }
    tx.must(sql::MEMBER_DELETE, (*user,), member_not_found)?;
    audit(tx, by, "member.remove", &user.to_string(), Some(json!({"role": before.role})), None)
}

/// Makes a user a member with this role, whatever they were before. For the command line; the API invites.
pub(crate) fn put_member(tx: &mut Tx<'_>, put: &ChangeMember) -> Result<()> {
    if queries::member_access(tx, put.user, &put.known)?.is_some() {
        return change_member(tx, put);
    }
    queries::role_permissions(tx, &put.role, &put.known)?;
    let now = tx.now();
    tx.exec(sql::MEMBER_INSERT, (put.user, &put.role, now))?;
    audit(tx, &put.by, "member.add", &put.user.to_string(), None, Some(json!({"role": put.role})))
}

/// A custom role, made or replaced.
pub(crate) struct PutRole {
    pub(crate) by: By,
    pub(crate) known: Arc<Known>,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) permissions: Vec<String>,
}

/// Errors: `identity.cannot_grant`, `identity.too_many`.
pub(crate) fn put_role(tx: &mut Tx<'_>, put: &PutRole) -> Result<()> {
    model::check_role_name(&put.name)?;
    let description = model::check_name("description", &put.description, 200)?;
    let permissions = put.known.check("permissions", &put.permissions)?;
    let grantor = grantor(tx, &put.by, &put.known)?;
    grantor.check(&put.name, &permissions)?;
    let before = queries::custom_role(tx, &put.name, &put.known)?;
    match &before {
        // Taking rights from those who hold more than oneself is as little allowed as giving them.
        Some(before) => grantor.check(&before.name, &put.known.of_tenant(before.permissions.iter().map(String::as_str)))?,
        None if queries::count(tx, sql::ROLES_COUNT, ())? >= MAX_ROLES => return Err(too_many("custom roles", MAX_ROLES)),
        None => {}
    }
    let now = tx.now();
    tx.exec(sql::ROLE_UPSERT, (&put.name, &description, words(&permissions), now))?;
    let side = |description: &str, permissions: &[&str]| Some(json!({"description": description, "permissions": permissions}));
    let before = before.and_then(|b| side(&b.description, &b.permissions.iter().map(String::as_str).collect::<Vec<_>>()));
    audit(tx, &put.by, "role.put", &put.name, before, side(&description, &permissions))
}

/// Errors: `identity.role_not_found`, `identity.role_in_use`, `identity.cannot_grant`.
pub(crate) fn delete_role(tx: &mut Tx<'_>, (by, known, name): &(By, Arc<Known>, String)) -> Result<()> {
    let not_found = || Error::not_found("identity.role_not_found", "there is no such custom role");
    let before = queries::custom_role(tx, name, known)?.ok_or_else(not_found)?;
    let grantor = grantor(tx, by, known)?;
    grantor.check(name, &known.of_tenant(before.permissions.iter().map(String::as_str)))?;
    if queries::members_of_role(tx, name)? > 0 {
        return Err(Error::failed_precondition("identity.role_in_use", "members have this role; give them another first"));
    }
    tx.must(sql::ROLE_DELETE, (name,), not_found)?;
    audit(tx, by, "role.delete", name, Some(json!({"description": before.description, "permissions": before.permissions})), None)
}

/// Permissions as they are stored.
fn words(permissions: &[&str]) -> String {
    json!(permissions).to_string()
}

fn too_many(what: &str, limit: i64) -> Error {
    Error::failed_precondition("identity.too_many", format!("a tenant has at most {limit} {what}"))
}

// ---- invitations ----------------------------------------------------------------------------------------------------

/// An offer to join.
pub(crate) struct Invite {
    pub(crate) by: By,
    pub(crate) known: Arc<Known>,
    pub(crate) id: InvitationId,
    pub(crate) email: String,
    pub(crate) role: String,
    pub(crate) token_hash: Hash,
    pub(crate) valid_ms: i64,
}

/// Errors: `identity.cannot_grant`, `identity.too_many`.
pub(crate) fn invite(tx: &mut Tx<'_>, invite: &Invite) -> Result<queries::InvitationInfo> {
    let grantor = grantor(tx, &invite.by, &invite.known)?;
    let permissions = queries::role_permissions(tx, &invite.role, &invite.known)?;
    grantor.check(&invite.role, &permissions)?;
    let now = tx.now();
    if queries::count(tx, sql::INVITATIONS_OPEN, (now,))? >= MAX_OPEN_INVITATIONS {
        return Err(too_many("open invitations", MAX_OPEN_INVITATIONS));
    }
    let expires_at = now.plus_ms(invite.valid_ms);
    tx.exec(sql::INVITATION_INSERT, (invite.id, &invite.email, &invite.role, &invite.token_hash, now, expires_at))?;
    audit(tx, &invite.by, "invitation.create", &invite.id.to_string(), None, Some(json!({"email": invite.email, "role": invite.role})))?;
    Ok(InvitationRow {
        id: invite.id,
        email: invite.email.clone(),
        role: invite.role.clone(),
        token_hash: invite.token_hash,
        created_at: now,
        expires_at,
        accepted_at: None,
        revoked_at: None,
    }
    .info(now))
}

pub(crate) fn invitation_not_found() -> Error {
    Error::not_found(
        "identity.invitation_not_found",
        "there is no such open invitation: it was accepted, withdrawn, has expired or never was",
    )
}

/// Errors: `identity.invitation_not_found`.
pub(crate) fn revoke_invitation(tx: &mut Tx<'_>, (by, id): &(By, InvitationId)) -> Result<()> {
    let row = queries::invitation(tx, *id)?.ok_or_else(invitation_not_found)?;
    let now = tx.now();
    if !row.is_open(now) {
        return Err(invitation_not_found());
    }
    tx.must(sql::INVITATION_REVOKE, (*id, now), invitation_not_found)?;
    audit(tx, by, "invitation.revoke", &id.to_string(), Some(json!({"email": row.email, "role": row.role})), None)
}

/// The second half of an acceptance: the user becomes a member.
pub(crate) struct Accept {
    pub(crate) by: By,
    pub(crate) known: Arc<Known>,
    pub(crate) id: InvitationId,
    pub(crate) user: UserId,
}

/// Gives the role. Errors: `identity.invitation_not_found`, `identity.already_member`.
pub(crate) fn accept(tx: &mut Tx<'_>, accept: &Accept) -> Result<String> {
    let row = queries::invitation(tx, accept.id)?.ok_or_else(invitation_not_found)?;
    let now = tx.now();
    if !row.is_open(now) {
        return Err(invitation_not_found());
    }
    queries::role_permissions(tx, &row.role, &accept.known)?;
    if queries::member_access(tx, accept.user, &accept.known)?.is_some() {
        return Err(Error::conflict("identity.already_member", "this user is a member already"));
    }
    tx.must(sql::INVITATION_ACCEPT, (accept.id, now), invitation_not_found)?;
    tx.exec(sql::MEMBER_INSERT, (accept.user, &row.role, now))?;
    audit(tx, &accept.by, "invitation.accept", &accept.id.to_string(), None, Some(json!({"user": accept.user, "role": row.role})))?;
    Ok(row.role)
}

// ---- API keys -------------------------------------------------------------------------------------------------------

/// An API key to be made.
pub(crate) struct NewApiKey {
    pub(crate) by: By,
    pub(crate) known: Arc<Known>,
    pub(crate) id: ApiKeyId,
    pub(crate) name: String,
    pub(crate) key_hash: Hash,
    pub(crate) permissions: Vec<String>,
    pub(crate) expires_at: Option<Timestamp>,
}

/// Errors: `identity.cannot_grant`, `identity.too_many`.
pub(crate) fn create_api_key(tx: &mut Tx<'_>, new: &NewApiKey) -> Result<queries::ApiKeyInfo> {
    let name = model::check_name("name", &new.name, 100)?;
    let permissions = new.known.check("permissions", &new.permissions)?;
    let (tenant, now) = (tx.tenant()?, tx.now());
    if new.expires_at.is_some_and(|at| at <= now) {
        return Err(Error::field("expires_at", "past", "must lie in the future"));
    }
    grantor(tx, &new.by, &new.known)?.check("", &permissions)?;
    if queries::count(tx, sql::API_KEYS_LIVE, ())? >= MAX_API_KEYS {
        return Err(too_many("API keys that are not revoked", MAX_API_KEYS));
    }
    tx.exec(sql::API_KEY_INSERT, (new.id, &name, &new.key_hash, words(&permissions), now, new.expires_at))?;
    audit(tx, &new.by, "api_key.create", &new.id.to_string(), None, Some(json!({"name": name, "permissions": permissions})))?;
    Ok(queries::ApiKeyInfo {
        id: new.id,
        prefix: token::api_key_prefix(tenant, new.id),
        name,
        permissions: permissions.iter().map(|p| (*p).to_owned()).collect(),
        created_at: now,
        expires_at: new.expires_at,
        revoked_at: None,
        last_used_at: None,
        publishable: false,
        origins: Vec::new(),
    })
}

/// A publishable key to be made.
pub(crate) struct NewPublishableKey {
    pub(crate) by: By,
    pub(crate) id: ApiKeyId,
    pub(crate) name: String,
    pub(crate) origins: Vec<String>,
}

/// Errors: `request.invalid`, `identity.too_many`.
pub(crate) fn create_publishable_key(tx: &mut Tx<'_>, new: &NewPublishableKey) -> Result<queries::ApiKeyInfo> {
    let name = model::check_name("name", &new.name, 100)?;
    model::check_origins(&new.origins)?;
    let (tenant, now) = (tx.tenant()?, tx.now());
    if queries::count(tx, sql::API_KEYS_LIVE, ())? >= MAX_API_KEYS {
        return Err(too_many("API keys that are not revoked", MAX_API_KEYS));
    }
    let text = token::publishable_key(tenant, new.id);
    let origins = json!(new.origins);
    tx.exec(sql::PUBLISHABLE_KEY_INSERT, (new.id, &name, &token::hash(&text), now, origins.to_string()))?;
    audit(tx, &new.by, "publishable_key.create", &new.id.to_string(), None, Some(json!({"name": name, "origins": origins})))?;
    Ok(queries::ApiKeyInfo {
        id: new.id,
        prefix: text,
        name,
        permissions: Vec::new(),
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        publishable: true,
        origins: new.origins.clone(),
    })
}

/// Errors: `identity.api_key_not_found`. A key that is revoked already stays so.
pub(crate) fn revoke_api_key(tx: &mut Tx<'_>, (by, known, id): &(By, Arc<Known>, ApiKeyId)) -> Result<()> {
    let not_found = || Error::not_found("identity.api_key_not_found", "there is no such API key");
    let key = queries::api_key(tx, *id, known)?.ok_or_else(not_found)?;
    if key.revoked_at.is_some() {
        return Ok(());
    }
    let now = tx.now();
    tx.must(sql::API_KEY_REVOKE, (*id, now), not_found)?;
    audit(tx, by, "api_key.revoke", &id.to_string(), Some(json!({"name": key.name, "permissions": key.permissions})), None)
}

/// Notes that a key was used.
pub(crate) fn api_key_used(tx: &mut Tx<'_>, id: &ApiKeyId) -> Result<()> {
    let now = tx.now();
    tx.exec(sql::API_KEY_USED, (*id, now))
}
