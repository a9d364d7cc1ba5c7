//! What takes several steps: signing in, going on, signing out, joining. Hashing a password is no transaction's business, so these are
//! not commands; each step is one, and a crash between two leaves nothing that matters.

use crate::auth::{Auth, session_ended};
use crate::commands::{self, Accept, By, Join, Joining, NewUser, OpenSession, Rotate, Rotated, SetPassword};
use crate::model::{self, SessionId, TenantStatus, UserId, UserStatus};
use crate::queries::{self, TenantInfo, UserRow};
use crate::sql;
use crate::token::{self, Claims};
use kernel::{Error, Result, Scope, TenantId, Timestamp};
use serde::Serialize;
use store::{Call, Store};
use utoipa::ToSchema;

/// What a sign-in or a refresh gives.
#[derive(Clone, Serialize, ToSchema)]
pub struct Tokens {
    /// For the `Authorization: Bearer` header.
    pub access_token: String,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    pub token_type: &'static str,
    /// How long the access token is good, in seconds.
    pub expires_in_s: i64,
    /// Good for one refresh. Used twice it ends the session, since then somebody else has it too.
    pub refresh_token: String,
    /// Until when the refresh token is good.
    pub refresh_expires_at: Timestamp,
    /// The session.
    pub session_id: SessionId,
    /// Who signed in.
    pub user_id: UserId,
    /// The session's tenant; null on the platform.
    pub tenant_id: Option<TenantId>,
}

/// Where a session is wanted.
pub(crate) enum Wanted {
    /// In the only tenant of the user.
    Only,
    /// In this tenant, by slug or id.
    Tenant(String),
    /// On the platform, as its administrator.
    Platform,
}

fn wrong_credentials() -> Error {
    Error::unauthenticated("identity.wrong_credentials", "the e-mail address or the password is wrong")
}

fn not_a_member() -> Error {
    Error::forbidden("identity.not_a_member", "this account has no access there")
}

impl Auth {
    pub(crate) async fn sign_in(&self, store: &Store, call: Call, by: By, email: &str, password: String, wanted: Wanted) -> Result<Tokens> {
        let user = self.check_credentials(store, &call, email, password).await?;
        let tenant = self.choose(store, user.id, wanted).await?;
        let by = By { actor: kernel::Actor { kind: kernel::ActorKind::User, id: user.id.as_i64() }, ..by };
        let session = store.ids().next();
        let family = token::secret(&**self.rng());
        let (refresh_token, refresh) = token::refresh(session, &family, &token::secret(&**self.rng()));
        let open = OpenSession { by, user: user.id, tenant, refresh, idle_ms: self.config().session_idle_ms };
        let (refresh_expires_at, others_ended) = store.write(call, commands::open_session, open).await?;
        if others_ended {
            self.notice(store).await?;
        }
        self.tokens(session, user.id, tenant, user.token_version, refresh_token, refresh_expires_at)
    }

    /// The user, if the password is theirs. Takes as long when there is no such user. `call` is on the platform's scope.
    async fn check_credentials(&self, store: &Store, call: &Call, email: &str, password: String) -> Result<UserRow> {
        let email = model::normal_email(email)?;
        if password.chars().nth(*model::PASSWORD_CHARACTERS.end()).is_some() {
            return Err(Error::field("password", "too_long", "must have at most 256 characters"));
        }
        let hash = token::hash(&email);
        store.write(call.clone(), commands::begin_attempt, hash).await?;
        let user = store.peek(Scope::Platform, move |read| queries::user_by_email(read, &email)).await?;
        let right = self.passwords().verify(password, user.as_ref().map(|u| u.password_hash.clone())).await?;
        match user {
            Some(user) if right && user.status == UserStatus::Active => {
                store.write(call.clone(), commands::clear_attempts, hash).await?;
                Ok(user)
            }
            _ => Err(wrong_credentials()),
        }
    }

    async fn choose(&self, store: &Store, user: UserId, wanted: Wanted) -> Result<Option<TenantId>> {
        match wanted {
            Wanted::Platform => {
                let admin = store.peek(Scope::Platform, move |read| read.opt::<(i64,)>(sql::PLATFORM_ADMIN, (user,))).await?;
                admin.map(|_| None).ok_or_else(not_a_member)
            }
            // An unknown tenant and a foreign one look the same.
            Wanted::Tenant(name) => match self.find_tenant(store, &name).await? {
                Some(tenant) if self.is_member(store, user, tenant).await? => Ok(Some(tenant)),
                _ => Err(not_a_member()),
            },
            Wanted::Only => {
                let mut found = self.tenants_of(store, user).await?;
                match (found.pop(), found.is_empty()) {
                    (None, _) => Err(not_a_member()),
                    (Some(only), true) => Ok(Some(only.id)),
                    (Some(last), false) => {
                        let names: Vec<&str> = found.iter().chain([&last]).map(|t| t.slug.as_str()).take(20).collect();
                        Err(Error::field(
                            "tenant",
                            "required",
                            format!("this account belongs to several tenants; name one of them: {}", names.join(", ")),
                        ))
                    }
                }
            }
        }
    }

    async fn is_member(&self, store: &Store, user: UserId, tenant: TenantId) -> Result<bool> {
        store.peek(tenant, move |read| Ok(queries::member(read, user)?.is_some())).await
    }

    /// The active tenants of a user, by slug.
    pub(crate) async fn tenants_of(&self, store: &Store, user: UserId) -> Result<Vec<TenantInfo>> {
        let mut tenants = Vec::new();
        for tenant in store.peek(Scope::Platform, move |read| queries::user_tenants(read, user)).await? {
            if tenant.status == TenantStatus::Active && self.is_member(store, user, tenant.id).await? {
                tenants.push(tenant);
            }
        }
        Ok(tenants)
    }

    fn tokens(
        &self,
        session: SessionId,
        user: UserId,
        tenant: Option<TenantId>,
        token_version: i64,
        refresh_token: String,
        refresh_expires_at: Timestamp,
    ) -> Result<Tokens> {
        let now = self.now();
        let claims = Claims {
            iss: "brandos".to_owned(),
            sub: user,
            tenant_id: tenant,
            sid: session,
            ver: token_version,
            iat: now.unix_seconds(),
            exp: now.plus_ms(self.config().access_ms).unix_seconds(),
        };
        Ok(Tokens {
            access_token: self.signer().sign(&claims)?,
            token_type: "Bearer",
            expires_in_s: self.config().access_ms / 1000,
            refresh_token,
            refresh_expires_at,
            session_id: session,
            user_id: user,
            tenant_id: tenant,
        })
    }

    pub(crate) async fn refresh(&self, store: &Store, call: Call, refresh_token: &str) -> Result<Tokens> {
        let (presented, family) = token::parse_refresh(refresh_token).ok_or_else(session_ended)?;
        let (text, next) = token::refresh(presented.session, family, &token::secret(&**self.rng()));
        let config = self.config();
        let rotate = Rotate { presented, next: next.current, idle_ms: config.session_idle_ms, longest_ms: config.session_longest_ms };
        match store.write(call, commands::rotate, rotate).await? {
            Rotated::Fresh { user, tenant, token_version, expires_at } => {
                self.tokens(presented.session, user, tenant, token_version, text, expires_at)
            }
            Rotated::Reused => {
                self.notice(store).await?;
                tracing::warn!(session = %presented.session, "a refresh token was used twice; the session is ended");
                Err(Error::unauthenticated(
                    "identity.refresh_reused",
                    "this refresh token was used before, so the session is ended; sign in again",
                ))
            }
            Rotated::Refused => Err(session_ended()),
        }
    }

    pub(crate) async fn sign_out(&self, store: &Store, call: Call, bearer: &str, everywhere: bool) -> Result<()> {
        let no_session = || Error::failed_precondition("identity.no_session", "an API key has no session to sign out of; revoke the key");
        let claims = self.claims(bearer).ok_or_else(no_session)?;
        store.write(call, commands::sign_out, (claims.sub, claims.sid, everywhere)).await?;
        self.notice(store).await
    }

    /// Ends every session of the user, this one too.
    pub(crate) async fn change_password(&self, store: &Store, call: Call, by: By, current: String, new: String) -> Result<()> {
        if by.actor.kind != kernel::ActorKind::User {
            return Err(Error::failed_precondition("identity.no_session", "an API key has no password"));
        }
        let user = UserId::from_i64(by.actor.id);
        let row = store.peek(Scope::Platform, move |read| queries::user(read, user)).await?.ok_or_else(commands::user_not_found)?;
        model::check_password("new_password", &new, &row.email)?;
        self.check_credentials(store, &call, &row.email, current).await?;
        let password_hash = self.passwords().hash(new, self.rng()).await?;
        store.write(call, commands::set_password, SetPassword { by, user, password_hash }).await?;
        self.notice(store).await
    }

    /// Accepts an invitation, with a new account or with an old one and its password. Gives the tenant, the user and the role.
    pub(crate) async fn accept(
        &self,
        store: &Store,
        caller: &web::Caller,
        token: &str,
        name: Option<String>,
        password: String,
    ) -> Result<(TenantId, UserId, String)> {
        let (tenant, id) = token::parse_invitation(token).ok_or_else(commands::invitation_not_found)?;
        let home = store.peek(Scope::Platform, move |read| queries::tenant(read, tenant)).await?;
        home.filter(|t| t.status == TenantStatus::Active).ok_or_else(commands::invitation_not_found)?;
        let row = store.peek(tenant, move |read| queries::invitation(read, id)).await?.ok_or_else(commands::invitation_not_found)?;
        if !token::same(&row.token_hash, &token::hash(token)) || !row.is_open(self.now()) {
            return Err(commands::invitation_not_found());
        }
        let email = row.email.clone();
        let account = store.peek(Scope::Platform, move |read| queries::user_by_email(read, &email)).await?;
        let user = match account {
            // The link may have been forwarded: whoever follows it must own the account.
            Some(_) => Joining::Known(self.check_credentials(store, &caller.platform_call(), &row.email, password).await?.id),
            None => {
                model::check_password("password", &password, &row.email)?;
                let name = name.ok_or_else(|| Error::field("name", "required", "a new account needs a name"))?;
                let name = model::check_name("name", &name, 100)?;
                Joining::New(NewUser { email: row.email.clone(), name, password_hash: self.passwords().hash(password, self.rng()).await? })
            }
        };
        let user = store.write(caller.platform_call(), commands::join, Join { user, tenant }).await?;
        let actor = kernel::Actor { kind: kernel::ActorKind::User, id: user.as_i64() };
        let by = By { actor, platform: false, request_id: Some(caller.request_id.clone()) };
        let call = Call::new(tenant).correlation(caller.request_id.clone());
        let role = store.write(call, commands::accept, Accept { by, known: self.known().clone(), id, user }).await?;
        Ok((tenant, user, role))
    }
}
