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
