//! The sandbox put together, and its serving loop.

use crate::behaviour::{Behaviour, Fault, Rates};
use crate::books::{Answer, Ask, Books, Charge, Fees, Status, refusal};
use crate::callbacks::Callbacks;
use crate::disk::Disk;
use crate::{Verdict, behaviour, routes};
use axum::Router;
use axum::serve::ListenerExt as _;
use client::webhook;
use kernel::{Clock, Error, Result};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How long a stop waits for what is in flight.
const GRACE_MS: u64 = 5_000;
/// Queries that a stale charge answers as if nothing had happened.
const STALE_QUERIES: u32 = 2;

/// How it is set up.
#[derive(Clone, Debug)]
pub struct SandboxConfig {
    /// What callers show as their bearer token.
    pub api_key: String,
    /// Where callbacks go, and the secret that signs them (`whsec_...`). None for no callbacks.
    pub callback: Option<(String, String)>,
    /// The same seed behaves the same.
    pub seed: u64,
    /// How often it misbehaves without being told to.
    pub rates: Rates,
    /// What stands before the path of a challenge page, such as `http://127.0.0.1:8090`.
    pub public_url: String,
    /// File that keeps the books. None for memory alone.
    pub data: Option<PathBuf>,
    /// How long it lets a caller wait in vain, in milliseconds.
    pub hang_ms: u64,
    /// How late a late answer or callback is, in milliseconds.
    pub late_ms: u64,
    /// The pause before a callback is tried again, in milliseconds; it doubles.
    pub retry_ms: u64,
    /// The most charges that are kept; further ones are refused.
    pub max_charges: usize,
    /// The most requests in flight; further ones are refused at once.
    pub max_requests: usize,
    /// What it keeps of a capture, in millionths of the amount.
    pub fee_micros: i64,
    /// What it keeps of each capture besides, in minor units.
    pub fee_fixed_minor: i64,
}

impl Default for SandboxConfig {
    /// In memory, well-behaved unless a token says otherwise, 1.4 % and 25 minor units of each capture.
    fn default() -> Self {
        SandboxConfig {
            api_key: "sk_sandbox".to_owned(),
            callback: None,
            seed: 1,
            rates: Rates::default(),
            public_url: String::new(),
            data: None,
            hang_ms: 30_000,
            late_ms: 2_000,
            retry_ms: 200,
            max_charges: 1_000_000,
            max_requests: 4_096,
            fee_micros: 14_000,
            fee_fixed_minor: 25,
        }
    }
}

/// A provider; cheap to clone.
#[derive(Clone)]
pub struct Sandbox(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: SandboxConfig,
    pub(crate) clock: Arc<dyn Clock>,
    behaviour: Behaviour,
    state: Mutex<State>,
    callbacks: Mutex<Option<Callbacks>>,
    pub(crate) room: Semaphore,
}

struct State {
    books: Books,
    disk: Option<Disk>,
    /// Charges whose queries lie, with what they answer and how often yet.
    stale: HashMap<String, (Option<Charge>, u32)>,
}

/// How a request ends for its caller.
pub(crate) enum Ended {
    Answer(Box<Answer>),
    /// Wait, then close without a word.
    Hang,
    /// 500 or 503 whatever was done.
    Failed(u16),
}

impl Sandbox {
    /// Opens the books. Errors: `sandbox.disk`; a callback secret that is none.
    pub fn open(config: SandboxConfig, clock: Arc<dyn Clock>) -> Result<Sandbox> {
        let fees = Fees { micros: config.fee_micros, fixed_minor: config.fee_fixed_minor };
        let mut books = Books::new(fees, config.max_charges);
        let disk = config.data.as_deref().map(|path| Disk::open(path, &mut books)).transpose()?;
        let behaviour = Behaviour { seed: config.seed, rates: config.rates.clone() };
        let sandbox = Sandbox(Arc::new(Inner {
            room: Semaphore::new(config.max_requests.clamp(1, Semaphore::MAX_PERMITS)),
            behaviour,
            clock,
            state: Mutex::new(State { books, disk, stale: HashMap::new() }),
            callbacks: Mutex::new(None),
            config,
        }));
        if let Some((url, secret)) = &sandbox.0.config.callback {
            sandbox.call_back(url, secret)?;
        }
        Ok(sandbox)
    }

    /// Sends callbacks there from now on. Errors: a secret that is none.
    pub fn call_back(&self, url: &str, secret: &str) -> Result<()> {
        let secret: webhook::Secret = secret.parse()?;
        let callbacks = Callbacks::new(url.to_owned(), secret, self.0.clock.clone(), self.0.config.retry_ms)?;
        *self.0.callbacks.lock().unwrap_or_else(PoisonError::into_inner) = Some(callbacks);
        Ok(())
    }

    /// Its HTTP API, for use in the same process.
    pub fn router(&self) -> Router {
        routes::router(self.clone())
    }

    /// Every charge, oldest first.
    pub fn books(&self) -> Vec<Charge> {
        self.lock().books.charges.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn callbacks(&self) -> Option<Callbacks> {
        self.0.callbacks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn dropped_callbacks(&self) -> u64 {
        self.callbacks().map_or(0, |callbacks| callbacks.dropped())
    }

    /// Reads the books.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&mut Books) -> T) -> T {
        read(&mut self.lock().books)
    }

    /// A charge as a query shows it, which may lie for a while. None when there is none, an error when it never answers.
    pub(crate) fn shown(&self, charge: &Charge) -> std::result::Result<Option<Charge>, ()> {
        if let Some(script) = behaviour::Script::read(&charge.token) {
            let kinds = [behaviour::Kind::Create, behaviour::Kind::Capture, behaviour::Kind::Void, behaviour::Kind::Refund];
            if kinds.iter().any(|kind| self.0.behaviour.fault(&script, *kind, "", 1) == Some(Fault::Mute)) {
                return Err(());
            }
        }
        let mut state = self.lock();
        let Some((before, left)) = state.stale.get_mut(&charge.id) else { return Ok(Some(charge.clone())) };
        let before = before.clone();
        *left -= 1;
        if *left == 0 {
            state.stale.remove(&charge.id);
        }
        Ok(before)
    }

    /// Works on a request, on a task of its own: a caller who leaves does not stop it.
    pub(crate) async fn work(&self, key: String, ask: Ask) -> Ended {
        let sandbox = self.clone();
        let working = tokio::spawn(async move { sandbox.perform(key, ask).await });
        working.await.unwrap_or(Ended::Failed(500))
    }

    async fn perform(&self, key: String, ask: Ask) -> Ended {
        let inner = &self.0;
        let begun = self.look(|books| {
            let token = match (&ask, ask.charge().and_then(|id| books.get(id, inner.clock.now()))) {
                (Ask::Create { token, .. }, _) => token.clone(),
                (_, charge) => charge.map(|charge| charge.token.clone()).unwrap_or_default(),
            };
            books.begin(&key, &ask).map(|begun| (begun, token))
        });
        let (attempt, token) = match begun {
            Err(refusal) => return Ended::Answer(Box::new(Err(refusal))),
            Ok((Err(answer), token)) => {
                // Whoever never answers does not for a repeated key either.
                let script = behaviour::Script::read(&token).unwrap_or_default();
                let mute = matches!(inner.behaviour.fault(&script, ask.kind(), &key, 1), Some(Fault::Mute | Fault::Silent));
                return if mute { Ended::Hang } else { Ended::Answer(Box::new(answer)) };
            }
            Ok((Ok(attempt), token)) => (attempt, token),
        };
        let script = behaviour::Script::read(&token).unwrap_or_default();
        let fault = inner.behaviour.fault(&script, ask.kind(), &key, attempt);
        match fault {
            Some(Fault::TimeoutBefore | Fault::Silent) => {
                self.look(|books| books.abandon(&key));
                return Ended::Hang;
            }
            Some(Fault::Outage) => {
                self.look(|books| books.abandon(&key));
                return Ended::Failed(503);
            }
            Some(Fault::Late) => tokio::time::sleep(Duration::from_millis(inner.config.late_ms)).await,
            _ => {}
        }
        let verdict = inner.behaviour.verdict(&script, &key);
        let answer = match self.record(&key, &ask, verdict, fault == Some(Fault::Stale)) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(%error, "the sandbox can't keep its books");
                return Ended::Failed(500);
            }
        };
        if let Ok(charge) = &answer {
            self.tell(kind_of_event(&ask, charge), charge, fault).await;
        }
        match fault {
            Some(Fault::TimeoutAfter | Fault::Mute) => Ended::Hang,
            Some(Fault::ErrorAfter) => Ended::Failed(500),
            _ => Ended::Answer(Box::new(answer)),
        }
    }

    /// Does it in the books and keeps it on disk.
    fn record(&self, key: &str, ask: &Ask, verdict: Verdict, stale: bool) -> Result<Answer> {
        let now = self.0.clock.now();
        let mut state = self.lock();
        let State { books, disk, stale: lies } = &mut *state;
        let before = ask.charge().and_then(|id| books.get(id, now)).cloned();
        let answer = books.finish(key, ask, verdict, &self.0.config.public_url, now);
        if let Some(disk) = disk {
            disk.keep(answer.as_ref().ok(), books.keys.get(key).map(|keyed| (key, keyed)))?;
        }
        if let (true, Ok(charge)) = (stale, &answer) {
            lies.insert(charge.id.clone(), (before, STALE_QUERIES));
        }
        Ok(answer)
    }

    /// The customer's word at the challenge page.
    pub(crate) async fn challenge(&self, id: &str, passed: bool) -> Answer {
        let answer = self.change(|books, now| books.challenge(id, passed, now))?;
        self.tell(if passed { "charge.authorized" } else { "charge.declined" }, &answer, None).await;
        Ok(answer)
    }

    /// The customer contests a charge.
    pub(crate) async fn dispute(&self, id: &str) -> Answer {
        let answer = self.change(|books, now| books.dispute(id, now))?;
        self.tell("charge.disputed", &answer, None).await;
        Ok(answer)
    }

    /// The bank decides a dispute.
    pub(crate) async fn decide(&self, id: &str, won: bool) -> Answer {
        let answer = self.change(|books, now| books.decide(id, won, now))?;
        self.tell("charge.dispute_closed", &answer, None).await;
        Ok(answer)
    }

    fn change(&self, change: impl FnOnce(&mut Books, kernel::Timestamp) -> Answer) -> Answer {
        let now = self.0.clock.now();
        let mut state = self.lock();
        let answer = change(&mut state.books, now)?;
        if let Some(disk) = &mut state.disk {
            disk.keep(Some(&answer), None).map_err(|error| refusal(500, "disk", error.to_string()))?;
        }
        Ok(answer)
    }

    async fn tell(&self, kind: &'static str, charge: &Charge, fault: Option<Fault>) {
        let Some(callbacks) = self.callbacks() else { return };
        let late_ms = self.0.config.late_ms;
        let id = callbacks.next_id();
        match fault {
            Some(Fault::CallbackLost | Fault::Mute) => {}
            Some(Fault::CallbackFirst) => drop(callbacks.attempt(&id, kind, charge).await),
            Some(Fault::CallbackOutOfOrder) => callbacks.send(id, kind, charge, late_ms),
            Some(Fault::CallbackTwice) => {
                callbacks.send(id.clone(), kind, charge, 0);
                callbacks.send(id, kind, charge, late_ms / 2);
            }
            Some(Fault::AnswerTwice) => {
                callbacks.send(id, kind, charge, 0);
                callbacks.send(callbacks.next_id(), kind, charge, late_ms / 2);
            }
            Some(Fault::CallbackLies) => {
                let mut lie = charge.clone();
                lie.status = Status::Declined;
                lie.captured_minor = 0;
                callbacks.send(id, kind, charge, 0);
                callbacks.send(callbacks.next_id(), "charge.declined", &lie, late_ms / 2);
            }
            _ => callbacks.send(id, kind, charge, 0),
        }
    }
}

fn kind_of_event(ask: &Ask, charge: &Charge) -> &'static str {
    match (ask, charge.status) {
        (Ask::Create { .. }, Status::Declined) => "charge.declined",
        (Ask::Create { .. }, Status::RequiresAction) => "charge.requires_action",
        (Ask::Create { .. }, Status::Captured) | (Ask::Capture { .. }, _) => "charge.captured",
        (Ask::Create { .. }, _) => "charge.authorized",
        (Ask::Void { .. }, _) => "charge.voided",
        (Ask::Refund { .. }, _) => "charge.refunded",
    }
}

/// Serves until `stop` is done, then finishes what is in flight, for a few seconds at most.
/// Errors: `sandbox.cannot_listen` when the listener fails.
pub async fn serve(sandbox: Sandbox, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    serve_router(sandbox.router(), listener, stop).await
}

/// The same for whatever has routes.
pub(crate) async fn serve_router(router: Router, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    // Answers are written whole; waiting to fill a packet would only delay them.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let stop = async move {
        stop.await;
        // The other end is gone only when serving has ended already.
        let _ = stopping.send(());
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop);
    let grace = async move {
        let _ = stopped.await;
        tokio::time::sleep(Duration::from_millis(GRACE_MS)).await;
    };
    tokio::select! {
        ended = async { serving.await } => ended.map_err(|error| Error::unavailable("sandbox.cannot_listen", "the sandbox can't serve").caused_by(error)),
        () = grace => Ok(()),
    }
}
