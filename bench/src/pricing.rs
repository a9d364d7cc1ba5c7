//! Pricing: the pure core alone, and carts that take a coupon of one hot code in a store.

use crate::measure::{Outcome, callers, fsyncs_per_second, median, tell};
use clap::Args;
use kernel::{Clock as _, IdGenerator, SystemClock, TenantId, Timestamp};
use pricing::api::{
    Basket, BasketLine, Charge, ChargeKind, CouponSpec, Effect, Minimum, NewCoupon, Of, Presented, Pricing, Promotion, PromotionId,
    PromotionSpec, Rules, Stacking, Status, Target, TaxPeriod, TaxSettings, Tier, TierMeasure, create_coupon, create_promotion, load,
    price, redeem, refund, set_tax_rates, set_tax_settings,
};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use store::{Call, Environment, ShardConfig, Store, StoreConfig, Tx};

/// Options of `pricing`.
#[derive(Args)]
pub struct Options {
    /// A PostgreSQL for the part with a store, besides SQLite: `postgres://...`; its tables `pricing_*` are made in it.
    #[arg(long)]
    postgres: Option<String>,
    /// Carts of each run of the pure core.
    #[arg(long, default_value_t = 200)]
    carts: usize,
    /// Runs, of which the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds for each run with a store.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Callers of the part with a store.
    #[arg(long, default_value_t = 512)]
    callers: u64,
}

const TENANT: TenantId = TenantId::from_i64(1);

fn effect(n: usize) -> Effect {
    let percent = |text: &str| text.parse().expect("a percentage");
    match n % 6 {
        0 => Effect::Percent { percent: percent("1.5") },
        1 => Effect::Amount { amount_minor: 1_000 },
        2 => Effect::AmountEach { amount_minor: 1 },
        3 => Effect::BuyGet { buy: 2, get: 1, percent: percent("1"), get_target: None, at_most: None },
        4 => Effect::Tiers { by: TierMeasure::Quantity, steps: vec![Tier { at_least: 2, percent: percent("0.5"), amount_minor: 0 }] },
        _ => Effect::Percent { percent: percent("0.3333") },
    }
}

fn promotion(n: usize, target: Target, effect: Effect) -> PromotionSpec {
    PromotionSpec {
        name: format!("Promotion {n}"),
        status: Status::Active,
        coupon_required: false,
        priority: (n % 7) as i32,
        stacking: Stacking::Combinable,
        currency: Some("EUR".parse().expect("a currency")),
        starts_at: None,
        ends_at: None,
        customer_groups: Vec::new(),
        target,
        minimum: Some(Minimum { amount_minor: 1, quantity: 1, of: Of::Order }),
        effect,
        max_discount_minor: None,
    }
}

/// Rules of so many promotions: each for everything, or each for one of twenty collections.
fn rules(promotions: usize, everything: bool) -> Rules {
    let stored = (1..=promotions).map(|n| {
        let labels = if everything { Vec::new() } else { vec![format!("collection:{}", n % 20)] };
        Promotion {
            promotion_id: PromotionId::from_i64(n as i64),
            spec: promotion(n, Target { labels, ..Target::default() }, effect(n)),
            version: 1,
            created_at: Timestamp::from_micros(0),
            updated_at: Timestamp::from_micros(0),
        }
    });
    let settings = TaxSettings { origin_country: Some("DE".to_owned()), ..TaxSettings::default() };
    Rules::compile(1, settings, Vec::new(), stored.collect(), vec![("DE".to_owned(), vec![german()])]).expect("rules compile")
}

fn german() -> TaxPeriod {
    serde_json::from_str(r#"{ "effective_from": "0000-01-01", "rates": { "standard": 19, "reduced": 7 } }"#).expect("rates")
}

fn cart(lines: u32) -> Basket {
    let line = |n: u32| BasketLine {
        line: n,
        sku: format!("SKU-{n}"),
        quantity: i64::from(n % 9 + 1),
        list_price: Some(format!("{}.99", n % 200 + 5).parse().expect("a price")),
        tax_class: n.is_multiple_of(3).then(|| "reduced".to_owned()),
        labels: [format!("product:{n}"), format!("collection:{}", n % 20), format!("category:{}", n % 5)].to_vec(),
    };
    let shipping = Charge { line: lines + 1, kind: ChargeKind::Shipping, name: "Post".to_owned(), amount_minor: 495, tax_class: None };
    Basket {
        currency: "EUR".parse().expect("a currency"),
        at: SystemClock.now(),
        country: Some("DE".to_owned()),
        postcode: Some("10115".to_owned()),
        customer_groups: Vec::new(),
        vat_id: None,
        lines: (1..=lines).map(line).collect(),
        charges: vec![shipping],
        coupons: Vec::new(),
        prices: Vec::new(),
    }
}

/// Milliseconds of the median and of the slowest cart.
fn timed(options: &Options, mut once: impl FnMut()) -> (f64, f64) {
    let mut medians = Vec::new();
    let mut slowest = 0.0_f64;
    for _ in 0..options.runs {
        let mut times = Vec::with_capacity(options.carts);
        for _ in 0..options.carts {
            let begun = Instant::now();
            once();
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        slowest = slowest.max(times.iter().copied().fold(0.0, f64::max));
        medians.push(median(times));
    }
    (median(medians), slowest)
}

fn pure(options: &Options) {
    for (lines, promotions, everything, name) in [
        (500, 100, true, "500 lines, 100 promotions, each for every line"),
        (500, 100, false, "500 lines, 100 promotions, each for a collection"),
        (500, 0, true, "500 lines, no promotion"),
        (3, 10, true, "3 lines, 10 promotions"),
    ] {
        let (rules, basket) = (rules(promotions, everything), cart(lines));
        let priced = price(&rules, &basket).expect("priced");
        assert_eq!(priced.adjustments.len(), promotions, "each applies: {:?}", priced.not_applied);
        let (middle, slowest) = timed(options, || drop(black_box(price(&rules, black_box(&basket)))));
        tell(&format!("{name:<52} {middle:>9.4} ms   slowest {slowest:>9.4} ms"));
    }
    let snapshot = price(&rules(100, true), &cart(500)).expect("priced").snapshot();
    let all: Vec<_> = snapshot.lines.iter().map(|line| pricing::api::LineQuantity { line: line.line, quantity: line.quantity }).collect();
    let (middle, slowest) = timed(options, || drop(black_box(refund(&snapshot, &[], black_box(&all)))));
    tell(&format!("{:<52} {middle:>9.4} ms   slowest {slowest:>9.4} ms", "a refund of those 500 lines"));
    let (middle, slowest) = timed(options, || drop(black_box(rules(100, false))));
    tell(&format!("{:<52} {middle:>9.4} ms   slowest {slowest:>9.4} ms", "compiling 100 promotions"));
}

/// A cart that is priced, perhaps with a coupon that it takes.
struct Take {
    pricing: Pricing,
    reference: Option<String>,
}

fn take(tx: &mut Tx<'_>, take: &Take) -> kernel::Result<i64> {
    let rules = take.pricing.rules(tx)?;
    let mut basket = cart(2);
    let codes = take.reference.iter().map(|_| "HOT".to_owned()).collect();
    load(tx, &rules, &mut basket, &Presented { codes, customer: None, reference: take.reference.clone() })?;
    let priced = price(&rules, &basket)?;
    if let Some(reference) = &take.reference {
        redeem(tx, "HOT", None, reference)?;
    }
    Ok(priced.totals.total_minor)
}

async fn stored(options: &Options, shard: ShardConfig, engine: &str) {
    let clock = Arc::new(SystemClock);
    let environment = Environment { clock: clock.clone(), ids: Arc::new(IdGenerator::new(clock, 1)) };
    let config = StoreConfig { queue_wait_ms: 0, ..StoreConfig::with_shards(vec![shard]) };
    let store = Store::open(config, &[log::migrations(), pricing::module().migrations], environment).expect("the store opens");
    let set_up = |tx: &mut Tx<'_>, _: &()| {
        set_tax_settings(tx, &TaxSettings { origin_country: Some("DE".to_owned()), ..TaxSettings::default() })?;
        set_tax_rates(tx, "DE", &[german()])?;
        for n in 0..10 {
            create_promotion(tx, &promotion(n, Target::default(), effect(n)))?;
        }
        let coupon = PromotionSpec { coupon_required: true, ..promotion(11, Target::default(), Effect::Amount { amount_minor: 100 }) };
        let promotion_id = create_promotion(tx, &coupon)?.promotion_id;
        create_coupon(tx, &NewCoupon { code: "HOT".to_owned(), promotion_id, spec: CouponSpec::default() }).map(|_| ())
    };
    store.write(TENANT, set_up, ()).await.expect("set up");
    let pricing = Pricing::default();
    let next = Arc::new(AtomicU64::new(0));
    let run = async |coupon: bool| -> Outcome {
        let (store, pricing, next) = (store.clone(), pricing.clone(), next.clone());
        callers(options.callers, options.seconds, move |_, _| {
            let (store, pricing) = (store.clone(), pricing.clone());
            let reference = coupon.then(|| format!("cart-{}", next.fetch_add(1, Ordering::Relaxed)));
            async move { store.write(Call::new(TENANT).deadline_ms(60_000), take, Take { pricing, reference }).await.is_ok() }
        })
        .await
    };
    for (coupon, name) in
        [(false, "a cart of 2 lines, 10 promotions, priced on the lane"), (true, "the same, and takes a use of one hot coupon")]
    {
        for _ in 0..options.runs.min(3) {
            tell(&run(coupon).await.line(&format!("{engine}: {name}")));
        }
    }
    store.close().await;
}

/// Runs it.
pub async fn run(options: Options) {
    pure(&options);
    let folder = tempfile::tempdir().expect("a folder");
    tell(&format!("{} callers, {} s a run; fsync of 4 KiB: {:.0}/s", options.callers, options.seconds, fsyncs_per_second(folder.path())));
    stored(&options, ShardConfig::Sqlite { path: folder.path().join("pricing.db") }, "SQLite").await;
    if let Some(url) = &options.postgres {
        let shard = ShardConfig::Postgres { url: url.clone(), lanes: 4, prepared: true, replicas: Vec::new() };
        stored(&options, shard, "PostgreSQL").await;
    }
}
