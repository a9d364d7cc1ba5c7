//! Bulk upsert by SKU, for files and importers: reads what there is in at most four statements however many rows, decides in memory, and
//! writes what differs: what is there already row by row, what is new as sets on PostgreSQL and row by row on SQLite. A tenant's commands
//! run one after another, so what was read still holds when it is written.

use crate::attributes::AttributeValues;
use crate::commands;
use crate::events;
use crate::history::{self, By, FieldChange};
use crate::model::{
    Dimensions, MAX_EXTERNAL_ID, MAX_PRICES, MAX_TITLE, MAX_VARIANTS, Price, Product, ProductId, ProductStatus, Variant, VariantId,
    VariantOption, VariantStatus, check_barcode, check_code, check_goods, check_line, check_options, check_price, check_sku,
};
use crate::sql;
use kernel::{Currency, Error, Faults, FieldError, Result, Timestamp, UnitPrice};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::{Engine, FromRow, Row, Tx};

/// The most rows of one batch.
pub const MAX_BATCH: usize = 1_000;

/// The most observations of one call.
pub const MAX_OBSERVATIONS: usize = 20_000;

/// What is known of one SKU. What is left out leaves what is stored as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpsertRow {
    /// The SKU, 1 to 64 visible characters; upper and lower case differ.
    pub sku: String,
    /// External id of the product that it belongs to, or its id; made under this name when there is none. Without one, a new SKU gets a
    /// product of its own.
    pub product: Option<String>,
    /// The variant's title; a new variant without one is titled by its SKU. The title of a product with one variant follows.
    pub title: Option<String>,
    /// Barcode.
    pub barcode: Option<String>,
    /// Whether the variant is for sale when its product is; a new one is, unless said.
    pub status: Option<VariantStatus>,
    /// Where the product is in its life; a new one is active, unless said. One that was for sale is no draft again.
    pub product_status: Option<ProductStatus>,
    /// Replaces all options; empty leaves them.
    pub options: Vec<VariantOption>,
    /// What the variant is taxed as.
    pub tax_class: Option<String>,
    /// What one unit weighs, in grams.
    pub weight_g: Option<i64>,
    /// What one unit measures.
    pub dimensions: Option<Dimensions>,
    /// List prices to set, at most one a currency.
    pub prices: Vec<Price>,
}

impl UpsertRow {
    /// Everything that is wrong with the row by itself; empty when it is fine.
    pub fn faults(&self) -> Vec<FieldError> {
        let mut faults = Faults::default();
        faults.check("sku", check_sku(&self.sku));
        if let Some(product) = &self.product {
            faults.check("product", check_code(product, MAX_EXTERNAL_ID));
        }
        if let Some(title) = &self.title {
            faults.check("title", check_line(title, MAX_TITLE));
        }
        if let Some(barcode) = &self.barcode {
            faults.check("barcode", check_barcode(barcode));
        }
        check_options("options", &self.options, &mut faults);
        check_goods("", self.tax_class.as_deref(), self.weight_g, self.dimensions, &mut faults);
        if self.prices.len() > MAX_PRICES {
            faults.check("prices", Err(("too_many", format!("at most {MAX_PRICES} prices"))));
        } else {
            self.prices.iter().for_each(|price| faults.check("price", check_price(price.price)));
        }
        faults.into_fields()
    }
}

/// Rows for [`upsert_variants`], at most [`MAX_BATCH`].
#[derive(Clone, Debug)]
pub struct UpsertBatch {
    /// Valid by themselves ([`UpsertRow::faults`] is empty). Rows of one SKU count as one: what a later one says wins.
    pub rows: Vec<UpsertRow>,
    /// Who brings them in.
    pub by: By,
}

/// Where a SKU is in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariantRef {
    /// The variant.
    pub variant_id: VariantId,
    /// Its product.
    pub product_id: ProductId,
}

/// What an upsert did to a SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Created,
    /// Some of it, or a price, is different now.
    Updated,
    /// It was as the row says already.
    Unchanged,
}

/// What became of a row: where its SKU is and what changed, or why it was refused.
pub type RowOutcome = Result<(VariantRef, Change), FieldError>;

/// Rows of one SKU as one.
#[derive(Default)]
struct Merged<'a> {
    sku: &'a str,
    product: Option<&'a str>,
    title: Option<&'a str>,
    barcode: Option<&'a str>,
    status: Option<VariantStatus>,
    product_status: Option<ProductStatus>,
    options: &'a [VariantOption],
    tax_class: Option<&'a str>,
    weight_g: Option<i64>,
    dimensions: Option<Dimensions>,
    prices: Vec<Price>,
}

/// Merges rows of one SKU, in order of first appearance, and tells for each row which merged one it went into.
fn merge(rows: &[UpsertRow]) -> (Vec<Merged<'_>>, Vec<usize>) {
    let mut merged: Vec<Merged<'_>> = Vec::with_capacity(rows.len());
    let mut by_sku: HashMap<&str, usize> = HashMap::with_capacity(rows.len());
    let mut places = Vec::with_capacity(rows.len());
    for row in rows {
        let place = *by_sku.entry(&row.sku).or_insert(merged.len());
        if place == merged.len() {
            merged.push(Merged { sku: &row.sku, ..Merged::default() });
        }
        let into = &mut merged[place];
        into.product = row.product.as_deref().or(into.product);
        into.title = row.title.as_deref().or(into.title);
        into.barcode = row.barcode.as_deref().or(into.barcode);
        into.status = row.status.or(into.status);
        into.product_status = row.product_status.or(into.product_status);
        if !row.options.is_empty() {
            into.options = &row.options;
        }
        into.tax_class = row.tax_class.as_deref().or(into.tax_class);
        into.weight_g = row.weight_g.or(into.weight_g);
        into.dimensions = row.dimensions.or(into.dimensions);
        for price in &row.prices {
            match into.prices.iter_mut().find(|p| p.currency == price.currency) {
                Some(earlier) => *earlier = *price,
                None => into.prices.push(*price),
            }
        }
        places.push(place);
    }
    (merged, places)
}

/// A product as the upsert sees and changes it.
struct ProductState {
    product: Product,
    is_new: bool,
    /// Its own fields that changed.
    changed: Vec<&'static str>,
    /// Something of it, its variants or their prices changed.
    touched: bool,
}

impl ProductState {
    fn change(&mut self, field: &'static str) {
        if !self.changed.contains(&field) {
            self.changed.push(field);
        }
    }

    /// Takes over a status, and says whether it is another one. Refused: what was for sale is no draft again.
    fn enter(&mut self, next: Option<ProductStatus>) -> Result<bool, FieldError> {
        let Some(next) = next.filter(|next| *next != self.product.status) else { return Ok(false) };
        if !self.is_new && !self.product.status.may_become(next) {
            let detail = format!("the product is {} and can't be a draft again", self.product.status.as_str());
            return Err(refusal("product_status", "not_draft_again", detail));
        }
        self.product.status = next;
        self.change("status");
        Ok(true)
    }
}

/// A row of [`sql::UPSERT_VARIANTS`].
struct Found {
    variant: Variant,
    product: Product,
}

impl FromRow for Found {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Found { variant: Variant::from_row(row)?, product: bare_product(row, 16)? })
    }
}

/// A row of [`sql::UPSERT_PRODUCTS`].
struct FoundProduct(Product);

impl FromRow for FoundProduct {
    fn from_row(row: &dyn Row) -> Result<Self> {
        bare_product(row, 0).map(FoundProduct)
    }
}

/// What an upsert has to know of a product, seven columns from `first` on: whatever it writes of one, and what events tell.
fn bare_product(row: &dyn Row, first: usize) -> Result<Product> {
    Ok(Product {
        product_id: row.get(first)?,
        external_id: row.get(first + 1)?,
        title: row.get(first + 2)?,
        status: row.get(first + 3)?,
        tax_class: row.get(first + 4)?,
        variant_count: row.get(first + 5)?,
        version: row.get(first + 6)?,
        description: String::new(),
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
    })
}

/// Everything that a batch reads and then changes in memory.
#[derive(Default)]
struct State {
    products: HashMap<ProductId, ProductState>,
    by_external_id: HashMap<String, ProductId>,
    variants: HashMap<String, Variant>,
    created: Vec<Variant>,
    updated: Vec<(Variant, Vec<&'static str>)>,
    prices: Vec<(i64, Currency, i64)>,
    /// Prices of variants that were there before.
    repriced: Vec<(ProductId, Currency)>,
    /// In the order of the rows.
    price_events: Vec<store::NewEvent>,
}

impl State {
    fn read(tx: &mut Tx<'_>, merged: &[Merged<'_>]) -> Result<State> {
        let mut state = State::default();
        let skus: Vec<String> = merged.iter().map(|m| m.sku.to_owned()).collect();
        for Found { variant, product } in tx.all::<Found>(sql::UPSERT_VARIANTS, (skus,))? {
            state.know(product);
            state.variants.insert(variant.sku.clone(), variant);
        }
        let mut names: Vec<String> =
            merged.iter().filter_map(|m| m.product).filter(|name| !state.by_external_id.contains_key(*name)).map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        if !names.is_empty() {
            for FoundProduct(product) in tx.all(sql::UPSERT_PRODUCTS, (names.clone(),))? {
                state.know(product);
            }
            let unknown = names.iter().filter(|name| state.named(name).is_none());
            let ids: Vec<i64> = unknown.filter_map(|name| name.parse::<ProductId>().ok()).map(|id| id.as_i64()).collect();
            if !ids.is_empty() {
                for FoundProduct(product) in tx.all(sql::UPSERT_PRODUCTS_BY_ID, (ids,))? {
                    state.know(product);
                }
            }
        }
        let priced: HashMap<VariantId, String> = merged
            .iter()
            .filter(|m| !m.prices.is_empty())
            .filter_map(|m| state.variants.get(m.sku))
            .map(|v| (v.variant_id, v.sku.clone()))
            .collect();
        if !priced.is_empty() {
            let ids: Vec<i64> = priced.keys().map(|id| id.as_i64()).collect();
            for (id, currency, price) in tx.all::<(VariantId, Currency, UnitPrice)>(sql::UPSERT_PRICES, (ids,))? {
                if let Some(variant) = priced.get(&id).and_then(|sku| state.variants.get_mut(sku)) {
                    variant.prices.push(Price { currency, price });
                }
            }
        }
        Ok(state)
    }

    fn know(&mut self, product: Product) {
        if let Some(external_id) = &product.external_id {
            self.by_external_id.insert(external_id.clone(), product.product_id);
        }
        self.products.entry(product.product_id).or_insert(ProductState { product, is_new: false, changed: Vec::new(), touched: false });
    }

    /// The product that a file calls so: by its external id, or by its id, as files that were exported have it.
    fn named(&self, name: &str) -> Option<ProductId> {
        let by_id = || name.parse::<ProductId>().ok().filter(|id| self.products.contains_key(id));
        self.by_external_id.get(name).copied().or_else(by_id)
    }

    fn apply(&mut self, tx: &Tx<'_>, row: &Merged<'_>) -> RowOutcome {
        match self.variants.remove(row.sku) {
            Some(variant) => self.update(row, variant),
            None => self.create(tx, row),
        }
    }

    fn create(&mut self, tx: &Tx<'_>, row: &Merged<'_>) -> RowOutcome {
        let title = row.title.unwrap_or(row.sku);
        let known = row.product.and_then(|name| self.named(name));
        let product_id = known.unwrap_or_else(|| {
            let product = Product {
                product_id: tx.new_id(),
                external_id: row.product.map(str::to_owned),
                title: row.product.unwrap_or(title).to_owned(),
                description: String::new(),
                status: row.product_status.unwrap_or(ProductStatus::Active),
                tax_class: None,
                variant_count: 0,
                version: 1,
                created_at: tx.now(),
                updated_at: tx.now(),
            };
            let product_id = product.product_id;
            self.know(product);
            if let Some(state) = self.products.get_mut(&product_id) {
                state.is_new = true;
            }
            product_id
        });
        let state = self.products.get_mut(&product_id).expect("every id that has a name is a key of products");
        if state.product.variant_count >= MAX_VARIANTS as i64 {
            return Err(refusal("product", "full", format!("a product has at most {MAX_VARIANTS} variants")));
        }
        state.enter(row.product_status)?;
        state.product.variant_count += 1;
        state.touched = true;
        let variant = Variant {
            variant_id: tx.new_id(),
            product_id,
            sku: row.sku.to_owned(),
            title: title.to_owned(),
            options: row.options.to_vec(),
            barcode: row.barcode.map(str::to_owned),
            status: row.status.unwrap_or(VariantStatus::Active),
            tax_class: row.tax_class.map(str::to_owned),
            weight_g: row.weight_g,
            dimensions: row.dimensions,
            attributes: AttributeValues::new(),
            prices: row.prices.clone(),
            version: 1,
            created_at: tx.now(),
            updated_at: tx.now(),
        };
        for price in &row.prices {
            self.set_price(&variant, *price, None);
        }
        let place = VariantRef { variant_id: variant.variant_id, product_id };
        self.created.push(variant);
        Ok((place, Change::Created))
    }

    fn update(&mut self, row: &Merged<'_>, mut variant: Variant) -> RowOutcome {
        let place = VariantRef { variant_id: variant.variant_id, product_id: variant.product_id };
        if row.product.is_some_and(|name| self.named(name) != Some(place.product_id)) {
            return Err(refusal("product", "other_product", format!("the SKU belongs to product {} already", place.product_id)));
        }
        let state = self.products.get_mut(&variant.product_id).expect("a variant was read together with its product");
        let entered = state.enter(row.product_status)?;
        let mut changed = Vec::new();
        if let Some(title) = row.title
            && title != variant.title
        {
            // A product that is its only variant goes by the same name, until someone gives it another.
            if state.product.variant_count == 1 && state.product.title == variant.title {
                title.clone_into(&mut state.product.title);
                state.change("title");
            }
            title.clone_into(&mut variant.title);
            changed.push("title");
        }
        if !row.options.is_empty() && row.options != variant.options {
            variant.options = row.options.to_vec();
            changed.push("options");
        }
        if row.barcode.is_some() && row.barcode != variant.barcode.as_deref() {
            variant.barcode = row.barcode.map(str::to_owned);
            changed.push("barcode");
        }
        if let Some(status) = row.status
            && status != variant.status
        {
            variant.status = status;
            changed.push("status");
        }
        if row.tax_class.is_some() && row.tax_class != variant.tax_class.as_deref() {
            variant.tax_class = row.tax_class.map(str::to_owned);
            changed.push("tax_class");
        }
        if row.weight_g.is_some() && row.weight_g != variant.weight_g {
            variant.weight_g = row.weight_g;
            changed.push("weight_g");
        }
        if row.dimensions.is_some() && row.dimensions != variant.dimensions {
            variant.dimensions = row.dimensions;
            changed.push("dimensions");
        }
        let stored = |price: &Price| variant.prices.iter().find(|p| p.currency == price.currency).map(|p| p.price);
        let repriced: Vec<(Price, Option<UnitPrice>)> =
            row.prices.iter().map(|price| (*price, stored(price))).filter(|(price, previous)| *previous != Some(price.price)).collect();
        if changed.is_empty() && repriced.is_empty() {
            state.touched |= entered;
            return Ok((place, if entered { Change::Updated } else { Change::Unchanged }));
        }
        state.touched = true;
        variant.version += 1;
        for (price, previous) in repriced {
            self.repriced.push((variant.product_id, price.currency));
            self.set_price(&variant, price, previous);
        }
        self.updated.push((variant, changed));
        Ok((place, Change::Updated))
    }

    /// Of each product that the batch changes, the JSON of the names of what is different.
    fn changes(&self) -> Vec<(ProductId, String)> {
        let mut fields: BTreeMap<ProductId, BTreeSet<String>> =
            self.products.values().filter(|state| state.touched).map(|state| (state.product.product_id, BTreeSet::new())).collect();
        let mut note = |id: &ProductId, field: String| {
            fields.entry(*id).or_default().insert(field);
        };
        for state in self.products.values().filter(|state| !state.is_new) {
            state.changed.iter().for_each(|field| note(&state.product.product_id, (*field).to_owned()));
        }
        for (variant, changed) in &self.updated {
            changed.iter().for_each(|field| note(&variant.product_id, (*field).to_owned()));
        }
        for (product_id, currency) in &self.repriced {
            note(product_id, format!("prices.{currency}"));
        }
        let json = |fields: BTreeSet<String>| {
            let named = |field: String| FieldChange { field, from: serde_json::Value::Null, to: serde_json::Value::Null };
            sql::to_json(&fields.into_iter().map(named).collect::<Vec<_>>())
        };
        fields.into_iter().map(|(id, fields)| (id, json(fields))).collect()
    }

    fn set_price(&mut self, variant: &Variant, price: Price, previous: Option<UnitPrice>) {
        self.prices.push((variant.variant_id.as_i64(), price.currency, price.price.micros()));
        self.price_events.push(events::price_changed(variant, price, previous));
    }

    fn write(self, tx: &mut Tx<'_>, by: &By) -> Result<()> {
        let now = tx.now();
        let changes = self.changes();
        let mut products: Vec<&ProductState> = self.products.values().filter(|p| p.touched).collect();
        products.sort_unstable_by_key(|p| p.product.product_id);
        let mut new = Vec::new();
        for state in products {
            let product = &state.product;
            let (id, title, variants) = (product.product_id.as_i64(), product.title.as_str(), product.variant_count);
            if state.is_new {
                new.push((id, product.external_id.as_deref(), title, variants, product.status));
                tx.emit(events::product_created(product));
                continue;
            }
            tx.exec(sql::UPSERT_PRODUCT, (id, title, product.status, variants, product.version + 1, now))?;
            if !state.changed.is_empty() {
                tx.emit(events::product_updated(product, &state.changed));
            }
        }
        for (variant, _) in &self.updated {
            commands::write_variant_row(tx, variant, now)?;
        }
        // What is new is the many: on SQLite a loop is faster than a set, everywhere else each row would be a message.
        if tx.engine() == Engine::Sqlite {
            for (id, external_id, title, variants, status) in new {
                tx.exec(sql::INSERT_PRODUCT, (id, external_id, title, "", status, variants, now, None::<&str>))?;
            }
            for variant in &self.created {
                commands::write_new_variant(tx, variant)?;
            }
            for (variant_id, currency, price_micros) in &self.prices {
                tx.exec(sql::SET_PRICE, (variant_id, currency, price_micros, now))?;
            }
        } else {
            let row = |v: &Variant| {
                let [length_mm, width_mm, height_mm] = sql::sides(v.dimensions);
                let (ids, options) = ((v.variant_id.as_i64(), v.product_id.as_i64()), sql::to_json(&v.options));
                let texts = (v.sku.clone(), v.title.clone(), v.barcode.clone(), v.tax_class.clone());
                (ids.0, ids.1, texts.0, texts.1, options, texts.2, texts.3, v.weight_g, length_mm, width_mm, height_mm, v.status)
            };
            let created: Vec<_> = self.created.iter().map(row).collect();
            write_rows(tx, sql::INSERT_PRODUCTS, &new, now)?;
            write_rows(tx, sql::INSERT_VARIANTS, &created, now)?;
            write_rows(tx, sql::SET_PRICES, &self.prices, now)?;
        }
        history::record_imported(tx, by, &changes)?;
        self.created.iter().for_each(|variant| tx.emit(events::variant_created(variant)));
        self.updated
            .iter()
            .filter(|(_, changed)| !changed.is_empty())
            .for_each(|(variant, changed)| tx.emit(events::variant_updated(variant, changed)));
        self.price_events.into_iter().for_each(|event| tx.emit(event));
        Ok(())
    }
}

fn refusal(field: &str, code: &'static str, detail: String) -> FieldError {
    FieldError { field: field.to_owned(), code, detail }
}

fn write_rows<T: serde::Serialize>(tx: &mut Tx<'_>, statement: store::Sql, rows: &[T], now: Timestamp) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    tx.exec(statement, (sql::to_json(rows), now))
}

/// Makes the SKUs that are new, with their products, and changes those that differ; tells of each row what became of it. A refused
/// row leaves the others standing. What is as it should be already is not written, and no event tells of it.
/// Errors: `catalog.batch_too_large`; those of the store.
pub fn upsert_variants(tx: &mut Tx<'_>, batch: &UpsertBatch) -> Result<Vec<RowOutcome>> {
    upsert(tx, &batch.rows, &batch.by)
}

fn upsert(tx: &mut Tx<'_>, rows: &[UpsertRow], by: &By) -> Result<Vec<RowOutcome>> {
    if rows.len() > MAX_BATCH {
        return Err(Error::invalid("catalog.batch_too_large", format!("at most {MAX_BATCH} rows a batch")));
    }
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let (merged, places) = merge(rows);
    let mut state = State::read(tx, &merged)?;
    let outcomes: Vec<RowOutcome> = merged.iter().map(|row| state.apply(tx, row)).collect();
    state.write(tx, by)?;
    Ok(places.into_iter().map(|place| outcomes[place].clone()).collect())
}

/// As [`upsert_variants`], for importers: checks the rows, and refuses all of them when one is wrong.
/// Errors: `request.invalid` naming `rows[i].field`; `catalog.batch_too_large`.
pub fn upsert_by_sku(tx: &mut Tx<'_>, rows: &[UpsertRow]) -> Result<Vec<VariantRef>> {
    let at = |i: usize, fault: FieldError| FieldError { field: format!("rows[{i}].{}", fault.field), ..fault };
    let faults = rows.iter().enumerate().flat_map(|(i, row)| row.faults().into_iter().map(move |fault| at(i, fault)));
    Error::fields(faults.take(100).collect())?;
    let mut places = Vec::with_capacity(rows.len());
    for (i, outcome) in upsert(tx, rows, &By::SYSTEM)?.into_iter().enumerate() {
        match outcome {
            Ok((place, _)) => places.push(place),
            Err(fault) => return Error::fields(vec![at(i, fault)]).map(|()| places),
        }
    }
    Ok(places)
}

/// A price at which a variant was traded on some lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The variant, of the same tenant.
    pub variant_id: VariantId,
    /// The currency.
    pub currency: Currency,
    /// The price of one unit, as traded; zero and below occur in real books.
    pub price: UnitPrice,
    /// The first of these lines.
    pub first_seen: Timestamp,
    /// The last of these lines.
    pub last_seen: Timestamp,
    /// How many lines, above 0.
    pub times_seen: i64,
}

/// Adds observations to what has been seen before, so each line is to be told once: in the command that writes the line.
/// Errors: `catalog.invalid_observation`; `catalog.batch_too_large` above [`MAX_OBSERVATIONS`].
pub fn observe_prices(tx: &mut Tx<'_>, observations: &[Observation]) -> Result<()> {
    if observations.len() > MAX_OBSERVATIONS {
        return Err(Error::invalid("catalog.batch_too_large", format!("at most {MAX_OBSERVATIONS} observations a call")));
    }
    let rows = add_up(observations)?;
    for rows in rows.chunks(2_000) {
        tx.exec(sql::OBSERVE_PRICES, (sql::to_json(rows),))?;
    }
    Ok(())
}

/// Variant, currency, price, first seen, last seen, times seen.
type ObservationRow = (i64, Currency, i64, i64, i64, i64);

/// One row for each variant, currency and price (a set-based upsert can't touch a row twice), in the order of the table's key.
fn add_up(observations: &[Observation]) -> Result<Vec<ObservationRow>> {
    let mut rows: Vec<ObservationRow> = Vec::with_capacity(observations.len());
    for o in observations {
        if o.times_seen < 1 || o.last_seen < o.first_seen {
            return Err(Error::invalid("catalog.invalid_observation", "a price is seen at least once, and first before it is seen last"));
        }
        rows.push((o.variant_id.as_i64(), o.currency, o.price.micros(), o.first_seen.micros(), o.last_seen.micros(), o.times_seen));
    }
    rows.sort_unstable();
    rows.dedup_by(|later, kept| {
        let same = (later.0, later.1, later.2) == (kept.0, kept.1, kept.2);
        if same {
            kept.3 = kept.3.min(later.3);
            kept.4 = kept.4.max(later.4);
            kept.5 = kept.5.saturating_add(later.5);
        }
        same
    });
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sku: &str, title: Option<&str>) -> UpsertRow {
        UpsertRow { sku: sku.to_owned(), title: title.map(str::to_owned), ..UpsertRow::default() }
    }

    #[test]
    fn rows_of_one_sku_are_one_and_the_last_title_wins() {
        let rows = [row("a", Some("one")), row("A", None), row("a", None), row("a", Some("two"))];
        let (merged, places) = merge(&rows);
        assert_eq!(places, [0, 1, 0, 0]);
        assert_eq!(merged.iter().map(|m| (m.sku, m.title)).collect::<Vec<_>>(), [("a", Some("two")), ("A", None)]);
    }

    #[test]
    fn observations_of_one_price_add_up() {
        let gbp: Currency = "GBP".parse().unwrap();
        let at = |variant: i64, price: i64, first: i64, last: i64, times_seen: i64| Observation {
            variant_id: VariantId::from_i64(variant),
            currency: gbp,
            price: UnitPrice::from_micros(price),
            first_seen: Timestamp::from_micros(first),
            last_seen: Timestamp::from_micros(last),
            times_seen,
        };
        let rows = add_up(&[at(2, 5, 10, 20, 3), at(1, 5, 1, 1, 1), at(2, 5, 5, 12, 4), at(2, -5, 7, 7, 1)]).unwrap();
        assert_eq!(rows, [(1, gbp, 5, 1, 1, 1), (2, gbp, -5, 7, 7, 1), (2, gbp, 5, 5, 20, 7)]);
        assert_eq!(add_up(&[at(1, 5, 2, 1, 1)]).unwrap_err().code(), "catalog.invalid_observation");
        assert_eq!(add_up(&[at(1, 5, 1, 1, 0)]).unwrap_err().code(), "catalog.invalid_observation");
    }
}
