//! What changes products, variants and prices one at a time. Each command reads, decides, writes, and emits what happened; asking for
//! what is there already changes nothing and emits nothing. Many at once: [`crate::upsert`].

use crate::attributes::{self, AttributeValues, ValueChanges};
use crate::facets::{self, FacetChange, Facets};
use crate::history::{self, By, diff};
use crate::model::{
    MAX_VARIANTS, NewProduct, NewVariant, Price, Product, ProductChange, ProductDetail, ProductId, ProductStatus, Variant, VariantChange,
    VariantId, VariantStatus,
};
use crate::queries;
use crate::{events, sql};
use kernel::{Currency, Error, Result, Timestamp, UnitPrice};
use store::Tx;

fn sku_taken(sku: &str) -> Error {
    Error::conflict("catalog.sku_taken", format!("another variant has the SKU {sku} already"))
}

fn external_id_taken(external_id: &str) -> Error {
    Error::conflict("catalog.external_id_taken", format!("another product has the external id {external_id} already"))
}

/// A product to make.
#[derive(Clone, Debug)]
pub(crate) struct CreateProduct {
    /// What.
    pub new: NewProduct,
    /// Who.
    pub by: By,
}

/// Values of what is new, as changes to none.
fn given(values: &AttributeValues) -> ValueChanges {
    values.iter().map(|(code, value)| (code.clone(), Some(value.clone()))).collect()
}

/// Makes a product with its variants.
/// Errors: `request.invalid`; `catalog.sku_taken`; `catalog.external_id_taken`.
pub(crate) fn create_product(tx: &mut Tx<'_>, create: &CreateProduct) -> Result<ProductDetail> {
    let CreateProduct { new, by } = create;
    new.validate()?;
    let mut facets = Facets::default();
    let attributes = given(&new.attributes);
    let change = FacetChange {
        tags: Some(&new.tags),
        attributes: Some(&attributes),
        media: Some(&new.media),
        publish_at: Some(&new.publish_at),
        unpublish_at: Some(&new.unpublish_at),
        category_ids: Some(&new.category_ids),
    };
    let described = !change.apply(tx, &mut facets)?.is_empty();
    let now = tx.now();
    let product = Product {
        product_id: tx.new_id(),
        external_id: new.external_id.clone(),
        title: new.title.clone(),
        description: new.description.clone(),
        status: new.status.unwrap_or(ProductStatus::Draft),
        tax_class: new.tax_class.clone(),
        variant_count: new.variants.len() as i64,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    let refusal = external_id_taken(product.external_id.as_deref().unwrap_or_default());
    tx.must(
        sql::INSERT_PRODUCT,
        (
            product.product_id,
            &product.external_id,
            &product.title,
            &product.description,
            product.status,
            product.variant_count,
            now,
            &product.tax_class,
        ),
        || refusal,
    )?;
    if described {
        facets::write(tx, product.product_id, &Facets::default(), &facets)?;
    }
    history::record(tx, by, product.product_id, None, "created", &[])?;
    tx.emit(events::product_created(&product));
    let mut variants = Vec::with_capacity(new.variants.len());
    for (i, variant) in new.variants.iter().enumerate() {
        variants.push(insert_variant(tx, &product, &format!("variants[{i}].attributes"), variant)?);
    }
    Ok(ProductDetail { product, facets, variants })
}

/// Writes a new variant of `product` and its prices; `path` names the field of its attributes. Errors: `request.invalid`; `catalog.sku_taken`.
fn insert_variant(tx: &mut Tx<'_>, product: &Product, path: &str, new: &NewVariant) -> Result<Variant> {
    let now = tx.now();
    let mut attributes = AttributeValues::new();
    if !new.attributes.is_empty() {
        attributes::apply(tx, path, &mut attributes, &given(&new.attributes))?;
    }
    let mut prices = new.prices.clone();
    prices.sort_unstable_by_key(|p| p.currency);
    let variant = Variant {
        variant_id: tx.new_id(),
        product_id: product.product_id,
        sku: new.sku.clone(),
        title: new.title.clone().unwrap_or_else(|| product.title.clone()),
        options: new.options.clone(),
        barcode: new.barcode.clone(),
        status: new.status.unwrap_or(VariantStatus::Active),
        tax_class: new.tax_class.clone(),
        weight_g: new.weight_g,
        dimensions: new.dimensions,
        attributes,
        prices,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    write_new_variant(tx, &variant)?;
    tx.emit(events::variant_created(&variant));
    for price in &variant.prices {
        tx.exec(sql::SET_PRICE, (variant.variant_id, price.currency, price.price, now))?;
        tx.emit(events::price_changed(&variant, *price, None));
    }
    Ok(variant)
}

/// Writes the row of a new variant, without its prices. Errors: `catalog.sku_taken`.
pub(crate) fn write_new_variant(tx: &mut Tx<'_>, variant: &Variant) -> Result<()> {
    let [length_mm, width_mm, height_mm] = sql::sides(variant.dimensions);
    let row = (
        variant.variant_id,
        variant.product_id,
        &variant.sku,
        &variant.title,
        sql::to_json(&variant.options),
        &variant.barcode,
        variant.status,
        variant.created_at,
        &variant.tax_class,
        variant.weight_g,
        length_mm,
        width_mm,
        height_mm,
        sql::to_json(&variant.attributes),
    );
    let refusal = sku_taken(&variant.sku);
    tx.must(sql::INSERT_VARIANT, row, || refusal)
}

/// What to change on which product.
#[derive(Clone, Debug)]
pub(crate) struct UpdateProduct {
    /// Which.
    pub product_id: ProductId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: web::IfMatch,
    /// What.
    pub change: ProductChange,
    /// Who.
    pub by: By,
}

/// Changes a product.
/// Errors: `request.invalid`; `catalog.product_not_found`; `request.precondition_failed`; `catalog.product_not_draft_again`;
/// `catalog.external_id_taken`.
pub(crate) fn update_product(tx: &mut Tx<'_>, update: &UpdateProduct) -> Result<ProductDetail> {
    update.change.validate()?;
    let before = queries::product(tx, update.product_id)?;
    let ProductDetail { mut product, mut facets, variants } = before.clone();
    update.if_match.check(product.version)?;
    let mut changed = product.apply(&update.change)?;
    let described = update.change.facets().apply(tx, &mut facets)?;
    changed.extend(&described);
    if changed.is_empty() {
        return Ok(before);
    }
    if let (Some(external_id), true) = (&product.external_id, changed.contains(&"external_id")) {
        let holder: Option<(ProductId,)> = tx.opt(sql::PRODUCT_BY_EXTERNAL_ID, (external_id,))?;
        if holder.is_some() {
            return Err(external_id_taken(external_id));
        }
    }
    product.version += 1;
    product.updated_at = tx.now();
    tx.exec(
        sql::UPDATE_PRODUCT,
        (
            product.product_id,
            &product.external_id,
            &product.title,
            &product.description,
            product.status,
            product.version,
            product.updated_at,
            &product.tax_class,
        ),
    )?;
    if !described.is_empty() {
        facets::write(tx, product.product_id, &before.facets, &facets)?;
    }
    let mut changes = diff(&before.product, &product);
    changes.extend(diff(&before.facets, &facets));
    history::record(tx, &update.by, product.product_id, None, "updated", &changes)?;
    tx.emit(events::product_updated(&product, &changed));
    Ok(ProductDetail { product, facets, variants })
}

/// A variant to add to a product.
#[derive(Clone, Debug)]
pub(crate) struct AddVariant {
    /// The product.
    pub product_id: ProductId,
    /// The variant.
    pub variant: NewVariant,
    /// Who.
    pub by: By,
}

/// Adds a variant to a product.
/// Errors: `request.invalid`; `catalog.product_not_found`; `catalog.too_many_variants`; `catalog.sku_taken`.
pub(crate) fn add_variant(tx: &mut Tx<'_>, add: &AddVariant) -> Result<Variant> {
    add.variant.validate()?;
    let product = queries::bare_product(tx, add.product_id)?;
    if product.variant_count >= MAX_VARIANTS as i64 {
        return Err(Error::failed_precondition("catalog.too_many_variants", format!("a product has at most {MAX_VARIANTS} variants")));
    }
    let variant = insert_variant(tx, &product, "attributes", &add.variant)?;
    tx.exec(sql::TOUCH_PRODUCT, (product.product_id, 1_i64, tx.now()))?;
    history::record(tx, &add.by, product.product_id, Some(variant.variant_id), "created", &[])?;
    Ok(variant)
}

/// What to change on which variant.
#[derive(Clone, Debug)]
pub(crate) struct UpdateVariant {
    /// Which.
    pub variant_id: VariantId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: web::IfMatch,
    /// What.
    pub change: VariantChange,
    /// Who.
    pub by: By,
}

/// Changes a variant.
/// Errors: `request.invalid`; `catalog.variant_not_found`; `request.precondition_failed`; `catalog.sku_taken`.
pub(crate) fn update_variant(tx: &mut Tx<'_>, update: &UpdateVariant) -> Result<Variant> {
    update.change.validate()?;
    let before = queries::variant(tx, update.variant_id)?;
    let mut variant = before.clone();
    update.if_match.check(variant.version)?;
    let mut changed = variant.apply(&update.change);
    if !update.change.attributes.is_empty() {
        attributes::apply(tx, "attributes", &mut variant.attributes, &update.change.attributes)?;
        if variant.attributes != before.attributes {
            changed.push("attributes");
        }
    }
    if changed.is_empty() {
        return Ok(variant);
    }
    if changed.contains(&"sku") && tx.opt::<Variant>(sql::VARIANT_BY_SKU, (&variant.sku,))?.is_some() {
        return Err(sku_taken(&variant.sku));
    }
    write_variant(tx, &mut variant)?;
    history::record(tx, &update.by, variant.product_id, Some(variant.variant_id), "updated", &diff(&before, &variant))?;
    tx.emit(events::variant_updated(&variant, &changed));
    Ok(variant)
}

/// Writes a variant that changed, or a price of which did, as its next version, and raises its product's.
fn write_variant(tx: &mut Tx<'_>, variant: &mut Variant) -> Result<()> {
    variant.version += 1;
    variant.updated_at = tx.now();
    write_variant_row(tx, variant, variant.updated_at)?;
    tx.exec(sql::TOUCH_PRODUCT, (variant.product_id, 0_i64, variant.updated_at))
}

/// Writes the row of a variant that is there, as of `now`.
pub(crate) fn write_variant_row(tx: &mut Tx<'_>, variant: &Variant, now: Timestamp) -> Result<()> {
    let [length_mm, width_mm, height_mm] = sql::sides(variant.dimensions);
    let row = (
        variant.variant_id,
        &variant.sku,
        &variant.title,
        sql::to_json(&variant.options),
        &variant.barcode,
        variant.status,
        variant.version,
        now,
        &variant.tax_class,
        variant.weight_g,
        length_mm,
        width_mm,
        height_mm,
        sql::to_json(&variant.attributes),
    );
    tx.exec(sql::UPDATE_VARIANT, row)
}

/// A list price to set on a variant.
#[derive(Clone, Debug)]
pub(crate) struct SetPrice {
    /// The variant.
    pub variant_id: VariantId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: web::IfMatch,
    /// The currency.
    pub currency: Currency,
    /// The price of one unit.
    pub price: UnitPrice,
    /// Who.
    pub by: By,
}

/// Sets a variant's price in one currency.
/// Errors: `request.invalid`; `catalog.variant_not_found`; `request.precondition_failed`.
pub(crate) fn set_price(tx: &mut Tx<'_>, set: &SetPrice) -> Result<Variant> {
    crate::model::check_price(set.price).map_err(|(code, detail)| Error::field("price", code, detail))?;
    let mut variant = queries::variant(tx, set.variant_id)?;
    set.if_match.check(variant.version)?;
    let price = Price { currency: set.currency, price: set.price };
    let previous = match variant.prices.binary_search_by_key(&set.currency, |p| p.currency) {
        Ok(place) if variant.prices[place] == price => return Ok(variant),
        Ok(place) => Some(std::mem::replace(&mut variant.prices[place], price).price),
        Err(place) => {
            variant.prices.insert(place, price);
            None
        }
    };
    tx.exec(sql::SET_PRICE, (variant.variant_id, set.currency, set.price, tx.now()))?;
    write_variant(tx, &mut variant)?;
    let change = history::FieldChange {
        field: format!("prices.{}", price.currency),
        from: previous.map(|price| price.to_string()).into(),
        to: price.price.to_string().into(),
    };
    history::record(tx, &set.by, variant.product_id, Some(variant.variant_id), "updated", &[change])?;
    tx.emit(events::price_changed(&variant, price, previous));
    Ok(variant)
}
