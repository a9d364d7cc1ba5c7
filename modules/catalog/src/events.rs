//! What the catalog tells the log. The subject of whatever happens to a product is the product, so that whoever follows one sees its
//! changes in order.

use crate::attributes::{Attribute, AttributeId, AttributeKind};
use crate::categories::{Category, CategoryId};
use crate::collections::{Collection, CollectionId};
use crate::model::{Dimensions, Price, Product, ProductId, ProductStatus, Variant, VariantId, VariantOption, VariantStatus};
use kernel::{Currency, Timestamp, UnitPrice};
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
    EventInfo { kind: "product.published", version: 1, description: "An active product is for sale now, by its schedule." },
    EventInfo { kind: "product.unpublished", version: 1, description: "An active product is not for sale any more, by its schedule." },
    EventInfo { kind: "category.created", version: 1, description: "A category was made." },
    EventInfo { kind: "category.updated", version: 1, description: "A category was changed or moved, with all that is below it." },
    EventInfo { kind: "category.deleted", version: 1, description: "An empty category was deleted." },
    EventInfo { kind: "collection.created", version: 1, description: "A collection was made." },
    EventInfo { kind: "collection.updated", version: 1, description: "A collection, or what is chosen for it, was changed." },
    EventInfo { kind: "collection.deleted", version: 1, description: "A collection was deleted." },
    EventInfo { kind: "attribute.created", version: 1, description: "An attribute was defined." },
    EventInfo {
        kind: "attribute.updated",
        version: 1,
        description: "An attribute's title, its choices, or whether shops show it, were changed.",
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

#[derive(Serialize)]
struct MomentEvent {
    product_id: ProductId,
    at: Timestamp,
}

#[derive(Serialize)]
struct CategoryEvent<'a> {
    category_id: CategoryId,
    parent_id: Option<CategoryId>,
    slug: &'a str,
    title: &'a str,
}

#[derive(Serialize)]
struct CollectionEvent<'a> {
    collection_id: CollectionId,
    slug: &'a str,
    title: &'a str,
    by_rule: bool,
}

#[derive(Serialize)]
struct AttributeEvent<'a> {
    attribute_id: AttributeId,
    code: &'a str,
    title: &'a str,
    kind: AttributeKind,
}

/// `product.published` and `product.unpublished`.
pub(crate) fn moment(kind: &'static str, of: &Product, at: Timestamp) -> NewEvent {
    NewEvent::new(kind, 1, of.product_id, &MomentEvent { product_id: of.product_id, at })
}

/// `category.*`.
pub(crate) fn category(kind: &'static str, of: &Category) -> NewEvent {
    let payload = CategoryEvent { category_id: of.category_id, parent_id: of.parent_id, slug: &of.slug, title: &of.title };
    NewEvent::new(kind, 1, of.category_id, &payload)
}

/// `collection.*`.
pub(crate) fn collection(kind: &'static str, of: &Collection) -> NewEvent {
    let payload = CollectionEvent { collection_id: of.collection_id, slug: &of.slug, title: &of.title, by_rule: of.rule.is_some() };
    NewEvent::new(kind, 1, of.collection_id, &payload)
}

/// `attribute.*`.
pub(crate) fn attribute(kind: &'static str, of: &Attribute) -> NewEvent {
    let payload = AttributeEvent { attribute_id: of.attribute_id, code: &of.code, title: &of.title, kind: of.kind };
    NewEvent::new(kind, 1, of.attribute_id, &payload)
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
