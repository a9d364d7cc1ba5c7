//! Locks on Redis: so that two processes don't do the same work twice. For efficiency, not for safety.
//!
//! A holder that pauses for longer than the lock lives goes on believing that it has it, and a Redis that fails over may forget it. So what must
//! not happen twice is not guarded by a lock: it is guarded where it is written, by a version, or by the lock's token and
//! `store::Tx::fence`, or best by a lease in the store itself (`docs/traffic.md`, "Locks").
//!
//! One lock on one Redis is handed out in the order of asking, each waiter with its own deadline; whoever stops asking loses its turn.
//! [`Redlock`] asks several independent servers, of which most have to agree.

use crate::link::Link;
use kernel::{Error, Result, Rng};
use redis::Script;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A waiter that has not asked for so long has gone.
const ABSENT_MS: u64 = 1_000;
/// How often a waiter asks.
const ASK: Duration = Duration::from_millis(20);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Gives the lock to whoever is first in the queue. KEYS: lock, queue, seen, count. ARGV: id, life in ms, absence in ms.
/// The token is above that of every holder before: also when Redis was emptied, as long as its clock was not set back.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[3])) do
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', KEYS[3], id)
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
if redis.call('EXISTS', KEYS[1]) == 0 and (not first or first == ARGV[1]) then
  local token = tonumber(redis.call('GET', KEYS[4]) or '0') + 1
  local micros = time[1] * 1000000 + time[2]
  if token < micros then token = micros end
  redis.call('SET', KEYS[4], string.format('%.0f', token))
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZREM', KEYS[3], ARGV[1])
  return string.format('%.0f', token)
end
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
  redis.call('ZADD', KEYS[2], (last or 0) + 1, ARGV[1])
end
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('PEXPIRE', KEYS[2], 60000)
redis.call('PEXPIRE', KEYS[3], 60000)
return false";
const EXTEND: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0";
/// KEYS: lock, queue, seen. Gives back the lock, or the place in the queue.
const LEAVE: &str = r"
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// Locks on one Redis; cheap to clone.
#[derive(Clone)]
pub struct RedisLocks {
    link: Arc<Link>,
    scripts: Arc<Scripts>,
    namespace: Arc<str>,
    rng: Arc<dyn Rng>,
}

struct Scripts {
    take: Script,
    extend: Script,
    leave: Script,
}

/// A lock that is held. Dropping it gives it back.
pub struct Held {
    token: i64,
    state: Arc<State>,
    watchdog: JoinHandle<()>,
    give_back: Option<GiveBack>,
}

type GiveBack = Box<dyn FnOnce() + Send + Sync>;

#[derive(Default)]
struct State {
    lost: AtomicBool,
    told: Notify,
}

impl State {
    fn lose(&self) {
        self.lost.store(true, SeqCst);
        self.told.notify_waiters();
    }
}

fn timed_out(name: &str) -> Error {
    Error::unavailable("lock.timeout", format!("the lock {name} was not free in time")).retry_after_ms(1000)
}

fn away() -> Error {
    Error::unavailable("lock.away", "the Redis of the locks is away; nothing was locked").retry_after_ms(1000)
}

/// A random name of one who asks.
fn identity(rng: &dyn Rng) -> String {
    let mut id = [0; 16];
    rng.fill(&mut id);
    format!("{:032x}", u128::from_le_bytes(id))
}

impl RedisLocks {
    /// Locks whose keys begin with `namespace`. Errors: `lock.invalid_redis`.
    pub async fn open(url: &str, namespace: &str, rng: Arc<dyn Rng>) -> Result<RedisLocks> {
        let link = Link::open(url, PATIENCE).await.map_err(|error| {
            Error::invalid("lock.invalid_redis", "the URL of Redis is not of the form redis://host:port/").caused_by(error)
        })?;
        let scripts = Scripts { take: Script::new(TAKE), extend: Script::new(EXTEND), leave: Script::new(LEAVE) };
        Ok(RedisLocks { link, scripts: Arc::new(scripts), namespace: namespace.into(), rng })
    }

    fn keys(&self, name: &str) -> [String; 4] {
        // One slot of a Redis Cluster.
        ["", ":queue", ":seen", ":count"].map(|part| format!("{{{}:lock:{name}}}{part}", self.namespace))
    }

    /// Takes the lock, waiting for at most `wait` behind those who asked before. It lives for `life` and is extended after each third of
    /// that, as long as it is held and this process runs. Errors: unavailable with `lock.timeout` or `lock.away`.
    pub async fn lock(&self, name: &str, life: Duration, wait: Duration) -> Result<Held> {
        let (keys, id, until) = (self.keys(name), identity(&*self.rng), Instant::now() + wait);
        // Gives up its place also when it is dropped while it waits.
        let mut place = Place { locks: self.clone(), keys: keys.clone(), id: id.clone(), armed: true };
        loop {
            let mut call = self.scripts.take.prepare_invoke();
            call.key(&keys[..]).arg(&id).arg(life.as_millis().max(1) as u64).arg(ABSENT_MS);
            let answer = self.link.ask(|mut connection| async move { call.invoke_async::<Option<String>>(&mut connection).await }).await;
            match answer {
                Some(Some(token)) => {
                    place.armed = false;
                    let token = token.parse().map_err(|error| Error::internal("a token is no number").caused_by(error))?;
                    return Ok(self.held(keys, id, token, life));
                }
                Some(None) if Instant::now() + ASK >= until => return Err(timed_out(name)),
                Some(None) => tokio::time::sleep(ASK).await,
                None => return Err(away()),
            }
        }
    }

    fn held(&self, keys: [String; 4], id: String, token: i64, life: Duration) -> Held {
        let state = Arc::new(State::default());
        let (locks, lock, holder, told) = (self.clone(), keys[0].clone(), id.clone(), state.clone());
        let watchdog = tokio::spawn(async move {
            let mut sure_until = Instant::now() + life;
            loop {
                tokio::time::sleep(life / 3).await;
                let asked = Instant::now();
                let mut call = locks.scripts.extend.prepare_invoke();
                call.key(&lock).arg(&holder).arg(life.as_millis() as u64);
                match locks.link.ask(|mut connection| async move { call.invoke_async::<i64>(&mut connection).await }).await {
                    Some(1) => sure_until = asked + life,
                    Some(_) => return told.lose(),
                    None if Instant::now() >= sure_until => return told.lose(),
                    None => {}
                }
            }
        });
        let locks = self.clone();
        let give_back = Box::new(move || locks.leave(keys, id));
        Held { token, state, watchdog, give_back: Some(give_back) }
    }

    fn leave(&self, keys: [String; 4], id: String) {
        let this = self.clone();
        let leaving = async move {
            let mut call = this.scripts.leave.prepare_invoke();
            call.key(&keys[..3]).arg(&id);
            let _ = this.link.ask(|mut connection| async move { call.invoke_async::<i64>(&mut connection).await }).await;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(leaving);
        }
    }
}

struct Place {
    locks: RedisLocks,
    keys: [String; 4],
    id: String,
    armed: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.armed {
            self.locks.leave(self.keys.clone(), std::mem::take(&mut self.id));
        }
    }
}

impl Held {
    /// The fencing token, for `store::Tx::fence`: higher than that of every holder before.
    pub fn token(&self) -> i64 {
        self.token
    }

    /// Whether it is known that another one may have the lock by now. False proves nothing.
    pub fn is_lost(&self) -> bool {
        self.state.lost.load(SeqCst)
    }

    /// Done when the lock is lost.
    pub async fn lost(&self) {
        loop {
            let told = self.state.told.notified();
            if self.is_lost() {
                return;
            }
            told.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.watchdog.abort();
        if let Some(give_back) = self.give_back.take() {
            give_back();
        }
    }
}

/// One lock over several independent Redis servers (Redlock, as Redis documents it): it is held while most of them agree, so that one may
/// be lost. It still believes clocks, and a paused holder; see this module's first lines.
#[derive(Clone)]
pub struct Redlock {
    servers: Arc<[RedisLocks]>,
}

const TAKE_ONE: &str = r"
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return redis.call('GET', KEYS[2]) or '0' end
return false";
const RAISE: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if tonumber(redis.call('GET', KEYS[2]) or '0') < tonumber(ARGV[2]) then redis.call('SET', KEYS[2], ARGV[2]) end
return 1";

impl Redlock {
    /// Over these servers, an odd number of them. Errors: `lock.invalid_redis`.
    pub async fn open(urls: &[String], namespace: &str, rng: Arc<dyn Rng>) -> Result<Redlock> {
        let mut servers = Vec::new();
        for url in urls {
            servers.push(RedisLocks::open(url, namespace, rng.clone()).await?);
        }
        if servers.is_empty() || servers.len() > 15 {
            return Err(Error::invalid("lock.invalid_redis", "from 1 to 15 Redis servers"));
        }
        Ok(Redlock { servers: servers.into() })
    }

    /// Asks each of them; how many say yes, and their answers.
    async fn each<T, F>(&self, ask: impl Fn(RedisLocks) -> F) -> Vec<T>
    where
        F: Future<Output = Option<T>>,
    {
        let asked = self.servers.iter().cloned().map(ask);
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Takes the lock if most servers give it, trying again until `wait` is over. It is not extended: it lives for `life`, less what asking took
    /// and what clocks may differ. Errors: unavailable with `lock.timeout`.
    pub async fn lock(&self, name: &str, life: Duration, wait: Duration) -> Result<Held> {
        let until = Instant::now() + wait;
        let most = self.servers.len() / 2 + 1;
        let take = Arc::new(Script::new(TAKE_ONE));
        let raise = Arc::new(Script::new(RAISE));
        let life_ms = life.as_millis().max(1) as u64;
        loop {
            let began = Instant::now();
            // Another name for each attempt: what the one before gives back late is not this one's.
            let id = identity(&*self.servers[0].rng);
            let counts: Vec<i64> = self
                .each(|server| {
                    let (take, id, keys) = (take.clone(), id.clone(), server.keys(name));
                    async move {
                        let mut call = take.prepare_invoke();
                        call.key(&keys[0]).key(&keys[3]).arg(&id).arg(life_ms);
                        let answer = server.link.ask(|mut c| async move { call.invoke_async::<Option<String>>(&mut c).await }).await;
                        answer.flatten().and_then(|count| count.parse().ok())
                    }
                })
                .await;
            if counts.len() >= most {
                // Above every count of most servers, and written back to most: any other majority shares one with it.
                let token = counts.iter().max().copied().unwrap_or(0) + 1;
                let raised: Vec<()> = self
                    .each(|server| {
                        let (raise, id, keys) = (raise.clone(), id.clone(), server.keys(name));
                        async move {
                            let mut call = raise.prepare_invoke();
                            call.key(&keys[0]).key(&keys[3]).arg(&id).arg(token);
                            let raised = server.link.ask(|mut c| async move { call.invoke_async::<i64>(&mut c).await }).await;
                            (raised == Some(1)).then_some(())
                        }
                    })
                    .await;
                let drift = life / 100 + Duration::from_millis(2);
                let left = life.checked_sub(began.elapsed() + drift).filter(|left| !left.is_zero());
                if let (true, Some(left)) = (raised.len() >= most, left) {
                    let state = Arc::new(State::default());
                    let told = state.clone();
                    let watchdog = tokio::spawn(async move {
                        tokio::time::sleep(left).await;
                        told.lose();
                    });
                    let (this, name) = (self.clone(), name.to_owned());
                    let give_back = Box::new(move || this.leave(&name, &id));
                    return Ok(Held { token, state, watchdog, give_back: Some(give_back) });
                }
            }
            self.leave(name, &id);
            // A random pause, so that two who split the servers between them don't do so again.
            let pause = Duration::from_millis(10 + self.servers[0].rng.below(40));
            if Instant::now() + pause >= until {
                return Err(timed_out(name));
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn leave(&self, name: &str, id: &str) {
        self.servers.iter().for_each(|server| server.leave(server.keys(name), id.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    //! A million histories of a lock, its holders and the store that they write to, with everything that goes wrong: pauses, expiry, a
    //! lock service that fails over and forgets, clocks that jump. Pure simulation.

    use kernel::{Rng as _, SeededRng};

    /// Who keeps the lock.
    #[derive(Clone, Copy, PartialEq)]
    enum Keeper {
        /// The store itself: its token is part of its transactions, and is never lost.
        Store,
        /// A Redis: expires by its own clock, and forgets lock and count when it fails over. Its tokens are at least its clock's microseconds.
        Redis,
    }

    #[derive(Clone, Copy, Default)]
    struct Worker {
        /// The token of the lock that it believes to hold, 0 without.
        token: u64,
        /// Until when it believes so, by its own clock.
        until: u64,
        /// How far its clock is from the true one.
        skew: i64,
        /// It does nothing before.
        asleep_until: u64,
        /// A write that is on its way: arrives then, under this token.
        in_flight: Option<(u64, u64)>,
    }

    #[derive(Default)]
    struct Tally {
        writes: u64,
        refused: u64,
        /// Writes that were accepted although one under a newer lock had been.
        stale: u64,
        overlaps: u64,
    }

    /// One history of sixty steps. Each granting of the lock has a number that only the simulation knows: a write of an earlier grant after one
    /// of a later grant is stale.
    fn history(rng: &SeededRng, keeper: Keeper, fenced: bool, tally: &mut Tally) {
        let mut workers = [Worker::default(); 3];
        workers.iter_mut().for_each(|worker| worker.skew = rng.below(2_000) as i64 - 1_000);
        let mut now = 1_000_000_u64;
        let (mut holder, mut expires, mut count) = (None::<usize>, 0_u64, 0_u64);
        // What the store has seen: the newest token, and the newest grant.
        let (mut fence, mut newest) = (0_u64, 0_u64);
        let mut grants: Vec<(u64, u64)> = Vec::new();
        let mut keeper_skew = 0_i64;
        for _ in 0..60 {
            now += 1 + rng.below(300);
            match rng.below(30) {
                // The keeper's clock is set, by seconds. Redis's tokens follow its clock, so only forwards there (docs say so).
                0 if keeper == Keeper::Store => keeper_skew = rng.below(4_000) as i64 - 2_000,
                0 => keeper_skew += rng.below(2_000) as i64,
                1 if keeper == Keeper::Redis => (holder, count) = (None, 0),
                _ => {}
            }
            let keeper_now = now.saturating_add_signed(keeper_skew);
            if keeper_now >= expires {
                holder = None;
            }
            let at = rng.below(3) as usize;
            // Writes that arrive now.
            for worker in &mut workers {
                let Some((_, token)) = worker.in_flight.filter(|(arrives, _)| *arrives <= now) else { continue };
                worker.in_flight = None;
                let accepted = !fenced
                    || match keeper {
                        // `require_lease`: the newest that was given out.
                        Keeper::Store => token == count,
                        // `fence`: the newest that came by.
                        Keeper::Redis => token >= fence,
                    };
                if !accepted {
                    tally.refused += 1;
                    continue;
                }
                tally.writes += 1;
                fence = fence.max(token);
                let grant = grants.iter().rev().find(|(_, given)| *given == token).map_or(0, |(grant, _)| *grant);
                if grant < newest {
                    tally.stale += 1;
                }
                newest = newest.max(grant);
            }
            let worker = &mut workers[at];
            if worker.asleep_until > now {
                continue;
            }
            let own_now = now.saturating_add_signed(worker.skew);
            if worker.token > 0 && own_now < worker.until {
                match rng.below(6) {
                    0 => worker.asleep_until = now + rng.below(3_000),
                    1 if holder == Some(at) => {
                        holder = None;
                        worker.token = 0;
                    }
                    // It looked at its clock, and writes; the network takes its time.
                    _ if worker.in_flight.is_none() => worker.in_flight = Some((now + rng.below(1_500), worker.token)),
                    _ => {}
                }
            } else if holder.is_none() {
                count = match keeper {
                    Keeper::Store => count + 1,
                    Keeper::Redis => (count + 1).max(keeper_now * 1_000),
                };
                holder = Some(at);
                expires = keeper_now + 500;
                (worker.token, worker.until) = (count, own_now + 500);
                grants.push((grants.len() as u64 + 1, count));
            }
            let believe = workers.iter().filter(|w| w.token > 0 && now.saturating_add_signed(w.skew) < w.until).count();
            tally.overlaps += u64::from(believe > 1);
        }
    }

    /// A million in the long form (`BRANDOS_TEST_HISTORIES=1000000`).
    #[test]
    fn no_stale_write_passes_a_fence() {
        let histories = std::env::var("BRANDOS_TEST_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(40_000_u64);
        for (seed, keeper) in [(1, Keeper::Store), (2, Keeper::Redis)] {
            let run = |fenced: bool, histories: u64| {
                let (rng, mut tally) = (SeededRng::new(seed), Tally::default());
                (0..histories).for_each(|_| history(&rng, keeper, fenced, &mut tally));
                tally
            };
            let fenced = run(true, histories);
            assert_eq!(fenced.stale, 0, "of {} writes", fenced.writes);
            assert!(
                fenced.refused > histories / 10 && fenced.overlaps > histories / 10 && fenced.writes > histories,
                "it went wrong often enough"
            );
            let bare = run(false, histories / 10);
            assert!(bare.stale > histories / 1_000, "without the fence the same histories go wrong: {}", bare.stale);
        }
    }
}
