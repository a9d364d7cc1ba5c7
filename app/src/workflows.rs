//! `brandos workflow`: what is under way outside, and what is stuck.

use crate::cli;
use crate::config::Config;
use crate::exit::{Exit, Outcome};
use crate::output::Output;
use crate::wiring::{Node, Use};
use kernel::{Error, TenantId};
use workflow::{Act, Decision, SagaId, SagaView};

/// A page of the lists inside.
const PAGE: u32 = 100;

/// Whose sagas are meant: a tenant's, or the platform's own on one shard.
#[derive(Clone, Copy)]
struct Owner {
    tenant: Option<TenantId>,
    shard: u16,
}

/// Lists, shows, retries, cancels and decides.
pub(crate) async fn workflow(config: Config, command: cli::Workflow, out: Output) -> Outcome<Exit> {
    match command {
        cli::Workflow::List { owner, limit } => {
            let node = Node::open(config, Use::Read("workflow"))?;
            let found = list(&node, &owner, limit).await?;
            let rows: Vec<Vec<String>> = found.iter().map(row).collect();
            out.table(&["SAGA", "TENANT", "KIND", "KEY", "STATUS", "STEP", "ATTEMPTS", "UPDATED AT", "REASON"], &rows);
            out.line(format!("{} sagas", found.len()));
            out.value(&serde_json::json!({ "data": found }));
            node.close().await;
        }
        cli::Workflow::Show { saga, owner } => {
            let node = Node::open(config, Use::Read("workflow"))?;
            let (id, owner) = named(&node, &saga, &owner).await?;
            let shown = workflow::inspect_of(&node.store, owner.tenant, owner.shard, id).await?;
            out.line(serde_json::to_string_pretty(&shown).unwrap_or_default());
            out.value(&shown);
            node.close().await;
        }
        cli::Workflow::Retry { saga, owner } => act(config, &saga, &owner, Act::Retry, "due again", out).await?,
        cli::Workflow::Cancel { saga, owner } => act(config, &saga, &owner, Act::Cancel, "cancelled: what it did is undone", out).await?,
        cli::Workflow::Decide { saga, owner, done, refused } => {
            let decision = match (done, refused) {
                (Some(answer), _) => Decision::Done(serde_json::from_str(&answer).unwrap_or(serde_json::Value::String(answer))),
                (None, refused) => Decision::Refused(refused.unwrap_or_default()),
            };
            act(config, &saga, &owner, Act::Decide(decision), "decided: it goes on from there", out).await?;
        }
    }
    Ok(Exit::Ok)
}

/// Does it; the server, or the next one to start, goes on with the saga.
async fn act(config: Config, saga: &str, owner: &cli::SagaOwner, doing: Act, what: &str, out: Output) -> Outcome {
    let node = Node::open(config, Use::Write("workflow"))?;
    let (id, owner) = named(&node, saga, owner).await?;
    workflow::act(&node.store, owner.tenant, owner.shard, id, doing).await?;
    let now = workflow::inspect_of(&node.store, owner.tenant, owner.shard, id).await?;
    node.close().await;
    out.line(format!("{id}: {what}"));
    out.value(&serde_json::json!({ "ok": true, "saga": now }));
    Ok(())
}

fn row(saga: &SagaView) -> Vec<String> {
    vec![
        saga.id.to_string(),
        saga.tenant_id.map_or_else(|| "platform".to_owned(), |tenant| tenant.to_string()),
        saga.kind.clone(),
        saga.key.clone(),
        saga.status.as_str().to_owned(),
        saga.step.clone(),
        saga.attempts.to_string(),
        saga.updated_at.to_string(),
        saga.reason.clone(),
    ]
}

async fn owner(node: &Node, owner: &cli::SagaOwner) -> Outcome<Option<Owner>> {
    Ok(match (&owner.tenant, owner.shard) {
        (Some(name), _) => {
            let tenant = crate::admin::find(node, name).await?.id;
            Some(Owner { tenant: Some(tenant), shard: node.store.shard_of(tenant) })
        }
        (None, Some(shard)) => Some(Owner { tenant: None, shard }),
        (None, None) => None,
    })
}

/// The parked ones of everybody, or all of one owner.
async fn list(node: &Node, of: &cli::SagaOwner, limit: u32) -> Outcome<Vec<SagaView>> {
    let mut found = Vec::new();
    if let Some(owner) = owner(node, of).await? {
        let mut before = None;
        while found.len() < limit as usize {
            let page = workflow::list_of(&node.store, owner.tenant, owner.shard, false, before, PAGE.min(limit)).await?;
            before = page.last().map(|saga| saga.id);
            let full = page.len() == PAGE.min(limit) as usize;
            found.extend(page);
            if !full {
                break;
            }
        }
        found.truncate(limit as usize);
        return Ok(found);
    }
    for shard in 0..node.store.shards() {
        let mut after = None;
        loop {
            let page = workflow::parked_of_shard(&node.store, shard, after, PAGE).await?;
            after = page.last().copied();
            let full = page.len() == PAGE as usize;
            for (tenant, id) in page {
                if found.len() >= limit as usize {
                    return Ok(found);
                }
                found.push(workflow::inspect_of(&node.store, tenant, shard, id).await?);
            }
            if !full {
                break;
            }
        }
    }
    Ok(found)
}

/// The saga with this id: of the owner that is named, else the parked one of whomever.
async fn named(node: &Node, saga: &str, of: &cli::SagaOwner) -> Outcome<(SagaId, Owner)> {
    let id: SagaId = saga.parse()?;
    if let Some(owner) = owner(node, of).await? {
        return Ok((id, owner));
    }
    for shard in 0..node.store.shards() {
        let mut after = None;
        loop {
            let page = workflow::parked_of_shard(&node.store, shard, after, PAGE).await?;
            if let Some((tenant, _)) = page.iter().find(|(_, known)| *known == id) {
                return Ok((id, Owner { tenant: *tenant, shard }));
            }
            after = page.last().copied();
            if page.len() < PAGE as usize {
                break;
            }
        }
    }
    Err(Error::not_found("workflow.not_found", "no parked saga has this id; name its owner with --tenant or --shard").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Given;
    use std::time::Duration;
    use workflow::{Action, Kind, Next, Outcome, Parts, Prepared, Runner, RunnerConfig, Status, Step, Workflow, go_on};

    const STUCK: Kind = Kind { name: "test.stuck", version: 1 };

    /// Done once, and then parked for a person.
    fn stuck() -> Workflow {
        let done = Action::sql(|_, _| Ok(Prepared::Done(serde_json::Value::Null)));
        let undo = Action::sql(|_, _| Ok(Prepared::Done(serde_json::Value::Null)));
        let ask = Action::outside(
            |_, saga| Ok(Prepared::Call { key: saga.stable_key(), body: serde_json::Value::Null }),
            |_| Box::pin(async { Outcome::Refused("closed".to_owned()) }),
            |tx, saga, heard| match heard {
                workflow::Heard::Refused(reason) => Ok(Next::Park(reason)),
                other => go_on(tx, saga, other),
            },
        );
        Workflow::new(STUCK).version(1, vec![Step::new("first", done).undo(undo), Step::new("second", ask)])
    }

    /// Runs what is due in the folder, and says where the sagas of these keys stand.
    async fn run(config: &Config, tenant: TenantId, start: bool, keys: &[&'static str]) -> Vec<(SagaId, Status)> {
        let node = Node::open(config.clone(), Use::Write("test")).unwrap();
        let runner =
            Runner::start(node.store.clone(), vec![stuck()], Parts::new(), RunnerConfig::default(), node.rng.clone()).await.unwrap();
        for key in keys.iter().filter(|_| start) {
            let begin = |tx: &mut store::Tx<'_>, key: &&'static str| workflow::start(tx, STUCK, key, &());
            node.store.write(tenant, begin, *key).await.unwrap();
        }
        tokio::time::timeout(Duration::from_secs(30), runner.drained()).await.unwrap().unwrap();
        let mut found = Vec::new();
        for key in keys.iter().copied() {
            let saga = node.store.read(tenant, move |read| workflow::find(read, STUCK, key)).await.unwrap().unwrap();
            found.push((saga.id, saga.status));
        }
        runner.stop().await;
        node.close().await;
        found
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_parked_is_found_and_helped() {
        let folder = tempfile::tempdir().unwrap();
        let flags = vec![("--data".to_owned(), "data".to_owned(), folder.path().join("data").display().to_string())];
        let config = Config::build(&Given { file: None, environment: Vec::new(), flags }).unwrap();
        let (tenant, out) = (TenantId::from_i64(7), Output::new(true));
        let keys = ["retried", "cancelled", "decided"];
        let parked = run(&config, tenant, true, &keys).await;
        assert!(parked.iter().all(|(_, status)| *status == Status::Parked), "{parked:?}");
        let nobody = || cli::SagaOwner { tenant: None, shard: None };
        let node = Node::open(config.clone(), Use::Read("test")).unwrap();
        let listed = list(&node, &nobody(), 2).await.unwrap();
        assert_eq!(
            listed.iter().map(|saga| (saga.key.as_str(), saga.tenant_id)).collect::<Vec<_>>(),
            [("retried", Some(tenant)), ("cancelled", Some(tenant))]
        );
        assert_eq!(list(&node, &cli::SagaOwner { tenant: None, shard: Some(0) }, 10).await.unwrap().len(), 0, "the platform has none");
        node.close().await;
        let id = |place: usize| parked[place].0.to_string();
        workflow(config.clone(), cli::Workflow::Show { saga: id(0), owner: nobody() }, out).await.unwrap();
        workflow(config.clone(), cli::Workflow::Retry { saga: id(0), owner: nobody() }, out).await.unwrap();
        workflow(config.clone(), cli::Workflow::Cancel { saga: id(1), owner: nobody() }, out).await.unwrap();
        let decide = cli::Workflow::Decide { saga: id(2), owner: nobody(), done: Some("by hand".to_owned()), refused: None };
        workflow(config.clone(), decide, out).await.unwrap();
        let after: Vec<Status> = run(&config, tenant, false, &keys).await.into_iter().map(|(_, status)| status).collect();
        assert_eq!(after, [Status::Parked, Status::Cancelled, Status::Done]);
    }
}
