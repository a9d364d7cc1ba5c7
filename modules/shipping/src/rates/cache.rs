//! What is remembered of rates: each tenant's zones, methods and tables put together, for an hour, until one of them changes.

use crate::rates::model::Rates;
use crate::rates::queries;
use kernel::{Error, Result, TenantId};
use std::time::Duration;
use store::Change;
use traffic::cache::{Cache, Cached, Caches, Found, Normal, Settings, Tag, Tags};
use web::{App, Caller, ModuleCaches, Part};

/// How long they are remembered, in milliseconds.
const TTL_MS: u64 = 3_600_000;
/// Of the memory of all caches, in percent.
const MEMORY_PERCENT: u8 = 5;

/// Rates by tenant.
pub(crate) struct RatesOf(Cache<TenantId, Rates>);

/// Whatever is set is an event.
pub(crate) const CACHES: ModuleCaches = ModuleCaches {
    open,
    events: &[
        "shipping_zone.created",
        "shipping_zone.changed",
        "shipping_zone.removed",
        "shipping_method.created",
        "shipping_method.changed",
        "shipping_rate.set",
        "shipping_rate.removed",
    ],
    tags: |change: &Change| change.tenant.map_or(Tags::NONE, |tenant| Tags::of([tag(&tenant)])),
    forget: |_, _| {},
    hot: |app, most| serde_json::to_value(app.part::<RatesOf>().0.hot(most)).unwrap_or_default(),
    warm: |app, keys, within| Box::pin(warm(app, keys, within)),
};

async fn warm(app: App, keys: serde_json::Value, within: Duration) -> usize {
    let Ok(keys) = serde_json::from_value::<Vec<TenantId>>(keys) else { return 0 };
    let store = app.store().clone();
    let load = move |tenant: TenantId| {
        let store = store.clone();
        async move { store.read(tenant, queries::rates).await.map(Some) }
    };
    app.part::<RatesOf>().0.warm(keys, within, load).await
}

fn tag(tenant: &TenantId) -> Tag {
    Tag::new("shipping_rates", tenant.as_i64())
}

fn open(caches: &Caches) -> Result<Part> {
    let settings = Settings { ttl_ms: TTL_MS, memory_percent: MEMORY_PERCENT, ..Settings::of::<Rates>("shipping.rates") };
    Ok(Part::new(RatesOf(Cache::new(caches, settings, |tenant| Tags::of([tag(tenant)]))?)))
}

impl Cached for Rates {
    type Class = Normal;

    fn bytes(&self) -> usize {
        Rates::bytes(self)
    }
}

/// The caller's rates, out of the cache.
pub(crate) async fn cached(app: &App, caller: &Caller) -> Result<Found<Rates>> {
    let found = app.cached(caller, &app.part::<RatesOf>().0, caller.tenant()?, queries::rates).await?;
    found.ok_or_else(|| Error::internal("rates are there, were they only none"))
}
