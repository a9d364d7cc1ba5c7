//! How a command is submitted: whose it is, under which idempotency key, and until when it is wanted.

use kernel::{Scope, TenantId};
use std::sync::Arc;

/// What makes a command happen once. A repeated key with the same fingerprint gets the stored answer; with another fingerprint it
/// is refused with `idempotency.key_reused`. Refusals are not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnceKey {
    /// SHA-256 of the client's key (and of what it is scoped to), cut to 16 bytes.
    pub(crate) hash: [u8; 16],
    /// SHA-256 of what was asked for, cut to 16 bytes.
    pub(crate) fingerprint: [u8; 16],
}

impl OnceKey {
    /// From the client's key and everything that must be equal when the key is repeated.
    pub fn new(key: &str, fingerprint: &[u8]) -> OnceKey {
        OnceKey { hash: digest(key.as_bytes()), fingerprint: digest(fingerprint) }
    }
}

fn digest(bytes: &[u8]) -> [u8; 16] {
    let full = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut cut = [0; 16];
    cut.copy_from_slice(&full.as_ref()[..16]);
    cut
}

/// The answer of a command under a [`OnceKey`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once<T> {
    /// The answer.
    pub value: T,
    /// Whether it is that of an earlier call.
    pub replayed: bool,
}

/// The envelope of a command.
#[derive(Clone, Debug)]
pub struct Call {
    pub(crate) scope: Scope,
    pub(crate) on: Option<(u16, u16)>,
    pub(crate) deadline_ms: u32,
    pub(crate) bytes: usize,
    pub(crate) correlation: Option<Arc<str>>,
    pub(crate) finishes: bool,
    pub(crate) patience_ms: u32,
}

impl Call {
    /// A command in `scope`, wanted for 5 seconds.
    pub fn new(scope: impl Into<Scope>) -> Call {
        Call { scope: scope.into(), on: None, deadline_ms: 5_000, bytes: 1024, correlation: None, finishes: false, patience_ms: 0 }
    }

    /// Gives up when it has not begun after `deadline_ms`, and stops its statements after as long.
    #[must_use]
    pub fn deadline_ms(mut self, deadline_ms: u32) -> Call {
        self.deadline_ms = deadline_ms;
        self
    }

    /// About how much memory it holds while it is queued, in bytes; 1 KiB unless said.
    #[must_use]
    pub fn bytes(mut self, bytes: usize) -> Call {
        self.bytes = bytes;
        self
    }

    /// The request that it belongs to; goes into its events.
    #[must_use]
    pub fn correlation(mut self, correlation: impl Into<Arc<str>>) -> Call {
        self.correlation = Some(correlation.into());
        self
    }

    /// It finishes what was begun, such as a payment that a provider has answered: it is taken however long others are expected to wait,
    /// within the queue's bounds. Refused, it would have to come again, while what it would free is held. For work of a bounded number.
    #[must_use]
    pub fn finishes(mut self) -> Call {
        self.finishes = true;
        self
    }

    /// Waits for a group that is made for others and goes along, for so long at most: its own would cost the database as much as an
    /// order's. For what nobody waits for.
    #[must_use]
    pub fn patience_ms(mut self, patience_ms: u32) -> Call {
        self.patience_ms = patience_ms;
        self
    }

    /// Runs on this lane of this shard, for the platform's own machinery (consumers of that lane's events).
    #[must_use]
    pub fn on_lane(mut self, shard: u16, lane: u16) -> Call {
        self.on = Some((shard, lane));
        self
    }
}

impl From<Scope> for Call {
    fn from(scope: Scope) -> Call {
        Call::new(scope)
    }
}

impl From<TenantId> for Call {
    fn from(tenant: TenantId) -> Call {
        Call::new(tenant)
    }
}
