//! Whoever goes on with what a command has begun in that command's own transaction, instead of in another one a moment later.

use crate::tx::Tx;
use kernel::Result;
use std::any::Any;
use std::sync::{Arc, PoisonError, RwLock, Weak};

/// Something that is left for the [`Rider`], or that the rider leaves for itself; only it knows what.
pub type Left = Box<dyn Any + Send>;

/// Goes on with what commands leave by [`Tx::leave`].
pub trait Rider: Send + Sync {
    /// Called at the end of a command, in its transaction and scope, with what it has left. What is returned is given to
    /// [`Rider::committed`] when all of it is committed, and dropped when it is not. May be run more than once before it commits once.
    /// An error undoes the command too, which is then run again without a rider.
    fn ride(&self, tx: &mut Tx<'_>, left: Vec<Left>) -> Result<Vec<Left>>;

    /// Called on the lane's thread after the commit, before anybody is answered: it passes on what it is given, and does not wait.
    fn committed(&self, shard: u16, done: Vec<Left>);
}

/// The rider of a store, if somebody rides.
#[derive(Clone, Default)]
pub(crate) struct Riders(Arc<RwLock<Option<Weak<dyn Rider>>>>);

impl Riders {
    pub(crate) fn set(&self, rider: Weak<dyn Rider>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(rider);
    }

    pub(crate) fn get(&self) -> Option<Arc<dyn Rider>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(Weak::upgrade)
    }
}
