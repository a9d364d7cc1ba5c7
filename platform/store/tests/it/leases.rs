//! Leases and their fencing tokens, and whoever watches commits, on both engines.

use crate::common::Place;
use crate::store::{Candidate, Change, Engine, Lease, NewEvent, Observer, Store, Tx};
use kernel::{Result, Scope, TenantId};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];

async fn acquire(store: &Store, scope: impl Into<Scope>, owner: i64, ms: i64) -> Option<Lease> {
    let take = |tx: &mut Tx<'_>, (owner, ms): &(i64, i64)| tx.acquire_lease("till", *owner, *ms);
    store.write(scope.into(), take, (owner, ms)).await.expect("the lease can be asked for")
}

/// A deposit that only the holder of the lease may make.
async fn deposit(store: &Store, tenant: TenantId, token: i64) -> Result<()> {
    let command = |tx: &mut Tx<'_>, token: &i64| {
        tx.require_lease("till", *token)?;
        tx.exec(
            "INSERT INTO bank_accounts (tenant_id, account, balance) VALUES ($1, 1, $2)
             ON CONFLICT (tenant_id, account) DO UPDATE SET balance = excluded.balance",
            (*token,),
        )
    };
    store.write(tenant, command, token).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_token_writes_nothing() {
    for engine in ENGINES {
        let Some(place) = Place::new(engine) else { continue };
        let store = place.node(1);
        let (one, two) = (TenantId::from_i64(11), TenantId::from_i64(22));
        let first = acquire(&store, one, 1, 60_000).await.expect("free");
        assert_eq!(acquire(&store, one, 2, 60_000).await, None, "another has it");
        assert_eq!(acquire(&store, two, 2, 60_000).await.expect("another tenant's").token, 1);
        assert_eq!(acquire(&store, Scope::Platform, 3, 60_000).await.expect("the platform's own").token, 1);
        deposit(&store, one, first.token).await.expect("it holds the lease");
        let release = |tx: &mut Tx<'_>, token: &i64| tx.release_lease("till", *token);
        store.write(one, release, first.token).await.expect("given back");
        // Given back, but nobody else has it yet: nothing can have happened in between.
        deposit(&store, one, first.token).await.expect("still the newest");
        let second = acquire(&store, one, 2, 60_000).await.expect("free again");
        assert_eq!(second.token, first.token + 1);
        assert_eq!(deposit(&store, one, first.token).await.expect_err("an old token").code(), "store.lease_lost");
        deposit(&store, one, second.token).await.expect("the new one");
        store.write(one, release, first.token).await.expect("nothing happens");
        assert_eq!(acquire(&store, one, 1, 60_000).await, None, "an old token gives nothing back");
        let renew = |tx: &mut Tx<'_>, token: &i64| tx.renew_lease("till", *token, 1);
        assert_eq!(store.write(one, renew, first.token).await.expect_err("lost").code(), "store.lease_lost");
        store.write(one, renew, second.token).await.expect("its own");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let third = acquire(&store, one, 1, 60_000).await.expect("its time was over");
        assert_eq!(deposit(&store, one, second.token).await.expect_err("an old token").code(), "store.lease_lost");
        let balance = |read: &mut crate::store::Read<'_>| read.one::<(i64,)>("SELECT balance FROM bank_accounts WHERE tenant_id = $1", ());
        assert_eq!(store.read(one, balance).await.expect("a balance"), (second.token,));
        assert_eq!(third.token, 3);
        // Tokens of a lock elsewhere: never back.
        let fence = |tx: &mut Tx<'_>, token: &i64| tx.fence("elsewhere", *token);
        for (token, passes) in [(5, true), (5, true), (7, true), (6, false), (7, true), (5, false)] {
            assert_eq!(store.write(one, fence, token).await.is_ok(), passes, "{token}");
        }
        assert!(store.write(two, fence, 1).await.is_ok(), "each tenant has its own");
        let bad = |tx: &mut Tx<'_>, _: &()| tx.acquire_lease("", 1, 1).map(|_| ());
        assert_eq!(store.write(one, bad, ()).await.expect_err("no name").code(), "store.invalid_lease");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_several_leads_and_another_takes_over() {
    for engine in ENGINES {
        let Some(place) = Place::new(engine) else { continue };
        let store = place.node(1);
        let stand = |owner| Candidate::stand(store.clone(), "scheduler", owner, 300);
        let candidates = [stand(1), stand(2), stand(3)];
        let leaders = |some: &[&Candidate]| some.iter().filter_map(|candidate| candidate.leads()).collect::<Vec<_>>();
        let all: Vec<&Candidate> = candidates.iter().collect();
        let begun = std::time::Instant::now();
        while leaders(&all).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "somebody leads");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(leaders(&all), [1]);
        let leading = candidates.iter().position(|candidate| candidate.leads().is_some()).expect("one leads");
        let mut rest: Vec<Candidate> = candidates.into();
        rest.remove(leading).stop().await;
        let rest: Vec<&Candidate> = rest.iter().collect();
        let begun = std::time::Instant::now();
        while leaders(&rest).is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "another takes over");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(leaders(&rest), [2], "under a higher token");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_seen_before_it_is_answered() {
    for engine in ENGINES {
        let Some(place) = Place::new(engine) else { continue };
        let store = place.node(1);
        let seen: Arc<Mutex<Vec<Change>>> = Arc::default();
        let sees = seen.clone();
        let observe = move |changes: &[Change]| sees.lock().expect("nobody panics").extend_from_slice(changes);
        store.observe(Observer { kinds: vec!["account.opened"], observe: Box::new(observe) });
        let tenant = TenantId::from_i64(5);
        let (shard, lane) = (0, store.lane_of(tenant));
        let (start, _, _) = store.changes_after(shard, lane, None, Vec::new()).await.expect("the lane's end");
        let open = |tx: &mut Tx<'_>, &(kind, fails): &(&'static str, bool)| {
            tx.emit(NewEvent::new(kind, 1, "account 7", &0));
            if fails { Err(kernel::Error::conflict("bank.refused", "refused")) } else { Ok(()) }
        };
        store.write(tenant, open, ("account.opened", false)).await.expect("opened");
        let now = seen.lock().expect("nobody panics").clone();
        assert_eq!(now.len(), 1, "no later than the answer");
        assert_eq!((now[0].tenant, now[0].kind.as_str(), now[0].subject.as_str()), (Some(tenant), "account.opened", "account 7"));
        store.write(tenant, open, ("account.opened", true)).await.expect_err("refused");
        store.write(tenant, open, ("account.closed", false)).await.expect("closed");
        assert_eq!(seen.lock().expect("nobody panics").len(), 1, "neither refusals nor other kinds");
        let kinds = vec!["account.opened".to_owned()];
        let (last, all, changes) = store.changes_after(shard, lane, Some(start), kinds.clone()).await.expect("changes");
        assert_eq!((last, all, changes), (start + 2, true, now));
        assert_eq!(store.changes_after(shard, lane, Some(last), kinds).await.expect("none"), (last, true, Vec::new()));
        store.close().await;
    }
}
