//! A saga: its row, what steps see of it, and what people see of it.

use crate::workflow::Kind;
use kernel::{Entity, Error, Id, Result, TenantId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{FromRow, Row};

/// Marks sagas' ids (`sag_...`).
pub enum SagaEntity {}

impl Entity for SagaEntity {
    const PREFIX: &'static str = "sag";
}

/// The id of a saga.
pub type SagaId = Id<SagaEntity>;

/// The most bytes of a state, a body or an answer, as JSON.
pub(crate) const MAX_JSON: usize = 64 * 1024;
/// The most bytes of a business key, of a stable key and of a signal's name.
pub(crate) const MAX_KEY: usize = 200;

/// Where a saga stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SagaStatus)]
pub enum Status {
    /// It has something to do.
    Running,
    /// It waits for a signal or for its time.
    Waiting,
    /// It undoes what it has done.
    Compensating,
    /// A person has to look at it.
    Parked,
    /// Ended: everything is done.
    Done,
    /// Ended: it could not be done, and what was done is undone.
    Failed,
    /// Ended: it was cancelled, and what was done is undone.
    Cancelled,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 7] =
        [Status::Running, Status::Waiting, Status::Compensating, Status::Parked, Status::Done, Status::Failed, Status::Cancelled];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Waiting => "waiting",
            Status::Compensating => "compensating",
            Status::Parked => "parked",
            Status::Done => "done",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        }
    }

    /// Whether nothing follows any more.
    pub fn ended(self) -> bool {
        matches!(self, Status::Done | Status::Failed | Status::Cancelled)
    }

    pub(crate) fn parse(text: &str) -> Result<Status> {
        let known = Status::ALL.into_iter().find(|status| status.as_str() == text);
        known.ok_or_else(|| Error::internal(format!("{text} is no status of a saga")))
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Prepare the step.
    Prepare,
    /// The call is committed: it may be under way, or over.
    Call,
    /// The outcome is unknown: ask at `next_at`, until `deadline_at`.
    Doubt,
    /// It has certainly not happened: call again.
    Again,
    /// The outcome is known and stored: resolve it.
    Answer,
    /// Wait for a signal until `deadline_at`.
    Wait,
    /// Ended.
    End,
}

impl Phase {
    const ALL: [(Phase, &'static str); 7] = [
        (Phase::Prepare, "prepare"),
        (Phase::Call, "call"),
        (Phase::Doubt, "doubt"),
        (Phase::Again, "again"),
        (Phase::Answer, "answer"),
        (Phase::Wait, "wait"),
        (Phase::End, "end"),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Phase::ALL.iter().find(|(phase, _)| *phase == self).map_or("", |(_, text)| text)
    }

    pub(crate) fn parse(text: &str) -> Result<Phase> {
        let known = Phase::ALL.iter().find(|(_, known)| *known == text);
        known.map(|(phase, _)| *phase).ok_or_else(|| Error::internal(format!("{text} is no phase of a saga")))
    }
}

/// Something that was done and can be undone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Did {
    /// The step.
    pub step: String,
    /// Its visit: with the step, it tells one doing from another.
    pub visit: u32,
    /// The stable key under which it was asked for; empty when nobody was asked.
    pub key: String,
    /// What was asked.
    #[schema(value_type = Object)]
    pub body: Value,
    /// The answer.
    #[schema(value_type = Object)]
    pub answer: Value,
    /// Whether it is undone.
    pub undone: bool,
}

/// What a step sees of its saga: the row, as it is in this transaction.
#[derive(Clone, Debug)]
pub struct Saga {
    pub(crate) id: SagaId,
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) version: u16,
    pub(crate) status: Status,
    pub(crate) phase: Phase,
    pub(crate) undoing: bool,
    pub(crate) cancel: bool,
    pub(crate) step: String,
    pub(crate) visit: u32,
    pub(crate) next_at: Option<Timestamp>,
    pub(crate) owner: i64,
    pub(crate) token: i64,
    pub(crate) attempts: u32,
    pub(crate) since: Option<Timestamp>,
    pub(crate) deadline_at: Option<Timestamp>,
    pub(crate) call_key: String,
    pub(crate) awaits: Vec<String>,
    pub(crate) reason: String,
    pub(crate) failure: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) state: String,
    pub(crate) body: String,
    pub(crate) answer: String,
    pub(crate) trail: Vec<Did>,
}

pub(crate) fn to_json(value: &impl Serialize, what: &str) -> Result<String> {
    let text = serde_json::to_string(value).map_err(|e| Error::internal(format!("{what} does not serialise")).caused_by(e))?;
    if text.len() > MAX_JSON {
        return Err(Error::invalid("workflow.too_large", format!("{what} has more than {MAX_JSON} bytes of JSON")));
    }
    Ok(text)
}

/// Stored JSON; empty text stands for nothing.
pub(crate) fn from_json<T: DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    let text = if text.is_empty() { "null" } else { text };
    serde_json::from_str(text).map_err(|e| Error::internal(format!("{what} is of another shape than is expected")).caused_by(e))
}

fn list<T: DeserializeOwned>(text: &str, what: &str) -> Result<Vec<T>> {
    if text.is_empty() { Ok(Vec::new()) } else { from_json(text, what) }
}

impl FromRow for Saga {
    fn from_row(row: &dyn Row) -> Result<Saga> {
        Ok(Saga {
            id: row.get(0)?,
            kind: row.get(1)?,
            key: row.get(2)?,
            version: row.get(3)?,
            status: Status::parse(&row.get::<String>(4)?)?,
            phase: Phase::parse(&row.get::<String>(5)?)?,
            undoing: row.get(6)?,
            cancel: row.get(7)?,
            step: row.get(8)?,
            visit: row.get(9)?,
            next_at: row.get(10)?,
            owner: row.get(11)?,
            token: row.get(12)?,
            attempts: row.get(13)?,
            since: row.get(14)?,
            deadline_at: row.get(15)?,
            call_key: row.get(16)?,
            awaits: list(&row.get::<String>(17)?, "the list of awaited signals")?,
            reason: row.get(18)?,
            failure: row.get(19)?,
            created_at: row.get(20)?,
            updated_at: row.get(21)?,
            ended_at: row.get(22)?,
            state: row.get(23)?,
            body: row.get(24)?,
            answer: row.get(25)?,
            trail: list(&row.get::<String>(26)?, "the list of what was done")?,
        })
    }
}

impl Saga {
    /// One at its first step, whose call is prepared and was not made yet.
    pub(crate) fn calling(id: SagaId, kind: Kind, key: &str, state: String, call_key: &str, body: String, now: Timestamp) -> Saga {
        Saga {
            id,
            kind: kind.name.to_owned(),
            key: key.to_owned(),
            version: kind.version,
            status: Status::Running,
            phase: Phase::Again,
            undoing: false,
            cancel: false,
            step: String::new(),
            visit: 0,
            next_at: Some(now),
            owner: 0,
            token: 0,
            attempts: 0,
            since: None,
            deadline_at: None,
            call_key: call_key.to_owned(),
            awaits: Vec::new(),
            reason: String::new(),
            failure: String::new(),
            created_at: now,
            updated_at: now,
            ended_at: None,
            state,
            body,
            answer: String::new(),
            trail: Vec::new(),
        }
    }

    /// Its id.
    pub fn id(&self) -> SagaId {
        self.id
    }

    /// The business key under which it was started.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The name of its kind.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The version of the steps under which it began.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// The step that it is at.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// Its own state, as it was last set. Errors: `internal` when it is of another shape.
    pub fn state<T: DeserializeOwned>(&self) -> Result<T> {
        from_json(&self.state, "a saga's state")
    }

    /// Sets its own state, which is committed with this transaction. Errors: `workflow.too_large`.
    pub fn set_state(&mut self, state: &impl Serialize) -> Result<()> {
        self.state = to_json(state, "a saga's state")?;
        Ok(())
    }

    /// A key for what this visit of the step asks for: the same however often it is prepared, called or asked about, and no other
    /// saga's, step's or visit's.
    pub fn stable_key(&self) -> String {
        let undo = if self.undoing { "-undo" } else { "" };
        format!("{}-{}-{}{undo}", self.id, self.step, self.visit)
    }

    /// In an undo: what is being undone.
    pub fn undoing(&self) -> Option<&Did> {
        self.undoing.then(|| self.to_undo()).flatten()
    }

    /// What a step with an undo has done the last time that it was done, and is not undone.
    pub fn did(&self, step: &str) -> Option<&Did> {
        self.trail.iter().rev().find(|did| did.step == step && !did.undone)
    }

    /// Why it is undone; empty while it goes forwards.
    pub fn failure(&self) -> &str {
        &self.failure
    }

    pub(crate) fn to_undo(&self) -> Option<&Did> {
        self.trail.iter().rev().find(|did| !did.undone)
    }

    /// The status that the other columns make, while it is open and not parked.
    pub(crate) fn open_status(&self, now: Timestamp) -> Status {
        match self.phase {
            _ if self.undoing => Status::Compensating,
            Phase::Wait => Status::Waiting,
            Phase::Prepare if self.next_at.is_some_and(|at| at > now) && self.owner == 0 && self.attempts == 0 => Status::Waiting,
            _ => Status::Running,
        }
    }
}

/// A saga as people see it: in the API, on the command line, and for the module that started it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct SagaView {
    /// Its id.
    pub id: SagaId,
    /// Whose it is; null for the platform's own.
    pub tenant_id: Option<TenantId>,
    /// The name of its kind.
    pub kind: String,
    /// The business key under which it was started.
    pub key: String,
    /// The version of its steps.
    pub version: u16,
    /// Where it stands.
    pub status: Status,
    /// The step that it is at; empty for the first one, before it began.
    pub step: String,
    /// What is to be done next: `prepare`, `call`, `doubt` (ask what became of the call), `again`, `answer`, `wait`, `end`.
    pub phase: String,
    /// How often that was tried.
    pub attempts: u32,
    /// When it is looked at next; while a node has it, the end of its lease. Null when it is parked.
    pub next_at: Option<Timestamp>,
    /// Until when the outcome of the call, or a signal, is awaited.
    pub deadline_at: Option<Timestamp>,
    /// Whether it was cancelled.
    pub cancel_requested: bool,
    /// Why it is parked, has failed, or is tried again.
    pub reason: String,
    /// Why it is undone.
    pub failure: String,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it was last moved.
    pub updated_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The stable key of its last call.
    pub call_key: String,
    /// The signals that it waits for.
    pub awaits: Vec<String>,
    /// Its own state. Null in lists.
    #[schema(value_type = Option<Object>)]
    pub state: Value,
    /// What the last call asked for. Null in lists.
    #[schema(value_type = Option<Object>)]
    pub body: Value,
    /// An answer that could not be resolved yet. Null in lists.
    #[schema(value_type = Option<Object>)]
    pub answer: Value,
    /// What was done that can be undone. Empty in lists.
    pub trail: Vec<Did>,
}

impl SagaView {
    pub(crate) fn of(saga: Saga, tenant_id: Option<TenantId>) -> SagaView {
        let value = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        SagaView {
            id: saga.id,
            tenant_id,
            version: saga.version,
            status: saga.status,
            phase: saga.phase.as_str().to_owned(),
            attempts: saga.attempts,
            next_at: saga.next_at.filter(|_| !saga.status.ended()),
            deadline_at: saga.deadline_at,
            cancel_requested: saga.cancel,
            created_at: saga.created_at,
            updated_at: saga.updated_at,
            ended_at: saga.ended_at,
            state: value(&saga.state),
            body: value(&saga.body),
            answer: value(&saga.answer),
            kind: saga.kind,
            key: saga.key,
            step: saga.step,
            reason: saga.reason,
            failure: saga.failure,
            call_key: saga.call_key,
            awaits: saga.awaits,
            trail: saga.trail,
        }
    }
}
