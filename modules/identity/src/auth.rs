//! Who a credential belongs to, from memory where it is certain that memory is right.
//!
//! **Never stale.** Every change of who may do what raises the epoch of the user's or the tenant's bucket in `identity_epochs` before it
//! is acknowledged. An entry of the cache remembers the epochs that held before it was loaded, and is used only while they still hold:
//!
//! - On SQLite the one process that serves reads the epochs again after each change of its own, before it answers; so its copy is right.
//!   What another process on the same file does (the command line) shows within [`SQLITE_EPOCH_AGE_MS`].
//! - On PostgreSQL other nodes make changes too. Each request therefore waits for a read of the epochs that began after it came in; the
//!   requests that come in during one such read share the next, so it is one small read a round trip and not one a request.
//!
//! **While the database is away** nobody can learn whether an entry still holds. It is then given as remembered, as it was when the epochs
//! were last read, for [`AWAY_AGE_MS`] after it was loaded: good for what the edge lets remembered callers do, and for nothing else.
//!
//! A change on a tenant's shard and its epoch on the home shard are two transactions. A crash between them leaves a change that was never
//! acknowledged; it shows when it is asked for again, and at the latest when the entry is [`ENTRY_AGE_MS`] old.

use crate::commands::{self, BUCKETS, bucket};
use crate::model::{Known, TenantStatus, UserStatus};
use crate::password::Passwords;
use crate::queries;
use crate::sql;
use crate::token::{self, Claims, Hash, Signer};
use kernel::{Actor, ActorKind, Clock, Error, Result, Rng, Scope, TenantId, Timestamp};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use store::{Engine, Store};
use web::{Authenticator, Credential, Identity, PermissionSet};

/// How old the epochs may be on SQLite, in milliseconds, which only matters for changes by another process.
pub const SQLITE_EPOCH_AGE_MS: i64 = 1000;
/// How old an entry may be, whatever the epochs say, in milliseconds.
pub const ENTRY_AGE_MS: i64 = 600_000;
/// While the database is away: how old an entry may be, in milliseconds.
pub const AWAY_AGE_MS: i64 = 3_600_000;
/// How long a request that could do with a remembered identity waits for the database.
const PATIENCE: Duration = Duration::from_secs(1);
/// While the database is away, one request tries it again after so long, in milliseconds, and nobody else waits for it.
const TRY_AGAIN_MS: u64 = 500;
/// A key's last use is noted when the last note is older than this, in milliseconds.
const USE_NOTED_MS: i64 = 3_600_000;
/// Credentials kept in memory.
const CACHED_IDENTITIES: usize = 50_000;
/// Names of tenants kept in memory.
const CACHED_NAMES: usize = 20_000;

/// How long credentials live, and secrets that are given instead of made.
#[derive(Clone)]
pub struct AuthConfig {
    /// Life of an access token in milliseconds; 10 minutes.
    pub access_ms: i64,
    /// A session ends when it was not refreshed for so long, in milliseconds; 14 days.
    pub session_idle_ms: i64,
    /// A session ends after so long whatever happens, in milliseconds; 90 days.
    pub session_longest_ms: i64,
    /// Life of an invitation in milliseconds; 7 days.
    pub invitation_ms: i64,
    /// Signs access tokens; at least 32 bytes. None: one is made at the first start and kept in the store.
    pub token_secret: Option<Vec<u8>>,
    /// Signs cursors; at least 32 bytes. None: likewise.
    pub cursor_secret: Option<Vec<u8>>,
}

impl Default for AuthConfig {
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 3600 * 1000;
        AuthConfig {
            access_ms: 600_000,
            session_idle_ms: 14 * DAY_MS,
            session_longest_ms: 90 * DAY_MS,
            invitation_ms: 7 * DAY_MS,
            token_secret: None,
            cursor_secret: None,
        }
    }
}

/// The authenticator, and the state of this module's handlers; cheap to clone. The application puts it into the builder twice: as its
/// authenticator and with `part`.
#[derive(Clone)]
pub struct Auth(
    /// Set once, by [`Auth::start`]; empty only in tests, which put the application together before its store is there.
    Arc<OnceLock<Inner>>,
);

struct Inner {
    config: AuthConfig,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    known: Arc<Known>,
    built_in: HashMap<&'static str, Arc<PermissionSet>>,
    platform: Arc<PermissionSet>,
    signer: Signer,
    cursor_secret: Vec<u8>,
    passwords: Passwords,
    epochs: Epochs,
    /// By the credential's hash, so that memory holds no credential and no comparison tells anything.
    identities: quick_cache::sync::Cache<Hash, Arc<Entry>>,
    /// Slugs and ids that exist. They never change and are never taken back, so these entries are right for ever.
    names: quick_cache::sync::Cache<Box<str>, TenantId>,
}

struct Entry {
    identity: Identity,
    stamps: Stamps,
    loaded_at: Timestamp,
    /// From when on the credential itself is no longer good.
    ends_at: Timestamp,
}

/// The buckets that an entry depends on, and their epochs before it was loaded.
type Stamps = [(usize, i64); 2];

impl Auth {
    /// Reads the secrets, making them at the first start. `known` are the permissions of every module.
    pub async fn start(store: &Store, rng: Arc<dyn Rng>, known: Known, config: AuthConfig) -> Result<Auth> {
        let auth = Auth::unstarted();
        auth.fill(store, rng, known, config).await?;
        Ok(auth)
    }

    pub(crate) fn unstarted() -> Auth {
        Auth(Arc::default())
    }

    pub(crate) async fn fill(&self, store: &Store, rng: Arc<dyn Rng>, known: Known, config: AuthConfig) -> Result<()> {
        let token_secret = secret(store, &*rng, "access_tokens", &config.token_secret).await?;
        let cursor_secret = secret(store, &*rng, "cursors", &config.cursor_secret).await?;
        let passwords = Passwords::new(&*rng)?;
        let set = |permissions: &[&str]| Arc::new(permissions.iter().copied().collect::<PermissionSet>());
        let built_in = crate::model::BUILT_IN_ROLES.iter().map(|r| (r.name, set(&known.built_in(r.name).unwrap_or_default())));
        let max_age_ms = match store.engine(0) {
            Engine::Sqlite => SQLITE_EPOCH_AGE_MS,
            Engine::Postgres => 0,
        };
        let inner = Inner {
            built_in: built_in.collect(),
            platform: set(known.platform()),
            clock: store.clock().clone(),
            rng,
            known: Arc::new(known),
            signer: Signer::new(&token_secret),
            cursor_secret,
            passwords,
            epochs: Epochs::new(max_age_ms),
            identities: quick_cache::sync::Cache::new(CACHED_IDENTITIES),
            names: quick_cache::sync::Cache::new(CACHED_NAMES),
            config,
        };
        self.0.set(inner).map_err(|_| Error::internal("the authenticator is started twice"))
    }

    fn inner(&self) -> &Inner {
        self.0.get().expect("the authenticator is started before it is asked")
    }

    /// The secret for [`kernel::CursorKey`], the same on every node.
    pub fn cursor_secret(&self) -> &[u8] {
        &self.inner().cursor_secret
    }

    pub(crate) fn config(&self) -> &AuthConfig {
        &self.inner().config
    }

    pub(crate) fn known(&self) -> &Arc<Known> {
        &self.inner().known
    }

    pub(crate) fn rng(&self) -> &Arc<dyn Rng> {
        &self.inner().rng
    }

    pub(crate) fn passwords(&self) -> &Passwords {
        &self.inner().passwords
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.inner().signer
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inner().clock.now()
    }

    /// Called after a change whose transaction has raised epochs, and before it is acknowledged.
    pub(crate) async fn notice(&self, store: &Store) -> Result<()> {
        self.inner().epochs.read(store, self.now()).await
    }

    /// Called after a change on a tenant's shard, and before it is acknowledged: raises the epoch of this user or tenant.
    pub(crate) async fn raise(&self, store: &Store, id: i64) -> Result<()> {
        store.write(Scope::Platform, commands::raise_epoch, id).await?;
        self.notice(store).await
    }

    async fn identify(&self, store: &Store, text: &str) -> Result<Identity> {
        if text.len() > token::MAX_CREDENTIAL {
            return Err(invalid_token());
        }
        let key = token::hash(text);
        let inner = self.inner();
        let now = self.now();
        if let Some(entry) = inner.identities.get(&key) {
            match inner.epochs.freshen_or_away(store, now).await {
                Ok(()) if entry.holds(now, &inner.epochs, ENTRY_AGE_MS) => return Ok(entry.identity.clone()),
                Ok(()) => {}
                Err(error) if error.code() == "store.unavailable" && entry.holds(now, &inner.epochs, AWAY_AGE_MS) => {
                    return Ok(Identity { remembered: true, ..entry.identity.clone() });
                }
                Err(error) => return Err(error),
            }
        } else if inner.epochs.known_away(now) {
            return Err(away());
        }
        let named = token::parse_api_key(text).or_else(|| token::parse_publishable_key(text));
        let entry = match named {
            Some((tenant, id)) => self.load_api_key(store, tenant, id, key).await?,
            None => self.load_session(store, text).await?,
        };
        let identity = entry.identity.clone();
        inner.identities.insert(key, Arc::new(entry));
        Ok(identity)
    }

    async fn load_session(&self, store: &Store, text: &str) -> Result<Entry> {
        let claims = self.inner().signer.verify(text).ok_or_else(invalid_token)?;
        let now = self.now();
        let ends_at = Timestamp::from_micros(claims.exp.saturating_mul(1_000_000));
        if ends_at <= now {
            return Err(Error::unauthenticated("identity.token_expired", "the access token has expired; refresh it"));
        }
        let stamps = self.stamps(store, now, claims.sub.as_i64(), claims.tenant_id).await?;
        let session = claims.sid;
        let access = store.peek(Scope::Platform, move |read| queries::session_access(read, session)).await?.ok_or_else(session_ended)?;
        let same = access.user == claims.sub && access.tenant == claims.tenant_id && access.token_version == claims.ver;
        if !same || access.revoked_at.is_some() || access.expires_at <= now || access.user_status != UserStatus::Active {
            return Err(session_ended());
        }
        let permissions = match access.tenant {
            None if access.platform_admin => self.inner().platform.clone(),
            None => return Err(session_ended()),
            Some(tenant) => {
                must_be_active(access.tenant_status)?;
                let (user, known) = (access.user, self.inner().known.clone());
                let member = store.peek(tenant, move |read| queries::member_access(read, user, &known)).await?.ok_or_else(session_ended)?;
                let built_in = self.inner().built_in.get(member.role.as_str()).cloned();
                built_in.unwrap_or_else(|| Arc::new(member.permissions.into_iter().collect()))
            }
        };
        let actor = Actor { kind: ActorKind::User, id: access.user.as_i64() };
        let plan = access.plan.map(|plan| plan.word());
        let identity = Identity {
            actor,
            tenant: access.tenant,
            permissions,
            platform: access.tenant.is_none(),
            plan,
            publishable: None,
            remembered: false,
        };
        Ok(Entry { identity, stamps, loaded_at: now, ends_at })
    }

    async fn load_api_key(&self, store: &Store, tenant: TenantId, id: crate::model::ApiKeyId, hash: Hash) -> Result<Entry> {
        let now = self.now();
        let stamps = self.stamps(store, now, tenant.as_i64(), Some(tenant)).await?;
        let home = store.peek(Scope::Platform, move |read| queries::tenant(read, tenant)).await?.ok_or_else(invalid_token)?;
        let known = self.inner().known.clone();
        let access = store.peek(tenant, move |read| queries::api_key_access(read, id, &known)).await?.ok_or_else(invalid_token)?;
        if !token::same(&access.key_hash, &hash) {
            return Err(invalid_token());
        }
        let ends_at = access.expires_at.unwrap_or(Timestamp::from_micros(i64::MAX));
        if access.revoked_at.is_some() || ends_at <= now {
            return Err(api_key_ended());
        }
        must_be_active(Some(home.status))?;
        if access.last_used_at.is_none_or(|at| now.ms_since(at) >= USE_NOTED_MS) {
            let store = store.clone();
            tokio::spawn(async move {
                if let Err(error) = store.write(tenant, commands::api_key_used, id).await {
                    tracing::debug!(%error, "the use of an API key was not noted");
                }
            });
        }
        let actor = Actor { kind: ActorKind::ApiKey, id: id.as_i64() };
        let publishable = access.publishable.map(Arc::from);
        let permissions: PermissionSet =
            if publishable.is_some() { [web::STOREFRONT].into_iter().collect() } else { access.permissions.into_iter().collect() };
        let (permissions, plan) = (Arc::new(permissions), Some(home.plan.word()));
        Ok(Entry {
            identity: Identity { actor, tenant: Some(tenant), permissions, platform: false, plan, publishable, remembered: false },
            stamps,
            loaded_at: now,
            ends_at,
        })
    }

    /// What a user or an API key may do in a tenant now: what its credential would be worth, if it still has one.
    async fn allowed_now(&self, store: &Store, actor: Actor, tenant: TenantId) -> Result<Identity> {
        let home = store.peek(Scope::Platform, move |read| queries::tenant(read, tenant)).await?.ok_or_else(invalid_token)?;
        must_be_active(Some(home.status))?;
        let known = self.inner().known.clone();
        let permissions: Vec<&'static str> = match actor.kind {
            ActorKind::ApiKey => {
                let (id, now) = (crate::model::ApiKeyId::from_i64(actor.id), self.now());
                let access = store.peek(tenant, move |read| queries::api_key_access(read, id, &known)).await?;
                let stands = |access: &queries::ApiKeyAccess| access.revoked_at.is_none() && access.expires_at.is_none_or(|at| at > now);
                let access = access.filter(stands).ok_or_else(api_key_ended)?;
                if access.publishable.is_some() { vec![web::STOREFRONT] } else { access.permissions }
            }
            ActorKind::User => {
                let id = crate::model::UserId::from_i64(actor.id);
                let user = store.peek(Scope::Platform, move |read| queries::user(read, id)).await?;
                if user.is_none_or(|user| user.status != UserStatus::Active) {
                    return Err(session_ended());
                }
                let member = store.peek(tenant, move |read| queries::member_access(read, id, &known)).await?;
                member.ok_or_else(session_ended)?.permissions
            }
            ActorKind::System => return Err(Error::internal("the system asks for nothing over HTTP")),
        };
        let permissions = Arc::new(permissions.into_iter().collect());
        let plan = Some(home.plan.word());
        Ok(Identity { actor, tenant: Some(tenant), permissions, platform: false, plan, publishable: None, remembered: false })
    }

    async fn stamps(&self, store: &Store, now: Timestamp, first: i64, tenant: Option<TenantId>) -> Result<Stamps> {
        self.inner().epochs.freshen(store, now).await?;
        let stamp = |id: i64| (bucket(id), self.inner().epochs.of(bucket(id)));
        Ok([stamp(first), stamp(tenant.map_or(first, TenantId::as_i64))])
    }

    /// The claims of a genuine access token, whether or not its session still stands.
    pub(crate) fn claims(&self, token: &str) -> Option<Claims> {
        self.inner().signer.verify(token)
    }

    /// The tenant with this slug or id.
    pub(crate) async fn find_tenant(&self, store: &Store, name: &str) -> Result<Option<TenantId>> {
        if let Some(tenant) = self.inner().names.get(name) {
            return Ok(Some(tenant));
        }
        let found = match name.parse::<TenantId>() {
            Ok(id) => store.peek(Scope::Platform, move |read| queries::tenant(read, id)).await?,
            Err(_) if crate::model::check_slug(name).is_err() => None,
            Err(_) => {
                let slug = name.to_owned();
                store.peek(Scope::Platform, move |read| queries::tenant_by_slug(read, &slug)).await?
            }
        };
        let Some(tenant) = found else { return Ok(None) };
        self.inner().names.insert(name.into(), tenant.id);
        Ok(Some(tenant.id))
    }
}

impl Authenticator for Auth {
    fn authenticate<'a>(
        &'a self,
        store: &'a Store,
        credential: Credential<'a>,
        _tenant: Option<TenantId>,
    ) -> Pin<Box<dyn Future<Output = Result<Identity>> + Send + 'a>> {
        // A credential allows what it allows in its own tenant; the edge refuses it in any other.
        let Credential::Bearer(text) = credential;
        Box::pin(self.identify(store, text))
    }

    fn actor_now<'a>(
        &'a self,
        store: &'a Store,
        actor: Actor,
        tenant: TenantId,
    ) -> Pin<Box<dyn Future<Output = Result<Identity>> + Send + 'a>> {
        Box::pin(self.allowed_now(store, actor, tenant))
    }

    fn tenant_by_name<'a>(
        &'a self,
        store: &'a Store,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<Option<TenantId>>> + Send + 'a>> {
        Box::pin(self.find_tenant(store, name))
    }
}

impl Entry {
    fn holds(&self, now: Timestamp, epochs: &Epochs, age_ms: i64) -> bool {
        // Of either sign: a clock that was set back must not keep an entry.
        let young = now.ms_since(self.loaded_at).unsigned_abs() < age_ms as u64;
        young && now < self.ends_at && self.stamps.iter().all(|(bucket, epoch)| epochs.of(*bucket) == *epoch)
    }
}

/// A moment that has not been.
const NEVER: i64 = i64::MIN;

/// This process's copy of `identity_epochs`.
struct Epochs {
    /// 0: each request waits for a read that began after it came in.
    max_age_ms: i64,
    buckets: [AtomicI64; BUCKETS],
    /// When the last read that succeeded began, in microseconds.
    read_at: AtomicI64,
    /// When reading failed and was not tried again since, in microseconds; [`NEVER`] while it succeeds.
    failed_at: AtomicI64,
    /// Reads begun so far.
    begun: AtomicU64,
    /// The number of the last read that succeeded. Held while reading: reads come one after another.
    done: tokio::sync::Mutex<u64>,
}

impl Epochs {
    fn new(max_age_ms: i64) -> Epochs {
        Epochs {
            max_age_ms,
            buckets: [const { AtomicI64::new(0) }; BUCKETS],
            read_at: AtomicI64::new(NEVER),
            failed_at: AtomicI64::new(NEVER),
            begun: AtomicU64::new(0),
            done: tokio::sync::Mutex::new(0),
        }
    }

    fn of(&self, bucket: usize) -> i64 {
        self.buckets[bucket].load(SeqCst)
    }

    async fn freshen(&self, store: &Store, now: Timestamp) -> Result<()> {
        let read_at = self.read_at.load(SeqCst);
        if read_at != NEVER && now.ms_since(Timestamp::from_micros(read_at)).unsigned_abs() < self.max_age_ms as u64 {
            return Ok(());
        }
        self.read(store, now).await
    }

    /// Whether the database was away a moment ago.
    fn known_away(&self, now: Timestamp) -> bool {
        let failed_at = self.failed_at.load(SeqCst);
        failed_at != NEVER && now.ms_since(Timestamp::from_micros(failed_at)).unsigned_abs() < TRY_AGAIN_MS
    }

    /// The same for who can do with less when the database is away: waits for one that answers nobody no longer than [`PATIENCE`], and while it is known to be
    /// away not at all, but for one request now and then that finds out whether it is back. Errors: `store.unavailable`.
    async fn freshen_or_away(&self, store: &Store, now: Timestamp) -> Result<()> {
        if self.known_away(now) {
            return Err(away());
        }
        if self.failed_at.load(SeqCst) != NEVER {
            // Those who come meanwhile do without.
            self.failed_at.store(now.micros(), SeqCst);
        }
        let mut freshening = std::pin::pin!(self.freshen(store, now));
        let freshened = loop {
            match tokio::time::timeout(PATIENCE, &mut freshening).await {
                Ok(freshened) => break freshened,
                // It answers others: it is busy, and this one waits on.
                Err(_) if store.answered_within(PATIENCE) => {}
                Err(_) => break Err(away()),
            }
        };
        match &freshened {
            Ok(()) => self.failed_at.store(NEVER, SeqCst),
            Err(error) if error.code() == "store.unavailable" => self.failed_at.store(now.micros(), SeqCst),
            Err(_) => {}
        }
        freshened
    }

    /// Returns after a read that began after this was called; the callers that come during one share the next.
    async fn read(&self, store: &Store, now: Timestamp) -> Result<()> {
        let mine = self.begun.load(SeqCst) + 1;
        let mut done = self.done.lock().await;
        if *done >= mine {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, SeqCst) + 1;
        let rows = store.peek_statement::<(i64, i64)>(sql::EPOCHS, ()).await?;
        for (bucket, epoch) in rows {
            if let Some(slot) = usize::try_from(bucket).ok().and_then(|b| self.buckets.get(b)) {
                slot.store(epoch, SeqCst);
            }
        }
        self.read_at.store(now.micros(), SeqCst);
        *done = number;
        Ok(())
    }
}

fn away() -> Error {
    Error::unavailable("store.unavailable", "the database is away; nothing was done").retry_after_ms(1_000)
}

async fn secret(store: &Store, rng: &dyn Rng, name: &'static str, given: &Option<Vec<u8>>) -> Result<Vec<u8>> {
    match given {
        Some(secret) if secret.len() < 32 => {
            Err(Error::invalid("config.invalid", format!("the secret for {name} must have at least 32 bytes")))
        }
        Some(secret) => Ok(secret.clone()),
        None => {
            let mut fresh = [0; 32];
            rng.fill(&mut fresh);
            store.write(Scope::Platform, commands::secret, (name, fresh)).await
        }
    }
}

fn must_be_active(status: Option<TenantStatus>) -> Result<()> {
    match status {
        Some(TenantStatus::Active) => Ok(()),
        _ => Err(Error::forbidden("identity.tenant_suspended", "this tenant is suspended or closed; ask the platform's administrator")),
    }
}

fn api_key_ended() -> Error {
    Error::unauthenticated("identity.api_key_ended", "the API key was revoked or has expired")
}

pub(crate) fn invalid_token() -> Error {
    Error::unauthenticated("identity.invalid_token", "this is not an access token or API key of ours")
}

pub(crate) fn session_ended() -> Error {
    Error::unauthenticated("identity.session_ended", "the session has ended; sign in again")
}
