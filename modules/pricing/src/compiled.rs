//! Compiled rules in memory: a tenant's are compiled once for each change of them.
//!
//! Sound, because each change writes a stamp that never was and never comes again (an id, even if its transaction is rolled back), and
//! whoever asks reads the stamp in the transaction or snapshot that decides: rules under that stamp are those of that moment, whatever
//! this process has heard of changes.

use crate::engine::rules::Rules;
use crate::model::{PriceList, Promotion};
use crate::tax::{CountryRates, TaxSettings};
use crate::{queries, sql};
use kernel::{Result, TenantId};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;
use store::Read;
use traffic::cache::{Caches, Tags};
use web::{ModuleCaches, Part};

/// Memory for compiled rules, in bytes.
const BYTES: u64 = 64 * 1024 * 1024;
/// About how many tenants' rules that holds.
const TENANTS: usize = 4_096;

#[derive(Clone)]
struct Bytes;

impl Weighter<TenantId, Arc<Rules>> for Bytes {
    fn weight(&self, _: &TenantId, rules: &Arc<Rules>) -> u64 {
        rules.bytes() as u64
    }
}

/// The compiled rules of this process; cheap to clone. A part of the application: `app.part::<pricing::api::Pricing>().clone()`.
#[derive(Clone)]
pub struct Pricing(Arc<Cache<TenantId, Arc<Rules>, Bytes>>);

impl Default for Pricing {
    fn default() -> Self {
        Pricing(Arc::new(Cache::with_weighter(TENANTS, BYTES, Bytes)))
    }
}

impl std::fmt::Debug for Pricing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pricing({} tenants)", self.0.len())
    }
}

impl Pricing {
    /// The tenant's rules as they are in this transaction or snapshot: one point read, and four statements more after a change.
    pub fn rules(&self, read: &mut Read<'_>) -> Result<Arc<Rules>> {
        let tenant = read.tenant()?;
        // The stamp first: where each statement sees what is committed when it runs, what follows is at least as new.
        let stamp = read.opt::<(i64,)>(sql::STAMP, ())?.map_or(0, |row| row.0);
        if let Some(rules) = self.0.get(&tenant)
            && rules.stamp == stamp
        {
            return Ok(rules);
        }
        if stamp == 0 {
            return Ok(Arc::new(Rules::default()));
        }
        let rules = Arc::new(load(read, stamp)?);
        self.0.insert(tenant, rules.clone());
        Ok(rules)
    }
}

/// Reads and compiles what is stored.
pub(crate) fn load(read: &mut Read<'_>, stamp: i64) -> Result<Rules> {
    let settings: TaxSettings = queries::settings(read)?.settings;
    let lists: Vec<PriceList> = read.all(sql::ACTIVE_LISTS, ())?;
    let promotions: Vec<Promotion> = read.all(sql::ACTIVE_PROMOTIONS, ())?;
    let countries: Vec<CountryRates> = read.all(sql::COUNTRIES, ("", 1_000_i64))?;
    let countries = countries.into_iter().map(|rates| (rates.country, rates.periods)).collect();
    Rules::compile(stamp, settings, lists, promotions, countries)
}

/// Only a part of the application: no event makes these old, a stamp does.
pub(crate) const CACHES: ModuleCaches = ModuleCaches {
    open: |_: &Caches| Ok(Part::new(Pricing::default())),
    events: &[],
    tags: |_| Tags::NONE,
    forget: |_, _| {},
    hot: |_, _| serde_json::Value::Null,
    warm: |_, _, _| Box::pin(std::future::ready(0)),
};
