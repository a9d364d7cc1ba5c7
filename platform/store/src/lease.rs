//! Leases: what only one may do at a time, for a while, with a fencing token.
//!
//! A lease says who should be working; the token makes it safe. Clocks differ, processes pause, and two may believe at once that the lease
//! is theirs; but each change of hands raises the token, and [`Tx::require_lease`] refuses, within the transaction of the write itself,
//! whoever comes with an older one. No clock takes part in that.

use crate::call::Call;
use crate::store::Store;
use crate::tx::Tx;
use kernel::{Error, Result, Scope, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;
use tokio::task::JoinHandle;

const ACQUIRE: [&str; 2] = [
    "INSERT INTO store_leases (tenant_id, name, owner, token, until_at) VALUES ($1, $2, $3, 1, $4)
    ON CONFLICT (tenant_id, name) DO UPDATE SET owner = excluded.owner, token = store_leases.token + 1, until_at = excluded.until_at
    WHERE NOT (store_leases.until_at > $5 AND store_leases.owner <> $3) RETURNING token",
    "INSERT INTO store_leases (tenant_id, name, owner, token, until_at) VALUES (0, $1, $2, 1, $3)
    ON CONFLICT (tenant_id, name) DO UPDATE SET owner = excluded.owner, token = store_leases.token + 1, until_at = excluded.until_at
    WHERE NOT (store_leases.until_at > $4 AND store_leases.owner <> $2) RETURNING token",
];
const RENEW: [&str; 2] = [
    "UPDATE store_leases SET until_at = $4 WHERE tenant_id = $1 AND name = $2 AND token = $3",
    "UPDATE store_leases SET until_at = $3 WHERE tenant_id = 0 AND name = $1 AND token = $2",
];
const REQUIRE: [&str; 2] = [
    "UPDATE store_leases SET token = $3 WHERE tenant_id = $1 AND name = $2 AND token = $3",
    "UPDATE store_leases SET token = $2 WHERE tenant_id = 0 AND name = $1 AND token = $2",
];
const FENCE: [&str; 2] = [
    "INSERT INTO store_leases (tenant_id, name, owner, token, until_at) VALUES ($1, $2, 0, $3, 0)
    ON CONFLICT (tenant_id, name) DO UPDATE SET token = excluded.token WHERE store_leases.token <= excluded.token",
    "INSERT INTO store_leases (tenant_id, name, owner, token, until_at) VALUES (0, $1, 0, $2, 0)
    ON CONFLICT (tenant_id, name) DO UPDATE SET token = excluded.token WHERE store_leases.token <= excluded.token",
];

/// The longest name of a lease, in bytes.
const MAX_NAME: usize = 128;

/// A lease that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Higher than that of every holder before.
    pub token: i64,
    /// Until then nobody else gets it, by the store's clock at the time.
    pub until: Timestamp,
}

fn lost() -> Error {
    Error::failed_precondition("store.lease_lost", "another one has this lease by now; nothing was done")
}

fn check(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Error::invalid("store.invalid_lease", format!("a lease's name has 1 to {MAX_NAME} bytes")));
    }
    Ok(())
}

impl Tx<'_> {
    fn in_scope(&self, texts: [&'static str; 2]) -> &'static str {
        if self.scope() == Scope::Platform { texts[1] } else { texts[0] }
    }

    /// Takes a lease of this scope for `ms` milliseconds if nobody has it, its time is over, or `owner` has it already (whose token then rises too).
    /// None when another one has it. Errors: `store.invalid_lease`.
    pub fn acquire_lease(&mut self, name: &str, owner: i64, ms: i64) -> Result<Option<Lease>> {
        check(name)?;
        let (now, until) = (self.now(), self.now().plus_ms(ms));
        let taken: Option<(i64,)> = self.write_opt(self.in_scope(ACQUIRE), (name, owner, until, now))?;
        Ok(taken.map(|(token,)| Lease { token, until }))
    }

    /// Keeps a lease for `ms` more milliseconds from now. Refused with `store.lease_lost` when another one has it.
    pub fn renew_lease(&mut self, name: &str, token: i64, ms: i64) -> Result<()> {
        let until = self.now().plus_ms(ms);
        self.must(self.in_scope(RENEW), (name, token, until), lost)
    }

    /// Gives a lease back. Nothing happens when another one has it.
    pub fn release_lease(&mut self, name: &str, token: i64) -> Result<()> {
        self.exec(self.in_scope(RENEW), (name, token, Timestamp::from_micros(0)))
    }

    /// Lets this command stand only if nobody has taken the lease since `token` was given out: put it before the writes that the lease
    /// protects. Refused with `store.lease_lost`.
    pub fn require_lease(&mut self, name: &str, token: i64) -> Result<()> {
        self.must(self.in_scope(REQUIRE), (name, token), lost)
    }

    /// The same for the token of a lock that is kept elsewhere, such as in Redis: refuses a token that is older than the newest one which has come
    /// by here, with `store.lease_lost`. Errors: `store.invalid_lease`.
    pub fn fence(&mut self, name: &str, token: i64) -> Result<()> {
        check(name)?;
        self.must(self.in_scope(FENCE), (name, token), lost)
    }
}

/// One of several processes that would do what only one of them should: run a scheduler, release what is over. It takes the lease of that
/// name on the platform's scope of the home shard as soon as it can, and keeps it as long as it can.
pub struct Candidate {
    token: Arc<AtomicI64>,
    task: JoinHandle<()>,
    store: Store,
    name: String,
}

impl Candidate {
    /// Stands for election. `owner` tells the processes apart; a lease lasts `ms` milliseconds and is renewed after a third of that.
    pub fn stand(store: Store, name: impl Into<String>, owner: i64, ms: i64) -> Candidate {
        let (token, name) = (Arc::new(AtomicI64::new(0)), name.into());
        let task = tokio::spawn(campaign(store.clone(), name.clone(), owner, ms.max(30), token.clone()));
        Candidate { token, task, store, name }
    }

    /// The token, if this one leads as far as it knows. Two may think so for a while; [`Tx::require_lease`] does not believe the older.
    pub fn leads(&self) -> Option<i64> {
        Some(self.token.load(SeqCst)).filter(|token| *token > 0)
    }

    /// Steps down, so that the next one need not wait until the lease is over.
    pub async fn stop(self) {
        self.task.abort();
        let token = self.token.swap(0, SeqCst);
        if token > 0 {
            let released = |tx: &mut Tx<'_>, (name, token): &(String, i64)| tx.release_lease(name, *token);
            let _ = self.store.write(Scope::Platform, released, (self.name.clone(), token)).await;
        }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn campaign(store: Store, name: String, owner: i64, ms: i64, mine: Arc<AtomicI64>) {
    let pause = Duration::from_millis(ms as u64 / 3);
    let mut held_since = tokio::time::Instant::now();
    loop {
        let token = mine.load(SeqCst);
        let asked = tokio::time::Instant::now();
        let data = (name.clone(), owner, token, ms);
        let turn = |tx: &mut Tx<'_>, (name, owner, token, ms): &(String, i64, i64, i64)| {
            if *token > 0 {
                return tx.renew_lease(name, *token, *ms).map(|()| Some(*token));
            }
            Ok(tx.acquire_lease(name, *owner, *ms)?.map(|lease| lease.token))
        };
        match store.write(Call::new(Scope::Platform).deadline_ms(ms.min(5_000) as u32), turn, data).await {
            Ok(held) => {
                mine.store(held.unwrap_or(0), SeqCst);
                held_since = asked;
            }
            Err(error) if error.code() == "store.lease_lost" => mine.store(0, SeqCst),
            // Nobody can be asked: by its own clock it steps down when the lease is over.
            Err(_) if asked.duration_since(held_since) >= Duration::from_millis(ms as u64) => mine.store(0, SeqCst),
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
    }
}
