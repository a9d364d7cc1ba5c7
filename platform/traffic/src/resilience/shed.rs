//! Load shedding by priority: as a resource fills up, what matters least is turned away first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How much a piece of work matters. The first to go comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Nobody waits for it: warming, prefetching, reports. Gets half of the room.
    Background,
    /// Somebody may wait a little: lists, searches. Gets three quarters.
    Low,
    /// Somebody waits. Gets nine tenths.
    Normal,
    /// Money, sign-in, health. Gets all of it.
    Critical,
}

impl Priority {
    fn share_percent(self) -> u64 {
        match self {
            Priority::Background => 50,
            Priority::Low => 75,
            Priority::Normal => 90,
            Priority::Critical => 100,
        }
    }
}

/// So many pieces of work at once, and fewer for what matters less.
#[derive(Clone, Debug)]
pub struct Shedder(Arc<Room>);

#[derive(Debug)]
struct Room {
    most: u32,
    used: AtomicU32,
    shed: [AtomicU32; 4],
}

/// A piece of work that takes up room as long as this lives.
#[derive(Debug)]
pub struct Slot(Arc<Room>);

impl Shedder {
    /// Room for `most` pieces of work.
    pub fn new(most: u32) -> Shedder {
        Shedder(Arc::new(Room { most, used: AtomicU32::new(0), shed: Default::default() }))
    }

    /// Room for a piece of work; none if it has to go.
    pub fn enter(&self, priority: Priority) -> Option<Slot> {
        let room = &*self.0;
        // At least one, or a small room would shut out what matters less for ever.
        let most = (u64::from(room.most) * priority.share_percent() / 100).max(1) as u32;
        let entered = room.used.fetch_update(Relaxed, Relaxed, |used| (used < most).then_some(used + 1));
        if entered.is_err() {
            room.shed[priority as usize].fetch_add(1, Relaxed);
            return None;
        }
        Some(Slot(self.0.clone()))
    }

    /// How many pieces of work there are.
    pub fn used(&self) -> u32 {
        self.0.used.load(Relaxed)
    }

    /// How many of this priority were turned away.
    pub fn shed(&self, priority: Priority) -> u32 {
        self.0.shed[priority as usize].load(Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Relaxed);
    }
}
