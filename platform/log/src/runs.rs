//! Who gets what: a batch of a lane's events, grouped by tenant, and which keys wait behind a failure. Pure.

use crate::Consumer;
use kernel::TenantId;
use std::collections::{HashMap, HashSet};
use store::Event;

/// Consecutive events of one tenant that a consumer wants, in order.
#[derive(Debug)]
pub(crate) struct Run {
    pub tenant: Option<TenantId>,
    pub events: Vec<Event>,
}

/// The tenant's number in tables; 0 is the platform.
pub(crate) fn tenant_number(tenant: Option<TenantId>) -> i64 {
    tenant.map_or(0, |tenant| tenant.as_i64())
}

/// The other way.
pub(crate) fn tenant_of(number: i64) -> Option<TenantId> {
    (number != 0).then(|| TenantId::from_i64(number))
}

/// The events that `consumer` wants, by tenant: tenants in the order of their first event, each one's events in theirs.
pub(crate) fn runs_of(consumer: &Consumer, events: &[Event]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut places: HashMap<Option<TenantId>, usize> = HashMap::new();
    for event in events.iter().filter(|event| consumer.wants(&event.kind)) {
        let place = *places.entry(event.tenant_id).or_insert_with(|| {
            runs.push(Run { tenant: event.tenant_id, events: Vec::new() });
            runs.len() - 1
        });
        runs[place].events.push(event.clone());
    }
    runs
}

/// About how much memory the runs hold, in bytes.
pub(crate) fn bytes_of<'a>(events: impl IntoIterator<Item = &'a Event>) -> usize {
    events.into_iter().map(|event| event.payload.len() + event.subject.len() + 256).sum()
}

/// The keys (tenant, subject) that have failures, with the last place in each queue.
#[derive(Debug, Default)]
pub(crate) struct Keys(HashMap<i64, HashMap<String, i64>>);

impl Keys {
    /// A key that has failures, the last of them at `place`.
    pub(crate) fn insert(&mut self, tenant: i64, subject: String, place: i64) {
        self.0.entry(tenant).or_default().insert(subject, place);
    }

    /// Whether events of this key have to wait.
    pub(crate) fn blocks(&self, tenant: i64, subject: &str) -> bool {
        self.0.get(&tenant).is_some_and(|subjects| subjects.contains_key(subject))
    }

    /// Gives an event its place at the end of its key's queue, and tells whether others are before it. Places rise even where
    /// sequences do not, as after a tenant's move.
    pub(crate) fn enqueue(&mut self, tenant: i64, event: &Event) -> (i64, bool) {
        let sequence = event.position.sequence;
        let subjects = self.0.entry(tenant).or_default();
        match subjects.get_mut(&event.subject) {
            Some(last) => {
                *last = sequence.max(*last + 1);
                (*last, true)
            }
            None => {
                subjects.insert(event.subject.clone(), sequence);
                (sequence, false)
            }
        }
    }

    /// Splits a tenant's events into those that may run and those that wait, order kept in both. None when none waits.
    pub(crate) fn split<'a>(&self, tenant: i64, events: &'a [Event]) -> Option<(Vec<Event>, Vec<&'a Event>)> {
        let subjects = self.0.get(&tenant)?;
        if !events.iter().any(|event| subjects.contains_key(&event.subject)) {
            return None;
        }
        let (mut free, mut waiting) = (Vec::new(), Vec::new());
        for event in events {
            if subjects.contains_key(&event.subject) {
                waiting.push(event);
            } else {
                free.push(event.clone());
            }
        }
        Some((free, waiting))
    }
}

/// The distinct keys of runs as the store's statement takes them: `tenant:subject`.
pub(crate) fn key_texts<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut texts = Vec::new();
    for event in events {
        let tenant = tenant_number(event.tenant_id);
        if seen.insert((tenant, event.subject.as_str())) {
            texts.push(format!("{tenant}:{}", event.subject));
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::event;
    use proptest::prelude::*;

    fn nothing(_: &mut store::Tx<'_>, _: &[Event]) -> kernel::Result<()> {
        Ok(())
    }

    #[test]
    fn runs_keep_the_order_within_a_tenant_and_leave_out_what_is_not_wanted() {
        let consumer = Consumer::sql("test.a", &["a.happened"], nothing);
        let events = [
            event(7, 1, "x", "a.happened"),
            event(8, 2, "x", "a.happened"),
            event(7, 3, "x", "b.happened"),
            event(7, 4, "y", "a.happened"),
        ];
        let runs: Vec<(i64, Vec<i64>)> = runs_of(&consumer, &events)
            .into_iter()
            .map(|run| (tenant_number(run.tenant), run.events.iter().map(|e| e.position.sequence).collect()))
            .collect();
        assert_eq!(runs, [(7, vec![1, 4]), (8, vec![2])]);
        assert!(Consumer::sql("test.all", &[crate::ALL_EVENTS], nothing).wants("whatever.happened"));
    }

    proptest! {
        /// Every wanted event is in exactly one run, of its tenant, and sequences rise within each.
        #[test]
        fn runs_are_a_stable_partition(tenants in prop::collection::vec((0_i64..5, prop::bool::ANY), 0..200)) {
            let consumer = Consumer::sql("test.a", &["a.happened"], nothing);
            let events: Vec<Event> = tenants.iter().enumerate()
                .map(|(i, (tenant, wanted))| event(*tenant, i as i64 + 1, "x", if *wanted { "a.happened" } else { "b.happened" })).collect();
            let runs = runs_of(&consumer, &events);
            let mut seen: Vec<i64> = Vec::new();
            for run in &runs {
                prop_assert!(!run.events.is_empty());
                prop_assert!(run.events.iter().all(|e| e.tenant_id == run.tenant));
                prop_assert!(run.events.windows(2).all(|pair| pair[0].position.sequence < pair[1].position.sequence));
                seen.extend(run.events.iter().map(|e| e.position.sequence));
            }
            seen.sort_unstable();
            let wanted: Vec<i64> = events.iter().filter(|e| e.kind == "a.happened").map(|e| e.position.sequence).collect();
            prop_assert_eq!(seen, wanted);
            prop_assert_eq!(runs.len(), runs.iter().map(|r| r.tenant).collect::<HashSet<_>>().len());
        }

        /// However events come, the places of a key rise, and only the first of a key is not behind another.
        #[test]
        fn places_rise_within_a_key(arrivals in prop::collection::vec((1_i64..4, 0_u8..3, 1_i64..50), 1..100)) {
            let mut keys = Keys::default();
            let mut last: HashMap<(i64, u8), i64> = HashMap::new();
            for (tenant, subject, sequence) in arrivals {
                let event = event(tenant, sequence, &subject.to_string(), "a.happened");
                prop_assert_eq!(keys.blocks(tenant, &event.subject), last.contains_key(&(tenant, subject)));
                let (place, behind) = keys.enqueue(tenant, &event);
                prop_assert_eq!(behind, last.contains_key(&(tenant, subject)));
                if let Some(before) = last.insert((tenant, subject), place) {
                    prop_assert!(place > before);
                }
            }
        }
    }

    #[test]
    fn a_failure_blocks_its_own_tenants_key_alone() {
        let mut keys = Keys::default();
        keys.insert(7, "x".to_owned(), 3);
        let events = [event(7, 4, "x", "k"), event(7, 5, "y", "k"), event(7, 6, "x", "k")];
        let (free, waiting) = keys.split(7, &events).expect("one waits");
        assert_eq!(free.iter().map(|e| e.position.sequence).collect::<Vec<_>>(), [5]);
        assert_eq!(waiting.iter().map(|e| e.position.sequence).collect::<Vec<_>>(), [4, 6]);
        assert!(keys.split(8, &events).is_none() && keys.split(7, &events[1..2]).is_none());
        assert_eq!(key_texts(&events), ["7:x", "7:y"]);
    }
}
