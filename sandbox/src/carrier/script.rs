//! What a label's service says besides its name: how the carrier misbehaves, and how the parcels end.
//! `standard`, `express+timeout_after` (of the purchase), `standard+void:late+lost+twice`.

use crate::behaviour::{FAULTS, Fault};

/// What can be bought.
const SERVICES: &[&str] = &["standard", "express", "random"];

/// How a parcel ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Ending {
    #[default]
    Delivered,
    Lost,
    Returned,
}

/// A service, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Script {
    random: bool,
    refuses: bool,
    ending: Ending,
    twice: bool,
    reordered: bool,
    quiet: bool,
    stale: bool,
    faults: Vec<(&'static str, Fault)>,
}

impl Script {
    /// Reads a service. None for one that is not sold.
    pub(super) fn read(service: &str) -> Option<Script> {
        let mut parts = service.split('+');
        let name = parts.next().filter(|name| SERVICES.contains(name))?;
        let mut script = Script { random: name == "random", ..Script::default() };
        for part in parts.take(8) {
            match part {
                "refuse_address" => script.refuses = true,
                "lost" => script.ending = Ending::Lost,
                "returned" => script.ending = Ending::Returned,
                "twice" => script.twice = true,
                "reordered" => script.reordered = true,
                "quiet" => script.quiet = true,
                "stale" => script.stale = true,
                _ => {
                    let (kind, fault) = part.split_once(':').unwrap_or(("label", part));
                    let kind = ["label", "void"].into_iter().find(|known| *known == kind)?;
                    script.faults.push((kind, FAULTS.iter().find(|(name, _)| *name == fault)?.1));
                }
            }
        }
        Some(script)
    }

    pub(super) fn is_random(&self) -> bool {
        self.random
    }

    /// Whether it does not deliver to the address.
    pub(super) fn refuses(&self) -> bool {
        self.refuses
    }

    pub(super) fn ending(&self) -> Ending {
        self.ending
    }

    /// Whether each callback comes three times, once under an id of its own.
    pub(super) fn doubles(&self) -> bool {
        self.twice
    }

    /// Whether callbacks come in the wrong order.
    pub(super) fn reorders(&self) -> bool {
        self.reordered
    }

    /// Whether no callback comes at all.
    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether queries answer for a while as if nothing had been bought.
    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether not even queries are answered.
    pub(super) fn is_mute(&self) -> bool {
        self.faults.iter().any(|(_, fault)| *fault == Fault::Mute)
    }

    /// How the `attempt`-th request (from 0) of a kind is treated. What is asked for happens at the first attempt, but for silence, which
    /// lasts.
    pub(super) fn fault(&self, kind: &str, attempt: u32) -> Option<Fault> {
        let told = self.faults.iter().find(|(of, _)| *of == kind).map(|(_, fault)| *fault)?;
        (attempt == 0 || matches!(told, Fault::Silent | Fault::Mute)).then_some(told)
    }
}
