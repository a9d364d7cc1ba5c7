//! A process that dies at each named point, and one that stops in good order.

use super::*;
use std::sync::atomic::{AtomicU32, Ordering};

/// Dies at the `nth` time that a saga comes to `point`.
fn dies_at(point: Point, nth: u32) -> (Probe, Arc<AtomicU32>) {
    let (met, died) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
    let told = died.clone();
    let probe: Probe = Arc::new(move |at, _| {
        if at == point && met.fetch_add(1, Ordering::SeqCst) == nth {
            told.fetch_add(1, Ordering::SeqCst);
            return Fate::Die;
        }
        Fate::Go
    });
    (probe, died)
}

/// The third step is refused, so that a trip has three bookings and two undos: five calls, each with four points.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_is_taken_over_wherever_its_process_died() {
    on_each_engine(async |fixture| {
        for refused in [false, true] {
            let calls = if refused { 5 } else { 3 };
            for point in Point::ALL {
                for nth in 0..calls {
                    let world = World::new(move |op, request, _| match (op, request.body["what"].as_str()) {
                        ("book", Some("car")) if refused => Manner::Refuses,
                        _ => Manner::Honest,
                    });
                    let (probe, died) = dies_at(point, nth);
                    let key = format!("{refused} {point:?} {nth}");
                    let first = RunnerConfig { probe: Some(probe), ..config() };
                    let dying = fixture.runner_on(&fixture.store, vec![trip()], &world, first).await;
                    fixture.start(tenant(1), TRIP, &key, json!({})).await;
                    rest(&dying).await;
                    dying.stop().await;
                    assert_eq!(died.load(Ordering::SeqCst), 1, "{key}");
                    let before = fixture.saga(tenant(1), TRIP, &key).await;
                    // What ended with the last commit has nothing left to do; everything else is under a lease that runs out.
                    let ended = point == Point::AfterCommit && nth + 1 == calls;
                    assert_eq!(before.status.ended(), ended, "{key}");
                    let other = fixture.runner_on(&fixture.other, vec![trip()], &world, config()).await;
                    rest(&other).await;
                    let leased = fixture.saga(tenant(1), TRIP, &key).await;
                    assert_eq!((leased.status, leased.step), (before.status, before.step), "{key}: its lease has not run out");
                    fixture.advance(&other, 60_000).await;
                    other.stop().await;
                    let saga = fixture.saga(tenant(1), TRIP, &key).await;
                    assert_eq!(saga.status, if refused { Status::Failed } else { Status::Done }, "{key}: {saga:#?}");
                    books_agree(fixture, &world, tenant(1), &saga).await;
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_that_stops_finishes_its_call_and_begins_nothing_new() {
    on_each_engine(async |fixture| {
        let (entered, left) = (Arc::new(tokio::sync::Notify::new()), Arc::new(std::sync::Barrier::new(2)));
        let (entering, leaving) = (entered.clone(), left.clone());
        // The flight is under way while the runner is told to stop.
        let world = World::new(move |op, request, _| {
            if op == "book" && request.body["what"] == "flight" {
                entering.notify_one();
                leaving.wait();
            }
            Manner::Honest
        });
        let patient = || {
            let action = Action::outside(prepare_booking, book, booked).ask(ask);
            Workflow::new(TRIP).version(1, vec![Step::new("flight", action), keyed_step("hotel")])
        };
        let runner = fixture.runner(vec![patient()], &world).await;
        fixture.start(tenant(1), TRIP, "t", json!({})).await;
        entered.notified().await;
        let stopping = tokio::spawn({
            let runner = runner.clone();
            async move { runner.stop().await }
        });
        while !runner.stopping() {
            tokio::task::yield_now().await;
        }
        tokio::task::spawn_blocking(move || left.wait()).await.expect("it goes on");
        stopping.await.expect("it stops");
        let saga = fixture.saga(tenant(1), TRIP, "t").await;
        assert_eq!((saga.status, saga.step.as_str(), saga.phase.as_str()), (Status::Running, "hotel", "prepare"));
        assert_eq!(world.trail(), ["book flight"]);
        // It is due at once, for whoever runs next.
        let next = fixture.runner(vec![patient()], &world).await;
        rest(&next).await;
        assert_eq!(fixture.saga(tenant(1), TRIP, "t").await.status, Status::Done);
        assert_eq!((world.trail().len(), world.calls("ask")), (2, 0));
        next.stop().await;
    })
    .await;
}
