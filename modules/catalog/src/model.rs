//! Types and pure rules: what a SKU, a barcode, a title and a price may be, and what a change does to a product or a variant.

use crate::attributes::{AttributeValue, AttributeValues, ValueChanges};
use crate::categories::CategoryId;
use crate::facets::{FacetChange, Facets, Media};
use kernel::{Currency, Error, Faults, Result, Timestamp, UnitPrice};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Marks products' ids (`prd_...`).
pub enum ProductEntity {}

impl kernel::Entity for ProductEntity {
    const PREFIX: &'static str = "prd";
}

/// The id of a product.
pub type ProductId = kernel::Id<ProductEntity>;

/// Marks variants' ids (`var_...`).
pub enum VariantEntity {}

impl kernel::Entity for VariantEntity {
    const PREFIX: &'static str = "var";
}

/// The id of a variant.
pub type VariantId = kernel::Id<VariantEntity>;

/// The most variants that a product has.
pub(crate) const MAX_VARIANTS: usize = 100;
/// The most options that a variant has.
pub(crate) const MAX_OPTIONS: usize = 5;
/// The longest SKU, in characters.
pub(crate) const MAX_SKU: usize = 64;
/// The longest title, in characters.
pub(crate) const MAX_TITLE: usize = 300;
/// The longest description, in characters.
pub(crate) const MAX_DESCRIPTION: usize = 20_000;
/// The longest external id of a product, in characters.
pub(crate) const MAX_EXTERNAL_ID: usize = 200;
/// The longest barcode, in characters.
pub(crate) const MAX_BARCODE: usize = 64;
/// The longest name or value of an option, in characters.
pub(crate) const MAX_OPTION_TEXT: usize = 100;
/// The most prices that a request sets on one variant.
pub(crate) const MAX_PRICES: usize = 50;
/// The longest name of a tax class, in characters, as pricing has it.
pub(crate) const MAX_TAX_CLASS: usize = 40;
/// The most that one unit weighs: a hundred tons. So a thousand lines of a million units add up to what fits into 64 bits.
pub(crate) const MAX_WEIGHT_G: i64 = 100_000_000;
/// The longest side of one unit: a hundred metres.
pub(crate) const MAX_SIDE_MM: i64 = 100_000;
/// The highest list price: a hundred thousand million major units.
pub(crate) const MAX_PRICE: UnitPrice = UnitPrice::from_micros(100_000_000_000 * 1_000_000);

/// Where a product is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProductStatus {
    /// Being prepared; not for sale yet.
    Draft,
    /// For sale.
    Active,
    /// No longer for sale; kept, because orders point at it.
    Archived,
}

impl ProductStatus {
    /// Every one.
    pub(crate) const ALL: [ProductStatus; 3] = [ProductStatus::Draft, ProductStatus::Active, ProductStatus::Archived];

    /// As it is stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            ProductStatus::Draft => "draft",
            ProductStatus::Active => "active",
            ProductStatus::Archived => "archived",
        }
    }

    /// Whether a product may go from this to `next`. What has been for sale is never a draft again.
    pub fn may_become(self, next: ProductStatus) -> bool {
        self == next || next != ProductStatus::Draft
    }
}

/// Whether a variant is for sale when its product is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VariantStatus {
    /// For sale.
    Active,
    /// No longer for sale.
    Archived,
}

impl VariantStatus {
    /// Every one.
    pub(crate) const ALL: [VariantStatus; 2] = [VariantStatus::Active, VariantStatus::Archived];

    /// As it is stored and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            VariantStatus::Active => "active",
            VariantStatus::Archived => "archived",
        }
    }
}

/// One of the choices that tell a variant from its siblings, such as size M.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VariantOption {
    /// What is chosen, such as `Size`.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// What it is here, such as `M`.
    #[schema(min_length = 1, max_length = 100)]
    pub value: String,
}

/// The list price of a variant in one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Its currency.
    pub currency: Currency,
    /// The price of one unit, not below zero.
    pub price: UnitPrice,
}

/// What one unit measures, as it is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Dimensions {
    /// In millimetres.
    #[schema(minimum = 1, maximum = 100000)]
    pub length_mm: i64,
    /// In millimetres.
    #[schema(minimum = 1, maximum = 100000)]
    pub width_mm: i64,
    /// In millimetres.
    #[schema(minimum = 1, maximum = 100000)]
    pub height_mm: i64,
}

/// A product, without its variants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Product {
    /// Its id.
    pub product_id: ProductId,
    /// The tenant's own name for it, unique among its products; files join variants to their product by it.
    pub external_id: Option<String>,
    /// Its title.
    pub title: String,
    /// What it is, for a person.
    pub description: String,
    /// Where it is in its life.
    pub status: ProductStatus,
    /// What it is taxed as, as pricing calls it, such as `reduced`; null for the tenant's default class.
    pub tax_class: Option<String>,
    /// How many variants it has.
    pub variant_count: i64,
    /// Rises with every change of the product, its variants or their prices; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When the product, a variant or a price of it last changed.
    pub updated_at: Timestamp,
}

/// A variant with its prices: what is sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Variant {
    /// Its id.
    pub variant_id: VariantId,
    /// The product that it is a variant of.
    pub product_id: ProductId,
    /// Stock-keeping unit: unique in the tenant; upper and lower case differ.
    pub sku: String,
    /// Its title.
    pub title: String,
    /// What tells it from its siblings.
    pub options: Vec<VariantOption>,
    /// GTIN or another code that is scanned.
    pub barcode: Option<String>,
    /// Whether it is for sale when its product is.
    pub status: VariantStatus,
    /// What it is taxed as, if not as its product.
    pub tax_class: Option<String>,
    /// What one unit weighs as it is packed, in grams; null when nobody has said.
    pub weight_g: Option<i64>,
    /// What one unit measures as it is packed.
    pub dimensions: Option<Dimensions>,
    /// Values of its own, by the codes of their attributes.
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    pub attributes: AttributeValues,
    /// One price a currency, by currency.
    pub prices: Vec<Price>,
    /// Rises with every change of the variant or its prices; the `ETag`.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it or a price of it last changed.
    pub updated_at: Timestamp,
}

/// A product with its variants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct ProductDetail {
    /// The product.
    #[serde(flatten)]
    pub product: Product,
    /// What it has besides its name.
    #[serde(flatten)]
    pub facets: Facets,
    /// Its variants, in the order in which they were added.
    pub variants: Vec<Variant>,
}

/// A price at which a variant has been traded, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PriceObservation {
    /// The currency.
    pub currency: Currency,
    /// The price of one unit, as traded: zero and below occur in real books.
    pub price: UnitPrice,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// On how many lines.
    pub times_seen: i64,
}

/// A product to make, with its variants.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewProduct {
    /// The tenant's own name for it, unique among its products.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    pub external_id: Option<String>,
    /// Its title.
    #[schema(min_length = 1, max_length = 300)]
    pub title: String,
    /// What it is, for a person.
    #[serde(default)]
    #[schema(max_length = 20000)]
    pub description: String,
    /// `draft` unless said.
    #[serde(default)]
    pub status: Option<ProductStatus>,
    /// What it is taxed as, as pricing calls it, such as `reduced`; the tenant's default class unless said.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 40)]
    pub tax_class: Option<String>,
    /// Words that it is found and gathered by.
    #[serde(default)]
    #[schema(max_items = 30)]
    pub tags: Vec<String>,
    /// Values by the codes of their attributes.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    pub attributes: AttributeValues,
    /// Pictures and other files, in the order in which they are shown.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub media: Vec<Media>,
    /// From when on it is for sale, once it is active.
    #[serde(default)]
    pub publish_at: Option<Timestamp>,
    /// From when on it is not any more.
    #[serde(default)]
    pub unpublish_at: Option<Timestamp>,
    /// The categories that it stands in.
    #[serde(default)]
    #[schema(max_items = 10)]
    pub category_ids: Vec<CategoryId>,
    /// Its variants.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub variants: Vec<NewVariant>,
}

/// A variant to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewVariant {
    /// Stock-keeping unit: unique in the tenant; upper and lower case differ.
    #[schema(min_length = 1, max_length = 64)]
    pub sku: String,
    /// Its title; the product's unless said.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 300)]
    pub title: Option<String>,
    /// What tells it from its siblings.
    #[serde(default)]
    #[schema(max_items = 5)]
    pub options: Vec<VariantOption>,
    /// GTIN-8, -12, -13 or -14 with a right check digit, or another code that is scanned.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64)]
    pub barcode: Option<String>,
    /// `active` unless said.
    #[serde(default)]
    pub status: Option<VariantStatus>,
    /// What it is taxed as, if not as its product.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 40)]
    pub tax_class: Option<String>,
    /// What one unit weighs as it is packed, in grams.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 100000000)]
    pub weight_g: Option<i64>,
    /// What one unit measures as it is packed.
    #[serde(default)]
    pub dimensions: Option<Dimensions>,
    /// Values of its own, by the codes of their attributes.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, AttributeValue>)]
    pub attributes: AttributeValues,
    /// At most one price a currency.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub prices: Vec<Price>,
}

/// What to change on a product; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProductChange {
    /// The tenant's own name for it; null removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 200)]
    pub external_id: Option<Option<String>>,
    /// Its title.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 300)]
    pub title: Option<String>,
    /// What it is, for a person.
    #[serde(default)]
    #[schema(max_length = 20000)]
    pub description: Option<String>,
    /// Where it is in its life; what was for sale is never a draft again.
    #[serde(default)]
    pub status: Option<ProductStatus>,
    /// What it is taxed as; null for the tenant's default class.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 40)]
    pub tax_class: Option<Option<String>>,
    /// All tags.
    #[serde(default)]
    #[schema(max_items = 30)]
    pub tags: Option<Vec<String>>,
    /// Values by the codes of their attributes; null takes one away, what is left out stays.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    pub attributes: ValueChanges,
    /// All media, in their order.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub media: Option<Vec<Media>>,
    /// From when on it is for sale, once it is active; null for always.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Timestamp>)]
    pub publish_at: Option<Option<Timestamp>>,
    /// From when on it is not any more; null for never.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Timestamp>)]
    pub unpublish_at: Option<Option<Timestamp>>,
    /// All categories that it stands in.
    #[serde(default)]
    #[schema(max_items = 10)]
    pub category_ids: Option<Vec<CategoryId>>,
}

impl ProductChange {
    /// What changes besides the product's own fields.
    pub fn facets(&self) -> FacetChange<'_> {
        FacetChange {
            tags: self.tags.as_ref(),
            attributes: Some(&self.attributes),
            media: self.media.as_ref(),
            publish_at: self.publish_at.as_ref(),
            unpublish_at: self.unpublish_at.as_ref(),
            category_ids: self.category_ids.as_ref(),
        }
    }
}

/// What to change on a variant; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VariantChange {
    /// Stock-keeping unit: unique in the tenant; upper and lower case differ.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64)]
    pub sku: Option<String>,
    /// Its title.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 300)]
    pub title: Option<String>,
    /// What tells it from its siblings; replaces them all.
    #[serde(default)]
    #[schema(max_items = 5)]
    pub options: Option<Vec<VariantOption>>,
    /// GTIN-8, -12, -13 or -14 with a right check digit, or another code that is scanned; null removes it.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64)]
    pub barcode: Option<Option<String>>,
    /// Whether it is for sale when its product is.
    #[serde(default)]
    pub status: Option<VariantStatus>,
    /// What it is taxed as; null for what its product is.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 40)]
    pub tax_class: Option<Option<String>>,
    /// What one unit weighs as it is packed, in grams; null when nobody knows.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 100000000)]
    pub weight_g: Option<Option<i64>>,
    /// What one unit measures as it is packed; null when nobody knows.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<Dimensions>)]
    pub dimensions: Option<Option<Dimensions>>,
    /// Values by the codes of their attributes; null takes one away, what is left out stays.
    #[serde(default)]
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    pub attributes: ValueChanges,
}

/// Tells a field that is null from one that is left out.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// What is wrong with a value: a stable code, and for a person the limit and the problem.
pub(crate) type Fault = (&'static str, String);

/// Characters that take no space or change the direction of text: two texts that look alike would differ.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn check_length(text: &str, max: usize) -> Result<(), Fault> {
    // A character takes at most four bytes: long texts are refused without counting them.
    if text.len() > max * 4 || text.chars().count() > max {
        return Err(("too_long", format!("at most {max} characters")));
    }
    Ok(())
}

/// One line of text for people: 1 to `max` characters, no control characters, not only white space.
pub(crate) fn check_line(text: &str, max: usize) -> Result<(), Fault> {
    check_length(text, max)?;
    if text.trim().is_empty() {
        return Err(("empty", "must not be empty".to_owned()));
    }
    if text.chars().any(char::is_control) {
        return Err(("control_character", "must not contain control characters or line breaks".to_owned()));
    }
    Ok(())
}

/// Text of several lines, which may be empty: at most `max` characters, no control characters but tabs and line breaks.
pub(crate) fn check_text(text: &str, max: usize) -> Result<(), Fault> {
    check_length(text, max)?;
    if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return Err(("control_character", "must not contain control characters other than tabs and line breaks".to_owned()));
    }
    Ok(())
}

/// A code that people type and compare: 1 to `max` visible characters; single spaces within it are allowed, because real stock
/// codes have them (`BANK CHARGES`).
pub(crate) fn check_code(code: &str, max: usize) -> Result<(), Fault> {
    check_length(code, max)?;
    if code.is_empty() {
        return Err(("empty", "must not be empty".to_owned()));
    }
    if code.starts_with(' ') || code.ends_with(' ') || code.contains("  ") {
        return Err(("space", "must not begin or end with a space, or have two in a row".to_owned()));
    }
    if code.chars().any(|c| c != ' ' && (c.is_control() || c.is_whitespace() || is_invisible(c))) {
        return Err(("invisible_character", "must have visible characters only".to_owned()));
    }
    Ok(())
}

/// A name in addresses: 1 to 100 small letters and digits, in parts with a hyphen between them.
pub(crate) fn check_slug(slug: &str) -> Result<(), Fault> {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if slug.len() <= 100 && slug.split('-').all(part) {
        return Ok(());
    }
    Err(("invalid", "1 to 100 small letters and digits, with single hyphens between them".to_owned()))
}

/// What categories and collections are called, as far as it is given.
pub(crate) fn check_named(slug: Option<&str>, title: Option<&str>, description: Option<&str>, faults: &mut Faults) {
    if let Some(slug) = slug {
        faults.check("slug", check_slug(slug));
    }
    if let Some(title) = title {
        faults.check("title", check_line(title, MAX_TITLE));
    }
    if let Some(description) = description {
        faults.check("description", check_text(description, MAX_DESCRIPTION));
    }
}

/// A SKU: a code of 1 to 64 characters.
pub(crate) fn check_sku(sku: &str) -> Result<(), Fault> {
    check_code(sku, MAX_SKU)
}

/// A barcode: a code of visible ASCII; one of 8, 12, 13 or 14 digits is a GTIN and its check digit must be right.
pub(crate) fn check_barcode(barcode: &str) -> Result<(), Fault> {
    check_code(barcode, MAX_BARCODE)?;
    if !barcode.is_ascii() {
        return Err(("not_ascii", "must have ASCII characters only".to_owned()));
    }
    let digits: Option<Vec<u8>> = barcode.bytes().map(|b| b.is_ascii_digit().then(|| b - b'0')).collect();
    if let Some(digits) = digits
        && matches!(digits.len(), 8 | 12 | 13 | 14)
    {
        let (last, body) = (digits[digits.len() - 1], &digits[..digits.len() - 1]);
        let expected = gtin_check_digit(body);
        if last != expected {
            return Err(("check_digit", format!("the check digit of this GTIN-{} should be {expected}, not {last}", digits.len())));
        }
    }
    Ok(())
}

/// The check digit of a GTIN without it (GS1 General Specifications, 7.9): weights 3 and 1 in turn from the right.
pub(crate) fn gtin_check_digit(body: &[u8]) -> u8 {
    let sum: u32 = body.iter().rev().enumerate().map(|(i, digit)| u32::from(*digit) * if i % 2 == 0 { 3 } else { 1 }).sum();
    ((10 - sum % 10) % 10) as u8
}

/// A list price: from zero to [`MAX_PRICE`].
pub(crate) fn check_price(price: UnitPrice) -> Result<(), Fault> {
    if price < UnitPrice::default() {
        return Err(("negative", "must not be below zero".to_owned()));
    }
    if price > MAX_PRICE {
        return Err(("too_large", format!("at most {MAX_PRICE}")));
    }
    Ok(())
}

/// A whole number between two, both included.
pub(crate) fn check_range(value: i64, least: i64, most: i64) -> Result<(), Fault> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(("out_of_range", format!("{least} to {most}"))) }
}

/// What goods are taxed as and what they weigh and measure; `path` is empty or ends with a dot.
pub(crate) fn check_goods(path: &str, tax_class: Option<&str>, weight_g: Option<i64>, dimensions: Option<Dimensions>, faults: &mut Faults) {
    if let Some(class) = tax_class {
        faults.check(format!("{path}tax_class"), check_code(class, MAX_TAX_CLASS));
    }
    if let Some(weight_g) = weight_g {
        faults.check(format!("{path}weight_g"), check_range(weight_g, 0, MAX_WEIGHT_G));
    }
    if let Some(Dimensions { length_mm, width_mm, height_mm }) = dimensions {
        for (side, name) in [(length_mm, "length_mm"), (width_mm, "width_mm"), (height_mm, "height_mm")] {
            faults.check(format!("{path}dimensions.{name}"), check_range(side, 1, MAX_SIDE_MM));
        }
    }
}

/// A variant's options: at most [`MAX_OPTIONS`], each with its own name. `path` is the field that holds them.
pub(crate) fn check_options(path: &str, options: &[VariantOption], faults: &mut Faults) {
    if options.len() > MAX_OPTIONS {
        return faults.check(path, Err(("too_many", format!("at most {MAX_OPTIONS} options"))));
    }
    for (i, option) in options.iter().enumerate() {
        faults.check(format!("{path}[{i}].name"), check_line(&option.name, MAX_OPTION_TEXT));
        faults.check(format!("{path}[{i}].value"), check_line(&option.value, MAX_OPTION_TEXT));
        if options[..i].iter().any(|earlier| earlier.name == option.name) {
            faults.check(format!("{path}[{i}].name"), Err(("duplicate", "each option has a name of its own".to_owned())));
        }
    }
}

fn check_prices(path: &str, prices: &[Price], faults: &mut Faults) {
    if prices.len() > MAX_PRICES {
        return faults.check(path, Err(("too_many", format!("at most {MAX_PRICES} prices"))));
    }
    for (i, price) in prices.iter().enumerate() {
        faults.check(format!("{path}[{i}].price"), check_price(price.price));
        if prices[..i].iter().any(|earlier| earlier.currency == price.currency) {
            faults.check(format!("{path}[{i}].currency"), Err(("duplicate", "one price a currency".to_owned())));
        }
    }
}

impl NewVariant {
    /// Checks every field; `path` is empty or ends with a dot.
    fn check(&self, path: &str, faults: &mut Faults) {
        faults.check(format!("{path}sku"), check_sku(&self.sku));
        if let Some(title) = &self.title {
            faults.check(format!("{path}title"), check_line(title, MAX_TITLE));
        }
        if let Some(barcode) = &self.barcode {
            faults.check(format!("{path}barcode"), check_barcode(barcode));
        }
        check_options(&format!("{path}options"), &self.options, faults);
        check_goods(path, self.tax_class.as_deref(), self.weight_g, self.dimensions, faults);
        check_prices(&format!("{path}prices"), &self.prices, faults);
    }

    /// Errors: `request.invalid` with every wrong field.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Faults::default();
        self.check("", &mut faults);
        faults.finish()
    }
}

impl NewProduct {
    /// Errors: `request.invalid` with every wrong field.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Faults::default();
        faults.check("title", check_line(&self.title, MAX_TITLE));
        faults.check("description", check_text(&self.description, MAX_DESCRIPTION));
        if let Some(external_id) = &self.external_id {
            faults.check("external_id", check_code(external_id, MAX_EXTERNAL_ID));
        }
        check_goods("", self.tax_class.as_deref(), None, None, &mut faults);
        let (tags, media, category_ids) = (Some(&self.tags), Some(&self.media), Some(&self.category_ids));
        FacetChange { tags, media, category_ids, ..FacetChange::default() }.check(&mut faults);
        if self.variants.len() > MAX_VARIANTS {
            faults.check("variants", Err(("too_many", format!("at most {MAX_VARIANTS} variants"))));
            return faults.finish();
        }
        for (i, variant) in self.variants.iter().enumerate() {
            variant.check(&format!("variants[{i}]."), &mut faults);
            if self.variants[..i].iter().any(|earlier| earlier.sku == variant.sku) {
                faults.check(format!("variants[{i}].sku"), Err(("duplicate", "each variant has a SKU of its own".to_owned())));
            }
        }
        faults.finish()
    }
}

impl ProductChange {
    /// Errors: `request.invalid` with every wrong field.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Faults::default();
        if let Some(title) = &self.title {
            faults.check("title", check_line(title, MAX_TITLE));
        }
        if let Some(description) = &self.description {
            faults.check("description", check_text(description, MAX_DESCRIPTION));
        }
        if let Some(Some(external_id)) = &self.external_id {
            faults.check("external_id", check_code(external_id, MAX_EXTERNAL_ID));
        }
        check_goods("", self.tax_class.as_ref().and_then(Option::as_deref), None, None, &mut faults);
        self.facets().check(&mut faults);
        faults.finish()
    }
}

impl VariantChange {
    /// Errors: `request.invalid` with every wrong field.
    pub fn validate(&self) -> Result<()> {
        let mut faults = Faults::default();
        if let Some(sku) = &self.sku {
            faults.check("sku", check_sku(sku));
        }
        if let Some(title) = &self.title {
            faults.check("title", check_line(title, MAX_TITLE));
        }
        if let Some(Some(barcode)) = &self.barcode {
            faults.check("barcode", check_barcode(barcode));
        }
        if let Some(options) = &self.options {
            check_options("options", options, &mut faults);
        }
        let tax_class = self.tax_class.as_ref().and_then(Option::as_deref);
        check_goods("", tax_class, self.weight_g.flatten(), self.dimensions.flatten(), &mut faults);
        faults.finish()
    }
}

/// Takes over `new` when there is one and it differs, and notes the field's name.
pub(crate) fn replace<T: Clone + PartialEq>(current: &mut T, new: Option<&T>, name: &'static str, changed: &mut Vec<&'static str>) {
    if let Some(new) = new
        && current != new
    {
        current.clone_from(new);
        changed.push(name);
    }
}

impl Product {
    /// Makes the change and names the fields that differ now; none when it was as asked already.
    /// Errors: `catalog.product_not_draft_again`.
    pub fn apply(&mut self, change: &ProductChange) -> Result<Vec<&'static str>> {
        if let Some(next) = change.status
            && !self.status.may_become(next)
        {
            return Err(Error::failed_precondition(
                "catalog.product_not_draft_again",
                format!("the product is {} and can't be a draft again; archive it instead", self.status.as_str()),
            ));
        }
        let mut changed = Vec::new();
        replace(&mut self.external_id, change.external_id.as_ref(), "external_id", &mut changed);
        replace(&mut self.title, change.title.as_ref(), "title", &mut changed);
        replace(&mut self.description, change.description.as_ref(), "description", &mut changed);
        replace(&mut self.status, change.status.as_ref(), "status", &mut changed);
        replace(&mut self.tax_class, change.tax_class.as_ref(), "tax_class", &mut changed);
        Ok(changed)
    }
}

impl Variant {
    /// Makes the change and names the fields that differ now; none when it was as asked already.
    pub fn apply(&mut self, change: &VariantChange) -> Vec<&'static str> {
        let mut changed = Vec::new();
        replace(&mut self.sku, change.sku.as_ref(), "sku", &mut changed);
        replace(&mut self.title, change.title.as_ref(), "title", &mut changed);
        replace(&mut self.options, change.options.as_ref(), "options", &mut changed);
        replace(&mut self.barcode, change.barcode.as_ref(), "barcode", &mut changed);
        replace(&mut self.status, change.status.as_ref(), "status", &mut changed);
        replace(&mut self.tax_class, change.tax_class.as_ref(), "tax_class", &mut changed);
        replace(&mut self.weight_g, change.weight_g.as_ref(), "weight_g", &mut changed);
        replace(&mut self.dimensions, change.dimensions.as_ref(), "dimensions", &mut changed);
        changed
    }
}
