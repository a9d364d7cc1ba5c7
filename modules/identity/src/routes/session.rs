//! Signing in and out, going on, and who one is.

use super::by;
use crate::auth::Auth;
use crate::model::UserId;
use crate::queries::{self, ApiKeyInfo, TenantInfo, UserInfo};
use crate::sessions::{Tokens, Wanted};
use axum::Json;
use axum::extract::State;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use kernel::{ActorKind, Error, Scope, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{App, Body, Caller, Result};

/// Who wants to sign in, and where.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// The account's address.
    #[schema(max_length = 254, example = "ann@example.com")]
    email: String,
    /// The account's password.
    #[schema(max_length = 256)]
    password: String,
    /// Slug or id of the tenant. Needed when the account belongs to several and the request does not name one otherwise.
    #[schema(max_length = 64)]
    tenant: Option<String>,
    /// Whether the session is to be the platform administrator's, in no tenant.
    #[serde(default)]
    platform: bool,
}

/// Signs in with e-mail address and password.
#[utoipa::path(post, path = "/api/v1/auth/sign-in", tag = "identity", request_body = SignIn, responses(
    (status = 200, body = Tokens),
    (status = 401, description = "Address or password is wrong, or the account is disabled."),
    (status = 403, description = "The account has no access to this tenant, or to the platform."),
))]
pub(crate) async fn sign_in(State(app): State<App>, caller: Caller, Body(body): Body<SignIn>) -> Result<Json<Tokens>> {
    let named = body.tenant.or_else(|| caller.tenant.map(|t| t.to_string()));
    let wanted = match (body.platform, named) {
        (true, Some(_)) => return Err(Error::field("platform", "conflict", "a session is either in a tenant or on the platform").into()),
        (true, None) => Wanted::Platform,
        (false, Some(name)) => Wanted::Tenant(name),
        (false, None) => Wanted::Only,
    };
    let auth = app.part::<Auth>();
    Ok(Json(auth.sign_in(app.store(), caller.platform_call(), by(&caller), &body.email, body.password, wanted).await?))
}

/// A refresh token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Refresh {
    /// As it came with the last answer.
    #[schema(max_length = 128)]
    refresh_token: String,
}

/// Gives new tokens for a refresh token, which is used up by it.
#[utoipa::path(post, path = "/api/v1/auth/refresh", tag = "identity", request_body = Refresh, responses(
    (status = 200, body = Tokens),
    (status = 401, description = "The session has ended, or the token was used before (which ends it)."),
))]
pub(crate) async fn refresh(State(app): State<App>, caller: Caller, Body(body): Body<Refresh>) -> Result<Json<Tokens>> {
    Ok(Json(app.part::<Auth>().refresh(app.store(), caller.platform_call(), &body.refresh_token).await?))
}

/// How far to sign out.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SignOut {
    /// Ends every session of the user, and not only this one.
    everywhere: bool,
}

/// Ends this session, or all of the user's. Their tokens are refused from the answer on.
#[utoipa::path(post, path = "/api/v1/auth/sign-out", tag = "identity", request_body = Option<SignOut>, responses(
    (status = 204, description = "Signed out."),
    (status = 409, description = "The caller is an API key."),
))]
pub(crate) async fn sign_out(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body<Option<SignOut>>,
) -> Result<StatusCode> {
    let bearer =
        headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.split_once(' ')).map_or("", |(_, token)| token.trim());
    app.part::<Auth>().sign_out(app.store(), caller.platform_call(), bearer, body.unwrap_or_default().everywhere).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is calling, and what they may do.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    /// What kind of caller.
    kind: ActorKind,
    /// The user, if it is one.
    user: Option<UserInfo>,
    /// The API key, if it is one.
    api_key: Option<ApiKeyInfo>,
    /// The tenant; null on the platform.
    tenant: Option<TenantInfo>,
    /// The user's role in the tenant, or `platform_admin`.
    role: Option<String>,
    /// Whether the permissions are the platform's.
    platform: bool,
    /// What the caller may do, sorted.
    permissions: Vec<String>,
}

/// Who is calling.
#[utoipa::path(get, path = "/api/v1/me", tag = "identity", responses((status = 200, body = Me)))]
pub(crate) async fn me(State(app): State<App>, caller: Caller) -> Result<Json<Me>> {
    let (store, actor, platform) = (app.store(), caller.actor, caller.platform);
    let tenant = if platform { None } else { caller.tenant };
    let is_user = actor.kind == ActorKind::User;
    let user = UserId::from_i64(actor.id);
    let (row, info) = store
        .peek(Scope::Platform, move |read| {
            let row = if is_user { queries::user(read, user)? } else { None };
            let tenant = tenant.map(|t| queries::tenant(read, t)).transpose()?.flatten();
            Ok((row, tenant))
        })
        .await?;
    let (mut role, mut api_key) = (platform.then(|| crate::model::PLATFORM_ADMIN.to_owned()), None);
    if let Some(tenant) = tenant {
        let known = app.part::<Auth>().known().clone();
        (role, api_key) = store
            .peek(tenant, move |read| {
                if is_user {
                    return Ok((queries::member(read, user)?.map(|m| m.1), None));
                }
                Ok((None, queries::api_key(read, crate::model::ApiKeyId::from_i64(actor.id), &known)?))
            })
            .await?;
    }
    Ok(Json(Me {
        kind: actor.kind,
        user: row.map(|u| UserInfo { id: u.id, email: u.email, name: u.name }),
        api_key,
        tenant: info,
        role,
        platform,
        permissions: caller.permissions.iter().map(str::to_owned).collect(),
    }))
}

/// The password and its successor.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangePassword {
    /// The password so far.
    #[schema(max_length = 256)]
    current_password: String,
    /// The new one, 10 to 256 characters.
    #[schema(min_length = 10, max_length = 256)]
    new_password: String,
}

/// Changes the caller's password and ends all their sessions, this one too.
#[utoipa::path(post, path = "/api/v1/me/password", tag = "identity", request_body = ChangePassword, responses(
    (status = 204, description = "Changed; sign in again."),
    (status = 409, description = "The caller is an API key."),
))]
pub(crate) async fn change_password(State(app): State<App>, caller: Caller, Body(body): Body<ChangePassword>) -> Result<StatusCode> {
    let auth = app.part::<Auth>();
    auth.change_password(app.store(), caller.platform_call(), by(&caller), body.current_password, body.new_password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// An invitation's token, and who follows it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AcceptInvitation {
    /// As it was handed over by whoever invited.
    #[schema(max_length = 128)]
    token: String,
    /// For a new account: the person's name.
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// The password of the account that the address has already, or that of a new one (10 to 256 characters).
    #[schema(max_length = 256)]
    password: String,
}

/// A new membership.
#[derive(Serialize, ToSchema)]
pub(crate) struct Accepted {
    /// The tenant that was joined.
    tenant_id: TenantId,
    /// Who joined.
    user_id: UserId,
    /// The role there.
    role: String,
}

/// Joins a tenant by an invitation. Sign in afterwards.
#[utoipa::path(post, path = "/api/v1/invitations/accept", tag = "identity", request_body = AcceptInvitation, responses(
    (status = 200, body = Accepted),
    (status = 401, description = "The address has an account, and this is not its password."),
    (status = 409, description = "Already a member, or an account was made for the address at the same moment."),
))]
pub(crate) async fn accept_invitation(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<AcceptInvitation>,
) -> Result<Json<Accepted>> {
    let auth = app.part::<Auth>();
    let (tenant_id, user_id, role) = auth.accept(app.store(), &caller, &body.token, body.name, body.password).await?;
    Ok(Json(Accepted { tenant_id, user_id, role }))
}
