//! A command on its way through a lane, with its types erased.

use crate::call::{Call, Once, OnceKey};
use crate::tx::Tx;
use kernel::{Error, Result};
use std::any::{Any, TypeId};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// What a lane runs: it may be run several times, and is answered once.
pub(crate) trait Job: Send {
    fn call(&self) -> &Call;
    fn once(&self) -> Option<&OnceKey>;
    fn submitted(&self) -> Instant;
    /// Runs the command and keeps its answer. Forgets the answer of an earlier run.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()>;
    /// What it may be run together with: commands of the same scope with the same set. None for a command that runs alone.
    fn set(&self) -> Option<SetId> {
        None
    }
    /// Runs this command and those of its set after it as one, and keeps their answers. One outcome each, this one's first;
    /// an error is that of all.
    fn run_set(&mut self, tx: &mut Tx<'_>, others: &mut [Box<dyn Job>]) -> Result<Vec<Result<()>>> {
        debug_assert!(others.is_empty(), "only a command with a set is run with others");
        Ok(vec![self.run(tx)])
    }
    /// For the set's first command to find the data of the others.
    fn as_any(&mut self) -> &mut dyn Any;
    /// The kept answer as bytes, to be stored under the idempotency key.
    fn stored(&self) -> Result<Arc<[u8]>>;
    /// Keeps a stored answer instead of running.
    fn restore(&mut self, stored: &[u8]) -> Result<()>;
    /// Answers the caller: with the kept answer, or with the error.
    fn finish(self: Box<Self>, outcome: Result<()>);

    /// The line of the queue in which it waits: its tenant, or 0 for the platform.
    fn line(&self) -> i64 {
        self.call().scope.tenant().map_or(0, |t| t.as_i64())
    }

    /// Whether it has waited longer than its caller will.
    fn expired(&self) -> bool {
        self.submitted().elapsed().as_millis() > u128::from(self.call().deadline_ms)
    }
}

/// A function over sets, with its types: the same for two commands when they may be run as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SetId {
    types: TypeId,
    function: usize,
}

/// How the answer of a command under an idempotency key is stored.
pub(crate) struct Codec<T> {
    pub encode: fn(&T) -> Result<Vec<u8>>,
    pub decode: fn(&[u8]) -> Result<T>,
}

/// JSON, which an operator can read.
pub(crate) fn json_codec<T: serde::Serialize + serde::de::DeserializeOwned>() -> Codec<T> {
    Codec {
        encode: |value| serde_json::to_vec(value).map_err(|e| Error::internal("an answer does not serialise").caused_by(e)),
        decode: |bytes| serde_json::from_slice(bytes).map_err(|e| Error::internal("a stored answer does not parse").caused_by(e)),
    }
}

pub(crate) struct Command<C, T, F> {
    pub call: Call,
    pub once: Option<(OnceKey, Codec<T>)>,
    pub data: C,
    pub run: F,
    pub answer: Option<Once<T>>,
    pub submitted: Instant,
    pub reply: oneshot::Sender<Result<Once<T>>>,
}

impl<C, T, F> Command<C, T, F> {
    fn encoded(&self) -> Result<Arc<[u8]>> {
        match (&self.once, &self.answer) {
            (Some((_, codec)), Some(answer)) => Ok((codec.encode)(&answer.value)?.into()),
            _ => Err(Error::internal("an answer is stored that was not given")),
        }
    }

    fn decode(&mut self, stored: &[u8]) -> Result<()> {
        let (_, codec) = self.once.as_ref().ok_or_else(|| Error::internal("an answer is restored for a command without a key"))?;
        self.answer = Some(Once { value: (codec.decode)(stored)?, replayed: true });
        Ok(())
    }

    fn reply(self, outcome: Result<()>) {
        // The caller may have gone: the command stands all the same.
        let answer = self.answer;
        let _ = self.reply.send(outcome.and_then(|()| answer.ok_or_else(|| Error::internal("a command ended without an answer"))));
    }
}

impl<C, T, F> Job for Command<C, T, F>
where
    C: Send + 'static,
    T: Send + 'static,
    F: Fn(&mut Tx<'_>, &C) -> Result<T> + Send + 'static,
{
    fn call(&self) -> &Call {
        &self.call
    }

    fn once(&self) -> Option<&OnceKey> {
        self.once.as_ref().map(|(key, _)| key)
    }

    fn submitted(&self) -> Instant {
        self.submitted
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        self.answer = None;
        let value = (self.run)(tx, &self.data)?;
        self.answer = Some(Once { value, replayed: false });
        Ok(())
    }

    fn stored(&self) -> Result<Arc<[u8]>> {
        self.encoded()
    }

    fn restore(&mut self, stored: &[u8]) -> Result<()> {
        self.decode(stored)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        self.reply(outcome);
    }
}

/// One command of a set: its data, and whose it is.
pub struct Member<'a, C> {
    pub(crate) data: &'a C,
    pub(crate) correlation: Option<&'a Arc<str>>,
}

impl<C> Member<'_, C> {
    /// The request that it belongs to.
    pub fn correlation(&self) -> Option<Arc<str>> {
        self.correlation.cloned()
    }
}

impl<C> std::ops::Deref for Member<'_, C> {
    type Target = C;
    fn deref(&self) -> &C {
        self.data
    }
}

/// A function that takes commands of one tenant as a set: see [`crate::Store::write_set`].
pub type SetFunction<C, T> = fn(&mut Tx<'_>, &[Member<'_, C>]) -> Result<Vec<Result<T>>>;

/// A command that its neighbours of the same kind may join.
pub(crate) struct SetCommand<C, T> {
    pub inner: Command<C, T, SetFunction<C, T>>,
}

impl<C: Send + 'static, T: Send + 'static> SetCommand<C, T> {
    fn answer(&mut self, outcome: Result<T>) -> Result<()> {
        self.inner.answer = Some(Once { value: outcome?, replayed: false });
        Ok(())
    }
}

impl<C: Sync + Send + 'static, T: Send + 'static> Job for SetCommand<C, T> {
    fn call(&self) -> &Call {
        &self.inner.call
    }

    fn once(&self) -> Option<&OnceKey> {
        self.inner.once.as_ref().map(|(key, _)| key)
    }

    fn submitted(&self) -> Instant {
        self.inner.submitted
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        self.run_set(tx, &mut [])?.pop().unwrap_or_else(|| Err(Error::internal("a set answered for none of its commands")))
    }

    fn set(&self) -> Option<SetId> {
        Some(SetId { types: TypeId::of::<Self>(), function: self.inner.run as usize })
    }

    fn run_set(&mut self, tx: &mut Tx<'_>, others: &mut [Box<dyn Job>]) -> Result<Vec<Result<()>>> {
        let run = self.inner.run;
        let mut all: Vec<&mut SetCommand<C, T>> = Vec::with_capacity(1 + others.len());
        all.push(self);
        for other in others {
            all.push(other.as_any().downcast_mut().ok_or_else(|| Error::internal("commands of different sets were put together"))?);
        }
        all.iter_mut().for_each(|command| command.inner.answer = None);
        let members: Vec<Member<'_, C>> =
            all.iter().map(|command| Member { data: &command.inner.data, correlation: command.inner.call.correlation.as_ref() }).collect();
        let outcomes = run(tx, &members)?;
        if outcomes.len() != all.len() {
            return Err(Error::internal(format!("a set of {} commands was given {} answers", all.len(), outcomes.len())));
        }
        Ok(all.into_iter().zip(outcomes).map(|(command, outcome)| command.answer(outcome)).collect())
    }

    fn stored(&self) -> Result<Arc<[u8]>> {
        self.inner.encoded()
    }

    fn restore(&mut self, stored: &[u8]) -> Result<()> {
        self.inner.decode(stored)
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        self.inner.reply(outcome);
    }
}
