//! What a workflow is: plain data and plain functions, so that tests and tools can walk it.

use crate::saga::Saga;
use crate::{Request, Status};
use futures_util::future::BoxFuture;
use kernel::{Error, Result, Timestamp};
use log::Backoff;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::Tx;

/// Names a workflow, and the version of its steps under which new sagas begin. A constant of its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Unique and stable, such as `payments.capture`; at most 64 bytes.
    pub name: &'static str,
    /// From 1.
    pub version: u16,
}

/// In a transaction: what will be asked of the outside, or what to do instead. May be run more than once before it commits once.
pub type Prepare = fn(&mut Tx<'_>, &mut Saga) -> Result<Prepared>;

/// Outside any transaction: does it, or asks what became of it. Awaited with a timeout; a timeout or a panic is [`Outcome::Unknown`].
pub type CallOut = fn(Request) -> BoxFuture<'static, Outcome>;

/// In a transaction: what the answer means for the business, and what follows. May be run more than once before it commits once.
pub type Resolve = fn(&mut Tx<'_>, &mut Saga, Heard) -> Result<Next>;

/// Told in the transaction in which a saga parks or ends: its status, and why.
pub type Ending = fn(&mut Tx<'_>, &Saga, Status, &str) -> Result<()>;

/// Told in the transaction in which a saga is parked, with the reason.
pub type Parking = fn(&mut Tx<'_>, &Saga, &str) -> Result<()>;

/// What [`Prepare`] has decided.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// Committed, and only then called. The key is what the other side knows the request by: [`Saga::stable_key`] or one of the
    /// module's own, which it never uses for anything else. At most 200 bytes; the body at most 64 KiB of JSON.
    Call {
        /// The stable key.
        key: String,
        /// What is asked.
        body: Value,
    },
    /// There is nothing to call: it is done by this transaction, and this is the answer, which [`Resolve`] hears at once.
    Done(Value),
    /// Something else follows; the step does not count as done.
    Next(Next),
}

/// What a call or a question has come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has happened; the answer, at most 64 KiB of JSON.
    Done(Value),
    /// The other side has said no, for good.
    Refused(String),
    /// It has certainly not happened (no connection, too many requests, an open breaker; of a question: it never arrived and never
    /// will). It is called again later under the same key.
    NotDone(String),
    /// Nobody can tell.
    Unknown(String),
}

/// What [`Resolve`] is told. That something is unknown is never told: it is asked until it is known, or parked.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// It has happened; the answer.
    Done(Value),
    /// The other side has said no, for good; or it has certainly not happened within the deadline.
    Refused(String),
    /// An awaited signal.
    Signal {
        /// Its name.
        name: String,
        /// What came with it.
        payload: Value,
    },
    /// No awaited signal came in time.
    Deadline,
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The next step of the list; after the last one the saga is done. In an undo: this step is undone.
    Continue,
    /// The step of this name, an earlier one too: each visit has a stable key of its own.
    Step(&'static str),
    /// The step of this name, not before this moment.
    StepAt(&'static str, Timestamp),
    /// A signal of one of these names (at most 16), or this moment: the same [`Resolve`] hears which. One that has come already is
    /// heard at once.
    Wait {
        /// The names.
        signals: Vec<String>,
        /// The deadline.
        until: Timestamp,
    },
    /// The saga is done, whatever steps are left. In an undo: this step is undone.
    Finish,
    /// What was done is undone, the last step first, and the saga ends as failed, for this reason. In an undo: as [`Next::Park`].
    Compensate(String),
    /// A person has to look at it.
    Park(String),
}

/// How an unknown outcome is found out.
#[derive(Clone, Copy)]
pub(crate) enum InDoubt {
    /// The other side answers a repeated key as it did the first time.
    CallAgain,
    Ask(CallOut),
    OnlyTold,
}

/// One thing that a step does, or undoes.
#[derive(Clone, Copy)]
pub struct Action {
    pub(crate) prepare: Prepare,
    pub(crate) call: Option<CallOut>,
    pub(crate) resolve: Resolve,
    pub(crate) in_doubt: InDoubt,
    pub(crate) timeout_ms: u32,
    pub(crate) deadline_ms: i64,
    pub(crate) backoff: Backoff,
}

const TIMEOUT_MS: u32 = 15_000;
const DEADLINE_MS: i64 = 24 * 3_600_000;

impl Action {
    /// Calls out. Unless said otherwise ([`Action::ask`], [`Action::only_told`]) a call whose outcome is unknown is repeated under the
    /// same key, so the other side has to answer a repeated key as it did the first time.
    pub fn outside(prepare: Prepare, call: CallOut, resolve: Resolve) -> Action {
        let backoff = Backoff::default();
        let (timeout_ms, deadline_ms) = (TIMEOUT_MS, DEADLINE_MS);
        Action { prepare, call: Some(call), resolve, in_doubt: InDoubt::CallAgain, timeout_ms, deadline_ms, backoff }
    }

    /// Calls nobody: [`Prepared::Done`] goes on with the next step, [`Prepared::Next`] with what it says.
    pub fn sql(prepare: Prepare) -> Action {
        Action::waiting(prepare, go_on)
    }

    /// Calls nobody, and hears what it waits for, or its own answer.
    pub fn waiting(prepare: Prepare, resolve: Resolve) -> Action {
        Action { call: None, ..Action::outside(prepare, |_| Box::pin(async { Outcome::Unknown(String::new()) }), resolve) }
    }

    /// In doubt, this asks the other side by the stable key. Its [`Outcome::NotDone`] means that the call never arrived and never will.
    #[must_use]
    pub fn ask(mut self, ask: CallOut) -> Action {
        self.in_doubt = InDoubt::Ask(ask);
        self
    }

    /// In doubt, nobody can be asked: [`crate::report`] tells, or the deadline comes.
    #[must_use]
    pub fn only_told(mut self) -> Action {
        self.in_doubt = InDoubt::OnlyTold;
        self
    }

    /// How long one call or question may take, in milliseconds; 15 seconds unless said.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u32) -> Action {
        self.timeout_ms = timeout_ms;
        self
    }

    /// How long after the first call it may stay open whether it happened, in milliseconds; a day unless said. After that an unknown
    /// outcome parks the saga, and what has certainly not happened is refused.
    #[must_use]
    pub fn deadline_ms(mut self, deadline_ms: i64) -> Action {
        self.deadline_ms = deadline_ms;
        self
    }

    /// The waits between questions, between repeated calls, and between attempts of a transaction that fails; how often the latter is
    /// tried before the saga parks.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Action {
        self.backoff = backoff;
        self
    }
}

/// The usual [`Resolve`]: on with what is done or signalled, undo what is refused (in an undo: park), park what is late.
pub fn go_on(_: &mut Tx<'_>, _: &mut Saga, heard: Heard) -> Result<Next> {
    Ok(match heard {
        Heard::Done(_) | Heard::Signal { .. } => Next::Continue,
        Heard::Refused(reason) => Next::Compensate(reason),
        Heard::Deadline => Next::Park("nothing was heard in time".to_owned()),
    })
}

/// A step: what it does, and how that is undone.
#[derive(Clone)]
pub struct Step {
    pub(crate) name: &'static str,
    pub(crate) action: Action,
    pub(crate) undo: Option<Action>,
}

impl Step {
    /// A step that leaves nothing to undo.
    pub fn new(name: &'static str, action: Action) -> Step {
        Step { name, action, undo: None }
    }

    /// With what undoes it, once it is done.
    #[must_use]
    pub fn undo(mut self, action: Action) -> Step {
        self.undo = Some(action);
        self
    }
}

/// A kind of saga with every version of its steps that may still be under way.
#[derive(Clone)]
pub struct Workflow {
    pub(crate) kind: Kind,
    pub(crate) versions: Vec<(u16, Vec<Step>)>,
    pub(crate) on_park: Option<Parking>,
    pub(crate) on_end: Option<Ending>,
    pub(crate) every_ms: Option<i64>,
    pub(crate) home_only: bool,
}

impl Workflow {
    /// Without steps yet.
    pub fn new(kind: Kind) -> Workflow {
        Workflow { kind, versions: Vec::new(), on_park: None, on_end: None, every_ms: None, home_only: false }
    }

    /// The steps of a version. That of the kind must be among them; an older one stays for as long as a saga of it is under way.
    #[must_use]
    pub fn version(mut self, number: u16, steps: Vec<Step>) -> Workflow {
        self.versions.push((number, steps));
        self
    }

    /// A job: a saga of one step, named `run`.
    pub fn job(kind: Kind, action: Action) -> Workflow {
        Workflow::new(kind).version(kind.version, vec![Step::new("run", action)])
    }

    /// A job that comes back at every full `every_ms` of Unix time, on the platform's scope of each shard, on one node at a time.
    /// Missed runs collapse into one. Failing, it waits for its next time.
    pub fn timer(name: &'static str, every_ms: i64, action: Action) -> Workflow {
        let mut timer = Workflow::job(Kind { name, version: 1 }, action);
        timer.every_ms = Some(every_ms.max(1));
        timer
    }

    /// A timer of the first shard alone.
    #[must_use]
    pub fn home_only(mut self) -> Workflow {
        self.home_only = true;
        self
    }

    /// Told in the transaction in which a saga is parked, with the reason. When it fails, the saga is parked all the same.
    #[must_use]
    pub fn on_park(mut self, hook: Parking) -> Workflow {
        self.on_park = Some(hook);
        self
    }

    /// Told in the transaction in which a saga ends as done, failed or cancelled. When it fails, the transaction does.
    #[must_use]
    pub fn on_end(mut self, hook: Ending) -> Workflow {
        self.on_end = Some(hook);
        self
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.kind.name
    }

    pub(crate) fn steps(&self, version: u16) -> Option<&[Step]> {
        self.versions.iter().find(|(number, _)| *number == version).map(|(_, steps)| &steps[..])
    }
}

/// Errors: `internal` for what is wrong with the program itself, found at start.
pub(crate) fn check(workflows: &[Workflow]) -> Result<()> {
    let wrong = |workflow: &Workflow, what: &str| Err(Error::internal(format!("workflow {:?} {what}", workflow.kind.name)));
    for (index, workflow) in workflows.iter().enumerate() {
        if workflow.kind.name.is_empty() || workflow.kind.name.len() > 64 {
            return wrong(workflow, "has no name of 1 to 64 bytes");
        }
        if workflows[..index].iter().any(|other| other.kind.name == workflow.kind.name) {
            return wrong(workflow, "is there twice");
        }
        if workflow.steps(workflow.kind.version).is_none() {
            return wrong(workflow, "lacks the steps of its own version");
        }
        for (place, (number, steps)) in workflow.versions.iter().enumerate() {
            if steps.is_empty() || workflow.versions[..place].iter().any(|(other, _)| other == number) {
                return wrong(workflow, "has a version without steps, or twice");
            }
            for (at, step) in steps.iter().enumerate() {
                let named = !step.name.is_empty() && step.name.len() <= 64;
                if !named || steps[..at].iter().any(|other| other.name == step.name) {
                    return wrong(workflow, "has a step without a name of its own of 1 to 64 bytes");
                }
            }
        }
    }
    Ok(())
}
