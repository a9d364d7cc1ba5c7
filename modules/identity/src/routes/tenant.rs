//! What a tenant's administrators do.

use super::by;
use crate::api;
use crate::auth::Auth;
use crate::commands::{self, ChangeMember, Invite, NewApiKey, NewPublishableKey, PutRole};
use crate::model::{self, ApiKeyId, InvitationId, Settings, UserId};
use crate::queries::{self, ApiKeyInfo, AuditRecord, InvitationInfo, Member, Role};
use crate::token;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kernel::{ErrorKind, Page, Result as Outcome, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use web::{App, Body, Caller, Created, IfMatch, Keyed, Paging, PagingParams, Params, Result, Versioned};

// ---- settings and flags ---------------------------------------------------------------------------------------------

/// The tenant's settings.
#[utoipa::path(get, path = "/api/v1/settings", tag = "identity", responses(
    (status = 200, body = Settings, headers(("ETag" = String, description = "The version, for `If-Match`."))),
))]
pub(crate) async fn get_settings(State(app): State<App>, caller: Caller) -> Result<Versioned<Settings>> {
    let (settings, version) = app.store().peek(caller.tenant()?, queries::settings).await?;
    Ok(Versioned(version, settings))
}

/// Replaces the tenant's settings; a field that is left out goes back to its default.
#[utoipa::path(put, path = "/api/v1/settings", tag = "identity", request_body = Settings,
    params(("If-Match" = Option<String>, Header, description = "The `ETag` of the settings that were changed.")),
    responses(
        (status = 200, body = Settings, headers(("ETag" = String, description = "The new version."))),
        (status = 412, description = "They have been changed since."),
    ))]
pub(crate) async fn put_settings(
    State(app): State<App>,
    caller: Caller,
    expected: IfMatch,
    Body(settings): Body<Settings>,
) -> Result<Versioned<Settings>> {
    settings.check()?;
    let version = app.store().write(caller.call()?, commands::put_settings, (by(&caller), expected, settings.clone())).await?;
    Ok(Versioned(version, settings))
}

/// Feature flags by name.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flags {
    /// At most 100; names of 1 to 64 of a-z, 0-9, _ . and -.
    flags: BTreeMap<String, bool>,
}

/// The tenant's feature flags.
#[utoipa::path(get, path = "/api/v1/flags", tag = "identity", responses(
    (status = 200, body = Flags, headers(("ETag" = String, description = "The version, for `If-Match`."))),
))]
pub(crate) async fn get_flags(State(app): State<App>, caller: Caller) -> Result<Versioned<Flags>> {
    let (flags, version) = app.store().peek(caller.tenant()?, queries::flags).await?;
    Ok(Versioned(version, Flags { flags }))
}

/// Replaces the tenant's feature flags.
#[utoipa::path(put, path = "/api/v1/flags", tag = "identity", request_body = Flags,
    params(("If-Match" = Option<String>, Header, description = "The `ETag` of the flags that were changed.")),
    responses(
        (status = 200, body = Flags, headers(("ETag" = String, description = "The new version."))),
        (status = 412, description = "They have been changed since."),
    ))]
pub(crate) async fn put_flags(
    State(app): State<App>,
    caller: Caller,
    expected: IfMatch,
    Body(body): Body<Flags>,
) -> Result<Versioned<Flags>> {
    model::check_flags(&body.flags)?;
    let version = app.store().write(caller.call()?, commands::put_flags, (by(&caller), expected, body.flags.clone())).await?;
    Ok(Versioned(version, body))
}

// ---- members and roles ----------------------------------------------------------------------------------------------

/// The members, newest accounts first.
#[utoipa::path(get, path = "/api/v1/members", tag = "identity", params(PagingParams), responses((status = 200, body = Page<Member>)))]
pub(crate) async fn list_members(State(app): State<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<Member>>> {
    let page = paging.request("identity.members")?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), page.limit + 1);
    let members = api::list_members(app.store(), caller.tenant()?, before, limit).await?;
    Ok(Json(paging.page("identity.members", members, |m| m.user.id.as_i64())?))
}

/// A member's new role.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberChange {
    /// A built-in or custom role.
    #[schema(max_length = 40, example = "manager")]
    role: String,
}

/// Gives a member another role, at once.
#[utoipa::path(patch, path = "/api/v1/members/{user}", tag = "identity", request_body = MemberChange,
    params(("user" = UserId, Path, description = "The user.")),
    responses((status = 200, body = Member), (status = 409, description = "It is the last owner.")))]
pub(crate) async fn change_member(
    State(app): State<App>,
    caller: Caller,
    Params(user): Params<UserId>,
    Body(body): Body<MemberChange>,
) -> Result<Json<Member>> {
    let (auth, tenant) = (app.part::<Auth>(), caller.tenant()?);
    let change = ChangeMember { by: by(&caller), known: auth.known().clone(), user, role: body.role };
    app.store().write(caller.call()?, commands::change_member, change).await?;
    auth.raise(app.store(), user.as_i64()).await?;
    let row = app.store().read(tenant, move |read| queries::member(read, user)).await?;
    let member = api::with_users(app.store(), row.into_iter().collect()).await?.pop();
    Ok(Json(member.ok_or_else(|| kernel::Error::not_found("identity.member_not_found", "there is no such member"))?))
}

/// Removes a member, at once: their sessions in this tenant end.
#[utoipa::path(delete, path = "/api/v1/members/{user}", tag = "identity",
    params(("user" = UserId, Path, description = "The user.")),
    responses((status = 204, description = "Removed."), (status = 409, description = "It is the last owner.")))]
pub(crate) async fn remove_member(State(app): State<App>, caller: Caller, Params(user): Params<UserId>) -> Result<StatusCode> {
    let (auth, tenant) = (app.part::<Auth>(), caller.tenant()?);
    let removed = app.store().write(caller.call()?, commands::remove_member, (by(&caller), auth.known().clone(), user)).await;
    // Somebody who is no member any more may have been removed by a request that ended before their sessions did: this finishes it.
    if removed.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::NotFound) {
        app.store().write(caller.platform_call(), commands::leave, (user, tenant)).await?;
        auth.notice(app.store()).await?;
    }
    removed?;
    Ok(StatusCode::NO_CONTENT)
}

/// Roles of a tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct Roles {
    /// The built-in roles, from the mightiest, and then the tenant's own by name; at most 55.
    data: Vec<Role>,
    /// Everything that a custom role or an API key can hold.
    permissions: Vec<&'static str>,
}

/// The roles and what they allow.
#[utoipa::path(get, path = "/api/v1/roles", tag = "identity", responses((status = 200, body = Roles)))]
pub(crate) async fn list_roles(State(app): State<App>, caller: Caller) -> Result<Json<Roles>> {
    let known = app.part::<Auth>().known().clone();
    let permissions = known.tenant().to_vec();
    let data = app.store().read(caller.tenant()?, move |read| queries::roles(read, &known)).await?;
    Ok(Json(Roles { data, permissions }))
}

/// A custom role.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleBody {
    /// For people.
    #[schema(min_length = 1, max_length = 200)]
    description: String,
    /// What it allows: 1 to 256 permissions that the caller holds too.
    #[schema(min_items = 1, max_items = 256)]
    permissions: Vec<String>,
}

/// Makes or replaces a custom role, at once for all who have it.
#[utoipa::path(put, path = "/api/v1/roles/{name}", tag = "identity", request_body = RoleBody,
    params(("name" = String, Path, description = "2 to 40 of a-z, 0-9, _ and -.")),
    responses((status = 204, description = "Stored."), (status = 409, description = "The tenant has too many.")))]
pub(crate) async fn put_role(
    State(app): State<App>,
    caller: Caller,
    Params(name): Params<String>,
    Body(body): Body<RoleBody>,
) -> Result<StatusCode> {
    let (auth, tenant) = (app.part::<Auth>(), caller.tenant()?);
    let put = PutRole { by: by(&caller), known: auth.known().clone(), name, description: body.description, permissions: body.permissions };
    app.store().write(caller.call()?, commands::put_role, put).await?;
    auth.raise(app.store(), tenant.as_i64()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a custom role that nobody has.
#[utoipa::path(delete, path = "/api/v1/roles/{name}", tag = "identity",
    params(("name" = String, Path, description = "The role.")),
    responses((status = 204, description = "Deleted."), (status = 409, description = "Members have it.")))]
pub(crate) async fn delete_role(State(app): State<App>, caller: Caller, Params(name): Params<String>) -> Result<StatusCode> {
    let auth = app.part::<Auth>();
    app.store().write(caller.call()?, commands::delete_role, (by(&caller), auth.known().clone(), name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

// ---- invitations ----------------------------------------------------------------------------------------------------

/// Who is invited, to what.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewInvitation {
    /// The person's address.
    #[schema(max_length = 254)]
    pub(crate) email: String,
    /// A role that the caller may give.
    #[schema(max_length = 40, example = "staff")]
    pub(crate) role: String,
}

/// A new invitation.
#[derive(Serialize, ToSchema)]
pub(crate) struct InvitationMade {
    /// The invitation.
    #[serde(flatten)]
    invitation: InvitationInfo,
    /// To be handed to the invited person; shown this once, and null when the answer is a replay.
    token: Option<String>,
}

/// Invites somebody into `tenant`, which may be another than the caller's when that is the platform's administrator.
pub(super) async fn invite(app: &App, caller: &Caller, tenant: TenantId, new: Keyed<NewInvitation>) -> Outcome<InvitationMade> {
    let auth = app.part::<Auth>();
    let id: InvitationId = app.store().ids().next();
    let text = token::invitation(tenant, id, &token::secret(&**app.rng()));
    let invite = Invite {
        by: by(caller),
        known: auth.known().clone(),
        id,
        email: model::normal_email(&new.body.email)?,
        role: new.body.role,
        token_hash: token::hash(&text),
        valid_ms: auth.config().invitation_ms,
    };
    let call = store::Call::new(tenant).correlation(caller.request_id.clone());
    let Some(key) = new.key else {
        let invitation = app.store().write(call, commands::invite, invite).await?;
        return Ok(InvitationMade { invitation, token: Some(text) });
    };
    // The token is not part of the stored answer: nothing that is kept can be used to join.
    let once = app.store().write_once(call, key, commands::invite, invite).await?;
    if once.replayed {
        caller.mark_replayed();
    }
    Ok(InvitationMade { invitation: once.value, token: (!once.replayed).then_some(text) })
}

/// Invites somebody to join the tenant. The token is shown once.
#[utoipa::path(post, path = "/api/v1/invitations", tag = "identity", request_body = NewInvitation, responses(
    (status = 201, body = InvitationMade),
    (status = 409, description = "Too many open invitations, or the idempotency key was used for something else."),
))]
pub(crate) async fn create_invitation(
    State(app): State<App>,
    caller: Caller,
    new: Keyed<NewInvitation>,
) -> Result<Created<InvitationMade>> {
    let made = invite(&app, &caller, caller.tenant()?, new).await?;
    Ok(Created(format!("/api/v1/invitations/{}", made.invitation.id), made))
}

/// The invitations, newest first.
#[utoipa::path(get, path = "/api/v1/invitations", tag = "identity", params(PagingParams), responses((status = 200, body = Page<InvitationInfo>)))]
pub(crate) async fn list_invitations(State(app): State<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<InvitationInfo>>> {
    let page = paging.request("identity.invitations")?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), page.limit + 1);
    let rows = app.store().read(caller.tenant()?, move |read| queries::invitations(read, before, limit)).await?;
    Ok(Json(paging.page("identity.invitations", rows, |i| i.id.as_i64())?))
}

/// Withdraws an open invitation.
#[utoipa::path(delete, path = "/api/v1/invitations/{invitation}", tag = "identity",
    params(("invitation" = InvitationId, Path, description = "The invitation.")),
    responses((status = 204, description = "Withdrawn.")))]
pub(crate) async fn revoke_invitation(State(app): State<App>, caller: Caller, Params(id): Params<InvitationId>) -> Result<StatusCode> {
    app.store().write(caller.call()?, commands::revoke_invitation, (by(&caller), id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

// ---- API keys -------------------------------------------------------------------------------------------------------

/// A key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it allows: 1 to 256 permissions that the caller holds too.
    #[schema(min_items = 1, max_items = 256)]
    permissions: Vec<String>,
    /// From when on it is refused; never when missing.
    expires_at: Option<Timestamp>,
}

/// A new key.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyMade {
    /// The key, without its secret.
    #[serde(flatten)]
    api_key: ApiKeyInfo,
    /// The credential; shown this once, and null when the answer is a replay.
    #[schema(example = "bos_live_...")]
    key: Option<String>,
}

/// Makes an API key. The credential is shown once.
#[utoipa::path(post, path = "/api/v1/api-keys", tag = "identity", request_body = NewKey, responses(
    (status = 201, body = KeyMade),
    (status = 409, description = "Too many keys, or the idempotency key was used for something else."),
))]
pub(crate) async fn create_api_key(State(app): State<App>, caller: Caller, new: Keyed<NewKey>) -> Result<Created<KeyMade>> {
    let (auth, tenant) = (app.part::<Auth>(), caller.tenant()?);
    let id: ApiKeyId = app.store().ids().next();
    let text = token::api_key(tenant, id, &token::secret(&**app.rng()));
    let key = NewApiKey {
        by: by(&caller),
        known: auth.known().clone(),
        id,
        name: new.body.name,
        key_hash: token::hash(&text),
        permissions: new.body.permissions,
        expires_at: new.body.expires_at,
    };
    // As with invitations, the stored answer of an idempotency key holds no secret.
    let once = app.submit(&caller, new.key, commands::create_api_key, key).await?;
    let made = KeyMade { key: (!once.replayed).then_some(text), api_key: once.value };
    Ok(Created(format!("/api/v1/api-keys/{}", made.api_key.id), made))
}

/// A publishable key to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPublishable {
    /// For people.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// The origins whose pages may use it, such as `https://shop.example`; any when there are none.
    #[serde(default)]
    #[schema(max_items = 20)]
    origins: Vec<String>,
}

/// A new publishable key.
#[derive(Serialize, ToSchema)]
pub(crate) struct PublishableMade {
    /// The key.
    #[serde(flatten)]
    api_key: ApiKeyInfo,
    /// The credential: no secret, so it is shown in lists too.
    #[schema(example = "pk_...")]
    key: String,
}

/// Makes a publishable key: one that is no secret, is carried by a shop's page, and opens the storefront alone. It is listed and revoked as
/// any other key.
#[utoipa::path(post, path = "/api/v1/publishable-keys", tag = "identity", request_body = NewPublishable, responses(
    (status = 201, body = PublishableMade),
    (status = 409, description = "Too many keys, or the idempotency key was used for something else."),
))]
pub(crate) async fn create_publishable_key(
    State(app): State<App>,
    caller: Caller,
    new: Keyed<NewPublishable>,
) -> Result<Created<PublishableMade>> {
    let NewPublishable { name, origins } = new.body;
    let made = NewPublishableKey { by: by(&caller), id: app.store().ids().next(), name, origins };
    let api_key = app.submit(&caller, new.key, commands::create_publishable_key, made).await?.value;
    Ok(Created(format!("/api/v1/api-keys/{}", api_key.id), PublishableMade { key: api_key.prefix.clone(), api_key }))
}

/// The API keys, newest first, without their secrets.
#[utoipa::path(get, path = "/api/v1/api-keys", tag = "identity", params(PagingParams), responses((status = 200, body = Page<ApiKeyInfo>)))]
pub(crate) async fn list_api_keys(State(app): State<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<ApiKeyInfo>>> {
    let page = paging.request("identity.api_keys")?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), page.limit + 1);
    let rows = api::list_api_keys(app.store(), app.part::<Auth>().known(), caller.tenant()?, before, limit).await?;
    Ok(Json(paging.page("identity.api_keys", rows, |k| k.id.as_i64())?))
}

/// Revokes an API key, at once and for ever.
#[utoipa::path(delete, path = "/api/v1/api-keys/{api_key}", tag = "identity",
    params(("api_key" = ApiKeyId, Path, description = "The key's id.")),
    responses((status = 204, description = "Revoked.")))]
pub(crate) async fn revoke_api_key(State(app): State<App>, caller: Caller, Params(id): Params<ApiKeyId>) -> Result<StatusCode> {
    let (auth, tenant) = (app.part::<Auth>(), caller.tenant()?);
    app.store().write(caller.call()?, commands::revoke_api_key, (by(&caller), auth.known().clone(), id)).await?;
    auth.raise(app.store(), tenant.as_i64()).await?;
    Ok(StatusCode::NO_CONTENT)
}

// ---- audit trail ----------------------------------------------------------------------------------------------------

/// Every administrative change in the tenant, newest first.
#[utoipa::path(get, path = "/api/v1/audit-log", tag = "identity", params(PagingParams), responses((status = 200, body = Page<AuditRecord>)))]
pub(crate) async fn audit_log(State(app): State<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<AuditRecord>>> {
    let page = paging.request("identity.audit")?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), page.limit + 1);
    let rows = app.store().read(caller.tenant()?, move |read| queries::audit_log(read, before, limit)).await?;
    Ok(Json(paging.page("identity.audit", rows, |r| r.id.as_i64())?))
}
