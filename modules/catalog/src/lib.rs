//! What the brand sells: products, their variants with SKU and barcode, one list price a variant and currency, and the prices at which
//! they were traded in the past; how products are arranged (categories, collections), described (attributes, tags, media), scheduled, and
//! what was changed about them.
//!
//! Promises: a SKU is unique in its tenant, upper and lower case differ; each change of a product, a variant or a price is one event,
//! and asking for what is there already is none; a product's version rises with whatever changes under it; whether it is for sale is
//! decided by the clock of the moment; no product is ever deleted, because orders point at it.
//! Must never know: stock, orders, customers, or what a price becomes in a cart.

mod attributes;
mod cache;
mod categories;
mod collections;
mod commands;
mod events;
mod facets;
mod history;
mod import;
mod model;
mod publishing;
mod queries;
mod routes;
mod shop;
mod sql;
#[cfg(test)]
mod tests;
mod upsert;

use web::{Audit, AuditCheck, Module, PermissionInfo};

/// What other modules and importers use within their own transactions.
pub mod api {
    pub use crate::attributes::{AttributeValue, AttributeValues};
    pub use crate::categories::{CategoryId, ShopCategory, shop_categories};
    pub use crate::collections::{CollectionId, Listed};
    pub use crate::facets::{Media, MediaKind};
    pub use crate::history::By;
    pub use crate::import::{CSV_HEADER, Format, ImportReport, ImportRow, RowProblem, Rows};
    pub use crate::model::{Dimensions, Price, ProductId, ProductStatus, VariantId, VariantOption, VariantStatus};
    pub use crate::queries::{MAX_LOOKUP, VariantSnapshot, export_page, variant_snapshots, variants_by_sku};
    pub use crate::shop::{MAX_SEARCH, Shelf, ShopProduct, ShopVariant, shelf_products, shop_product, shop_products};
    pub use crate::upsert::{
        Change, MAX_BATCH, MAX_OBSERVATIONS, Observation, RowOutcome, UpsertBatch, UpsertRow, VariantRef, observe_prices, upsert_by_sku,
        upsert_variants,
    };
}

const PERMISSIONS: &[PermissionInfo] = &[
    PermissionInfo { name: "catalog.read", description: "See products, variants and prices." },
    PermissionInfo {
        name: "catalog.write",
        description: "Make, change and archive products, variants and prices, and import files of them.",
    },
];

const MIGRATIONS: &[store::Migration] = &[
    store::Migration { number: 1, name: "first", sql: include_str!("../migrations/0001_first.sql") },
    store::Migration { number: 2, name: "tax_and_weight", sql: include_str!("../migrations/0002_tax_and_weight.sql") },
    store::Migration { number: 3, name: "arranged", sql: include_str!("../migrations/0003_arranged.sql") },
    store::Migration { number: 4, name: "storefront", sql: include_str!("../migrations/0004_storefront.sql") },
];

/// The module, as plain data.
pub fn module() -> Module {
    Module {
        permissions: PERMISSIONS,
        routes: routes::routes(),
        workflows: publishing::workflows(),
        events: events::EVENTS,
        statements: sql::statements(),
        caches: Some(cache::CACHES),
        audits: vec![
            Audit { name: "catalog.variants_have_products", check: AuditCheck::Tenant(queries::audit_orphans) },
            Audit { name: "catalog.skus_unique", check: AuditCheck::Tenant(queries::audit_skus) },
            Audit { name: "catalog.variant_counts", check: AuditCheck::Tenant(queries::audit_counts) },
            Audit { name: "catalog.places_exist", check: AuditCheck::Tenant(queries::audit_places) },
            Audit { name: "catalog.tree_whole", check: AuditCheck::Tenant(queries::audit_tree) },
            Audit { name: "catalog.prices_valid", check: AuditCheck::Tenant(queries::audit_prices) },
            Audit { name: "catalog.observations_valid", check: AuditCheck::Tenant(queries::audit_observations) },
        ],
        ..Module::new("catalog", MIGRATIONS)
    }
}
