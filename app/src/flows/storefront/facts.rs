//! What is true of a cart's variants now: out of the catalog and the stock, in the transaction or the snapshot that asks.

use crate::flows::goods;
use carts::VariantId;
use carts::api::{Cart, Fact, Seen};
use catalog::api::{self as catalog_api, VariantSnapshot};
use inventory::api as stock_api;
use kernel::{Currency, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use store::Read;
use utoipa::ToSchema;

/// As many units or fewer are low.
const LOW: i64 = 5;

/// Whether something can be had; never how many, which is nobody's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Available {
    /// It can.
    Yes,
    /// A few can.
    Low,
    /// It can't.
    No,
}

/// In words.
pub(crate) fn words(available: Option<i64>) -> Available {
    match available {
        None => Available::Yes,
        Some(..=0) => Available::No,
        Some(..=LOW) => Available::Low,
        Some(_) => Available::Yes,
    }
}

/// The same id, as the catalog calls it.
pub(crate) fn of_catalog(variant_id: VariantId) -> catalog_api::VariantId {
    catalog_api::VariantId::from_i64(variant_id.as_i64())
}

/// What is known of variants.
pub(crate) struct Facts {
    /// What the catalog has of them.
    pub snapshots: HashMap<catalog_api::VariantId, VariantSnapshot>,
    /// How many of each can be had; none for no end.
    available: HashMap<i64, Option<i64>>,
}

impl Facts {
    /// Of these variants, in two statements.
    pub fn of(read: &mut Read<'_>, variants: &[VariantId]) -> Result<Facts> {
        if variants.is_empty() {
            return Ok(Facts { snapshots: HashMap::new(), available: HashMap::new() });
        }
        let ids: Vec<_> = variants.iter().map(|id| of_catalog(*id)).collect();
        let snapshots = catalog_api::variant_snapshots(read, &ids)?;
        Ok(Facts { snapshots, available: stock(read, variants.iter().map(|id| id.as_i64()))? })
    }

    /// Of a cart's lines.
    pub fn of_cart(read: &mut Read<'_>, cart: &Cart) -> Result<Facts> {
        let variants: Vec<VariantId> = cart.lines.iter().map(|line| line.variant_id).collect();
        Facts::of(read, &variants)
    }

    /// How many of a variant can be had.
    pub fn available(&self, variant_id: VariantId) -> Option<i64> {
        self.available.get(&variant_id.as_i64()).copied().flatten()
    }

    /// What a shopper is shown of a variant in this currency, if it is for sale.
    pub fn seen(&self, variant_id: VariantId, currency: Currency) -> Option<Seen> {
        let snapshot = self.snapshots.get(&of_catalog(variant_id)).filter(|snapshot| snapshot.for_sale)?;
        Some(Seen { title: goods::title(snapshot).to_owned(), unit_price: Some(snapshot.price_in(currency)?) })
    }

    /// For [`carts::api::revalidate`]: a fact for each line of the cart whose variant is there.
    pub fn facts(&self, cart: &Cart) -> Vec<Fact> {
        let fact = |variant_id: VariantId| {
            let snapshot = self.snapshots.get(&of_catalog(variant_id))?;
            Some(Fact {
                variant_id,
                sellable: snapshot.for_sale,
                unit_price: snapshot.price_in(cart.currency),
                available: self.available(variant_id),
                title: goods::title(snapshot).to_owned(),
            })
        };
        cart.lines.iter().filter_map(|line| fact(line.variant_id)).collect()
    }
}

/// How many of each variant can be had, by their numbers; none for no end.
pub(crate) fn stock(read: &mut Read<'_>, variants: impl Iterator<Item = i64>) -> Result<HashMap<i64, Option<i64>>> {
    let ids: Vec<stock_api::VariantId> = variants.map(stock_api::VariantId::from_i64).collect();
    Ok(stock_api::available(read, &ids)?.into_iter().map(|known| (known.variant_id.as_i64(), known.available)).collect())
}
