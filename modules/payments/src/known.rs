//! What a lane remembers of tenants' providers: for the commands of a group, and on SQLite, where a lane is alone, from one group to the next
//! (see [`Tx::keep`]). They rarely change, and each payment asks for them.

use crate::books::Accounts;
use crate::model::ProviderId;
use crate::routing::{Policy, Rule};
use crate::{queries, sql};
use kernel::{Currency, Result, TenantId};
use std::collections::HashMap;
use std::sync::Arc;
use store::Tx;

/// Tenants of whom, and provider's currencies of which, so much is remembered; more than that, and it begins anew.
const REMEMBERED: usize = 1_024;

/// Which providers a tenant may ask.
pub(crate) struct Routes {
    /// Those that are enabled.
    pub enabled: Vec<ProviderId>,
    /// The rules by which one is chosen; where none were set, every provider is asked alike.
    pub policy: Policy,
}

/// Of every tenant of the lane.
#[derive(Default)]
struct Known {
    routes: HashMap<TenantId, Arc<Routes>>,
    accounts: HashMap<(TenantId, ProviderId, Currency), Accounts>,
}

/// Which providers the tenant may ask now.
pub(crate) fn routes(tx: &mut Tx<'_>) -> Result<Arc<Routes>> {
    let tenant = tx.tenant()?;
    let mut known = tx.take_kept::<Known>().unwrap_or_default();
    let routes = match known.routes.get(&tenant) {
        Some(routes) => routes.clone(),
        None => {
            let enabled: Vec<(ProviderId,)> = tx.all(sql::ENABLED_PROVIDERS, ())?;
            let enabled: Vec<ProviderId> = enabled.into_iter().map(|(provider_id,)| provider_id).collect();
            let (_, mut policy) = queries::policy(tx)?;
            if policy.rules.is_empty() {
                policy.rules = enabled.iter().map(|provider_id| Rule::always(*provider_id)).collect();
            }
            let routes = Arc::new(Routes { enabled, policy });
            if known.routes.len() >= REMEMBERED {
                known.routes.clear();
            }
            known.routes.insert(tenant, routes.clone());
            routes
        }
    };
    tx.keep(known);
    Ok(routes)
}

/// Forgets which providers the tenant may ask: for whoever changes that.
pub(crate) fn routes_change(tx: &mut Tx<'_>) -> Result<()> {
    let tenant = tx.tenant()?;
    if let Some(mut known) = tx.take_kept::<Known>() {
        known.routes.remove(&tenant);
        tx.keep(known);
    }
    Ok(())
}

/// The accounts of a provider in a currency, as `find` finds or makes them. They never change.
pub(crate) fn accounts(
    tx: &mut Tx<'_>,
    provider_id: ProviderId,
    currency: Currency,
    find: impl FnOnce(&mut Tx<'_>) -> Result<Accounts>,
) -> Result<Accounts> {
    let place = (tx.tenant()?, provider_id, currency);
    let mut known = tx.take_kept::<Known>().unwrap_or_default();
    let found = known.accounts.get(&place).copied();
    let accounts = match found {
        Some(accounts) => accounts,
        None => {
            let accounts = find(tx)?;
            if known.accounts.len() >= REMEMBERED {
                known.accounts.clear();
            }
            known.accounts.insert(place, accounts);
            accounts
        }
    };
    tx.keep(known);
    Ok(accounts)
}
