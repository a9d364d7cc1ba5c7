//! `brandos tenant`, `user` and `api-key`: what the platform's operator does, recorded in the audit trail as the system's doing.

use crate::cli;
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::wiring::{self, Node, Use};
use identity::api::{self, ApiKeySpec, By, NewTenant, TenantInfo};
use identity::{ApiKeyId, Known, Plan, TenantStatus, UserStatus};
use kernel::{Error, Rng, TenantId};
use std::io::BufRead as _;
use std::sync::Arc;

/// Rows that are read at once.
const PAGE: u32 = 500;

/// `brandos tenant ...`.
pub(crate) async fn tenant(config: Config, command: cli::Tenant, out: Output) -> Outcome<Exit> {
    match command {
        cli::Tenant::Create { slug, name } => {
            let node = Node::open(config, Use::Write("tenant create"))?;
            let name = name.unwrap_or_else(|| slug.clone());
            let id = api::create_tenant(&node.store, By::SYSTEM, NewTenant { slug: slug.clone(), name, plan: Plan::Free }).await?;
            show(&node, id, out).await?;
            node.close().await;
        }
        cli::Tenant::List => {
            let node = Node::open(config, Use::Read("tenant list"))?;
            let mut rows = Vec::new();
            let mut all = Vec::new();
            each_tenant(&node, |tenant| {
                if out.is_json() {
                    out.value(&tenant);
                    all.push(tenant.id);
                } else {
                    rows.push(row(&node, &tenant));
                }
            })
            .await?;
            out.table(&["SLUG", "ID", "STATUS", "PLAN", "SHARD", "CREATED AT", "NAME"], &rows);
            out.value(&serde_json::json!({ "tenants": all.len() }));
            node.close().await;
        }
        cli::Tenant::Show { tenant } => {
            let node = Node::open(config, Use::Read("tenant show"))?;
            let found = find(&node, &tenant).await?;
            show(&node, found.id, out).await?;
            node.close().await;
        }
        cli::Tenant::Suspend { tenant } => return set_status(config, &tenant, TenantStatus::Suspended, out).await,
        cli::Tenant::Resume { tenant } => return set_status(config, &tenant, TenantStatus::Active, out).await,
        cli::Tenant::Move { tenant, to_shard } => return crate::backup::move_tenant(config, &tenant, to_shard, out).await,
    }
    Ok(Exit::Ok)
}

async fn set_status(config: Config, name: &str, status: TenantStatus, out: Output) -> Outcome<Exit> {
    let node = Node::open(config, Use::Write("tenant"))?;
    let tenant = find(&node, name).await?;
    api::set_tenant_status(&node.store, By::SYSTEM, tenant.id, status).await?;
    show(&node, tenant.id, out).await?;
    node.close().await;
    Ok(Exit::Ok)
}

async fn show(node: &Node, id: TenantId, out: Output) -> Outcome {
    let tenant = find(node, &id.to_string()).await?;
    let shard = node.store.shard_of(id);
    for (name, value) in [
        ("slug", tenant.slug.clone()),
        ("id", tenant.id.to_string()),
        ("name", tenant.name.clone()),
        ("status", tenant.status.word().to_owned()),
        ("plan", tenant.plan.word().to_owned()),
        ("shard", shard.to_string()),
        ("created", tenant.created_at.to_string()),
    ] {
        out.line(format!("{name:<8} {value}"));
    }
    out.value(&serde_json::json!({ "tenant": tenant, "shard": shard }));
    Ok(())
}

fn row(node: &Node, tenant: &TenantInfo) -> Vec<String> {
    vec![
        tenant.slug.clone(),
        tenant.id.to_string(),
        tenant.status.word().to_owned(),
        tenant.plan.word().to_owned(),
        node.store.shard_of(tenant.id).to_string(),
        tenant.created_at.to_string(),
        tenant.name.clone(),
    ]
}

/// Hands over every tenant, the newest first.
pub(crate) async fn each_tenant(node: &Node, mut each: impl FnMut(TenantInfo)) -> Outcome {
    let mut before = i64::MAX;
    loop {
        let page = api::list_tenants(&node.store, before, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        before = last.id.as_i64();
        page.into_iter().for_each(&mut each);
    }
}

/// The tenant with this slug or id. Errors: `identity.tenant_not_found`.
pub(crate) async fn find(node: &Node, name: &str) -> Outcome<TenantInfo> {
    let missing =
        || Error::not_found("identity.tenant_not_found", format!("there is no tenant {name:?}; `brandos tenant list` shows them"));
    Ok(api::find_tenant(&node.store, name).await?.ok_or_else(missing)?)
}

/// The tenant with this slug, made when it is missing.
pub(crate) async fn tenant_or_new(node: &Node, slug: &str, out: Output) -> Outcome<TenantId> {
    if let Some(tenant) = api::find_tenant(&node.store, slug).await? {
        return Ok(tenant.id);
    }
    let (id, made) =
        api::ensure_tenant(&node.store, By::SYSTEM, NewTenant { slug: slug.to_owned(), name: slug.to_owned(), plan: Plan::Free }).await?;
    if made {
        out.note(format!("made tenant {slug} ({id})"));
    }
    Ok(id)
}

/// `brandos user ...`.
pub(crate) async fn user(config: Config, command: cli::User, out: Output) -> Outcome<Exit> {
    match command {
        cli::User::Create { email, name, tenant, role, platform_admin, password_stdin } => {
            let node = Node::open(config, Use::Write("user create"))?;
            let tenant = match &tenant {
                Some(name) => Some(find(&node, name).await?),
                None => None,
            };
            let given = if password_stdin { Some(password_from_stdin()?) } else { None };
            let password = given.clone().unwrap_or_else(|| made_password(&*node.rng));
            let name = name.unwrap_or_else(|| email.split('@').next().unwrap_or_default().to_owned());
            let (id, made) = api::ensure_user(&node.store, By::SYSTEM, &node.rng, &email, &name, password.clone()).await?;
            if let Some(tenant) = &tenant {
                api::put_member(&node.store, By::SYSTEM, &Arc::new(wiring::known()), tenant.id, id, &role).await?;
            }
            if platform_admin {
                api::set_platform_admin(&node.store, By::SYSTEM, id, true).await?;
            }
            let shown = (made && given.is_none()).then_some(&password);
            out.line(format!("user      {email} ({id}){}", if made { "" } else { ", there already: name and password stay" }));
            if let Some(password) = shown {
                out.line(format!("password  {password}  (shown this once)"));
            }
            if let Some(tenant) = &tenant {
                out.line(format!("member    of {} as {role}", tenant.slug));
            }
            if platform_admin {
                out.line("platform  administrator");
            }
            let membership = tenant.as_ref().map(|t| serde_json::json!({ "tenant_id": t.id, "slug": t.slug, "role": role }));
            out.value(&serde_json::json!({ "id": id, "email": email, "made": made, "password": shown, "member": membership, "platform_admin": platform_admin }));
            node.close().await;
        }
        cli::User::List { tenant } => {
            let node = Node::open(config, Use::Read("user list"))?;
            let tenant = find(&node, &tenant).await?;
            let (mut rows, mut count, mut before) = (Vec::new(), 0, i64::MAX);
            loop {
                let page = api::list_members(&node.store, tenant.id, before, PAGE).await?;
                let Some(last) = page.last() else { break };
                before = last.user.id.as_i64();
                for member in page {
                    count += 1;
                    out.value(&member);
                    if !out.is_json() {
                        rows.push(vec![member.user.email, member.user.id.to_string(), member.role, member.user.name]);
                    }
                }
            }
            out.table(&["EMAIL", "ID", "ROLE", "NAME"], &rows);
            out.value(&serde_json::json!({ "members": count }));
            node.close().await;
        }
        cli::User::Suspend { user } => return set_user_status(config, &user, UserStatus::Disabled, out).await,
        cli::User::Resume { user } => return set_user_status(config, &user, UserStatus::Active, out).await,
    }
    Ok(Exit::Ok)
}

async fn set_user_status(config: Config, email: &str, status: UserStatus, out: Output) -> Outcome<Exit> {
    let node = Node::open(config, Use::Write("user"))?;
    let missing = || Error::not_found("identity.user_not_found", "there is no user with this e-mail address");
    let user = api::find_user(&node.store, email).await?.ok_or_else(missing)?;
    api::set_user_status(&node.store, By::SYSTEM, user.id, status).await?;
    out.line(format!("{} is {}", user.email, status.word()));
    out.value(&serde_json::json!({ "id": user.id, "email": user.email, "status": status }));
    node.close().await;
    Ok(Exit::Ok)
}

fn password_from_stdin() -> Outcome<String> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|e| Failure::usage(format!("cannot read the password from stdin: {e}")))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Five groups of four letters and digits that are not mistaken for each other: about 100 bits.
pub(crate) fn made_password(rng: &dyn Rng) -> String {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let group = || (0..4).map(|_| char::from(LETTERS[rng.below(LETTERS.len() as u64) as usize])).collect::<String>();
    (0..5).map(|_| group()).collect::<Vec<_>>().join("-")
}

/// `brandos api-key ...`.
pub(crate) async fn api_key(config: Config, command: cli::ApiKey, out: Output) -> Outcome<Exit> {
    let known: Arc<Known> = Arc::new(wiring::known());
    match command {
        cli::ApiKey::Create { tenant, name, publishable: true, origins, permissions: _ } => {
            let node = Node::open(config, Use::Write("api-key create"))?;
            let tenant = find(&node, &tenant).await?;
            let (id, text) = api::create_publishable_key(&node.store, By::SYSTEM, tenant.id, name.clone(), origins.clone()).await?;
            out.line(format!("key  {text}  (no secret)"));
            out.line(format!("id   {id}"));
            out.value(&serde_json::json!({ "id": id, "key": text, "name": name, "tenant_id": tenant.id, "publishable": true, "origins": origins }));
            node.close().await;
        }
        cli::ApiKey::Create { tenant, name, permissions, publishable: false, origins: _ } => {
            let node = Node::open(config, Use::Write("api-key create"))?;
            let tenant = find(&node, &tenant).await?;
            let permissions = if permissions.is_empty() { known.tenant().iter().map(|p| (*p).to_owned()).collect() } else { permissions };
            let spec = ApiKeySpec { name: name.clone(), permissions: permissions.clone(), expires_at: None };
            let (id, text) = api::create_api_key(&node.store, By::SYSTEM, &*node.rng, &known, tenant.id, spec).await?;
            out.line(format!("key  {text}  (shown this once)"));
            out.line(format!("id   {id}"));
            out.value(&serde_json::json!({ "id": id, "key": text, "name": name, "tenant_id": tenant.id, "permissions": permissions }));
            node.close().await;
        }
        cli::ApiKey::List { tenant } => {
            let node = Node::open(config, Use::Read("api-key list"))?;
            let tenant = find(&node, &tenant).await?;
            let (mut rows, mut count, mut before) = (Vec::new(), 0, i64::MAX);
            loop {
                let page = api::list_api_keys(&node.store, &known, tenant.id, before, PAGE).await?;
                let Some(last) = page.last() else { break };
                before = last.id.as_i64();
                for key in page {
                    count += 1;
                    out.value(&key);
                    let state = if key.revoked_at.is_some() { "revoked" } else { "live" };
                    rows.push(vec![key.id.to_string(), key.name, state.to_owned(), key.prefix, key.permissions.join(" ")]);
                }
            }
            out.table(&["ID", "NAME", "STATE", "BEGINS WITH", "PERMISSIONS"], &rows);
            out.value(&serde_json::json!({ "api_keys": count }));
            node.close().await;
        }
        cli::ApiKey::Revoke { tenant, key } => {
            let id: ApiKeyId = key.parse()?;
            let node = Node::open(config, Use::Write("api-key revoke"))?;
            let tenant = find(&node, &tenant).await?;
            api::revoke_api_key(&node.store, By::SYSTEM, &known, tenant.id, id).await?;
            out.line(format!("{id} is revoked"));
            out.value(&serde_json::json!({ "ok": true, "id": id }));
            node.close().await;
        }
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_password_is_long_and_never_the_same() {
        let rng = kernel::SystemRng::new();
        let (one, other) = (made_password(&rng), made_password(&rng));
        assert_eq!(one.len(), 24);
        assert_ne!(one, other);
    }
}
