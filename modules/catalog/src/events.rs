//! What the catalog tells the log. The subject is always the product, so that whoever follows one sees its changes in order.

use crate::model::{Dimensions, Price, Product, ProductId, ProductStatus, Variant, VariantId, VariantOption, VariantStatus};
use kernel::{Currency, UnitPrice};
use serde::Serialize;
use store::NewEvent;
use web::EventInfo;

/// Every kind.
pub(crate) const EVENTS: &[EventInfo] = &[
    EventInfo { kind: "product.created", version: 1, description: "A product was made." },
    EventInfo { kind: "product.updated", version: 1, description: "Fields of a product changed; `changed` names them." },
    EventInfo { kind: "variant.created", version: 1, description: "A variant was added to a product." },
    EventInfo { kind: "variant.updated", version: 1, description: "Fields of a variant changed; `changed` names them." },
    EventInfo {
        kind: "price.changed",
        version: 1,
        description: "A list price was set to another amount; `previous` is null for the first one.",
    },
];

#[derive(Serialize)]
struct ProductEvent<'a> {
    product_id: ProductId,
    external_id: Option<&'a str>,
    title: &'a str,
    status: ProductStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    tax_class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<&'a [&'static str]>,
}

#[derive(Serialize)]
struct VariantEvent<'a> {
    variant_id: VariantId,
    product_id: ProductId,
    sku: &'a str,
    title: &'a str,
    options: &'a [VariantOption],
    barcode: Option<&'a str>,
    status: VariantStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    tax_class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight_g: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<Dimensions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<&'a [&'static str]>,
}

#[derive(Serialize)]
struct PriceEvent<'a> {
    variant_id: VariantId,
    product_id: ProductId,
    sku: &'a str,
    currency: Currency,
    price: UnitPrice,
    previous: Option<UnitPrice>,
}

fn product(kind: &'static str, product: &Product, changed: Option<&[&'static str]>) -> NewEvent {
    let payload = ProductEvent {
        product_id: product.product_id,
        external_id: product.external_id.as_deref(),
        title: &product.title,
        status: product.status,
        tax_class: product.tax_class.as_deref(),
        changed,
    };
    NewEvent::new(kind, 1, product.product_id, &payload)
}

/// `product.created`.
pub(crate) fn product_created(new: &Product) -> NewEvent {
    product("product.created", new, None)
}

/// `product.updated`.
pub(crate) fn product_updated(now: &Product, changed: &[&'static str]) -> NewEvent {
    product("product.updated", now, Some(changed))
}

fn variant(kind: &'static str, variant: &Variant, changed: Option<&[&'static str]>) -> NewEvent {
    let payload = VariantEvent {
        variant_id: variant.variant_id,
        product_id: variant.product_id,
        sku: &variant.sku,
        title: &variant.title,
        options: &variant.options,
        barcode: variant.barcode.as_deref(),
        status: variant.status,
        tax_class: variant.tax_class.as_deref(),
        weight_g: variant.weight_g,
        dimensions: variant.dimensions,
        changed,
    };
    NewEvent::new(kind, 1, variant.product_id, &payload)
}

/// `variant.created`.
pub(crate) fn variant_created(new: &Variant) -> NewEvent {
    variant("variant.created", new, None)
}

/// `variant.updated`.
pub(crate) fn variant_updated(now: &Variant, changed: &[&'static str]) -> NewEvent {
    variant("variant.updated", now, Some(changed))
}

/// `price.changed`.
pub(crate) fn price_changed(variant: &Variant, price: Price, previous: Option<UnitPrice>) -> NewEvent {
    let payload = PriceEvent {
        variant_id: variant.variant_id,
        product_id: variant.product_id,
        sku: &variant.sku,
        currency: price.currency,
        price: price.price,
        previous,
    };
    NewEvent::new("price.changed", 1, variant.product_id, &payload)
}
