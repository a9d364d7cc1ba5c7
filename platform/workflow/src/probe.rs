//! For tests: a hook at the points at which a process may die.

use crate::SagaId;
use std::sync::Arc;

/// A point between what a saga does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// The request is committed, and nobody has been called.
    BeforeCall,
    /// The other side has answered, and nobody here knows.
    AfterCall,
    /// The outcome's transaction has done everything but commit.
    BeforeWrite,
    /// The outcome is committed, and nothing that follows has begun.
    AfterCommit,
}

impl Point {
    /// Every point, in order.
    pub const ALL: [Point; 4] = [Point::BeforeCall, Point::AfterCall, Point::BeforeWrite, Point::AfterCommit];
}

/// What becomes of the process there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Go,
    /// The saga is dropped as by a killed process: its lease stays until it runs out.
    Die,
}

/// Asked at each point; may block its thread, as a paused process would.
pub type Probe = Arc<dyn Fn(Point, SagaId) -> Fate + Send + Sync>;
