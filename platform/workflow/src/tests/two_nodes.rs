//! Several runners over the same sagas: each step once, and nothing written by one that has lost its lease.

use super::*;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_runners_share_the_work_and_do_each_step_once() {
    on_each_engine(async |fixture| {
        let world = World::honest();
        let first = fixture.runner(vec![trip()], &world).await;
        let second = fixture.runner_on(&fixture.other, vec![trip()], &world, config()).await;
        for number in 0..60 {
            fixture.start(tenant(1 + number % 5), TRIP, &format!("t{number}"), json!({})).await;
        }
        rest(&first).await;
        rest(&second).await;
        for number in 0..60 {
            let saga = fixture.saga(tenant(1 + number % 5), TRIP, &format!("t{number}")).await;
            assert_eq!(saga.status, Status::Done);
            books_agree(fixture, &world, tenant(1 + number % 5), &saga).await;
        }
        assert_eq!((world.calls("book"), world.calls("ask")), (180, 0));
        first.stop().await;
        second.stop().await;
    })
    .await;
}

/// A process that is paused in the middle of a call, for longer than its lease: another takes the saga over and ends it, and what the
/// first one writes when it wakes up is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_paused_runner_that_has_lost_its_lease_writes_nothing() {
    on_each_engine(async |fixture| {
        let world = World::honest();
        let (paused, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (pausing, going_on, once) = (paused.clone(), go_on.clone(), AtomicBool::new(false));
        let probe: Probe = Arc::new(move |point, _| {
            if point == Point::AfterCall && !once.swap(true, Ordering::SeqCst) {
                pausing.wait();
                going_on.wait();
            }
            Fate::Go
        });
        let slow = fixture.runner_on(&fixture.store, vec![trip()], &world, RunnerConfig { probe: Some(probe), ..config() }).await;
        fixture.start(tenant(1), TRIP, "t", json!({})).await;
        tokio::task::spawn_blocking(move || paused.wait()).await.expect("it is paused");
        let quick = fixture.runner_on(&fixture.other, vec![trip()], &world, config()).await;
        rest(&quick).await;
        assert_eq!(fixture.saga(tenant(1), TRIP, "t").await.step, "flight", "the lease holds");
        fixture.advance(&quick, 31_000).await;
        // Either takes it over: the first one has lost its lease like anybody else, and only the task that had it is paused.
        let ended = async {
            loop {
                let saga = fixture.saga(tenant(1), TRIP, "t").await;
                if saga.status.ended() {
                    return saga;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let saga = tokio::time::timeout(Duration::from_secs(10), ended).await.expect("it is taken over");
        assert_eq!((saga.status, world.calls("ask")), (Status::Done, 1), "the flight was asked about: {saga:#?}");
        let before = fixture.booked(tenant(1), "t").await;
        tokio::task::spawn_blocking(move || go_on.wait()).await.expect("it goes on");
        rest(&slow).await;
        let after = fixture.saga(tenant(1), TRIP, "t").await;
        assert_eq!((after.updated_at, after.status), (saga.updated_at, saga.status));
        assert_eq!(fixture.booked(tenant(1), "t").await, before, "what the stale one resolved is not booked twice");
        books_agree(fixture, &world, tenant(1), &after).await;
        slow.stop().await;
        quick.stop().await;
    })
    .await;
}

/// A lease that is renewed outlives its length: the call takes longer, and nobody takes it over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_renewed_while_its_call_runs() {
    on_each_engine(async |fixture| {
        let (entered, done) = (Arc::new(tokio::sync::Notify::new()), Arc::new(Barrier::new(2)));
        let (entering, ending) = (entered.clone(), done.clone());
        let world = World::new(move |op, request, _| {
            if op == "book" && request.body["what"] == "flight" {
                entering.notify_one();
                tokio::task::block_in_place(|| ending.wait());
            }
            Manner::Honest
        });
        let slow_step = || {
            fn slow(request: Request) -> BoxFuture<'static, Outcome> {
                // The world blocks; the runner's own task must not.
                Box::pin(async move { tokio::spawn(book(request)).await.expect("it does not panic") })
            }
            let action = Action::outside(prepare_booking, slow, booked).ask(ask);
            Workflow::new(TRIP).version(1, vec![Step::new("flight", action)])
        };
        let short = || RunnerConfig { lease_ms: 300, ..config() };
        let first = fixture.runner_on(&fixture.store, vec![slow_step()], &world, short()).await;
        fixture.start(tenant(1), TRIP, "t", json!({})).await;
        entered.notified().await;
        let second = fixture.runner_on(&fixture.other, vec![slow_step()], &world, short()).await;
        let begun = fixture.saga(tenant(1), TRIP, "t").await.next_at.expect("it is leased");
        for _ in 0..5 {
            // The clock goes on by less than a lease, and by more than one in all; each time a renewal is waited for.
            let before = fixture.saga(tenant(1), TRIP, "t").await.next_at;
            fixture.clock.advance_ms(200);
            let renewed = async {
                while fixture.saga(tenant(1), TRIP, "t").await.next_at <= before {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), renewed).await.expect("the lease is renewed");
        }
        assert!(fixture.saga(tenant(1), TRIP, "t").await.next_at > Some(begun.plus_ms(900)));
        tokio::task::spawn_blocking(move || done.wait()).await.expect("it goes on");
        rest(&first).await;
        rest(&second).await;
        assert_eq!(fixture.saga(tenant(1), TRIP, "t").await.status, Status::Done);
        assert_eq!((world.calls("book"), world.calls("ask")), (1, 0));
        first.stop().await;
        second.stop().await;
    })
    .await;
}

/// One tenant starts far more than fit into a window; another's single saga does not wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_with_very_many_does_not_hold_up_another() {
    on_each_engine(async |fixture| {
        let world = World::honest();
        let flood = |tx: &mut Tx<'_>, _: &()| {
            for number in 0..400 {
                start(tx, TRIP, &format!("t{number}"), &json!({}))?;
            }
            Ok(())
        };
        fixture.store.write(tenant(1), flood, ()).await.expect("they start");
        fixture.clock.advance_ms(1_000);
        for number in 2..=6 {
            fixture.start(tenant(number), TRIP, "t", json!({})).await;
        }
        let narrow = RunnerConfig { concurrency: 8, window: 16, ..config() };
        let runner = fixture.runner_on(&fixture.store, vec![trip()], &world, narrow).await;
        rest(&runner).await;
        for number in 2..=6 {
            let saga = fixture.saga(tenant(number), TRIP, "t").await;
            assert_eq!(saga.status, Status::Done);
            let trail = world.state().order.clone();
            let place = trail.iter().position(|key| key.starts_with(&format!("{}-car", saga.id))).expect("it has a car");
            assert!(place < 300, "it came {place}th of {}", trail.len());
        }
        assert_eq!(world.calls("book"), 405 * 3);
        runner.stop().await;
    })
    .await;
}

/// One that nobody else can be beside asks at once what became of a dead one's call, instead of waiting for its lease to be over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_is_alone_waits_for_no_lease() {
    on_each_engine(async |fixture| {
        let world = World::honest();
        let dies: Probe = Arc::new(|point, _| if point == Point::AfterCall { Fate::Die } else { Fate::Go });
        let dead = fixture.runner_on(&fixture.store, vec![trip()], &world, RunnerConfig { probe: Some(dies), ..config() }).await;
        fixture.start(tenant(1), TRIP, "t", json!({})).await;
        rest(&dead).await;
        dead.stop().await;
        let beside = fixture.runner(vec![trip()], &world).await;
        rest(&beside).await;
        assert_eq!(fixture.saga(tenant(1), TRIP, "t").await.step, "flight", "somebody else's lease holds");
        beside.stop().await;
        let alone = fixture.runner_on(&fixture.store, vec![trip()], &world, RunnerConfig { alone: true, ..config() }).await;
        rest(&alone).await;
        let saga = fixture.saga(tenant(1), TRIP, "t").await;
        assert_eq!((saga.status, world.calls("ask")), (Status::Done, 1), "the flight was asked about: {saga:#?}");
        books_agree(fixture, &world, tenant(1), &saga).await;
        alone.stop().await;
    })
    .await;
}
