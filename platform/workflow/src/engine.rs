//! What happens to a saga in a transaction: it is leased, what was heard is resolved, what follows is prepared, and it is written back
//! under its token. Everything here is a function of the row, the steps and the input; what is called, and when, is the runner's.
//!
//! The invariant behind all of it: a call is made only after phase `call` is committed under its stable key, and phase `call` is left
//! only with an outcome. So whoever finds a saga in it without holding its lease knows that the outcome is unknown.

use crate::commands::{call_key_fits, report_name};
use crate::probe::{Fate, Point, Probe};
use crate::saga::{Did, Phase, Saga, SagaId, Status, from_json, to_json};
use crate::scope::keyed;
use crate::workflow::{Action, InDoubt, Step, Workflow};
use crate::{CallOut, Heard, Next, Outcome, Prepared, sql};
use kernel::{Error, Result, Timestamp};
use serde::Serialize;
use serde_json::Value;
use std::sync::{Arc, OnceLock};
use store::{NewEvent, Tx};

/// The code of a write under a token that is no longer the saga's.
pub(crate) const LEASE_LOST: &str = "workflow.lease_lost";
/// The most steps of one transaction.
pub(crate) const STEPS: u32 = 16;
/// The steps that a saga enters in its life, beyond which it is parked when it enters one without a rest before it.
const MAX_VISITS: u32 = 10_000;
/// The most things that a saga does that can be undone.
const MAX_TRAIL: usize = 256;
/// The most signals that are waited for at once.
const MAX_AWAITED: usize = 16;
/// The most bytes of a reason.
const MAX_REASON: usize = 1_000;

fn lease_lost() -> Error {
    Error::conflict(LEASE_LOST, "another node has taken this saga over; nothing was written")
}

/// Why a saga is looked at.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// It is due: take it.
    Claim,
    /// More steps follow in another transaction.
    More,
    /// The call or the question has come to this.
    Outcome(Outcome),
    /// The transaction failed.
    Failed {
        error: Error,
        /// What it was about, if it was about an outcome.
        outcome: Option<Outcome>,
        /// Whether the saga was leased before.
        leased: bool,
    },
}

/// One look at a saga, as a command.
#[derive(Clone)]
pub(crate) struct Look {
    pub workflows: Arc<Vec<Workflow>>,
    pub id: SagaId,
    /// The token under which it was seen or leased.
    pub token: i64,
    /// This process.
    pub owner: i64,
    pub lease_ms: i64,
    pub keep_ended_ms: i64,
    /// Drawn outside, since a command may run more than once.
    pub seed: u64,
    /// Nothing new is begun.
    pub stopping: bool,
    /// The most steps that are prepared in this transaction.
    pub steps: u32,
    pub input: Input,
    pub probe: Option<Probe>,
    /// What the probe has said: a command may run several times, and dies in each of them or in none.
    pub fate: Arc<OnceLock<Fate>>,
}

impl Look {
    fn dies(&self) -> bool {
        let Some(probe) = &self.probe else { return false };
        *self.fate.get_or_init(|| probe(Point::BeforeWrite, self.id)) == Fate::Die
    }
}

/// What is to be called, once the look is committed.
#[derive(Clone)]
pub(crate) struct Called {
    pub call: CallOut,
    pub key: String,
    pub body: Value,
    pub attempt: u32,
    pub since: Timestamp,
    pub timeout_ms: u32,
}

/// What follows a look.
pub(crate) enum Work {
    /// Nothing here: it is somebody else's, it waits, or it has ended.
    Rest,
    /// Call, under the lease with this token.
    Call(i64, Box<Called>),
    /// Look again at once, under the lease with this token.
    More(i64),
}

/// What a look came to, with what there is to tell of it once it is committed.
pub(crate) struct Looked {
    pub work: Work,
    pub told: Vec<Told>,
    /// The name of its kind; empty when it was not looked at.
    pub kind: &'static str,
}

/// What is counted and logged after the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Outcome { key: String, step: String, outcome: &'static str },
    Ended(Status),
    Parked { key: String, step: String, reason: String },
    Failed { step: String, reason: String },
}

/// What the engine tells consumers when a person is needed.
#[derive(Serialize)]
struct Parked<'a> {
    saga_id: SagaId,
    kind: &'a str,
    key: &'a str,
    step: &'a str,
    call_key: &'a str,
    reason: &'a str,
}

/// The event of a parked saga.
pub(crate) const PARKED_EVENT: &str = "workflow.parked";

/// How the machine goes on within a look.
enum Go {
    /// Prepare the step.
    Prepare,
    Resolve(Heard),
    /// Follow what a step has said.
    Follow(Next),
    Call(CallOut),
    /// Written back as it is, and left.
    Rest,
}

struct Machine<'m, 'a> {
    look: &'m Look,
    workflow: &'m Workflow,
    steps: &'m [Step],
    tx: &'m mut Tx<'a>,
    saga: Saga,
    told: Vec<Told>,
}

/// One look. Errors: `workflow.lease_lost`, and whatever the steps' functions return; then nothing is written.
pub(crate) fn look(tx: &mut Tx<'_>, look: &Look) -> Result<Looked> {
    let rest = || Ok(Looked { work: Work::Rest, told: Vec::new(), kind: "" });
    let claiming = matches!(look.input, Input::Claim | Input::Failed { leased: false, .. });
    let scope = tx.scope();
    let found: Option<Saga> = tx.opt(sql::LOAD, &keyed(scope, &(look.id,))[..])?;
    let now = tx.now();
    let Some(mut saga) = found.filter(|saga| saga.token == look.token) else {
        return if claiming { rest() } else { Err(lease_lost()) };
    };
    if claiming {
        if saga.next_at.is_none_or(|at| at > now) {
            return rest();
        }
        if saga.status.ended() {
            tx.exec(sql::DELETE_SIGNALS, &keyed(scope, &(look.id,))[..])?;
            tx.exec(sql::DELETE, &keyed(scope, &(look.id, look.token))[..])?;
            return rest();
        }
    } else if saga.owner != look.owner {
        return Err(lease_lost());
    }
    let known = look.workflows.iter().find(|workflow| workflow.kind.name == saga.kind);
    let Some((workflow, steps)) = known.and_then(|workflow| Some((workflow, workflow.steps(saga.version)?))) else {
        return rest();
    };
    if saga.step.is_empty() {
        steps[0].name.clone_into(&mut saga.step);
        saga.visit = 1;
    }
    // Free unless the machine ends with a call.
    (saga.owner, saga.token, saga.updated_at) = (0, look.token + 1, now);
    let mut machine = Machine { look, workflow, steps, tx, saga, told: Vec::new() };
    let work = machine.run()?;
    let Machine { saga, told, .. } = machine;
    save(tx, &saga, look.token)?;
    if matches!(look.input, Input::Outcome(_)) && look.dies() {
        return Err(lease_lost());
    }
    Ok(Looked { work, told, kind: workflow.kind.name })
}

fn save(tx: &mut Tx<'_>, saga: &Saga, token: i64) -> Result<()> {
    let awaits = if saga.awaits.is_empty() { String::new() } else { to_json(&saga.awaits, "a list of signals")? };
    let trail = match saga.trail.is_empty() {
        true => String::new(),
        false => serde_json::to_string(&saga.trail).map_err(|e| Error::internal("what was done does not serialise").caused_by(e))?,
    };
    let row = (
        saga.id,
        token,
        saga.token,
        saga.status.as_str(),
        saga.phase.as_str(),
        saga.undoing,
        saga.step.as_str(),
        saga.visit,
        saga.next_at,
        saga.owner,
        saga.attempts,
        saga.since,
        saga.deadline_at,
        saga.call_key.as_str(),
        awaits,
        saga.reason.as_str(),
        saga.failure.as_str(),
        saga.updated_at,
        saga.ended_at,
        saga.state.as_str(),
        saga.body.as_str(),
        saga.answer.as_str(),
        trail,
    );
    tx.must(sql::SAVE, &keyed(tx.scope(), &row)[..], lease_lost)
}

/// Writes down a saga that begins with a call. Errors: `internal` for a business key that is taken.
pub(crate) fn insert(tx: &mut Tx<'_>, saga: &Saga) -> Result<()> {
    let row = (
        saga.id,
        saga.kind.as_str(),
        saga.key.as_str(),
        saga.version,
        saga.status.as_str(),
        saga.phase.as_str(),
        saga.step.as_str(),
        saga.visit,
        saga.next_at,
        saga.owner,
        saga.since,
        saga.deadline_at,
        saga.call_key.as_str(),
        saga.created_at,
        saga.state.as_str(),
        saga.body.as_str(),
    );
    tx.must(sql::START_CALLING, &keyed(tx.scope(), &row)[..], || Error::internal("a saga that begins with a call was there already"))
}

/// Leases a saga that begins with a call and writes it down: what is to be called once that is committed, and the name of its kind. None, and
/// nothing is written, when this program does not know its steps.
pub(crate) fn begin_calling(
    tx: &mut Tx<'_>,
    saga: &mut Saga,
    workflows: &[Workflow],
    owner: i64,
    lease_ms: i64,
) -> Result<Option<(Called, &'static str)>> {
    let known = workflows.iter().find(|workflow| workflow.kind.name == saga.kind);
    let first = known.and_then(|workflow| Some((workflow.kind.name, workflow.steps(saga.version)?.first()?)));
    let Some((kind, step, call)) = first.and_then(|(kind, step)| Some((kind, step, step.action.call?))) else { return Ok(None) };
    let now = tx.now();
    step.name.clone_into(&mut saga.step);
    (saga.visit, saga.phase, saga.owner, saga.next_at) = (1, Phase::Call, owner, Some(now.plus_ms(lease_ms)));
    (saga.since, saga.deadline_at) = (Some(now), Some(now.plus_ms(step.action.deadline_ms)));
    insert(tx, saga)?;
    let body = from_json(&saga.body, "what was asked")?;
    let called = Called { call, key: saga.call_key.clone(), body, attempt: 1, since: now, timeout_ms: step.action.timeout_ms };
    Ok(Some((called, kind)))
}

fn shortened(reason: &str) -> String {
    let cut = (0..=MAX_REASON.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    // PostgreSQL holds no NUL, and reasons come from outside.
    reason[..cut].replace('\0', "")
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Refused(_) => "refused",
        Outcome::NotDone(_) => "not_done",
        Outcome::Unknown(_) => "unknown",
    }
}

impl Machine<'_, '_> {
    fn run(&mut self) -> Result<Work> {
        let mut go = match self.look.input.clone() {
            Input::Claim => self.claimed()?,
            Input::More => Go::Prepare,
            Input::Outcome(outcome) => self.came_to(outcome)?,
            Input::Failed { error, outcome, .. } => self.failed(&error, outcome)?,
        };
        let mut left = self.look.steps;
        loop {
            go = match go {
                Go::Prepare if self.look.stopping => self.due_at(self.now()),
                Go::Prepare if left == 0 => {
                    self.lease();
                    return Ok(Work::More(self.saga.token));
                }
                Go::Prepare => {
                    left -= 1;
                    self.prepare()?
                }
                Go::Resolve(heard) => self.resolve(heard)?,
                Go::Follow(next) => self.follow(next)?,
                Go::Call(call) => return self.call(call).map(|called| Work::Call(self.saga.token, Box::new(called))),
                Go::Rest => return Ok(Work::Rest),
            };
        }
    }

    fn now(&self) -> Timestamp {
        self.tx.now()
    }

    /// What the saga is at: the step, or what undoes it. Errors: `internal` when this version has no such step.
    fn action(&self) -> Result<Action> {
        let step = self.steps.iter().find(|step| step.name == self.saga.step);
        let action = step.and_then(|step| if self.saga.undoing { step.undo } else { Some(step.action) });
        action.ok_or_else(|| Error::internal(format!("version {} of {} has no step {}", self.saga.version, self.saga.kind, self.saga.step)))
    }

    /// Left until `at`.
    fn due_at(&mut self, at: Timestamp) -> Go {
        self.saga.next_at = Some(at);
        self.saga.status = self.saga.open_status(self.now());
        Go::Rest
    }

    fn lease(&mut self) {
        self.saga.owner = self.look.owner;
        self.saga.next_at = Some(self.now().plus_ms(self.look.lease_ms));
        self.saga.status = self.saga.open_status(self.now());
    }

    fn call(&mut self, call: CallOut) -> Result<Called> {
        let action = self.action()?;
        self.lease();
        Ok(Called {
            call,
            key: self.saga.call_key.clone(),
            body: from_json(&self.saga.body, "what was asked")?,
            attempt: self.saga.attempts + 1,
            since: self.saga.since.unwrap_or(self.now()),
            timeout_ms: action.timeout_ms,
        })
    }

    /// It is due, and nobody has it.
    fn claimed(&mut self) -> Result<Go> {
        let leaving = self.saga.cancel && !self.saga.undoing;
        let action = match self.action() {
            Ok(action) => action,
            Err(error) => {
                tracing::error!(saga = %self.saga.id, ?error, "a saga is at a step that its version does not have");
                let reason = format!("version {} has no step {}", self.saga.version, self.saga.step);
                return Ok(self.park(&reason));
            }
        };
        match self.saga.phase {
            Phase::Prepare | Phase::Again | Phase::Wait if leaving => self.undo("it was cancelled".to_owned()),
            Phase::Prepare => Ok(Go::Prepare),
            Phase::Answer => {
                // Heard also by one that is cancelled: what has happened must not be lost.
                let outcome: Outcome = from_json(&self.saga.answer, "a stored outcome")?;
                self.known(outcome)
            }
            Phase::Wait => {
                if let Some(go) = self.awaited()? {
                    return Ok(go);
                }
                match self.saga.deadline_at {
                    Some(deadline) if deadline > self.now() => Ok(self.due_at(deadline)),
                    _ => Ok(Go::Resolve(Heard::Deadline)),
                }
            }
            Phase::Call | Phase::Doubt | Phase::Again => {
                if let Some(outcome) = self.reported()? {
                    return self.known(outcome);
                }
                if self.saga.phase == Phase::Again {
                    self.saga.phase = Phase::Call;
                    if self.saga.since.is_none() {
                        self.count_from_now(&action);
                    }
                    return match action.call {
                        Some(call) => Ok(Go::Call(call)),
                        None => Err(Error::internal("an action without a call is called again")),
                    };
                }
                if self.saga.phase == Phase::Call {
                    self.saga.reason = "the process ended before the outcome was known".to_owned();
                }
                self.saga.phase = Phase::Doubt;
                match (action.in_doubt, action.call) {
                    (InDoubt::CallAgain, Some(call)) | (InDoubt::Ask(call), _) => Ok(Go::Call(call)),
                    _ => Ok(self.doubt(&action)),
                }
            }
            Phase::End => Ok(Go::Rest),
        }
    }

    /// A signal that is waited for, if one has come.
    fn awaited(&mut self) -> Result<Option<Go>> {
        let scope = self.tx.scope();
        let found: Option<(String, String)> =
            self.tx.opt(sql::NEXT_SIGNAL, &keyed(scope, &(self.saga.id, self.saga.awaits.clone()))[..])?;
        let Some((name, payload)) = found else { return Ok(None) };
        self.tx.exec(sql::HEARD, &keyed(scope, &(self.saga.id, name.as_str()))[..])?;
        let payload = from_json(&payload, "a signal's payload")?;
        Ok(Some(Go::Resolve(Heard::Signal { name, payload })))
    }

    /// What a callback has told of the call.
    fn reported(&mut self) -> Result<Option<Outcome>> {
        let (scope, names) = (self.tx.scope(), vec![report_name(&self.saga.call_key)]);
        let found: Option<(String, String)> = self.tx.opt(sql::NEXT_SIGNAL, &keyed(scope, &(self.saga.id, names))[..])?;
        let Some((name, payload)) = found else { return Ok(None) };
        self.tx.exec(sql::HEARD, &keyed(scope, &(self.saga.id, name))[..])?;
        from_json(&payload, "a reported outcome").map(Some)
    }

    /// The call or the question is over.
    fn came_to(&mut self, outcome: Outcome) -> Result<Go> {
        let action = self.action()?;
        self.told.push(Told::Outcome { key: self.saga.key.clone(), step: self.saga.step.clone(), outcome: outcome_name(&outcome) });
        // Where the question is the call itself, that this one has not happened says nothing of those before it.
        let outcome = match outcome {
            Outcome::NotDone(reason) if self.saga.phase == Phase::Doubt && !matches!(action.in_doubt, InDoubt::Ask(_)) => {
                Outcome::Unknown(reason)
            }
            outcome @ Outcome::Done(_) if to_json(&outcome, "an answer").is_err() => {
                Outcome::Unknown("it is done, but the answer is too large to be kept".to_owned())
            }
            other => other,
        };
        let reason = match &outcome {
            Outcome::Done(_) | Outcome::Refused(_) => return self.known(outcome),
            Outcome::NotDone(reason) | Outcome::Unknown(reason) => shortened(reason),
        };
        if let Some(told) = self.reported()? {
            return self.known(told);
        }
        self.saga.attempts += 1;
        self.saga.reason = reason;
        let late = self.saga.deadline_at.is_none_or(|deadline| deadline <= self.now());
        if matches!(outcome, Outcome::Unknown(_)) {
            self.saga.phase = Phase::Doubt;
            return Ok(self.doubt(&action));
        }
        if late {
            return self.known(Outcome::Refused(format!("it was not done in time: {}", self.saga.reason)));
        }
        self.saga.phase = Phase::Again;
        if self.saga.cancel && !self.saga.undoing {
            return self.undo("it was cancelled".to_owned());
        }
        Ok(self.after_a_wait(&action))
    }

    /// Asked again after a wait; at the deadline for the last time.
    fn doubt(&mut self, action: &Action) -> Go {
        let deadline = self.saga.deadline_at.unwrap_or(self.now());
        if deadline <= self.now() {
            let reason = format!("nobody knows what became of the call: {}", self.saga.reason);
            return self.park(&reason);
        }
        match action.in_doubt {
            InDoubt::OnlyTold => self.due_at(deadline),
            InDoubt::CallAgain | InDoubt::Ask(_) => self.after_a_wait(action),
        }
    }

    fn after_a_wait(&mut self, action: &Action) -> Go {
        let at = self.now().plus_ms(action.backoff.wait_ms(self.saga.attempts, self.look.seed));
        let at = self.saga.deadline_at.map_or(at, |deadline| at.min(deadline));
        self.due_at(at)
    }

    /// The outcome is known.
    fn known(&mut self, outcome: Outcome) -> Result<Go> {
        if self.saga.phase != Phase::Answer {
            (self.saga.phase, self.saga.attempts) = (Phase::Answer, 0);
        }
        self.saga.answer = to_json(&outcome, "an answer")?;
        match outcome {
            Outcome::Done(answer) => {
                self.record(&answer)?;
                Ok(Go::Resolve(Heard::Done(answer)))
            }
            Outcome::Refused(reason) => Ok(Go::Resolve(Heard::Refused(reason))),
            Outcome::NotDone(_) | Outcome::Unknown(_) => Err(Error::internal("a stored outcome is none")),
        }
    }

    /// Writes down what was done, if it can be undone; once for each visit.
    fn record(&mut self, answer: &Value) -> Result<()> {
        let saga = &mut self.saga;
        let undoable = self.steps.iter().any(|step| step.name == saga.step && step.undo.is_some());
        let known = saga.trail.iter().any(|did| did.visit == saga.visit && did.step == saga.step);
        if saga.undoing || !undoable || known {
            return Ok(());
        }
        if saga.trail.len() >= MAX_TRAIL {
            return Err(Error::internal(format!("a saga does at most {MAX_TRAIL} things that can be undone")));
        }
        let body = from_json(&saga.body, "what was asked")?;
        saga.trail.push(Did {
            step: saga.step.clone(),
            visit: saga.visit,
            key: saga.call_key.clone(),
            body,
            answer: answer.clone(),
            undone: false,
        });
        Ok(())
    }

    fn prepare(&mut self) -> Result<Go> {
        if self.saga.cancel && !self.saga.undoing {
            return self.undo("it was cancelled".to_owned());
        }
        let action = self.action()?;
        self.saga.call_key.clear();
        self.saga.body.clear();
        let prepared = (action.prepare)(self.tx, &mut self.saga)?;
        match prepared {
            Prepared::Call { key, body } => {
                let call = action.call.ok_or_else(|| Error::internal(format!("step {} has nothing to call", self.saga.step)))?;
                call_key_fits(&key)?;
                let saga = &mut self.saga;
                saga.body = to_json(&body, "what is asked")?;
                (saga.call_key, saga.phase, saga.attempts) = (key, Phase::Call, 0);
                saga.reason.clear();
                self.count_from_now(&action);
                Ok(Go::Call(call))
            }
            Prepared::Done(answer) => self.known(Outcome::Done(answer)),
            Prepared::Next(next) => Ok(Go::Follow(next)),
        }
    }

    /// The time in which its call's outcome is awaited begins.
    fn count_from_now(&mut self, action: &Action) {
        let now = self.now();
        (self.saga.since, self.saga.deadline_at) = (Some(now), Some(now.plus_ms(action.deadline_ms)));
    }

    fn resolve(&mut self, heard: Heard) -> Result<Go> {
        let resolve = self.action()?.resolve;
        let done = matches!(heard, Heard::Done(_));
        let next = resolve(self.tx, &mut self.saga, heard)?;
        // Whatever it would go on with: it was told what happened, and that is all. What was done and it can make nothing of, a person has to.
        let stands = matches!(next, Next::Finish) || done && matches!(next, Next::Park(_));
        if self.saga.cancel && !self.saga.undoing && !stands {
            return self.undo("it was cancelled".to_owned());
        }
        Ok(Go::Follow(next))
    }

    fn follow(&mut self, next: Next) -> Result<Go> {
        match next {
            Next::Wait { signals, until } => self.wait(signals, until),
            Next::Park(reason) => Ok(self.park(&reason)),
            Next::Compensate(reason) if self.saga.undoing => Ok(self.park(&reason)),
            Next::Continue | Next::Finish if self.saga.undoing => {
                if let Some(did) = self.saga.trail.iter_mut().rev().find(|did| !did.undone) {
                    did.undone = true;
                }
                self.undo_next()
            }
            Next::Step(_) | Next::StepAt(..) if self.saga.undoing => {
                Err(Error::internal(format!("the undo of step {} goes to another step", self.saga.step)))
            }
            Next::Compensate(reason) => self.undo(reason),
            Next::Finish => self.end(Status::Done),
            Next::Continue => {
                let at = self.steps.iter().position(|step| step.name == self.saga.step);
                match at.and_then(|at| self.steps.get(at + 1)) {
                    Some(step) => self.enter(step.name, None),
                    None => self.end(Status::Done),
                }
            }
            Next::Step(name) => self.enter(name, None),
            Next::StepAt(name, at) => self.enter(name, Some(at)),
        }
    }

    fn enter(&mut self, step: &str, at: Option<Timestamp>) -> Result<Go> {
        if !self.steps.iter().any(|known| known.name == step) {
            return Err(Error::internal(format!("version {} of {} has no step {step}", self.saga.version, self.saga.kind)));
        }
        self.begin(step);
        match at.filter(|at| *at > self.now()) {
            // One that sleeps in between runs away from nobody: it may go on for years.
            Some(at) => Ok(self.due_at(at)),
            None if self.saga.visit > MAX_VISITS => Ok(self.park("it has entered more steps than a saga may")),
            None => Ok(Go::Prepare),
        }
    }

    /// At the beginning of a step.
    fn begin(&mut self, step: &str) {
        let saga = &mut self.saga;
        step.clone_into(&mut saga.step);
        saga.visit += 1;
        (saga.phase, saga.attempts, saga.since, saga.deadline_at) = (Phase::Prepare, 0, None, None);
        saga.answer.clear();
        saga.awaits.clear();
        saga.reason.clear();
    }

    fn wait(&mut self, signals: Vec<String>, until: Timestamp) -> Result<Go> {
        if signals.is_empty() || signals.len() > MAX_AWAITED {
            return Err(Error::internal(format!("a saga waits for 1 to {MAX_AWAITED} signals")));
        }
        let now = self.now();
        (self.saga.phase, self.saga.attempts, self.saga.awaits) = (Phase::Wait, 0, signals);
        (self.saga.since, self.saga.deadline_at) = (Some(now), Some(until));
        self.saga.answer.clear();
        if let Some(go) = self.awaited()? {
            return Ok(go);
        }
        Ok(self.due_at(until))
    }

    /// Turns round.
    fn undo(&mut self, reason: String) -> Result<Go> {
        self.saga.undoing = true;
        self.saga.failure = shortened(&reason);
        self.undo_next()
    }

    fn undo_next(&mut self) -> Result<Go> {
        let Some(step) = self.saga.to_undo().map(|did| did.step.clone()) else {
            return self.end(if self.saga.cancel { Status::Cancelled } else { Status::Failed });
        };
        self.begin(&step);
        Ok(Go::Prepare)
    }

    fn end(&mut self, status: Status) -> Result<Go> {
        let now = self.now();
        self.told.push(Told::Ended(status));
        if let Some(every_ms) = self.workflow.every_ms
            && status != Status::Cancelled
        {
            return Ok(self.again_at_its_time(every_ms));
        }
        self.saga.status = status;
        self.saga.awaits.clear();
        self.saga.reason = self.saga.failure.clone();
        if let Some(hook) = self.workflow.on_end {
            let reason = self.saga.reason.clone();
            hook(self.tx, &self.saga, status, &reason)?;
        }
        (self.saga.phase, self.saga.ended_at) = (Phase::End, Some(now));
        self.saga.next_at = Some(now.plus_ms(self.look.keep_ended_ms));
        Ok(Go::Rest)
    }

    /// A timer begins anew: whatever was missed meanwhile is one run.
    fn again_at_its_time(&mut self, every_ms: i64) -> Go {
        let next = next_tick(self.now(), every_ms);
        let reason = std::mem::take(&mut self.saga.reason);
        (self.saga.undoing, self.saga.cancel, self.saga.version) = (false, false, self.workflow.kind.version);
        self.saga.trail.clear();
        self.saga.failure.clear();
        self.begin("");
        self.saga.reason = reason;
        self.saga.visit = 0;
        self.due_at(next)
    }

    fn park(&mut self, reason: &str) -> Go {
        self.saga.reason = shortened(reason);
        if let Some(every_ms) = self.workflow.every_ms {
            self.told.push(Told::Failed { step: self.saga.step.clone(), reason: self.saga.reason.clone() });
            return self.again_at_its_time(every_ms);
        }
        (self.saga.status, self.saga.next_at) = (Status::Parked, None);
        let saga = &self.saga;
        let parked =
            Parked { saga_id: saga.id, kind: &saga.kind, key: &saga.key, step: &saga.step, call_key: &saga.call_key, reason: &saga.reason };
        self.tx.emit(NewEvent::new(PARKED_EVENT, 1, saga.id, &parked));
        self.told.push(Told::Parked { key: saga.key.clone(), step: saga.step.clone(), reason: saga.reason.clone() });
        if let Some(hook) = self.workflow.on_park {
            let told = self.tx.attempt(|tx| hook(tx, saga, &saga.reason)).and_then(|hooked| hooked);
            if let Err(error) = told {
                tracing::error!(saga = %saga.id, ?error, "the module could not be told that a saga is parked");
            }
        }
        Go::Rest
    }

    /// The transaction of a step failed and was rolled back; this one only says so.
    fn failed(&mut self, error: &Error, outcome: Option<Outcome>) -> Result<Go> {
        let action = self.action().ok();
        let backoff = action.map_or_else(log::Backoff::default, |action| action.backoff);
        if let Some(outcome @ (Outcome::Done(_) | Outcome::Refused(_))) = outcome {
            if self.saga.phase != Phase::Answer {
                (self.saga.phase, self.saga.attempts) = (Phase::Answer, 0);
            }
            self.saga.answer = to_json(&outcome, "an answer")?;
        }
        self.saga.attempts += 1;
        let reason = format!("{}: {}", error.code(), error.detail());
        let step = self.saga.step.clone();
        if self.saga.attempts >= backoff.max_attempts {
            return Ok(self.park(&reason));
        }
        self.saga.reason = shortened(&reason);
        self.told.push(Told::Failed { step, reason });
        let at = self.now().plus_ms(backoff.wait_ms(self.saga.attempts, self.look.seed));
        Ok(self.due_at(at))
    }
}

/// The next full `every_ms` of Unix time.
pub(crate) fn next_tick(now: Timestamp, every_ms: i64) -> Timestamp {
    let every = every_ms.max(1);
    Timestamp::from_micros((now.unix_ms().div_euclid(every) + 1).saturating_mul(every).saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_keeps_to_full_intervals_and_missed_ones_are_one() {
        let at = Timestamp::from_micros;
        for (now_us, every_ms, next_us) in
            [(0, 1_000, 1_000_000), (999_999, 1_000, 1_000_000), (1_000_000, 1_000, 2_000_000), (9_500_000, 1_000, 10_000_000)]
        {
            assert_eq!(next_tick(at(now_us), every_ms), at(next_us));
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(shortened(&"ä".repeat(700)).len(), 1_000);
        assert_eq!(shortened("a\0b"), "ab");
    }
}
