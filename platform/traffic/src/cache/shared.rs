//! Redis behind the caches: values with the versions of their tags, one load over all nodes, and the carrier of the invalidation bus.
//!
//! A value is good as long as the versions of its tags, read before it was loaded, are those of now. They are counters on the first Redis,
//! raised in one transaction with the message on the bus. Which run of that Redis they belong to stands with the value: one that was
//! started again, or took over from another, knows no value of before. The counters must not be evicted: they have no time to live, so every
//! `volatile-...` policy, and `noeviction`, will do.
//!
//! With several Redis servers values are spread by consistent hashing, each on two of them; counters and bus stay on the first.

use super::bus::{Heard, Message};
use super::gather::Gather;
use super::hub::{Hub, locked};
use super::ring::Ring;
use crate::link::Link;
use futures_util::StreamExt as _;
use kernel::{Error, Result};
use redis::Script;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Invalidations that go out in one message.
const MOST_AT_ONCE: usize = 1_000;
/// Pauses of one who waits for another node's load.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(25);
/// After a broken subscription.
const RESUBSCRIBE: Duration = Duration::from_millis(200);
const RELEASE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// Where values are shared.
#[derive(Clone, Debug)]
pub struct CacheRedis {
    /// `redis://[:password@]host:port/`, the first of which carries versions and messages. At most 64.
    pub urls: Vec<String>,
    /// How long an answer is waited for. Default 100 ms.
    pub patience_ms: u64,
    /// What every key begins with. Default `brandos`.
    pub namespace: String,
}

impl CacheRedis {
    /// One Redis, with the defaults.
    pub fn new(url: impl Into<String>) -> CacheRedis {
        CacheRedis { urls: vec![url.into()], patience_ms: 100, namespace: "brandos".to_owned() }
    }
}

/// A value's place.
pub(crate) struct Place {
    key: String,
    first: u16,
    copy: Option<u16>,
}

impl Place {
    /// The numbers of the servers that should have it.
    fn numbers(&self) -> impl Iterator<Item = usize> + use<> {
        [Some(self.first), self.copy].into_iter().flatten().map(usize::from)
    }
}

/// Leave to load, and what to store the value with.
pub(crate) struct Leave {
    /// Versions of now, as the value will carry them.
    header: String,
    token: Option<u64>,
    began: Instant,
}

/// What came of a look.
pub(crate) enum Looked {
    /// A good value.
    Value { bytes: Vec<u8>, left_us: u64, age_us: u64 },
    /// There is none, and it is this one's turn to load it (or nobody can tell whose it is).
    Load(Leave),
    /// Redis doesn't answer.
    Away,
}

struct Wanted {
    tags: Vec<u16>,
    /// Who waits for it.
    taken: Option<oneshot::Sender<()>>,
}

pub(crate) struct Shared {
    hub: Weak<Hub>,
    namespace: String,
    links: Vec<Arc<Link>>,
    /// Reads from each of them.
    reads: Vec<Gather>,
    ring: Ring,
    release: Script,
    queue: mpsc::Sender<Wanted>,
    /// Tags whose versions are still to be raised. As long as there are any, values on Redis are not used.
    owed: Mutex<HashSet<u16>>,
    /// Whether the version of everything is to be raised: a peer has gone without a word, perhaps owing.
    owed_all: Mutex<bool>,
    token: AtomicU64,
}

impl Shared {
    pub(crate) async fn start(hub: &Arc<Hub>, config: CacheRedis) -> Result<Arc<Shared>> {
        if config.urls.is_empty() || config.urls.len() > 64 {
            return Err(Error::invalid("cache.invalid_redis", "from 1 to 64 URLs of Redis"));
        }
        let mut links = Vec::new();
        for url in &config.urls {
            let link = Link::open(url, Duration::from_millis(config.patience_ms)).await.map_err(|error| {
                Error::invalid("cache.invalid_redis", "a URL of cache.redis is not of the form redis://host:port/").caused_by(error)
            })?;
            links.push(link);
        }
        let names: Vec<String> = links.iter().map(|link| link.client().get_connection_info().addr().to_string()).collect();
        let mut random = [0; 8];
        hub.rng.fill(&mut random);
        let (queue, wanted) = mpsc::channel(65_536);
        let shared = Arc::new(Shared {
            hub: Arc::downgrade(hub),
            namespace: config.namespace,
            ring: Ring::new(&names),
            reads: links.iter().cloned().map(Gather::new).collect(),
            links,
            release: Script::new(RELEASE),
            queue,
            owed: Mutex::default(),
            owed_all: Mutex::default(),
            token: AtomicU64::new(u64::from_le_bytes(random) >> 1),
        });
        tokio::spawn(listen(Arc::downgrade(&shared)));
        tokio::spawn(speak(Arc::downgrade(&shared), wanted));
        Ok(shared)
    }

    /// Whether values on Redis may be used.
    pub(crate) fn connected(&self) -> bool {
        self.links[0].is_up() && locked(&self.owed).is_empty() && !*locked(&self.owed_all)
    }

    /// Whether this node hears itself.
    pub(crate) fn on_bus(&self, now_us: u64) -> bool {
        self.hub.upgrade().is_some_and(|hub| locked(&hub.bus).hears_itself(now_us))
    }

    fn channel(&self) -> String {
        format!("{}:cache:bus", self.namespace)
    }

    fn version_key(&self, tag: u16) -> String {
        format!("{}:cache:t:{tag}", self.namespace)
    }

    fn all_key(&self) -> String {
        format!("{}:cache:all", self.namespace)
    }

    /// Returns when Redis has taken it, or has not in time.
    pub(crate) async fn invalidate(&self, tags: Vec<u16>) {
        let (taken, done) = oneshot::channel();
        match self.queue.send(Wanted { tags, taken: Some(taken) }).await {
            Ok(()) => _ = done.await,
            // The speaker is gone: the process stops.
            Err(wanted) => locked(&self.owed).extend(wanted.0.tags),
        }
    }

    pub(crate) fn invalidate_soon(&self, hub: &Hub, tags: Vec<u16>) {
        if let Err(mpsc::error::TrySendError::Full(wanted) | mpsc::error::TrySendError::Closed(wanted)) =
            self.queue.try_send(Wanted { tags, taken: None })
        {
            // Too much at once: the others notice that a number is missing, and drop everything.
            locked(&hub.bus).invalidate(Vec::new());
            locked(&self.owed).extend(wanted.tags);
        }
    }

    pub(crate) async fn goodbye(&self) {
        if let Some(hub) = self.hub.upgrade() {
            let message = locked(&hub.bus).goodbye();
            let _ = self.publish(&message, &[]).await;
        }
    }

    /// Sends a message, and raises the versions of these tags with it. Gives the number of subscribers.
    async fn publish(&self, message: &Message, tags: &[u16]) -> Option<u64> {
        let text = serde_json::to_string(message).ok()?;
        let mut pipe = redis::pipe();
        pipe.atomic();
        for tag in tags {
            pipe.incr(self.version_key(*tag), 1).ignore();
        }
        pipe.publish(self.channel(), text);
        let answer = self.links[0].ask(|mut connection| async move { pipe.query_async::<(u64,)>(&mut connection).await }).await;
        answer.map(|(subscribers,)| subscribers)
    }

    /// Raises what is owed. While something is, nobody uses the values.
    async fn settle(&self) {
        let all = *locked(&self.owed_all);
        let owed: Vec<u16> = locked(&self.owed).iter().copied().collect();
        if (owed.is_empty() && !all) || !self.links[0].is_up() {
            return;
        }
        let mut pipe = redis::pipe();
        pipe.atomic();
        for tag in &owed {
            pipe.incr(self.version_key(*tag), 1).ignore();
        }
        if all {
            pipe.incr(self.all_key(), 1).ignore();
        }
        let raised = self.links[0].ask(|mut connection| async move { pipe.query_async::<()>(&mut connection).await }).await;
        if raised.is_some() {
            locked(&self.owed).retain(|tag| !owed.contains(tag));
            if all {
                *locked(&self.owed_all) = false;
            }
        }
    }

    /// Where a key of a cache is.
    pub(crate) fn place(&self, cache: &str, key: &str) -> Place {
        let key = format!("{}:cache:v:{cache}:{key}", self.namespace);
        let (first, copy) = self.ring.owners(key.as_bytes());
        Place { key, first, copy }
    }

    /// The Redis servers that should have it, those that are there.
    fn owners<'a>(&'a self, place: &Place) -> impl Iterator<Item = &'a Arc<Link>> + use<'a> {
        place.numbers().map(|number| &self.links[number]).filter(|link| link.is_up())
    }

    /// The versions of these tags now, as text.
    async fn header(&self, tags: &[u16]) -> Option<String> {
        let keys = std::iter::once(self.all_key()).chain(tags.iter().map(|tag| self.version_key(*tag))).collect();
        let run = self.links[0].run();
        let versions = self.reads[0].read(keys, false).await?;
        if run != self.links[0].run() {
            return None;
        }
        let mut header = format!("{run:x}");
        for (version, _) in versions {
            let version: u64 = version.map_or(Some(0), |text| std::str::from_utf8(&text).ok()?.parse().ok())?;
            let _ = write!(header, " {version}");
        }
        Some(header)
    }

    /// The stored bytes and how many milliseconds they have left.
    async fn stored(&self, place: &Place) -> Option<(Vec<u8>, i64)> {
        for number in place.numbers().filter(|number| self.links[*number].is_up()) {
            if let Some(got) = self.reads[number].read(vec![place.key.clone()], true).await
                && let Some((Some(bytes), left_ms)) = got.into_iter().next()
            {
                return Some((bytes, left_ms));
            }
        }
        None
    }

    /// Looks for a good value. Where there is none, one of all who ask is told to load it; the others wait for that, until `until` at most.
    pub(crate) async fn look(&self, place: &Place, tags: &[u16], until: Instant) -> Looked {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let token = self.token.fetch_add(1, SeqCst);
        let mut mine = false;
        loop {
            let (header, stored) = tokio::join!(self.header(tags), self.stored(place));
            let Some(header) = header else { return Looked::Away };
            if let Some((bytes, left_ms)) = stored
                && let Some(value) = good(&header, &bytes, left_ms)
            {
                if mine {
                    self.give_up(place, Leave { header, token: Some(token), began }).await;
                }
                return value;
            }
            // Having got the turn it has looked once more: the one before may have stored it in between.
            if mine {
                return Looked::Load(Leave { header, token: Some(token), began });
            }
            let left = until.saturating_duration_since(Instant::now());
            let Some(owner) = self.owners(place).next().filter(|_| left > pause) else {
                return Looked::Load(Leave { header, token: None, began });
            };
            let mut command = redis::cmd("SET");
            command.arg(format!("{}!", place.key)).arg(token).arg("NX").arg("PX").arg(left.as_millis().max(1) as u64);
            match owner.ask(|mut connection| async move { command.query_async::<Option<String>>(&mut connection).await }).await {
                Some(Some(_)) => mine = true,
                Some(None) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                None => return Looked::Load(Leave { header, token: None, began }),
            }
        }
    }

    /// Stores a value that was loaded under this leave, and gives the turn back.
    pub(crate) async fn put(&self, place: &Place, leave: Leave, bytes: Vec<u8>, left_us: u64) {
        let left_ms = left_us / 1000;
        if left_ms > 0 {
            let age_ms = leave.began.elapsed().as_millis() + 1;
            let mut stored = format!("{} {left_ms} {age_ms}\n", leave.header).into_bytes();
            stored.extend_from_slice(&bytes);
            for link in self.owners(place) {
                let mut command = redis::cmd("SET");
                command.arg(&place.key).arg(&stored).arg("PX").arg(left_ms);
                let _ = link.ask(|mut connection| async move { command.query_async::<()>(&mut connection).await }).await;
            }
        }
        self.give_up(place, leave).await;
    }

    /// Gives the turn back.
    pub(crate) async fn give_up(&self, place: &Place, leave: Leave) {
        let (Some(token), Some(owner)) = (leave.token, self.owners(place).next()) else { return };
        let mut call = self.release.prepare_invoke();
        call.key(format!("{}!", place.key)).arg(token);
        let _ = owner.ask(|mut connection| async move { call.invoke_async::<i64>(&mut connection).await }).await;
    }
}

/// The value, if it was stored under these versions.
fn good(header: &str, stored: &[u8], left_ms: i64) -> Option<Looked> {
    let end = stored.iter().position(|byte| *byte == b'\n')?;
    let rest = std::str::from_utf8(&stored[..end]).ok()?.strip_prefix(header)?.strip_prefix(' ')?;
    let (whole_ms, age_ms) = rest.split_once(' ')?;
    let (whole_ms, age_ms): (u64, u64) = (whole_ms.parse().ok()?, age_ms.parse().ok()?);
    let left_ms = u64::try_from(left_ms).ok().filter(|left| *left > 0)?;
    let age_us = (whole_ms.saturating_sub(left_ms) + age_ms + 1) * 1000;
    Some(Looked::Value { bytes: stored[end + 1..].to_vec(), left_us: left_ms * 1000, age_us })
}

/// Hears what the nodes say, this one included, until the caches are gone.
async fn listen(shared: Weak<Shared>) {
    loop {
        let Some(this) = shared.upgrade() else { return };
        let (client, channel) = (this.links[0].client().clone(), this.channel());
        let quiet = this.hub.upgrade().map_or(Duration::from_secs(2), |hub| Duration::from_micros(hub.config.bus.bound_us));
        drop(this);
        let subscription = async {
            let mut subscription = client.get_async_pubsub().await.ok()?;
            subscription.subscribe(&channel).await.ok()?;
            Some(subscription)
        };
        if let Ok(Some(subscription)) = tokio::time::timeout(quiet, subscription).await {
            let mut messages = subscription.into_on_message();
            // Its own heartbeats come back all the time; if none does, the connection is dead.
            while let Ok(Some(message)) = tokio::time::timeout(quiet, messages.next()).await {
                let Some(hub) = shared.upgrade().and_then(|shared| shared.hub.upgrade()) else { return };
                let Ok(message) = serde_json::from_slice::<Message>(message.get_payload_bytes()) else { continue };
                let mut bus = locked(&hub.bus);
                let now_us = hub.now_us();
                let heard = bus.hear(&message, now_us);
                hub.heed(&heard, bus.proven_until_us(), now_us);
            }
        }
        tokio::time::sleep(RESUBSCRIBE).await;
    }
}

/// Sends what this node has to say, one message after the other.
async fn speak(shared: Weak<Shared>, mut wanted: mpsc::Receiver<Wanted>) {
    let Some(beat_us) = shared.upgrade().and_then(|shared| shared.hub.upgrade()).map(|hub| hub.config.bus.beat_us) else { return };
    let mut beats = tokio::time::interval(Duration::from_micros(beat_us));
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let (due, first) = tokio::select! {
            biased;
            _ = beats.tick() => (true, None),
            wanted = wanted.recv() => match wanted {
                Some(wanted) => (false, Some(wanted)),
                None => return,
            },
        };
        let Some((this, hub)) = shared.upgrade().and_then(|this| this.hub.upgrade().map(|hub| (this, hub))) else { return };
        // A heartbeat counts whatever was to be told before it: that goes first.
        let mut all: Vec<Wanted> = first.into_iter().collect();
        while let Ok(more) = wanted.try_recv() {
            all.push(more);
        }
        for some in all.chunks_mut(MOST_AT_ONCE) {
            this.tell(&hub, some).await;
        }
        if due {
            this.beat(&hub).await;
        }
    }
}

impl Shared {
    async fn tell(&self, hub: &Hub, some: &mut [Wanted]) {
        let mut tags: Vec<u16> = some.iter().flat_map(|wanted| wanted.tags.iter().copied()).collect();
        tags.sort_unstable();
        tags.dedup();
        let message = locked(&hub.bus).invalidate(tags.clone());
        if self.publish(&message, &tags).await.is_none() {
            // Its number is missing from the bus now, which every node will notice with the next heartbeat.
            hub.metrics.unsent.inc();
            locked(&self.owed).extend(tags);
        }
        for taken in some.iter_mut().filter_map(|wanted| wanted.taken.take()) {
            let _ = taken.send(());
        }
    }

    async fn beat(&self, hub: &Hub) {
        let sent_us = hub.now_us();
        let (message, forgotten) = locked(&hub.bus).beat(sent_us);
        if forgotten {
            // It may have changed something that nobody was told of, here or on Redis.
            *locked(&self.owed_all) = true;
            hub.drop_all();
        }
        self.settle().await;
        let subscribers = self.publish(&message, &[]).await;
        hub.metrics.up.set(i64::from(subscribers.is_some()));
        let mut bus = locked(&hub.bus);
        if let Some(subscribers) = subscribers {
            bus.counted(subscribers, sent_us);
        }
        hub.heed(&Heard::default(), bus.proven_until_us(), hub.now_us());
    }
}
