//! A command on its way through a lane, with its types erased.

use crate::call::{Call, Once, OnceKey};
use crate::tx::Tx;
use kernel::{Error, Result};
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
        match (&self.once, &self.answer) {
            (Some((_, codec)), Some(answer)) => Ok((codec.encode)(&answer.value)?.into()),
            _ => Err(Error::internal("an answer is stored that was not given")),
        }
    }

    fn restore(&mut self, stored: &[u8]) -> Result<()> {
        let (_, codec) = self.once.as_ref().ok_or_else(|| Error::internal("an answer is restored for a command without a key"))?;
        self.answer = Some(Once { value: (codec.decode)(stored)?, replayed: true });
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Command { answer, reply, .. } = *self;
        // The caller may have gone: the command stands all the same.
        let _ = reply.send(outcome.and_then(|()| answer.ok_or_else(|| Error::internal("a command ended without an answer"))));
    }
}
