//! A saga takes its first step in the transaction that starts or wakes it, and nothing of that stands when the transaction does not.

use super::*;
use kernel::{Error, Scope};

const RIDE: Kind = Kind { name: "test.ride", version: 1 };

fn book_here(tx: &mut Tx<'_>, saga: &mut Saga) -> Result<Prepared> {
    if saga.state::<Value>()?["breaks"] == true {
        tx.exec(BOOK, (saga.key(), "broken", 1_i64))?;
        return Err(Error::failed_precondition("test.broken", "this step fails"));
    }
    tx.exec(BOOK, (saga.key(), "here", 1_i64))?;
    Ok(Prepared::Done(Value::Null))
}

fn wait_for_word(tx: &mut Tx<'_>, _: &mut Saga) -> Result<Prepared> {
    Ok(Prepared::Next(Next::Wait { signals: vec!["go".to_owned()], until: tx.now().plus_ms(3_600_000) }))
}

/// One step in SQL, one that calls out, one that waits for a signal, one more in SQL.
fn ride() -> Workflow {
    let steps = vec![
        Step::new("here", Action::sql(book_here).backoff(quick())),
        keyed_step("there"),
        Step::new("word", Action::waiting(wait_for_word, go_on)),
        Step::new("end", Action::sql(book_here)),
    ];
    Workflow::new(RIDE).version(1, steps)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saga_takes_its_step_in_the_transaction_that_starts_or_wakes_it() {
    on_each_engine(async |fixture| {
        let world = World::new(|_, _, nth| if nth == 0 { Manner::DoesAndHangs } else { Manner::Honest });
        let runner = fixture.runner(vec![ride()], &world).await;
        fixture.start(tenant(1), RIDE, "r", json!({})).await;
        // Once the command is answered its step is taken, and the call is committed.
        let saga = fixture.saga(tenant(1), RIDE, "r").await;
        assert_eq!((saga.step.as_str(), saga.phase.as_str()), ("there", "call"));
        assert_eq!(fixture.booked(tenant(1), "r").await["here"], 1);
        fixture.advance(&runner, 60_000).await;
        assert_eq!(fixture.saga(tenant(1), RIDE, "r").await.phase, "wait");
        assert_eq!(fixture.signal(tenant(1), RIDE, "r", "go").await, Signalled::Kept);
        let saga = fixture.saga(tenant(1), RIDE, "r").await;
        assert_eq!(saga.status, Status::Done);
        assert_eq!(fixture.booked(tenant(1), "r").await["here"], 2);
        runner.stop().await;
        // Nobody rides any more: it waits for the next runner.
        fixture.start(tenant(1), RIDE, "later", json!({})).await;
        assert_eq!(fixture.saga(tenant(1), RIDE, "later").await.phase, "prepare");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_refuses_neither_its_command_nor_a_neighbour() {
    on_each_engine(async |fixture| {
        let world = World::honest();
        let runner = fixture.runner(vec![ride()], &world).await;
        let begin = |tx: &mut Tx<'_>, number: &i64| {
            let key = format!("k{number}");
            tx.exec(BOOK, (&key, "command", 1_i64))?;
            start(tx, RIDE, &key, &json!({ "breaks": number % 2 == 0 }))
        };
        let all: Vec<_> = (0..20_i64).map(|number| fixture.store.write(tenant(1), begin, number)).collect();
        for done in futures_util::future::join_all(all).await {
            done.expect("its saga's trouble is not its own");
        }
        fixture.advance(&runner, 120_000).await;
        for number in 0..20 {
            let key = format!("k{number}");
            let (saga, booked) = (fixture.saga(tenant(1), RIDE, &key).await, fixture.booked(tenant(1), &key).await);
            let breaks = number % 2 == 0;
            assert_eq!(saga.status, if breaks { Status::Parked } else { Status::Waiting }, "{saga:#?}");
            assert_eq!(booked["command"], 1, "the command was done once");
            assert_eq!(booked.get("here").copied(), (!breaks).then_some(1));
            assert!(!booked.contains_key("broken"), "what a step wrote that failed is undone");
        }
        runner.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_undone_starts_nothing() {
    on_each_engine(async |fixture| {
        let world = World::honest();
        let runner = fixture.runner(vec![ride()], &world).await;
        let refused = |tx: &mut Tx<'_>, (): &()| {
            start(tx, RIDE, "refused", &json!({}))?;
            Err::<(), _>(Error::conflict("test.refused", "on second thoughts"))
        };
        let beside = |tx: &mut Tx<'_>, (): &()| {
            let undone = tx.attempt(|tx| {
                start(tx, RIDE, "attempted", &json!({}))?;
                Err::<(), _>(Error::conflict("test.refused", "on second thoughts"))
            })?;
            assert!(undone.is_err());
            start(tx, RIDE, "stands", &json!({}))
        };
        let (first, second) = tokio::join!(fixture.store.write(tenant(1), refused, ()), fixture.store.write(tenant(1), beside, ()));
        assert_eq!(first.expect_err("it is refused").code(), "test.refused");
        second.expect("it is done");
        // One in a tenant's scope.
        let within = |tx: &mut Tx<'_>, (): &()| {
            let undone = tx.attempt(|tx| {
                tx.in_tenant(tenant(1), |tx| start(tx, RIDE, "within", &json!({})))?;
                Err::<(), _>(Error::conflict("test.refused", "on second thoughts"))
            })?;
            assert!(undone.is_err());
            Ok(())
        };
        fixture.store.write(Scope::Platform, within, ()).await.expect("it is done");
        rest(&runner).await;
        let key_of = |name: &'static str| fixture.store.read(tenant(1), move |read| find(read, RIDE, name));
        for name in ["refused", "attempted", "within"] {
            assert!(key_of(name).await.expect("it can be read").is_none(), "{name}");
        }
        assert_eq!(fixture.saga(tenant(1), RIDE, "stands").await.phase, "wait");
        assert_eq!(world.calls("book"), 1);
        runner.stop().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_there_are_seats_for_wait_their_turn() {
    on_each_engine(async |fixture| {
        let world = World::honest();
        let runner = fixture.runner_on(&fixture.store, vec![ride()], &world, RunnerConfig { concurrency: 3, ..config() }).await;
        let begin = |tx: &mut Tx<'_>, (): &()| {
            for number in [1, 2] {
                tx.in_tenant(tenant(number), |tx| (0..20).try_for_each(|nth| start(tx, RIDE, &format!("s{nth}"), &json!({}))))?;
            }
            Ok(())
        };
        fixture.store.write(Scope::Platform, begin, ()).await.expect("they start");
        rest(&runner).await;
        for (number, nth) in [1, 2].into_iter().flat_map(|number| (0..20).map(move |nth| (number, nth))) {
            assert_eq!(fixture.saga(tenant(number), RIDE, &format!("s{nth}")).await.phase, "wait");
        }
        assert_eq!(world.calls("book"), 40);
        runner.stop().await;
    })
    .await;
}

const CALLING: Kind = Kind { name: "test.calling", version: 1 };

/// Begins with its call, prepared by whoever starts it.
fn calling(tx: &mut Tx<'_>, key: &String) -> Result<()> {
    start_calling(tx, CALLING, key, &json!({}), &format!("call-{key}"), &json!({ "what": "there", "trip": key }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_begins_with_its_call_makes_it_once_whoever_takes_it_up() {
    on_each_engine(async |fixture| {
        let world = World::new(|_, _, nth| if nth == 0 { Manner::DoesAndHangs } else { Manner::Honest });
        let workflow = || Workflow::new(CALLING).version(1, vec![keyed_step("there")]);
        let config = || RunnerConfig { concurrency: 3, ..config() };
        let runner = fixture.runner_on(&fixture.store, vec![workflow()], &world, config()).await;
        fixture.store.write(tenant(1), calling, "first".to_owned()).await.expect("it starts");
        let saga = fixture.saga(tenant(1), CALLING, "first").await;
        assert_eq!((saga.step.as_str(), saga.phase.as_str(), saga.call_key.as_str()), ("there", "call", "call-first"));
        assert!(saga.deadline_at.is_some_and(|at| at > saga.created_at), "its doubt has an end");
        let again = fixture.store.write(tenant(1), calling, "first".to_owned()).await;
        assert_eq!(again.expect_err("there is one").code(), "internal");
        // More than there are seats for.
        let many: Vec<_> = (0..20).map(|nth| fixture.store.write(tenant(1), calling, format!("m{nth}"))).collect();
        for started in futures_util::future::join_all(many).await {
            started.expect("it starts");
        }
        fixture.advance(&runner, 30_000).await;
        // One that is given up in a scope in which nobody rides.
        let given_up = |tx: &mut Tx<'_>, (): &()| {
            tx.in_tenant(tenant(2), |tx| {
                calling(tx, &"given-up".to_owned())?;
                cancel(tx, CALLING, "given-up").map(drop)
            })
        };
        fixture.store.write(Scope::Platform, given_up, ()).await.expect("it is done");
        rest(&runner).await;
        assert_eq!(fixture.saga(tenant(2), CALLING, "given-up").await.status, Status::Cancelled);
        runner.stop().await;
        // Nobody is there: it is as it was prepared, and whoever comes calls under the same key.
        fixture.store.write(tenant(1), calling, "later".to_owned()).await.expect("it starts");
        assert_eq!(fixture.saga(tenant(1), CALLING, "later").await.phase, "again");
        let next = fixture.runner_on(&fixture.store, vec![workflow()], &world, config()).await;
        fixture.advance(&next, 30_000).await;
        for key in ["first".to_owned(), "later".to_owned()].into_iter().chain((0..20).map(|nth| format!("m{nth}"))) {
            assert_eq!(
                (fixture.saga(tenant(1), CALLING, &key).await.status, world.done(&format!("call-{key}"))),
                (Status::Done, 1),
                "{key}"
            );
            assert_eq!(fixture.booked(tenant(1), &key).await["there"], 1, "{key}");
        }
        assert_eq!(world.done("call-given-up"), 0);
        next.stop().await;
    })
    .await;
}
