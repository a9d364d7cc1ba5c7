//! The invalidation bus as a state machine: what a node says, what it makes of what it hears, and until when it may trust its memory.
//! It does no I/O and has no clock; messages may be lost, late, repeated or out of order.
//!
//! **The bound.** Let `M` be [`BusConfig::bound_us`]. After a node has been told that an invalidation was taken (`Caches::invalidate`
//! has returned), no node serves a value from before it for longer than `M`. Why: let the write's node be P, the moment T, and let another node R
//! serve a value at `t > T + M`. Either the value is younger than `M`, so it was loaded after T and is not old; or R is *proven* at `t`.
//! Then for each peer, P among them, R has heard a heartbeat that names one of R's own heartbeats which R sent after `t - M > T`. P sent
//! that heartbeat later than T, so its sequence number counts the invalidation. R has either heard the invalidation, and raised its
//! tags' generations, or it has seen a number that it did not expect, and dropped everything that it had. No clock is compared with
//! another node's: both moments are R's.
//!
//! A node that R has never heard of is found out by the number of subscribers, which Redis tells with each heartbeat. What remains: a
//! node that has never reached Redis since its start, while others do, is not known to them. Its changes show when a value's time is
//! over, or through the log (`docs/traffic.md`).

use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};

/// Times of the bus, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusConfig {
    /// Between two heartbeats. Default 250 ms.
    pub beat_us: u64,
    /// The bound on how long a value may be served after an invalidation. Default 2 s.
    pub bound_us: u64,
    /// A peer that has been silent for so long is gone; until then nobody is proven. It must not be cut off from Redis for longer and write
    /// on. Default 10 min.
    pub forget_us: u64,
}

impl Default for BusConfig {
    fn default() -> Self {
        BusConfig { beat_us: 250_000, bound_us: 2_000_000, forget_us: 600_000_000 }
    }
}

/// What goes over the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The sender, a number drawn at its start: a node that starts again is another one.
    #[serde(rename = "n")]
    pub node: u64,
    /// Invalidations of the sender so far, this one included.
    #[serde(rename = "s")]
    pub sequence: u64,
    /// What it is.
    #[serde(rename = "k")]
    pub kind: Kind,
}

/// Kinds of messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// These tags were invalidated.
    #[serde(rename = "i")]
    Invalidate(Vec<u16>),
    /// I am here; and the number of the last heartbeat that I have heard of each peer.
    #[serde(rename = "b")]
    Beat {
        /// The heartbeat's own number.
        #[serde(rename = "b")]
        number: u64,
        /// Peer, and its last heartbeat.
        #[serde(rename = "a")]
        heard: Vec<(u64, u64)>,
    },
    /// I am going, and will write no more.
    #[serde(rename = "g")]
    Goodbye,
}

/// What follows from a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Everything that was loaded up to now has to go: something was missed.
    pub drop_all: bool,
    /// These tags are to be raised.
    pub tags: Vec<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    sequence: u64,
    /// Its last heartbeat.
    beat: u64,
    /// When it was last heard.
    heard_us: u64,
    /// Everything that it said before this moment of our clock is known. 0: nothing is.
    known_us: u64,
}

/// A node's part of the bus.
pub struct Bus {
    config: BusConfig,
    me: u64,
    sequence: u64,
    beat: u64,
    /// When our last heartbeats were sent.
    sent: VecDeque<(u64, u64)>,
    peers: HashMap<u64, Peer>,
    /// When the number of subscribers was last found to be that of the peers.
    counted_us: u64,
    left_at_us: HashMap<u64, u64>,
}

impl Bus {
    /// A node that has heard nothing yet. `me` is random.
    pub fn new(config: BusConfig, me: u64) -> Bus {
        Bus { config, me, sequence: 0, beat: 0, sent: VecDeque::new(), peers: HashMap::new(), counted_us: 0, left_at_us: HashMap::new() }
    }

    /// What to send for an invalidation. Messages have to be sent in the order in which they were made.
    pub fn invalidate(&mut self, tags: Vec<u16>) -> Message {
        self.sequence += 1;
        Message { node: self.me, sequence: self.sequence, kind: Kind::Invalidate(tags) }
    }

    /// What to send every [`BusConfig::beat_us`], and whether a peer was given up that has been silent for too long: then whatever was loaded
    /// until now has to go, because it may have changed something and died before it could say so.
    pub fn beat(&mut self, now_us: u64) -> (Message, bool) {
        let known = self.peers.len();
        self.peers.retain(|_, peer| now_us < peer.heard_us + self.config.forget_us);
        let forgotten = self.peers.len() < known;
        self.left_at_us.retain(|_, at| now_us < *at + self.config.forget_us);
        self.beat += 1;
        self.sent.push_back((self.beat, now_us));
        while self.sent.front().is_some_and(|(_, at)| at + self.config.bound_us < now_us) {
            self.sent.pop_front();
        }
        let heard = self.peers.iter().map(|(id, peer)| (*id, peer.beat)).collect();
        (Message { node: self.me, sequence: self.sequence, kind: Kind::Beat { number: self.beat, heard } }, forgotten)
    }

    /// How many subscribers Redis counted when it took the heartbeat that was sent at `sent_us`.
    pub fn counted(&mut self, subscribers: u64, sent_us: u64) {
        // More than are known: a stranger. Fewer: one is going, and its silence will tell.
        if subscribers <= self.peers.len() as u64 {
            self.counted_us = self.counted_us.max(sent_us);
        }
    }

    /// What to send at the end.
    pub fn goodbye(&self) -> Message {
        Message { node: self.me, sequence: self.sequence, kind: Kind::Goodbye }
    }

    /// What follows from a message.
    pub fn hear(&mut self, message: &Message, now_us: u64) -> Heard {
        let ours = message.node == self.me;
        if !ours && self.left_at_us.contains_key(&message.node) {
            // Late words of one that has said goodbye.
            return Heard { drop_all: false, tags: tags_of(message) };
        }
        if message.kind == Kind::Goodbye {
            let gap = self.peers.remove(&message.node).is_none_or(|peer| peer.sequence != message.sequence);
            self.left_at_us.insert(message.node, now_us);
            return Heard { drop_all: gap, tags: Vec::new() };
        }
        let mut drop_all = false;
        let peer = self.peers.entry(message.node).or_insert_with(|| {
            // Whatever it said before is not known.
            drop_all = !ours;
            Peer { sequence: message.sequence, beat: 0, heard_us: now_us, known_us: 0 }
        });
        peer.heard_us = now_us;
        let expected = match message.kind {
            Kind::Invalidate(_) => peer.sequence + 1,
            _ => peer.sequence,
        };
        // Its own invalidations a node has heard before it sent them.
        drop_all |= !ours && message.sequence > expected;
        peer.sequence = peer.sequence.max(message.sequence);
        if let Kind::Beat { number, heard } = &message.kind {
            peer.beat = peer.beat.max(*number);
            let ours_heard = if ours { Some(*number) } else { heard.iter().find(|(id, _)| *id == self.me).map(|(_, beat)| *beat) };
            if let Some((_, at)) = ours_heard.and_then(|beat| self.sent.iter().find(|(number, _)| *number == beat)) {
                peer.known_us = peer.known_us.max(*at);
            }
        }
        Heard { drop_all, tags: if ours { Vec::new() } else { tags_of(message) } }
    }

    /// Until when memory may be trusted by what was heard so far; 0 for not at all. The node itself is one of its peers: its own heartbeat has to come
    /// back, or it hears nobody.
    pub fn proven_until_us(&self) -> u64 {
        if !self.peers.contains_key(&self.me) {
            return 0;
        }
        let least = self.peers.values().map(|peer| peer.known_us).min().unwrap_or(0).min(self.counted_us);
        if least == 0 { 0 } else { least + self.config.bound_us }
    }

    /// Whether its own heartbeats come back.
    pub fn hears_itself(&self, now_us: u64) -> bool {
        self.peers.get(&self.me).is_some_and(|own| own.known_us > 0 && now_us < own.known_us + self.config.bound_us)
    }

    /// How many nodes are known, this one included when it hears itself.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Its times.
    pub fn config(&self) -> &BusConfig {
        &self.config
    }
}

fn tags_of(message: &Message) -> Vec<u16> {
    match &message.kind {
        Kind::Invalidate(tags) => tags.clone(),
        _ => Vec::new(),
    }
}
