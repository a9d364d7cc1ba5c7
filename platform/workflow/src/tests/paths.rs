//! Each way that a saga can take, without crashes.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_goes_through_its_steps_once_for_each_business_key() {
    on_each_engine(async |fixture| {
        let world = World::honest();
        let runner = fixture.runner(vec![trip()], &world).await;
        for _ in 0..3 {
            fixture.start(tenant(1), TRIP, "t1", json!({})).await;
        }
        fixture.start(tenant(2), TRIP, "t1", json!({})).await;
        rest(&runner).await;
        for number in [1, 2] {
            let saga = fixture.saga(tenant(number), TRIP, "t1").await;
            assert_eq!(saga.status, Status::Done);
            assert_eq!(saga.trail.len(), 3);
            books_agree(fixture, &world, tenant(number), &saga).await;
        }
        assert_eq!(world.calls("book"), 6);
        assert_eq!(world.calls("ask"), 0);
        // It is gone after a while, and only then may the key be used again.
        fixture.start(tenant(1), TRIP, "t1", json!({})).await;
        fixture.advance(&runner, 31 * 24 * 3_600_000).await;
        let gone = fixture.store.read(tenant(1), |read| find(read, TRIP, "t1")).await.expect("it can be read");
        assert!(gone.is_none());
        assert_eq!(world.calls("book"), 6);
        runner.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_done_is_undone_in_reverse_when_a_step_is_refused() {
    on_each_engine(async |fixture| {
        let world = World::new(|op, request, _| match (op, request.body["what"].as_str()) {
            ("book", Some("car")) => Manner::Refuses,
            _ => Manner::Honest,
        });
        let runner = fixture.runner(vec![trip()], &world).await;
        fixture.start(tenant(1), TRIP, "t1", json!({})).await;
        rest(&runner).await;
        let saga = fixture.saga(tenant(1), TRIP, "t1").await;
        assert_eq!((saga.status, saga.reason.as_str()), (Status::Failed, "sold out"));
        assert_eq!(world.trail(), ["book flight", "book hotel", "unbook hotel", "unbook flight"]);
        books_agree(fixture, &world, tenant(1), &saga).await;
        runner.stop().await;
    })
    .await;
}

/// A receiver that knows keys is called again in doubt. That it is too busy for that says nothing of the call before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_a_repeated_call_is_not_done_does_not_undo_the_first() {
    use Manner::*;
    type Case = (&'static [Manner], Status);
    const CASES: &[Case] = &[
        (&[DoesAndLoses, Busy, Busy], Status::Done),
        (&[DoesAndLoses, Loses, DoesAndHangs], Status::Done),
        (&[DoesAndLoses, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy], Status::Parked),
        (&[Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy, Busy], Status::Failed),
    ];
    on_each_engine(async |fixture| {
        for (number, (bookings, end)) in (10_i64..).zip(CASES) {
            let world = World::new(move |op, request, nth| match (op, request.body["what"].as_str()) {
                ("book", Some("hotel")) => bookings.get(nth as usize).copied().unwrap_or(Honest),
                _ => Honest,
            });
            let runner = fixture.runner(vec![trip()], &world).await;
            fixture.start(tenant(number), TRIP, "t", json!({})).await;
            fixture.advance(&runner, 120_000).await;
            runner.stop().await;
            let saga = fixture.saga(tenant(number), TRIP, "t").await;
            assert_eq!(saga.status, *end, "{bookings:?}: {saga:#?}");
            books_agree(fixture, &world, tenant(number), &saga).await;
        }
    })
    .await;
}

/// The callback overtakes the answer, which then is lost: nobody has to wait for the deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_before_the_answer_is_heard_at_once() {
    fn called_back(request: Request) -> BoxFuture<'static, Outcome> {
        Box::pin(async move {
            let (key, trip) = (request.key.clone(), request.body["trip"].as_str().unwrap_or_default().to_owned());
            request.part::<World>().act("book", &request, false);
            let tell = |tx: &mut Tx<'_>, (trip, key): &(String, String)| report(tx, TOLD, trip, key, &Outcome::Done(json!("called back")));
            let tenant = request.tenant.expect("a tenant's saga");
            request.store().write(tenant, tell, (trip, key)).await.expect("it can be reported");
            Outcome::Unknown("the connection was lost".to_owned())
        })
    }
    on_each_engine(async |fixture| {
        let world = World::honest();
        let action = Action::outside(prepare_booking, called_back, booked).only_told();
        let undo = Action::outside(prepare_undo, book_by_key, undone);
        let workflow = Workflow::new(TOLD).version(1, vec![Step::new("call", action).undo(undo)]);
        let runner = fixture.runner(vec![workflow], &world).await;
        fixture.start(tenant(1), TOLD, "t", json!({})).await;
        rest(&runner).await;
        let saga = fixture.saga(tenant(1), TOLD, "t").await;
        assert_eq!(saga.status, Status::Done);
        books_agree(fixture, &world, tenant(1), &saga).await;
        runner.stop().await;
    })
    .await;
}

/// (manner of the nth booking, manner of the nth question, the end, how often it was booked)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_is_asked_about_and_never_guessed() {
    use Manner::*;
    type Case = (&'static [Manner], &'static [Manner], Status, u32);
    const CASES: &[Case] = &[
        (&[DoesAndLoses], &[Honest], Status::Done, 1),
        (&[DoesAndLoses], &[Loses, Loses, Honest], Status::Done, 1),
        (&[DoesAndHangs], &[Honest], Status::Done, 1),
        (&[Loses, Honest], &[Honest], Status::Done, 1),
        (&[Panics, Honest], &[Honest], Status::Done, 1),
        (&[Busy, Busy, Honest], &[], Status::Done, 1),
        (&[Busy, DoesAndLoses], &[Loses, Honest], Status::Done, 1),
        (&[Loses, Refuses], &[Honest], Status::Failed, 0),
        // The deadline: what is unknown is for a person, what has certainly not happened is refused.
        (&[DoesAndLoses], &[Loses; 40], Status::Parked, 1),
        (&[Busy; 40], &[], Status::Failed, 0),
    ];
    on_each_engine(async |fixture| {
        for (number, (bookings, questions, end, times)) in (10_i64..).zip(CASES) {
            let world = World::new(move |op, request, nth| {
                if request.body["what"] != "flight" {
                    return Honest;
                }
                let of = if op == "ask" { questions } else { bookings };
                of.get(nth as usize).copied().unwrap_or(Honest)
            });
            let runner = fixture.runner(vec![trip()], &world).await;
            fixture.start(tenant(number), TRIP, "t", json!({})).await;
            fixture.advance(&runner, 120_000).await;
            runner.stop().await;
            let saga = fixture.saga(tenant(number), TRIP, "t").await;
            assert_eq!(saga.status, *end, "{bookings:?} {questions:?}: {saga:#?}");
            let flights = world.trail().iter().filter(|line| *line == "book flight").count();
            assert_eq!(flights, *times as usize, "{bookings:?} {questions:?}");
            books_agree(fixture, &world, tenant(number), &saga).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_undone_is_parked_told_of_and_can_be_retried_or_decided() {
    on_each_engine(async |fixture| {
        // The hotel's undo is refused the first time; the car is sold out.
        let world = World::new(|op, request, _| match (op, request.body["what"].as_str()) {
            ("book", Some("car")) => Manner::Refuses,
            ("unbook", Some("hotel")) if request.key.contains("-4-") => Manner::Refuses,
            _ => Manner::Honest,
        });
        let runner = fixture.runner(vec![trip()], &world).await;
        for key in ["retried", "decided"] {
            fixture.start(tenant(1), TRIP, key, json!({})).await;
        }
        rest(&runner).await;
        for key in ["retried", "decided"] {
            let saga = fixture.saga(tenant(1), TRIP, key).await;
            assert_eq!((saga.status, saga.step.as_str(), saga.reason.as_str()), (Status::Parked, "hotel", "sold out"));
            assert_eq!(saga.next_at, None);
            books_agree(fixture, &world, tenant(1), &saga).await;
        }
        let shard = fixture.store.shard_of(tenant(1));
        let parked = parked_of_shard(&fixture.store, shard, None, 10).await.expect("they can be listed");
        assert_eq!(parked.len(), 2);
        let events = fixture.store.tenant_events_after(tenant(1), 0, 10).await.expect("events can be read");
        let told: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(told, ["workflow.parked", "workflow.parked"]);
        let listed = list_of(&fixture.store, Some(tenant(1)), shard, true, None, 10).await.expect("they can be listed");
        assert_eq!(listed.len(), 2);
        for saga in listed {
            let doing = if saga.key == "retried" { Act::Retry } else { Act::Decide(Decision::Done(json!("by telephone"))) };
            act(&fixture.store, Some(tenant(1)), shard, saga.id, doing).await.expect("it can be done");
        }
        rest(&runner).await;
        let saga = fixture.saga(tenant(1), TRIP, "retried").await;
        assert_eq!(saga.status, Status::Failed);
        books_agree(fixture, &world, tenant(1), &saga).await;
        let saga = fixture.saga(tenant(1), TRIP, "decided").await;
        assert_eq!(saga.status, Status::Failed);
        assert!(fixture.booked(tenant(1), "decided").await.values().all(|booked| *booked == 0));
        // Neither may be retried or cancelled now.
        for doing in [Act::Retry, Act::Cancel, Act::Decide(Decision::Refused("no".to_owned()))] {
            let refused = act(&fixture.store, Some(tenant(1)), shard, saga.id, doing).await.expect_err("it has ended");
            assert_eq!(refused.kind(), kernel::ErrorKind::FailedPrecondition);
        }
        runner.stop().await;
    })
    .await;
}

const TOLD: Kind = Kind { name: "test.told", version: 1 };

fn told_workflow() -> Workflow {
    let call = Action::outside(prepare_booking, book, booked).only_told().timeout_ms(40).deadline_ms(60_000);
    let wait = Action::waiting(
        |tx, _| Ok(Prepared::Next(Next::Wait { signals: vec!["yes".to_owned(), "no".to_owned()], until: tx.now().plus_ms(600_000) })),
        |tx, saga, heard| match heard {
            Heard::Signal { name, payload } if name == "yes" => {
                saga.set_state(&payload)?;
                Ok(Next::Continue)
            }
            Heard::Signal { name, .. } => Ok(Next::Compensate(name)),
            Heard::Deadline => Ok(Next::Compensate("late".to_owned())),
            other => go_on(tx, saga, other),
        },
    );
    let undo = Action::outside(prepare_undo, book_by_key, undone);
    Workflow::new(TOLD).version(1, vec![Step::new("call", call).undo(undo), Step::new("confirm", wait)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_and_reports_are_heard_once_early_or_late() {
    on_each_engine(async |fixture| {
        let world = World::new(|op, request, _| match (op, request.body["trip"].as_str()) {
            ("book", Some("silent" | "reported" | "reported late")) => Manner::DoesAndLoses,
            _ => Manner::Honest,
        });
        assert_eq!(fixture.signal(tenant(1), TOLD, "early", "yes").await, Signalled::NoSaga);
        let keys = ["early", "late yes", "no", "too late", "silent", "reported", "reported late"];
        for key in keys {
            fixture.start(tenant(1), TOLD, key, json!({})).await;
            if key == "early" {
                assert_eq!(fixture.signal(tenant(1), TOLD, key, "yes").await, Signalled::Kept);
                assert_eq!(fixture.signal(tenant(1), TOLD, key, "yes").await, Signalled::Duplicate);
            }
        }
        let runner = fixture.runner(vec![told_workflow()], &world).await;
        rest(&runner).await;
        assert_eq!(fixture.saga(tenant(1), TOLD, "early").await.status, Status::Done);
        assert_eq!(fixture.saga(tenant(1), TOLD, "early").await.state, json!({ "told": "yes" }));
        assert_eq!(fixture.signal(tenant(1), TOLD, "early", "yes").await, Signalled::Ended);
        for key in ["late yes", "no", "too late"] {
            let saga = fixture.saga(tenant(1), TOLD, key).await;
            assert_eq!((saga.status, saga.step.as_str()), (Status::Waiting, "confirm"));
        }
        // Nobody awaits this one: nothing moves.
        assert_eq!(fixture.signal(tenant(1), TOLD, "no", "whatever").await, Signalled::Kept);
        rest(&runner).await;
        assert_eq!(fixture.saga(tenant(1), TOLD, "no").await.status, Status::Waiting);
        fixture.signal(tenant(1), TOLD, "no", "no").await;
        fixture.signal(tenant(1), TOLD, "late yes", "yes").await;
        let call_key = fixture.saga(tenant(1), TOLD, "reported").await.call_key;
        fixture.signal(tenant(1), TOLD, "reported", "yes").await;
        fixture.report(tenant(1), TOLD, "reported", &call_key, Outcome::Done(json!("called back"))).await;
        fixture.report(tenant(1), TOLD, "reported", &call_key, Outcome::Refused("contradicts".to_owned())).await;
        rest(&runner).await;
        for (key, end) in [("no", Status::Failed), ("late yes", Status::Done), ("reported", Status::Done)] {
            let saga = fixture.saga(tenant(1), TOLD, key).await;
            assert_eq!(saga.status, end, "{saga:#?}");
            books_agree(fixture, &world, tenant(1), &saga).await;
        }
        fixture.advance(&runner, 600_000).await;
        let late = fixture.saga(tenant(1), TOLD, "too late").await;
        assert_eq!((late.status, late.reason.as_str()), (Status::Failed, "late"));
        // Nobody was asked, nobody told: a person has to look. A callback that comes even later settles it.
        for key in ["silent", "reported late"] {
            assert_eq!(fixture.saga(tenant(1), TOLD, key).await.status, Status::Parked);
        }
        let call_key = fixture.saga(tenant(1), TOLD, "reported late").await.call_key;
        fixture.report(tenant(1), TOLD, "reported late", &call_key, Outcome::Done(json!("at last"))).await;
        rest(&runner).await;
        let saga = fixture.saga(tenant(1), TOLD, "reported late").await;
        assert_eq!((saga.status, saga.step.as_str()), (Status::Waiting, "confirm"));
        assert!(fixture.cancel(tenant(1), TOLD, "reported late").await);
        rest(&runner).await;
        let saga = fixture.saga(tenant(1), TOLD, "reported late").await;
        assert_eq!(saga.status, Status::Cancelled);
        books_agree(fixture, &world, tenant(1), &saga).await;
        runner.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_is_told_only_so_much() {
    on_each_engine(async |fixture| {
        fixture.start(tenant(1), TOLD, "t", json!({})).await;
        for number in 0..64 {
            assert_eq!(fixture.signal(tenant(1), TOLD, "t", &format!("s{number}")).await, Signalled::Kept);
        }
        let tell = |tx: &mut Tx<'_>, _: &()| signal(tx, TOLD, "t", "one more", &());
        let refused = fixture.store.write(tenant(1), tell, ()).await.expect_err("it is too much");
        assert_eq!(refused.code(), "workflow.too_many_signals");
        assert_eq!(fixture.signal(tenant(1), TOLD, "t", "s3").await, Signalled::Duplicate);
        for (key, state) in [(String::new(), 1), ("k".repeat(201), 1), ("k".to_owned(), 70_000)] {
            let begin = |tx: &mut Tx<'_>, (key, bytes): &(String, usize)| start(tx, TOLD, key, &"x".repeat(*bytes));
            let refused = fixture.store.write(tenant(1), begin, (key, state)).await.expect_err("it does not fit");
            assert!(["workflow.invalid_key", "workflow.too_large"].contains(&refused.code()));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_saga_undoes_what_it_did_after_its_call_is_over() {
    on_each_engine(async |fixture| {
        // The hotel answers only to questions, and those are lost for a while.
        let world = World::new(|op, request, nth| match (op, request.body["what"].as_str()) {
            ("ask", _) if nth < 2 => Manner::Loses,
            ("book", Some("car")) => Manner::DoesAndLoses,
            _ => Manner::Honest,
        });
        let runner = fixture.runner(vec![trip()], &world).await;
        fixture.start(tenant(1), TRIP, "t", json!({})).await;
        rest(&runner).await;
        let saga = fixture.saga(tenant(1), TRIP, "t").await;
        assert_eq!((saga.status, saga.step.as_str(), saga.phase.as_str()), (Status::Running, "car", "doubt"));
        assert!(fixture.cancel(tenant(1), TRIP, "t").await);
        rest(&runner).await;
        assert_eq!(fixture.saga(tenant(1), TRIP, "t").await.phase, "doubt", "nobody knows yet whether there is a car");
        fixture.advance(&runner, 60_000).await;
        let saga = fixture.saga(tenant(1), TRIP, "t").await;
        assert_eq!(saga.status, Status::Cancelled);
        assert_eq!(world.trail(), ["book flight", "book hotel", "book car", "unbook car", "unbook hotel", "unbook flight"]);
        books_agree(fixture, &world, tenant(1), &saga).await;
        assert!(!fixture.cancel(tenant(1), TRIP, "t").await);
        runner.stop().await;
    })
    .await;
}

const FRAGILE: Kind = Kind { name: "test.fragile", version: 1 };

/// The second step's transactions fail for as long as the trip is marked.
fn fragile() -> Workflow {
    fn broken(tx: &mut Tx<'_>, saga: &Saga) -> Result<()> {
        let marked: Option<(i64,)> =
            tx.opt("SELECT booked FROM test_bookings WHERE tenant_id = $1 AND trip = $2 AND what = 'broken'", (saga.key(),))?;
        match marked.map_or(0, |(times,)| times) {
            0 => Ok(()),
            1 => Err(kernel::Error::conflict("test.broken", "broken on purpose")),
            _ => panic!("broken on purpose"),
        }
    }
    let fragile = |tx: &mut Tx<'_>, saga: &mut Saga, heard: Heard| {
        let next = booked(tx, saga, heard)?;
        broken(tx, saga)?;
        Ok(next)
    };
    let call = Action::outside(prepare_booking, book, fragile).ask(ask).backoff(quick());
    Workflow::new(FRAGILE).version(1, vec![asked("flight"), Step::new("hotel", call)]).on_park(|tx, saga, reason| {
        assert!(reason.contains("test.broken") || reason.contains("internal"), "{reason}");
        tx.exec(BOOK, (saga.key(), "parked", 1_i64))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_fails_is_tried_again_without_calling_again() {
    on_each_engine(async |fixture| {
        let world = World::honest();
        let runner = fixture.runner(vec![fragile()], &world).await;
        let mark = |tx: &mut Tx<'_>, (trip, times): &(&'static str, i64)| tx.exec(BOOK, (*trip, "broken", *times));
        for (trip, times) in [("error", 1), ("panic", 2), ("healed", 1)] {
            fixture.store.write(tenant(1), mark, (trip, times)).await.expect("it can be marked");
            fixture.start(tenant(1), FRAGILE, trip, json!({})).await;
        }
        rest(&runner).await;
        fixture.store.write(tenant(1), mark, ("healed", -1)).await.expect("it can be marked");
        fixture.advance(&runner, 60_000).await;
        for trip in ["error", "panic"] {
            let saga = fixture.saga(tenant(1), FRAGILE, trip).await;
            assert_eq!((saga.status, saga.phase.as_str(), saga.attempts), (Status::Parked, "answer", 4), "{saga:#?}");
            let booked = fixture.booked(tenant(1), trip).await;
            assert_eq!((booked["flight"], booked.get("hotel"), booked["parked"]), (1, None, 1));
        }
        assert_eq!(fixture.saga(tenant(1), FRAGILE, "healed").await.status, Status::Done);
        // A person heals it and has it retried.
        fixture.store.write(tenant(1), mark, ("error", -1)).await.expect("it can be marked");
        let saga = fixture.saga(tenant(1), FRAGILE, "error").await;
        act(&fixture.store, Some(tenant(1)), 0, saga.id, Act::Retry).await.expect("it can be retried");
        rest(&runner).await;
        assert_eq!(fixture.saga(tenant(1), FRAGILE, "error").await.status, Status::Done);
        assert_eq!(world.calls("book"), 6, "each flight and hotel once");
        // Cancelled while its answer could not be written down: that is heard nevertheless, and only then undone.
        let panicked = fixture.saga(tenant(1), FRAGILE, "panic").await;
        assert!(fixture.cancel(tenant(1), FRAGILE, "panic").await);
        rest(&runner).await;
        let saga = fixture.saga(tenant(1), FRAGILE, "panic").await;
        assert_eq!((saga.status, saga.phase.as_str(), saga.id), (Status::Parked, "answer", panicked.id), "still unheard");
        fixture.store.write(tenant(1), mark, ("panic", -2)).await.expect("it can be marked");
        act(&fixture.store, Some(tenant(1)), 0, saga.id, Act::Retry).await.expect("it can be retried");
        rest(&runner).await;
        assert_eq!(fixture.saga(tenant(1), FRAGILE, "panic").await.status, Status::Cancelled);
        let booked = fixture.booked(tenant(1), "panic").await;
        assert_eq!((booked["hotel"], booked["flight"]), (1, 0), "what happened was heard");
        runner.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_ends_under_the_version_under_which_it_began() {
    const SECOND: Kind = Kind { name: "test.trip", version: 2 };
    on_each_engine(async |fixture| {
        // The flight's answer is lost, so that the saga of version 1 is under way when version 2 comes.
        let world = World::new(|op, request, _| match (op, request.body["what"].as_str()) {
            ("book", Some("flight")) => Manner::DoesAndLoses,
            _ => Manner::Honest,
        });
        let old = fixture.runner(vec![trip()], &world).await;
        fixture.start(tenant(1), TRIP, "old", json!({})).await;
        rest(&old).await;
        // Started by a newer program, while only the older one runs: it is left to those who know it.
        fixture.start(tenant(1), SECOND, "new", json!({})).await;
        rest(&old).await;
        assert_eq!(fixture.saga(tenant(1), SECOND, "new").await.step, "");
        old.stop().await;
        let both = Workflow::new(SECOND)
            .version(1, vec![asked("flight"), keyed_step("hotel"), asked("car")])
            .version(2, vec![keyed_step("train"), keyed_step("bicycle")]);
        let new = fixture.runner(vec![both], &world).await;
        fixture.advance(&new, 60_000).await;
        new.stop().await;
        for (key, version, steps) in [("old", 1, &["flight", "hotel", "car"][..]), ("new", 2, &["train", "bicycle"])] {
            let saga = fixture.saga(tenant(1), SECOND, key).await;
            assert_eq!((saga.status, saga.version), (Status::Done, version));
            assert_eq!(saga.trail.iter().map(|did| did.step.as_str()).collect::<Vec<_>>(), steps);
            books_agree(fixture, &world, tenant(1), &saga).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_jump_sleep_and_come_back_with_keys_of_their_own() {
    const LOOP: Kind = Kind { name: "test.loop", version: 1 };
    fn count(_: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
        let visits: i64 = saga.state()?;
        saga.set_state(&(visits + 1))?;
        Ok(Prepared::Next(if visits >= 40 { Next::Step("last") } else { Next::Step("count") }))
    }
    fn last(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
        Ok(Prepared::Next(if saga.state::<i64>()? > 45 { Next::Finish } else { Next::StepAt("later", tx.now().plus_ms(60_000)) }))
    }
    fn later(_: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
        saga.set_state(&100)?;
        Ok(Prepared::Call { key: saga.stable_key(), body: json!({ "what": "later" }) })
    }
    on_each_engine(async |fixture| {
        let world = World::honest();
        let steps = vec![
            Step::new("count", Action::sql(count)),
            Step::new("later", Action::outside(later, book, go_on)),
            Step::new("last", Action::sql(last)),
        ];
        let runner = fixture.runner(vec![Workflow::new(LOOP).version(1, steps)], &world).await;
        fixture.start(tenant(1), LOOP, "t", json!(0)).await;
        rest(&runner).await;
        let saga = fixture.saga(tenant(1), LOOP, "t").await;
        assert_eq!((saga.status, saga.step.as_str(), saga.state), (Status::Waiting, "later", json!(41)));
        fixture.advance(&runner, 59_000).await;
        assert_eq!(world.calls("book"), 0);
        fixture.advance(&runner, 1_000).await;
        assert_eq!(world.calls("book"), 1);
        assert_eq!(fixture.saga(tenant(1), LOOP, "t").await.status, Status::Done);
        runner.stop().await;
    })
    .await;
}
