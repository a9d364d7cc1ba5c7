//! The provider's books: charges, what was done to them, and under which idempotency keys.

use crate::behaviour::{Kind, Script, Verdict};
use kernel::{Currency, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// How long an authorisation holds, in milliseconds: seven days.
const AUTHORISATION_MS: i64 = 7 * 86_400_000;
/// Captures and refunds of one charge.
const MAX_MOVEMENTS: usize = 1_000;

/// Where a charge stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The customer has to confirm at `action_url`.
    RequiresAction,
    /// The money is set aside.
    Authorized,
    /// Some or all of it was taken.
    Captured,
    /// The authorisation was given up before anything was taken.
    Voided,
    /// It was not authorised.
    Declined,
    /// The authorisation ran out.
    Expired,
}

/// Why it was declined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decline {
    /// Whether it may be tried elsewhere or later.
    pub soft: bool,
    /// Such as `insufficient_funds`.
    pub code: String,
}

/// A capture or a refund.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Movement {
    /// Ours.
    pub id: String,
    /// The caller's.
    pub reference: String,
    /// Minor units.
    pub amount_minor: i64,
    /// What we keep of a capture, in minor units.
    pub fee_minor: i64,
    /// When.
    pub at: Timestamp,
}

/// How far a dispute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisputeState {
    /// Nobody has decided.
    Open,
    /// The money stays where it is.
    Won,
    /// The customer has it back.
    Lost,
}

/// What the customer contests of a charge, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispute {
    /// How far it is.
    pub state: DisputeState,
    /// What is contested: all that was captured and not refunded, in minor units.
    pub amount_minor: i64,
    /// When it began, or was decided.
    pub at: Timestamp,
}

/// A charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Ours.
    pub id: String,
    /// The caller's. Not unique: only idempotency keys make a request happen once.
    pub reference: String,
    /// The card's token.
    pub token: String,
    /// Where it stands.
    pub status: Status,
    /// Authorised, in minor units.
    pub amount_minor: i64,
    /// Its currency.
    pub currency: Currency,
    /// Taken so far.
    pub captured_minor: i64,
    /// Given back so far.
    pub refunded_minor: i64,
    /// Whether more can be captured.
    pub open: bool,
    /// What the customer contests.
    #[serde(default)]
    pub dispute: Option<Dispute>,
    /// Why it was declined.
    pub decline: Option<Decline>,
    /// Where the customer confirms.
    pub action_url: Option<String>,
    /// In their order.
    pub captures: Vec<Movement>,
    /// In their order.
    pub refunds: Vec<Movement>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Rises with each change.
    pub version: u32,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    Create { reference: String, token: String, amount_minor: i64, currency: Currency, capture: bool },
    Capture { charge: String, reference: String, amount_minor: i64, last: bool },
    Void { charge: String },
    Refund { charge: String, reference: String, amount_minor: i64 },
}

impl Ask {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Ask::Create { .. } => Kind::Create,
            Ask::Capture { .. } => Kind::Capture,
            Ask::Void { .. } => Kind::Void,
            Ask::Refund { .. } => Kind::Refund,
        }
    }

    pub(crate) fn charge(&self) -> Option<&str> {
        match self {
            Ask::Create { .. } => None,
            Ask::Capture { charge, .. } | Ask::Void { charge } | Ask::Refund { charge, .. } => Some(charge),
        }
    }
}

/// A refusal: status and code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub status: u16,
    pub code: String,
    pub detail: String,
}

pub(crate) fn refusal(status: u16, code: &str, detail: impl Into<String>) -> Refusal {
    Refusal { status, code: code.to_owned(), detail: detail.into() }
}

/// What became of a request, for ever the same under its key.
pub(crate) type Answer = Result<Charge, Refusal>;

/// A request under an idempotency key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Keyed {
    pub ask: Ask,
    pub attempts: u32,
    /// None while it is being done, or when it was not done.
    pub answer: Option<Answer>,
    #[serde(skip)]
    pub busy: bool,
}

/// What the provider keeps of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Of the amount, in millionths.
    pub micros: i64,
    /// For each capture, in minor units.
    pub fixed_minor: i64,
}

impl Fees {
    fn of(self, amount_minor: i64) -> i64 {
        let share = (i128::from(amount_minor) * i128::from(self.micros) + 500_000) / 1_000_000;
        i64::try_from(share).unwrap_or(i64::MAX).saturating_add(self.fixed_minor).min(amount_minor)
    }
}

/// Charges and keys.
#[derive(Debug)]
pub(crate) struct Books {
    pub charges: BTreeMap<u64, Charge>,
    by_reference: HashMap<String, Vec<u64>>,
    pub keys: HashMap<String, Keyed>,
    /// Keys in the order of their first use; the oldest is forgotten first.
    order: VecDeque<String>,
    pub movements: u64,
    fees: Fees,
    max_charges: usize,
}

/// The number in `ch_0000000012`.
pub(crate) fn number(id: &str) -> Option<u64> {
    id.strip_prefix("ch_")?.parse().ok()
}

impl Books {
    pub(crate) fn new(fees: Fees, max_charges: usize) -> Books {
        Books {
            charges: BTreeMap::new(),
            by_reference: HashMap::new(),
            keys: HashMap::new(),
            order: VecDeque::new(),
            movements: 0,
            fees,
            max_charges,
        }
    }

    /// Puts a charge back that was kept on disk.
    pub(crate) fn restore(&mut self, charge: Charge) {
        let Some(number) = number(&charge.id) else { return };
        self.movements += (charge.captures.len() + charge.refunds.len()) as u64;
        self.by_reference.entry(charge.reference.clone()).or_default().push(number);
        self.charges.insert(number, charge);
    }

    pub(crate) fn restore_key(&mut self, key: String, keyed: Keyed) {
        self.order.push_back(key.clone());
        self.keys.insert(key, keyed);
    }

    /// A charge as it stands at `now`: an authorisation that ran out is expired.
    pub(crate) fn get(&mut self, id: &str, now: Timestamp) -> Option<&Charge> {
        let charge = self.charges.get_mut(&number(id)?)?;
        if charge.status == Status::Authorized && now.ms_since(charge.created_at) > AUTHORISATION_MS {
            charge.status = Status::Expired;
            charge.open = false;
            charge.version += 1;
        }
        Some(charge)
    }

    /// Those with this reference, oldest first.
    pub(crate) fn by_reference(&self, reference: &str) -> Vec<&Charge> {
        self.by_reference.get(reference).into_iter().flatten().filter_map(|number| self.charges.get(number)).collect()
    }

    /// Begins a request under its key: its answer if it has one, or which attempt this is.
    pub(crate) fn begin(&mut self, key: &str, ask: &Ask) -> Result<Result<u32, Answer>, Refusal> {
        if let Some(known) = self.keys.get_mut(key) {
            if known.ask != *ask {
                return Err(refusal(409, "idempotency_key_reused", "this key was used for another request"));
            }
            if let Some(answer) = &known.answer {
                return Ok(Err(answer.clone()));
            }
            if known.busy {
                return Err(refusal(409, "idempotency_in_progress", "the request with this key is still being worked on"));
            }
            known.busy = true;
            known.attempts += 1;
            return Ok(Ok(known.attempts - 1));
        }
        // Four keys a charge are as many as an ordinary life of one takes.
        while self.order.len() >= self.max_charges.saturating_mul(4).max(4) {
            if let Some(oldest) = self.order.pop_front() {
                self.keys.remove(&oldest);
            }
        }
        self.order.push_back(key.to_owned());
        self.keys.insert(key.to_owned(), Keyed { ask: ask.clone(), attempts: 1, answer: None, busy: true });
        Ok(Ok(0))
    }

    /// Gives a request up without having done it: the same key may try again.
    pub(crate) fn abandon(&mut self, key: &str) {
        if let Some(keyed) = self.keys.get_mut(key) {
            keyed.busy = false;
        }
    }

    /// Does it, and keeps the answer under its key.
    pub(crate) fn finish(&mut self, key: &str, ask: &Ask, verdict: Verdict, base: &str, now: Timestamp) -> Answer {
        let answer = self.apply(ask, verdict, base, now);
        if let Some(keyed) = self.keys.get_mut(key) {
            keyed.busy = false;
            // What is temporary on our side is not an answer for ever.
            let temporary = matches!(&answer, Err(refusal) if refusal.status >= 500);
            keyed.answer = (!temporary).then(|| answer.clone());
        }
        answer
    }

    fn apply(&mut self, ask: &Ask, verdict: Verdict, base: &str, now: Timestamp) -> Answer {
        match ask {
            Ask::Create { reference, token, amount_minor, currency, capture } => {
                if Script::read(token).is_none() {
                    return Err(refusal(400, "unknown_token", "there is no such token"));
                }
                if self.charges.len() >= self.max_charges {
                    return Err(refusal(503, "full", "the sandbox holds as many charges as it may"));
                }
                let number = self.charges.last_key_value().map_or(1, |(last, _)| last + 1);
                let id = format!("ch_{number:010}");
                let mut charge = Charge {
                    action_url: (verdict == Verdict::RequiresAction).then(|| format!("{base}/challenge/{id}")),
                    id,
                    reference: reference.clone(),
                    token: token.clone(),
                    status: Status::Authorized,
                    amount_minor: *amount_minor,
                    currency: *currency,
                    captured_minor: 0,
                    refunded_minor: 0,
                    open: true,
                    dispute: None,
                    decline: None,
                    captures: Vec::new(),
                    refunds: Vec::new(),
                    created_at: now,
                    version: 1,
                };
                match verdict {
                    Verdict::Approve if *capture => self.capture(&mut charge, reference, *amount_minor, true, now),
                    Verdict::Approve => {}
                    Verdict::RequiresAction => charge.status = Status::RequiresAction,
                    Verdict::SoftDecline => decline(&mut charge, true, "insufficient_funds"),
                    Verdict::HardDecline => decline(&mut charge, false, "stolen_card"),
                }
                self.by_reference.entry(reference.clone()).or_default().push(number);
                self.charges.insert(number, charge.clone());
                Ok(charge)
            }
            Ask::Capture { charge, reference, amount_minor, last } => {
                let mut charge = self.known(charge, now)?;
                let left = charge.amount_minor - charge.captured_minor;
                if !matches!(charge.status, Status::Authorized | Status::Captured) || !charge.open {
                    return Err(refusal(409, "not_capturable", "nothing more can be captured of this charge"));
                }
                if *amount_minor > left {
                    return Err(refusal(409, "capture_exceeds", format!("at most {left} can be captured")));
                }
                self.capture(&mut charge, reference, *amount_minor, *last, now);
                self.keep(charge)
            }
            Ask::Void { charge } => {
                let mut charge = self.known(charge, now)?;
                let has_rest = charge.status == Status::Captured && charge.open;
                if !has_rest && !matches!(charge.status, Status::Authorized | Status::RequiresAction) {
                    return Err(refusal(409, "not_voidable", "only an authorisation, or what was not captured of one, can be voided"));
                }
                charge.status = if has_rest { Status::Captured } else { Status::Voided };
                charge.open = false;
                self.keep(charge)
            }
            Ask::Refund { charge, reference, amount_minor } => {
                let mut charge = self.known(charge, now)?;
                let left = charge.captured_minor - charge.refunded_minor - charge.lost_minor();
                if *amount_minor > left || charge.refunds.len() >= MAX_MOVEMENTS {
                    return Err(refusal(409, "refund_exceeds", format!("at most {left} can be refunded")));
                }
                self.movements += 1;
                charge.refunded_minor += amount_minor;
                let id = format!("re_{:010}", self.movements);
                charge.refunds.push(Movement { id, reference: reference.clone(), amount_minor: *amount_minor, fee_minor: 0, at: now });
                self.keep(charge)
            }
        }
    }

    fn known(&mut self, id: &str, now: Timestamp) -> Answer {
        self.get(id, now).cloned().ok_or_else(|| refusal(404, "charge_not_found", "there is no such charge"))
    }

    fn keep(&mut self, mut charge: Charge) -> Answer {
        charge.version += 1;
        if let Some(number) = number(&charge.id) {
            self.charges.insert(number, charge.clone());
        }
        Ok(charge)
    }

    fn capture(&mut self, charge: &mut Charge, reference: &str, amount_minor: i64, last: bool, now: Timestamp) {
        self.movements += 1;
        charge.status = Status::Captured;
        charge.captured_minor += amount_minor;
        charge.open = !last && charge.captured_minor < charge.amount_minor && charge.captures.len() < MAX_MOVEMENTS;
        let id = format!("ca_{:010}", self.movements);
        charge.captures.push(Movement {
            id,
            reference: reference.to_owned(),
            amount_minor,
            fee_minor: self.fees.of(amount_minor),
            at: now,
        });
    }

    /// The customer's word on a charge that waits for it. Quietly the same when it has been said.
    pub(crate) fn challenge(&mut self, id: &str, passed: bool, now: Timestamp) -> Answer {
        let mut charge = self.known(id, now)?;
        if charge.status != Status::RequiresAction {
            return Ok(charge);
        }
        charge.action_url = None;
        if passed {
            charge.status = Status::Authorized;
        } else {
            decline(&mut charge, false, "authentication_failed");
        }
        self.keep(charge)
    }

    /// The customer contests a charge.
    pub(crate) fn dispute(&mut self, id: &str, now: Timestamp) -> Answer {
        let mut charge = self.known(id, now)?;
        if charge.captured_minor == 0 {
            return Err(refusal(409, "not_disputable", "only what was captured can be disputed"));
        }
        if charge.dispute.is_none() {
            let amount_minor = charge.captured_minor - charge.refunded_minor;
            charge.dispute = Some(Dispute { state: DisputeState::Open, amount_minor, at: now });
        }
        self.keep(charge)
    }

    /// The bank decides a dispute. Quietly the same when it has.
    pub(crate) fn decide(&mut self, id: &str, won: bool, now: Timestamp) -> Answer {
        let mut charge = self.known(id, now)?;
        let left = charge.captured_minor - charge.refunded_minor;
        let Some(dispute) = &mut charge.dispute else {
            return Err(refusal(409, "not_disputed", "nobody contests this charge"));
        };
        if dispute.state == DisputeState::Open {
            // What was refunded meanwhile is not given back twice.
            let amount_minor = dispute.amount_minor.min(left);
            *dispute = Dispute { state: if won { DisputeState::Won } else { DisputeState::Lost }, amount_minor, at: now };
        }
        self.keep(charge)
    }
}

impl Charge {
    /// What the customer has back by a dispute, in minor units.
    pub(crate) fn lost_minor(&self) -> i64 {
        self.dispute.as_ref().filter(|dispute| dispute.state == DisputeState::Lost).map_or(0, |dispute| dispute.amount_minor)
    }
}

fn decline(charge: &mut Charge, soft: bool, code: &str) {
    charge.status = Status::Declined;
    charge.open = false;
    charge.decline = Some(Decline { soft, code: code.to_owned() });
}
