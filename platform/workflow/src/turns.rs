//! Whose saga is next: tenants in turn, so that one with very many does not hold up the rest.

use crate::SagaId;
use std::collections::{HashMap, HashSet, VecDeque};

/// A saga that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// 0 for the platform.
    pub tenant: i64,
    pub id: SagaId,
    pub token: i64,
    /// The name of its kind; empty when only the store knows it.
    pub kind: &'static str,
}

/// Those that are due, and those that are under way here.
pub(crate) struct Turns {
    waiting: Vec<(i64, VecDeque<Due>)>,
    next: usize,
    under_way: HashMap<i64, usize>,
    busy: HashSet<(i64, SagaId)>,
    concurrency: usize,
}

impl Turns {
    pub(crate) fn new(concurrency: usize) -> Turns {
        Turns { waiting: Vec::new(), next: 0, under_way: HashMap::new(), busy: HashSet::new(), concurrency: concurrency.max(1) }
    }

    /// What was found due takes the place of what was found before, without what is under way.
    pub(crate) fn replace(&mut self, found: impl IntoIterator<Item = Due>) {
        self.waiting.clear();
        self.next = 0;
        let mut places: HashMap<i64, usize> = HashMap::new();
        let mut seen = HashSet::new();
        for due in found {
            if self.busy.contains(&(due.tenant, due.id)) || !seen.insert((due.tenant, due.id)) {
                continue;
            }
            let place = *places.entry(due.tenant).or_insert_with(|| {
                self.waiting.push((due.tenant, VecDeque::new()));
                self.waiting.len() - 1
            });
            self.waiting[place].1.push_back(due);
        }
    }

    /// Whether nothing that was found is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.iter().all(|(_, queue)| queue.is_empty())
    }

    /// The next one, if there is a place for it. Where several tenants wait, one holds at most half of the places.
    pub(crate) fn take(&mut self) -> Option<Due> {
        if self.busy.len() >= self.concurrency {
            return None;
        }
        let count = self.waiting.len();
        let several = self.waiting.iter().filter(|(_, queue)| !queue.is_empty()).count() > 1;
        let most = if several { (self.concurrency / 2).max(1) } else { self.concurrency };
        for step in 0..count {
            let place = (self.next + step) % count;
            let (tenant, queue) = &mut self.waiting[place];
            if self.under_way.get(tenant).copied().unwrap_or(0) >= most {
                continue;
            }
            let Some(due) = queue.pop_front() else { continue };
            *self.under_way.entry(due.tenant).or_default() += 1;
            self.busy.insert((due.tenant, due.id));
            self.next = (place + 1) % count;
            return Some(due);
        }
        None
    }

    /// It is no longer under way here.
    pub(crate) fn done(&mut self, tenant: i64, id: SagaId) {
        self.busy.remove(&(tenant, id));
        if let Some(count) = self.under_way.get_mut(&tenant) {
            *count -= 1;
            if *count == 0 {
                self.under_way.remove(&tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(tenant: i64, id: i64) -> Due {
        Due { tenant, id: SagaId::from_i64(id), token: 0, kind: "test" }
    }

    fn taken(turns: &mut Turns) -> Vec<i64> {
        std::iter::from_fn(|| turns.take()).map(|due| due.id.as_i64()).collect()
    }

    #[test]
    fn tenants_take_turns_and_one_holds_at_most_half_while_others_wait() {
        let mut turns = Turns::new(4);
        turns.replace([due(1, 1), due(1, 2), due(1, 3), due(1, 4), due(2, 5)]);
        assert_eq!(taken(&mut turns), [1, 5, 2, 3], "2 has nothing left, so 1 gets the rest");
        turns.done(1, SagaId::from_i64(1));
        assert_eq!(taken(&mut turns), [4]);
        assert!(turns.is_empty());
        let mut turns = Turns::new(4);
        turns.replace([due(1, 1), due(1, 2), due(1, 3), due(2, 4), due(2, 5), due(2, 6)]);
        assert_eq!(taken(&mut turns), [1, 4, 2, 5]);
        turns.done(2, SagaId::from_i64(4));
        assert_eq!(taken(&mut turns), [6], "1 has its half");
    }

    #[test]
    fn what_is_under_way_is_not_taken_again() {
        let mut turns = Turns::new(8);
        turns.replace([due(1, 1), due(1, 2), due(1, 2)]);
        assert_eq!(taken(&mut turns), [1, 2]);
        turns.replace([due(1, 1), due(1, 2), due(1, 3)]);
        assert_eq!(taken(&mut turns), [3]);
        turns.done(1, SagaId::from_i64(2));
        turns.replace([due(1, 1), due(1, 2)]);
        assert_eq!(taken(&mut turns), [2]);
    }
}
