//! Random sagas in a random world, by seed: whatever is lost, late, told twice or early, refused, cancelled or killed, each ends in one
//! of the documented ends, and what was done outside is what the books say.

use super::*;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

const RANDOM: Kind = Kind { name: "test.random", version: 1 };

/// A number below `bound`, always the same for the same things.
fn draw(bound: u64, of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish() % bound
}

fn random_workflow() -> Workflow {
    let told = Action::outside(prepare_booking, book_and_call_back, booked).only_told().timeout_ms(40).deadline_ms(90_000).backoff(quick());
    let undo = Action::outside(prepare_undo, book_by_key, undone).timeout_ms(40).deadline_ms(60_000).backoff(quick());
    let confirm = Action::waiting(
        |tx, _| Ok(Prepared::Next(Next::Wait { signals: vec!["ok".to_owned()], until: tx.now().plus_ms(120_000) })),
        |_, _, heard| Ok(if let Heard::Deadline = heard { Next::Compensate("late".to_owned()) } else { Next::Continue }),
    );
    let steps =
        vec![asked("flight"), keyed_step("hotel"), Step::new("confirm", confirm), Step::new("car", told).undo(undo), asked("insurance")];
    Workflow::new(RANDOM).version(1, steps)
}

/// What the world calls back about: the trip, the key, and whether it was done.
type Callbacks = Arc<Mutex<VecDeque<(String, String, bool)>>>;

fn book_and_call_back(request: Request) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        let (world, callbacks) = (request.part::<World>().clone(), request.part::<Callbacks>().clone());
        let (trip, key) = (request.body["trip"].as_str().unwrap_or_default().to_owned(), request.key.clone());
        // Its hanging is a loss here: nobody would call back.
        let outcome = match tokio::time::timeout(Duration::from_millis(20), answer("book", request, false)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Unknown("it hangs".to_owned()),
        };
        // Some callbacks never come; the others tell the truth, some of them before the answer.
        let settled = !matches!(outcome, Outcome::NotDone(_));
        if settled && draw(4, (&key, "calls back")) > 0 {
            callbacks.lock().expect("no test panicked here").push_back((trip, key.clone(), world.done(&key) > 0));
        }
        outcome
    })
}

fn manner(op: &str, request: &Request, nth: u32) -> Manner {
    let (trip, what) = (request.body["trip"].as_str().unwrap_or_default(), request.body["what"].as_str().unwrap_or_default());
    let drawn = draw(100, (trip, op, what, &request.key[17..], nth));
    match (op, drawn) {
        (_, 0..8) => Manner::DoesAndLoses,
        (_, 8..14) => Manner::Loses,
        (_, 14..18) => Manner::Busy,
        (_, 18..20) => Manner::DoesAndHangs,
        (_, 20..21) => Manner::Panics,
        ("book", 21..29) => Manner::Refuses,
        ("unbook", 21..23) => Manner::Refuses,
        // A question that is never answered.
        ("ask", 21..24) => Manner::Loses,
        _ if op == "ask" && draw(12, (trip, what, "mute")) == 0 => Manner::Loses,
        _ => Manner::Honest,
    }
}

/// Kills a saga now and then, by what it is and how often it has come there.
fn killer() -> (Probe, Arc<Mutex<HashMap<Point, u32>>>) {
    let met: Mutex<HashMap<(SagaId, Point), u32>> = Mutex::default();
    let killed: Arc<Mutex<HashMap<Point, u32>>> = Arc::default();
    let counted = killed.clone();
    let probe: Probe = Arc::new(move |point, saga| {
        let nth = {
            let mut met = met.lock().expect("no test panicked here");
            let count = met.entry((saga, point)).or_default();
            *count += 1;
            *count
        };
        if draw(25, (saga.as_i64(), point as u8, nth)) > 0 {
            return Fate::Go;
        }
        *counted.lock().expect("no test panicked here").entry(point).or_default() += 1;
        Fate::Die
    });
    (probe, killed)
}

/// Of the world, nine seconds each.
const ROUNDS: u64 = 80;
/// Nobody cancels later: a saga that is parked, cancelled and then killed a few times has to have the time to undo what it did.
const LAST_CANCEL: u64 = ROUNDS / 2;

async fn seeds(fixture: &Fixture, count: u64) {
    let callbacks = Callbacks::default();
    let world = World::new(manner);
    let (probe, killed) = killer();
    let parts = || Parts::new().with(world.clone()).with(callbacks.clone());
    let runner = async |store: &Store, config: RunnerConfig, seed: u64| {
        let rng = Arc::new(SeededRng::new(seed));
        Runner::start(store.clone(), vec![random_workflow()], parts(), config, rng).await.expect("the runner starts")
    };
    let dying = runner(&fixture.store, RunnerConfig { probe: Some(probe), ..config() }, 1).await;
    let other = runner(&fixture.other, config(), 2).await;
    let owner = |seed: u64| tenant(1 + (seed % 7) as i64);
    let key = |seed: u64| format!("trip-{seed}");
    for seed in 0..count {
        fixture.start(owner(seed), RANDOM, &key(seed), json!({})).await;
        // A signal that is early, and one that comes twice.
        for _ in 0..draw(3, (seed, "early")) {
            fixture.signal(owner(seed), RANDOM, &key(seed), "ok").await;
        }
    }
    let mut open: Vec<u64> = (0..count).collect();
    for round in 0..ROUNDS {
        rest(&dying).await;
        rest(&other).await;
        let told: Vec<(String, String, bool)> = callbacks.lock().expect("no test panicked here").drain(..).collect();
        for (trip, call_key, done) in told {
            // Late, or twice, or both.
            if draw(3, (&call_key, round)) == 0 {
                callbacks.lock().expect("no test panicked here").push_back((trip.clone(), call_key.clone(), done));
                if draw(2, (&call_key, "late")) == 0 {
                    continue;
                }
            }
            let seed = trip[5..].parse().expect("a trip has a number");
            let outcome = if done { Outcome::Done(json!("called back")) } else { Outcome::Refused("called back".to_owned()) };
            fixture.report(owner(seed), RANDOM, &trip, &call_key, outcome).await;
        }
        let mut left = Vec::new();
        for seed in open {
            let saga = fixture.saga(owner(seed), RANDOM, &key(seed)).await;
            if saga.status.ended() {
                continue;
            }
            left.push(seed);
            if draw(12, (seed, round, "ok")) == 0 && draw(8, (seed, "never")) > 0 {
                fixture.signal(owner(seed), RANDOM, &key(seed), "ok").await;
            }
            if round < LAST_CANCEL && draw(150, (seed, round, "cancel")) == 0 {
                fixture.cancel(owner(seed), RANDOM, &key(seed)).await;
            }
        }
        open = left;
        fixture.clock.advance_ms(9_000);
    }
    rest(&dying).await;
    rest(&other).await;
    let mut ends: HashMap<&'static str, u64> = HashMap::new();
    for seed in 0..count {
        let saga = fixture.saga(owner(seed), RANDOM, &key(seed)).await;
        books_agree(fixture, &world, owner(seed), &saga).await;
        *ends.entry(saga.status.as_str()).or_default() += 1;
    }
    for end in ["done", "failed", "cancelled", "parked"] {
        assert!(ends.get(end).is_some_and(|number| *number > count / 100), "too few are {end}: {ends:?}");
    }
    let killed = killed.lock().expect("no test panicked here").clone();
    assert!(Point::ALL.iter().all(|point| killed.contains_key(point)), "{killed:?}");
    assert!(world.calls("ask") > 0 && world.calls("unbook") > 0);
    dying.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_sagas_end_well() {
    on_each_engine(async |fixture| seeds(fixture, 500).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn very_many_random_sagas_end_well() {
    on_each_engine(async |fixture| seeds(fixture, 10_000).await).await;
}
