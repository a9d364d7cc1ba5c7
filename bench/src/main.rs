//! Load generators and peers. `cargo xtask bench store --help`; every figure is printed with its conditions.

mod cache;
mod checkout;
mod http;
mod inventory_bench;
mod ledger_bench;
mod limits;
mod limits_http;
mod limits_redis;
mod measure;
mod overload;
mod peers;
mod pricing;
mod reconcile_bench;
mod store_bench;
mod tenants;
mod wallets;

use clap::{Parser, Subcommand};

/// Measures BrandOS. Figures are medians of several runs; compare ratios of one run, not figures of two machines.
#[derive(Parser)]
#[command(name = "brandos-bench")]
struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// The store alone, in process: a command is one keyed insert, two guarded updates, two inserts and one event.
    Store(store_bench::Options),
    /// The ledger alone, in process: single transfers, batches, hot accounts, and a row-lock ledger as the peer.
    Ledger(ledger_bench::Options),
    /// Reservations of one hot item in process: an optimistic, a pessimistic and a grouped way.
    Inventory(inventory_bench::Options),
    /// The order path of a running server over HTTP.
    Http(http::Options),
    /// Checkouts of one hot item of a running server over HTTP: a steady load, or a flash sale.
    Checkout(checkout::Options),
    /// Reconciliation in process: a settlement file with twelve kinds of differences against as many payments.
    Reconcile(reconcile_bench::Options),
    /// Pricing in process: the pure core, and carts that take uses of one hot coupon.
    Pricing(pricing::Options),
    /// Transfers between wallets of a running server over HTTP, with keys, limits and scores.
    Wallets(wallets::Options),
    /// Many tenants, one of them with many users, under a steady mixed load through the whole HTTP path in process.
    Tenants(tenants::Options),
    /// Rate limits in process: a check of four levels on a million keys, with governor as the peer.
    Limits(limits::Options),
    /// Caches: a hit with TTL and tag check, with quick_cache and moka as peers; a hit on Redis; what a policy costs a call.
    Cache(cache::Options),
    /// Rate limits over HTTP: what four levels add to a request, in process.
    LimitsHttp(limits_http::Options),
    /// Rate limits on Redis: three processes and one redis-server of the run's own.
    LimitsRedis(limits_redis::Options),
    /// What one tenant's flood of orders costs nine others, through the whole HTTP path in process.
    Fairness(overload::FairnessOptions),
    /// What three times as many orders as can be placed cost those that are, through the whole HTTP path in process.
    Overload(overload::OverloadOptions),
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    match Options::parse().bench {
        Bench::Store(options) => runtime.block_on(store_bench::run(options)),
        Bench::Ledger(options) => runtime.block_on(ledger_bench::run(options)),
        Bench::Inventory(options) => runtime.block_on(inventory_bench::run(options)),
        Bench::Http(options) => options.generator.runtime().block_on(http::run(options)),
        Bench::Checkout(options) => options.generator.runtime().block_on(checkout::run(options)),
        Bench::Reconcile(options) => runtime.block_on(reconcile_bench::run(options)),
        Bench::Pricing(options) => runtime.block_on(pricing::run(options)),
        Bench::Wallets(options) => options.generator.runtime().block_on(wallets::run(options)),
        Bench::Tenants(options) => runtime.block_on(tenants::run(options)),
        Bench::Limits(options) => limits::run(&options),
        Bench::Cache(options) => runtime.block_on(async { tokio::spawn(cache::run(options)).await.expect("the benchmark does not panic") }),
        Bench::LimitsHttp(options) => runtime.block_on(limits_http::run(options)),
        Bench::LimitsRedis(options) => limits_redis::run(&options),
        Bench::Fairness(options) => runtime.block_on(overload::fairness(options)),
        Bench::Overload(options) => runtime.block_on(overload::overload(options)),
    }
}
