//! The queue by itself: what waits, in which order, how much, and across a start.

use super::queue::{Bounds, Outcome, Queue};
use super::{OrderIntake, stranded};
use crate::lock::FolderLock;
use kernel::{Actor, ActorKind, IdGenerator, ManualClock, TenantId, Timestamp};
use std::path::Path;
use std::sync::Arc;
use store::Environment;
use web::{Deferred, Intake, IntakeId, IntakeState, Mode, TakenIn};

const ACME: TenantId = TenantId::from_i64(1001);
const GLOBEX: TenantId = TenantId::from_i64(1002);
const BOUNDS: Bounds = Bounds { orders: 5, bytes: 100_000, tenant_orders: 3 };
const NODE: u16 = 7;

async fn queue(folder: &Path, clock: &Arc<ManualClock>) -> Arc<Queue> {
    let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock.clone(), NODE)) };
    let lock = FolderLock::take(folder, "test").expect("the folder is free");
    Arc::new(Queue::open(&folder.join("queue.db"), lock, BOUNDS, environment, NODE).await.expect("the queue opens"))
}

fn request(tenant: TenantId, key: Option<&str>, body: &str) -> Deferred {
    let actor = Actor { kind: ActorKind::ApiKey, id: 5 };
    let (path, key) = ("/api/v1/orders".to_owned(), key.map(str::to_owned));
    Deferred { tenant, actor, request_id: "request".into(), path, key, body: body.to_owned().into() }
}

async fn take(queue: &Arc<Queue>, tenant: TenantId, key: Option<&str>, body: &str) -> Result<TakenIn, &'static str> {
    queue.clone().take_in(request(tenant, key, body)).await.map_err(|error| error.code())
}

fn placed(taken: &TakenIn) -> Outcome {
    let location = Some("/api/v1/orders/ord_00000000001".to_owned());
    let (intake_id, taken_in_at, ended_at) = (taken.intake_id, taken.taken_in_at, taken.taken_in_at);
    Outcome { intake_id, state: IntakeState::Placed, location, code: None, detail: None, taken_in_at, ended_at }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_micros(1_767_614_400_000_000)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_after_a_start_in_its_order() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), clock());
    let first = queue(folder.path(), &clock).await;
    let one = take(&first, ACME, Some("a"), "1").await.expect("room");
    let two = take(&first, ACME, None, "2").await.expect("room");
    let other = take(&first, GLOBEX, Some("a"), "3").await.expect("another tenant's key is another key");
    assert_eq!((one.state, &one.status_url), (IntakeState::Waiting, &format!("/api/v1/order-intake/{}", one.intake_id)));
    assert_eq!(take(&first, ACME, Some("a"), "1").await.expect("known"), one);
    assert_eq!(take(&first, ACME, Some("a"), "other").await, Err("idempotency.key_reused"));
    assert_eq!(first.find(GLOBEX, one.intake_id).await.expect("read"), None, "nobody else's");
    assert!(first.made(one.intake_id) && !first.made(IntakeId::from_i64(one.intake_id.as_i64() ^ 0x1000)), "the node is in the id");
    drop(first);

    let second = queue(folder.path(), &clock).await;
    assert_eq!(second.health().0, Mode::Degraded);
    assert_eq!(second.heads(10, |_| true), [(ACME, one.intake_id), (GLOBEX, other.intake_id)]);
    let due = second.due(ACME, one.intake_id).await.expect("due");
    assert_eq!((due.key.as_str(), &*due.request.body, due.request.actor.kind), ("a", &b"1"[..], ActorKind::ApiKey));
    assert_eq!(second.due(ACME, two.intake_id).await.expect("due").key, two.intake_id.to_string(), "its own id is its key");
    second.end(ACME, placed(&one)).await.expect("noted");
    assert_eq!(second.heads(10, |_| true), [(ACME, two.intake_id), (GLOBEX, other.intake_id)]);
    let ended = take(&second, ACME, Some("a"), "1").await.expect("known");
    assert_eq!((ended.state, ended.location.as_deref()), (IntakeState::Placed, Some("/api/v1/orders/ord_00000000001")));
    assert!(second.due(ACME, one.intake_id).await.expect("kept").request.body.is_empty(), "its body is forgotten");
    // After two days nothing is known of it any more, and what waits still waits.
    clock.advance_ms(49 * 3_600_000);
    second.purge().await.expect("purged");
    assert_eq!(second.find(ACME, one.intake_id).await.expect("read"), None);
    assert!(second.find(ACME, two.intake_id).await.expect("read").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_take_turns_and_nobody_has_all_the_room() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), clock());
    let queue = queue(folder.path(), &clock).await;
    assert_eq!((queue.health().0, queue.heads(10, |_| true).len(), queue.has_room()), (Mode::Normal, 0, true));
    let large = "x".repeat(BOUNDS.bytes);
    assert_eq!(take(&queue, ACME, None, &large).await, Err("intake.full"), "by bytes");
    let mut own = Vec::new();
    for n in 0..BOUNDS.tenant_orders {
        own.push(take(&queue, ACME, Some(&*n.to_string()), "same").await.expect("room"));
    }
    assert_eq!(take(&queue, ACME, Some("0"), "same").await.as_ref(), Ok(&own[0]), "what is in needs no room");
    assert_eq!(take(&queue, ACME, None, "more").await, Err("intake.full"), "by tenant");
    for n in 0..2 {
        take(&queue, GLOBEX, None, &n.to_string()).await.expect("others have room");
    }
    assert!(!queue.has_room());
    assert_eq!(take(&queue, TenantId::from_i64(1003), None, "more").await, Err("intake.full"), "in all");
    assert!(queue.health().1.contains("no more are taken in"), "{}", queue.health().1);
    let turns: Vec<TenantId> = (0..4).flat_map(|_| queue.heads(1, |_| true)).map(|(tenant, _)| tenant).collect();
    assert_eq!(turns, [ACME, GLOBEX, ACME, GLOBEX]);
    assert_eq!(queue.heads(10, |tenant| tenant != ACME).len(), 1, "not those that are set aside");
    queue.end(ACME, placed(&own[0])).await.expect("noted");
    take(&queue, ACME, None, "room again").await.expect("what ended makes room");
    assert!(!queue.has_room());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_with_one_key_are_one() {
    let (folder, clock) = (tempfile::tempdir().expect("a folder"), clock());
    let queue = queue(folder.path(), &clock).await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..3 {
        all.spawn(queue.clone().take_in(request(ACME, Some("key"), "1")));
    }
    let ids: Vec<IntakeId> = all.join_all().await.into_iter().map(|taken| taken.expect("room").intake_id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!((queue.heads(10, |_| true).len(), queue.has_room()), (1, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_nobody_is_found() {
    let (data, clock) = (tempfile::tempdir().expect("a folder"), clock());
    let environment = || Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock.clone(), NODE)) };
    for (node, waits) in [(NODE, true), (8, true), (9, false)] {
        let OrderIntake::On(own) = OrderIntake::open(data.path(), BOUNDS, environment(), node).await else { panic!("it opens") };
        if waits {
            take(&own, ACME, Some("key"), "1").await.expect("room");
        }
        own.close().await;
    }
    let found = async |own| stranded(data.path(), &environment(), NODE, own).await;
    assert_eq!((found(false).await, found(true).await), (vec![(8, 1)], vec![(NODE, 1), (8, 1)]));
    // One that runs places its own.
    let running = OrderIntake::open(data.path(), BOUNDS, environment(), 8).await;
    assert_eq!(found(false).await, []);
    running.close().await;
    drop(running);

    // Switched off, with something left: that is placed, and nothing is taken in.
    let left = OrderIntake::left(data.path(), environment(), NODE).await;
    assert!(left.taking().is_none() && left.health().is_some());
    let queue = left.queue().expect("what waits");
    assert_eq!(take(queue, ACME, None, "2").await, Err("intake.full"));
    assert_eq!(queue.heads(10, |_| true).len(), 1);
    assert!(OrderIntake::left(data.path(), environment(), 9).await.queue().is_none(), "nothing waits");
    assert!(OrderIntake::left(data.path(), environment(), 10).await.queue().is_none(), "there never was one");
}
