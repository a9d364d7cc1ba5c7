//! How it behaves: chosen by the token of a charge, and where that says nothing, by the seed and the rates.

use kernel::{Error, Result};
use ring::digest;
use std::str::FromStr;

/// What becomes of an authorisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Authorised.
    Approve,
    /// Declined for now: another provider, or another day, may say yes.
    SoftDecline,
    /// Declined for good.
    HardDecline,
    /// The customer has to confirm first.
    RequiresAction,
}

/// A way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Does nothing, and lets the caller wait in vain.
    TimeoutBefore,
    /// Does it, and lets the caller wait in vain.
    TimeoutAfter,
    /// Does it only after the caller has given up.
    Late,
    /// Does it, and answers 500.
    ErrorAfter,
    /// Answers 503 and does nothing.
    Outage,
    /// Tells of it by two different events.
    AnswerTwice,
    /// Calls back before it answers.
    CallbackFirst,
    /// Delivers the same event twice.
    CallbackTwice,
    /// Delivers the event after those that follow it.
    CallbackOutOfOrder,
    /// Sends no event at all.
    CallbackLost,
    /// Besides the true event, one that says that the charge was declined.
    CallbackLies,
    /// Queries answer for a while as if it had not happened.
    Stale,
    /// Never does it and never answers, whoever asks how often.
    Silent,
    /// Does it and never answers, whoever asks how often; queries are left to wait, too.
    Mute,
}

/// Every fault by its name in tokens and rates.
pub const FAULTS: &[(&str, Fault)] = &[
    ("timeout_before", Fault::TimeoutBefore),
    ("timeout_after", Fault::TimeoutAfter),
    ("late", Fault::Late),
    ("error_after", Fault::ErrorAfter),
    ("outage", Fault::Outage),
    ("answer_twice", Fault::AnswerTwice),
    ("callback_first", Fault::CallbackFirst),
    ("callback_twice", Fault::CallbackTwice),
    ("callback_out_of_order", Fault::CallbackOutOfOrder),
    ("callback_lost", Fault::CallbackLost),
    ("callback_lies", Fault::CallbackLies),
    ("stale", Fault::Stale),
    ("silent", Fault::Silent),
    ("mute", Fault::Mute),
];

const VERDICTS: &[(&str, Verdict)] = &[
    ("approve", Verdict::Approve),
    ("soft_decline", Verdict::SoftDecline),
    ("hard_decline", Verdict::HardDecline),
    ("requires_action", Verdict::RequiresAction),
];

/// What is asked, as far as behaviour goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new charge.
    Create,
    /// A capture.
    Capture,
    /// A void.
    Void,
    /// A refund.
    Refund,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Create => "create",
            Kind::Capture => "capture",
            Kind::Void => "void",
            Kind::Refund => "refund",
        }
    }
}

/// How often it misbehaves without being told to: the share of operations for each fault, and of authorisations for each verdict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rates {
    faults: Vec<(Fault, f64)>,
    verdicts: Vec<(Verdict, f64)>,
}

impl FromStr for Rates {
    type Err = Error;
    /// Such as `timeout_after=0.05,soft_decline=0.1`. Errors: `request.invalid` naming the part.
    fn from_str(text: &str) -> Result<Self> {
        let mut rates = Rates::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = || Error::field("rates", "invalid", format!("{part}: a rate is NAME=SHARE with a share between 0 and 1"));
            let (name, share) = part.split_once('=').ok_or_else(wrong)?;
            let share: f64 = share.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(wrong)?;
            if let Some((_, fault)) = FAULTS.iter().find(|(known, _)| *known == name) {
                rates.faults.push((*fault, share));
            } else {
                let (_, verdict) = VERDICTS.iter().find(|(known, _)| *known == name).ok_or_else(wrong)?;
                rates.verdicts.push((*verdict, share));
            }
        }
        Ok(rates)
    }
}

/// What a token says: a verdict, and faults for kinds of operations.
/// `tok_approve`, `tok_soft_decline`, `tok_timeout_after` (of the creation), `tok_approve+capture:late+refund:error_after`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    verdict: Option<Verdict>,
    faults: Vec<(&'static str, Fault)>,
}

impl Script {
    /// Reads a token. None for one that says nothing known: such a card does not exist.
    pub fn read(token: &str) -> Option<Script> {
        let mut script = Script::default();
        for part in token.strip_prefix("tok_")?.split('+').take(8) {
            if part == "random" {
                continue;
            }
            if let Some((_, verdict)) = VERDICTS.iter().find(|(name, _)| *name == part) {
                script.verdict = Some(*verdict);
                continue;
            }
            let (kind, fault) = part.split_once(':').unwrap_or(("create", part));
            let kind = ["create", "capture", "void", "refund"].into_iter().find(|known| *known == kind)?;
            let (_, fault) = FAULTS.iter().find(|(name, _)| *name == fault)?;
            script.faults.push((kind, *fault));
        }
        Some(script)
    }

    /// Whether every choice is the token's own: a token that says more than `random` is never left to chance.
    fn is_told(&self) -> bool {
        self.verdict.is_some() || !self.faults.is_empty()
    }
}

/// Decides by token, seed and rates.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// The same seed behaves the same.
    pub seed: u64,
    /// Used for tokens that say nothing but `random`.
    pub rates: Rates,
}

impl Behaviour {
    /// What becomes of the authorisation with this idempotency key.
    pub fn verdict(&self, script: &Script, key: &str) -> Verdict {
        if script.is_told() {
            return script.verdict.unwrap_or(Verdict::Approve);
        }
        choose(&self.rates.verdicts, self.draw("verdict", key, 0)).unwrap_or(Verdict::Approve)
    }

    /// How the `attempt`-th request (from 0) with this idempotency key is treated. What a token asks for happens at the first attempt,
    /// but for silence, which lasts.
    pub fn fault(&self, script: &Script, kind: Kind, key: &str, attempt: u32) -> Option<Fault> {
        if script.is_told() {
            let told = script.faults.iter().find(|(of, _)| *of == kind.name()).map(|(_, fault)| *fault)?;
            return (attempt == 0 || matches!(told, Fault::Silent | Fault::Mute)).then_some(told);
        }
        choose(&self.rates.faults, self.draw(kind.name(), key, attempt))
    }

    /// The fault that chance has in store.
    pub(crate) fn chance(&self, purpose: &str, key: &str, attempt: u32) -> Option<Fault> {
        choose(&self.rates.faults, self.draw(purpose, key, attempt))
    }

    /// Between 0 and 1, the same for the same seed, purpose, key and attempt, whatever else happens at the same time.
    fn draw(&self, purpose: &str, key: &str, attempt: u32) -> f64 {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.seed.to_be_bytes());
        context.update(purpose.as_bytes());
        context.update(&attempt.to_be_bytes());
        context.update(key.as_bytes());
        let mut word = [0; 8];
        word.copy_from_slice(&context.finish().as_ref()[..8]);
        (u64::from_be_bytes(word) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn choose<T: Copy>(rates: &[(T, f64)], draw: f64) -> Option<T> {
    let mut upto = 0.0;
    rates.iter().find_map(|(what, share)| {
        upto += share;
        (draw < upto).then_some(*what)
    })
}
