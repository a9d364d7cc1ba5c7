//! What a step has while it is outside: what it asks, and what the application has given it to ask with.

use crate::saga::{SagaId, from_json};
use kernel::{Result, TenantId, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;
use store::Store;

/// What calls need besides their request: clients, adapters; one of each type. Put together when the application starts.
#[derive(Clone, Default)]
pub struct Parts(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Parts {
    /// None yet.
    pub fn new() -> Parts {
        Parts::default()
    }

    /// With this one, instead of one of the same type.
    #[must_use]
    pub fn with<T: Any + Send + Sync>(mut self, part: T) -> Parts {
        self.0.insert(TypeId::of::<T>(), Arc::new(part));
        self
    }
}

/// What is asked of the outside.
#[derive(Clone)]
pub struct Request {
    /// The stable key.
    pub key: String,
    /// What is asked; see [`crate::Prepared::Call`].
    pub body: Value,
    /// Whose saga it is; none for the platform's own.
    pub tenant: Option<TenantId>,
    /// The saga.
    pub saga: SagaId,
    /// How often it was called or asked about, this time included, from 1; it begins anew after a person's retry.
    pub attempt: u32,
    /// When it was first called, or a person last had it retried.
    pub first_called_at: Timestamp,
    pub(crate) store: Store,
    pub(crate) parts: Arc<Parts>,
}

impl Request {
    /// The body as a `T`. Errors: `internal` when it is of another shape.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T> {
        from_json(&self.body.to_string(), "what is asked of the outside")
    }

    /// The store, to read from.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// One of the application's parts. Panics when it was not put in: an error of the wiring, found by the first test. (The runner
    /// takes it for an unknown outcome.)
    pub fn part<T: Any + Send + Sync>(&self) -> &T {
        let part = self.parts.0.get(&TypeId::of::<T>()).and_then(|part| part.downcast_ref());
        part.unwrap_or_else(|| panic!("no part of type {} was given to the workflows", std::any::type_name::<T>()))
    }
}
