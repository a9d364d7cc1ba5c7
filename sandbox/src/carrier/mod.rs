//! A carrier: sells labels over HTTP, takes them back, scans parcels, and tells of it by callbacks; all of that as badly as it is told to.
//!
//! Promises: `GET /books` shows everything; it does what a label's service or the seed says, the same for the same seed; it honours
//! idempotency keys, and only they make a request happen once; everything it holds is bounded. It remembers nothing when it ends.

mod routes;
mod script;
#[cfg(test)]
mod tests;

use crate::behaviour::{Behaviour, Fault, Rates};
use crate::callbacks::Callbacks;
use crate::server::serve_router;
use axum::Router;
use client::webhook;
use kernel::{Clock, Result, Timestamp};
use ring::digest;
use script::{Ending, Script};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Queries that a stale label answers as if it were not there.
const STALE_QUERIES: u32 = 2;
/// Scans of one parcel.
const MAX_SCANS: usize = 500;
/// What a kilogram costs, begun ones counted whole, and what each label costs besides, in minor units.
const PRICE: (i64, i64) = (90, 300);

/// How it is set up.
#[derive(Clone, Debug)]
pub struct CarrierConfig {
    /// What callers show as their bearer token.
    pub api_key: String,
    /// Where callbacks go, and the secret that signs them (`whsec_...`). None for no callbacks.
    pub callback: Option<(String, String)>,
    /// The same seed behaves the same.
    pub seed: u64,
    /// How often it misbehaves for the service `random`.
    pub rates: Rates,
    /// What stands before the path of a label's document, such as `http://127.0.0.1:8091`.
    pub public_url: String,
    /// How long it lets a caller wait in vain, in milliseconds.
    pub hang_ms: u64,
    /// How late a late answer or callback is, in milliseconds.
    pub late_ms: u64,
    /// The pause before a callback is tried again, in milliseconds; it doubles.
    pub retry_ms: u64,
    /// The most labels that are kept; further ones are refused.
    pub max_labels: usize,
    /// The most requests in flight; further ones are refused at once.
    pub max_requests: usize,
}

impl Default for CarrierConfig {
    /// Well-behaved unless a service says otherwise.
    fn default() -> Self {
        CarrierConfig {
            api_key: "ck_sandbox".to_owned(),
            callback: None,
            seed: 1,
            rates: Rates::default(),
            public_url: String::new(),
            hang_ms: 30_000,
            late_ms: 2_000,
            retry_ms: 200,
            max_labels: 100_000,
            max_requests: 1_024,
        }
    }
}

/// Where a label stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelStatus {
    /// It may be stuck on.
    Bought,
    /// It was taken back.
    Voided,
}

/// What a scan says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanStatus {
    /// The label was bought.
    Announced,
    /// Seen on its way.
    InTransit,
    /// In the van.
    OutForDelivery,
    /// Something is in the way.
    Exception,
    /// Handed over.
    Delivered,
    /// Lost.
    Lost,
    /// Back at the sender's.
    Returned,
}

/// What was seen of a parcel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Scan {
    /// Ours.
    pub id: String,
    /// What.
    pub status: ScanStatus,
    /// When.
    pub occurred_at: Timestamp,
    /// Where.
    pub place: String,
    /// More of it.
    pub detail: String,
}

/// A parcel with its label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Parcel {
    /// What stands on it.
    pub tracking_number: String,
    /// Where its label can be fetched.
    pub label_url: String,
    /// In grams.
    pub weight_g: i64,
    /// What was seen of it, in the order in which it was noted.
    pub scans: Vec<Scan>,
}

/// Labels that were bought together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Label {
    /// Ours.
    pub id: String,
    /// The caller's. Not unique: only idempotency keys make a request happen once.
    pub reference: String,
    /// What was bought, with what is to go wrong.
    pub service: String,
    /// Where it stands.
    pub status: LabelStatus,
    /// Who receives.
    pub recipient: String,
    /// What it cost, in minor units.
    pub price_minor: i64,
    /// Of the price.
    pub currency: &'static str,
    /// One for each parcel.
    pub parcels: Vec<Parcel>,
}

/// The body of a callback.
#[derive(Clone, Serialize)]
struct Scanned {
    tracking_number: String,
    scan: Scan,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Order {
    reference: String,
    service: String,
    to: To,
    parcels: Vec<Carton>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct To {
    recipient: String,
    #[serde(default)]
    postal_code: String,
    country: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Carton {
    weight_g: i64,
}

/// A refusal as its caller reads it.
#[derive(Clone, Debug)]
struct Refusal {
    status: u16,
    code: &'static str,
    detail: String,
}

fn refusal(status: u16, code: &'static str, detail: impl Into<String>) -> Refusal {
    Refusal { status, code, detail: detail.into() }
}

type Answer = std::result::Result<Label, Refusal>;

/// How a request ends for its caller.
enum Ended {
    Answer(Box<Answer>),
    /// Wait, then close without a word.
    Hang,
    /// 500 or 503, whatever was done.
    Failed(u16),
}

struct Keyed {
    fingerprint: Vec<u8>,
    attempts: u32,
    working: bool,
    answer: Option<Answer>,
}

#[derive(Default)]
struct State {
    labels: BTreeMap<u64, Label>,
    by_reference: HashMap<String, Vec<u64>>,
    /// Label and place of a parcel by its tracking number.
    parcels: HashMap<String, (u64, usize)>,
    keys: HashMap<String, Keyed>,
    /// How often queries for a label still lie.
    stale: HashMap<u64, u32>,
    scans: u64,
}

/// A carrier; cheap to clone.
#[derive(Clone)]
pub struct Carrier(Arc<Inner>);

struct Inner {
    config: CarrierConfig,
    clock: Arc<dyn Clock>,
    behaviour: Behaviour,
    state: Mutex<State>,
    callbacks: Mutex<Option<Callbacks>>,
    room: Semaphore,
}

impl Carrier {
    /// Opens. Errors: a callback secret that is none.
    pub fn open(config: CarrierConfig, clock: Arc<dyn Clock>) -> Result<Carrier> {
        let carrier = Carrier(Arc::new(Inner {
            room: Semaphore::new(config.max_requests.clamp(1, Semaphore::MAX_PERMITS)),
            behaviour: Behaviour { seed: config.seed, rates: config.rates.clone() },
            clock,
            state: Mutex::default(),
            callbacks: Mutex::new(None),
            config,
        }));
        if let Some((url, secret)) = &carrier.0.config.callback {
            carrier.call_back(url, secret)?;
        }
        Ok(carrier)
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

    /// Every label, the oldest first.
    pub fn books(&self) -> Vec<Label> {
        self.lock().labels.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on a request, on a task of its own: a caller who leaves does not stop it.
    async fn work(&self, key: String, ask: Ask) -> Ended {
        let carrier = self.clone();
        let working = tokio::spawn(async move { carrier.perform(key, ask).await });
        working.await.unwrap_or(Ended::Failed(500))
    }

    async fn perform(&self, key: String, ask: Ask) -> Ended {
        let (attempt, service) = match self.begin(&key, &ask) {
            Ok(begun) => begun,
            Err(ended) => return ended,
        };
        let script = Script::read(&service);
        let fault = match &script {
            Some(script) if !script.is_random() => script.fault(ask.name(), attempt),
            _ => self.0.behaviour.chance(ask.name(), &key, attempt),
        };
        match fault {
            Some(Fault::TimeoutBefore | Fault::Silent) => {
                self.abandon(&key);
                return Ended::Hang;
            }
            Some(Fault::Outage) => {
                self.abandon(&key);
                return Ended::Failed(503);
            }
            Some(Fault::Late) => tokio::time::sleep(Duration::from_millis(self.0.config.late_ms)).await,
            _ => {}
        }
        let stale = fault == Some(Fault::Stale) || script.as_ref().is_some_and(Script::is_stale);
        let answer = self.record(&key, &ask, script.as_ref(), stale && matches!(ask, Ask::Buy(_)));
        match fault {
            Some(Fault::TimeoutAfter | Fault::Mute) => Ended::Hang,
            Some(Fault::ErrorAfter) => Ended::Failed(500),
            _ => Ended::Answer(Box::new(answer)),
        }
    }

    /// Notes that a key is worked on. Says which attempt this is and what the label's service is, or how it ends at once.
    fn begin(&self, key: &str, ask: &Ask) -> std::result::Result<(u32, String), Ended> {
        let mut state = self.lock();
        let service = match ask {
            Ask::Buy(order) => order.service.clone(),
            Ask::Void(id) => state.labels.get(&number(id).unwrap_or(0)).map(|label| label.service.clone()).unwrap_or_default(),
        };
        let fingerprint = ask.fingerprint();
        let most = self.0.config.max_labels * 2;
        if !state.keys.contains_key(key) && state.keys.len() >= most {
            return Err(Ended::Answer(Box::new(Err(refusal(503, "full", "as many labels as are kept")))));
        }
        let keyed = state.keys.entry(key.to_owned()).or_insert(Keyed {
            fingerprint: fingerprint.clone(),
            attempts: 0,
            working: false,
            answer: None,
        });
        if keyed.fingerprint != fingerprint {
            return Err(Ended::Answer(Box::new(Err(refusal(422, "idempotency_key_reused", "this key was used for another request")))));
        }
        if keyed.working {
            return Err(Ended::Answer(Box::new(Err(refusal(409, "idempotency_in_progress", "this key is being worked on")))));
        }
        let attempt = keyed.attempts;
        keyed.attempts += 1;
        if let Some(answer) = &keyed.answer {
            // Whoever never answers does not for a repeated key either.
            let script = Script::read(&service);
            let mute = script.is_some_and(|script| script.fault(ask.name(), attempt) == Some(Fault::Mute));
            return Err(if mute { Ended::Hang } else { Ended::Answer(Box::new(answer.clone())) });
        }
        keyed.working = true;
        Ok((attempt, service))
    }

    fn abandon(&self, key: &str) {
        if let Some(keyed) = self.lock().keys.get_mut(key) {
            keyed.working = false;
        }
    }

    /// Does it, and keeps the answer under its key.
    fn record(&self, key: &str, ask: &Ask, script: Option<&Script>, stale: bool) -> Answer {
        let now = self.0.clock.now();
        let mut state = self.lock();
        let answer = match ask {
            Ask::Buy(order) => self.buy(&mut state, order, script, now),
            Ask::Void(id) => void(&mut state, id),
        };
        if let (true, Ok(label)) = (stale, &answer) {
            state.stale.insert(number(&label.id).unwrap_or(0), STALE_QUERIES);
        }
        if let Some(keyed) = state.keys.get_mut(key) {
            keyed.working = false;
            keyed.answer = Some(answer.clone());
        }
        answer
    }

    fn buy(&self, state: &mut State, order: &Order, script: Option<&Script>, now: Timestamp) -> Answer {
        let Some(script) = script else {
            return Err(refusal(422, "unknown_service", "there is no such service"));
        };
        let country = order.to.country.len() == 2 && order.to.country.bytes().all(|b| b.is_ascii_uppercase());
        if script.refuses() || !country {
            return Err(refusal(422, "address_not_served", "we don't deliver there"));
        }
        if state.labels.len() >= self.0.config.max_labels {
            return Err(refusal(503, "full", "as many labels as are kept"));
        }
        let label_number = state.labels.len() as u64 + 1;
        let id = format!("lbl_{label_number:010}");
        let mut parcels = Vec::with_capacity(order.parcels.len());
        for (place, parcel) in order.parcels.iter().enumerate() {
            let tracking_number = format!("SBX{:09}{:02}", label_number, place + 1);
            state.scans += 1;
            let announced = Scan {
                id: format!("scn_{:010}", state.scans),
                status: ScanStatus::Announced,
                occurred_at: now,
                place: String::new(),
                detail: String::new(),
            };
            state.parcels.insert(tracking_number.clone(), (label_number, place));
            let label_url = format!("{}/v1/labels/{id}/{}.pdf", self.0.config.public_url, place + 1);
            parcels.push(Parcel { tracking_number, label_url, weight_g: parcel.weight_g, scans: vec![announced] });
        }
        let kilograms: i64 = order.parcels.iter().map(|parcel| (parcel.weight_g + 999) / 1_000).sum();
        let label = Label {
            id,
            reference: order.reference.clone(),
            service: order.service.clone(),
            status: LabelStatus::Bought,
            recipient: order.to.recipient.clone(),
            price_minor: kilograms * PRICE.0 + PRICE.1 * order.parcels.len() as i64,
            currency: "EUR",
            parcels,
        };
        state.by_reference.entry(order.reference.clone()).or_default().push(label_number);
        state.labels.insert(label_number, label.clone());
        Ok(label)
    }

    /// A label as a query shows it, which may lie for a while. None when there is none, an error when it never answers.
    fn shown(&self, label: Label) -> std::result::Result<Option<Label>, ()> {
        if Script::read(&label.service).is_some_and(|script| script.is_mute()) {
            return Err(());
        }
        let mut state = self.lock();
        let label_number = number(&label.id).unwrap_or(0);
        let Some(left) = state.stale.get_mut(&label_number) else { return Ok(Some(label)) };
        *left -= 1;
        if *left == 0 {
            state.stale.remove(&label_number);
        }
        Ok(None)
    }

    /// Notes that a parcel was seen, and tells of it; none when there is no such parcel, or it was seen too often.
    pub fn scan(&self, tracking_number: &str, status: ScanStatus, place: &str) -> Option<Scan> {
        let scan = self.note(tracking_number, status, place, self.0.clock.now())?;
        self.tell(tracking_number, &scan, 0);
        Some(scan)
    }

    fn note(&self, tracking_number: &str, status: ScanStatus, place: &str, at: Timestamp) -> Option<Scan> {
        let mut state = self.lock();
        let (label, place_of) = *state.parcels.get(tracking_number)?;
        state.scans += 1;
        let scan = Scan { id: format!("scn_{:010}", state.scans), status, occurred_at: at, place: place.to_owned(), detail: String::new() };
        let parcel = state.labels.get_mut(&label)?.parcels.get_mut(place_of)?;
        if parcel.scans.len() >= MAX_SCANS {
            return None;
        }
        parcel.scans.push(scan.clone());
        Some(scan)
    }

    fn script_of(&self, tracking_number: &str) -> Option<Script> {
        let state = self.lock();
        let (label, _) = *state.parcels.get(tracking_number)?;
        state.labels.get(&label).and_then(|label| Script::read(&label.service))
    }

    /// The parcel's whole way in a moment, a minute between two scans; it ends as the service says. The callbacks are doubled, reordered or
    /// lost as the service says. None when there is no such parcel.
    pub fn travel(&self, tracking_number: &str) -> Option<ScanStatus> {
        let script = self.script_of(tracking_number)?;
        let way: &[ScanStatus] = match script.ending() {
            Ending::Delivered => &[ScanStatus::InTransit, ScanStatus::OutForDelivery, ScanStatus::Delivered],
            Ending::Lost => &[ScanStatus::InTransit, ScanStatus::Lost],
            Ending::Returned => &[ScanStatus::InTransit, ScanStatus::Exception, ScanStatus::Returned],
        };
        let now = self.0.clock.now();
        for (minute, status) in (1..).zip(way) {
            let scan = self.note(tracking_number, *status, "Sorting centre", now.plus_ms(minute * 60_000))?;
            // The first one is the last to arrive.
            let delay_ms = if script.reorders() { self.0.config.late_ms / minute.unsigned_abs() } else { 0 };
            self.tell(tracking_number, &scan, delay_ms);
        }
        way.last().copied()
    }

    fn tell(&self, tracking_number: &str, scan: &Scan, delay_ms: u64) {
        let Some(callbacks) = self.0.callbacks.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        let script = self.script_of(tracking_number).unwrap_or_default();
        if script.is_quiet() {
            return;
        }
        let data = Scanned { tracking_number: tracking_number.to_owned(), scan: scan.clone() };
        let id = callbacks.next_id();
        if script.doubles() {
            callbacks.send(id.clone(), "parcel.scanned", &data, delay_ms + self.0.config.late_ms / 2);
            callbacks.send(callbacks.next_id(), "parcel.scanned", &data, delay_ms);
        }
        callbacks.send(id, "parcel.scanned", &data, delay_ms);
    }
}

fn void(state: &mut State, id: &str) -> Answer {
    let label = number(id).and_then(|number| state.labels.get_mut(&number));
    let label = label.ok_or_else(|| refusal(404, "label_not_found", "there is no such label"))?;
    if label.parcels.iter().any(|parcel| parcel.scans.iter().any(|scan| scan.status != ScanStatus::Announced)) {
        return Err(refusal(409, "already_used", "its parcels are on their way"));
    }
    label.status = LabelStatus::Voided;
    Ok(label.clone())
}

/// What is asked.
#[derive(Clone, Debug)]
enum Ask {
    Buy(Order),
    Void(String),
}

impl Ask {
    fn name(&self) -> &'static str {
        match self {
            Ask::Buy(_) => "label",
            Ask::Void(_) => "void",
        }
    }

    fn fingerprint(&self) -> Vec<u8> {
        let text = match self {
            Ask::Buy(order) => serde_json::to_string(order).unwrap_or_default(),
            Ask::Void(id) => id.clone(),
        };
        digest::digest(&digest::SHA256, format!("{} {text}", self.name()).as_bytes()).as_ref().to_vec()
    }
}

/// The number in `lbl_0000000001`.
fn number(id: &str) -> Option<u64> {
    id.strip_prefix("lbl_")?.parse().ok()
}

/// Serves until `stop` is done, then finishes what is in flight, for a few seconds at most.
/// Errors: `sandbox.cannot_listen` when the listener fails.
pub async fn serve_carrier(carrier: Carrier, listener: TcpListener, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    serve_router(carrier.router(), listener, stop).await
}
