//! What changes price lists, promotions and tax. Each command reads, decides, writes, and emits what happened; asking for what is there
//! already changes nothing and emits nothing. Whatever the compiled rules hold is changed under a new stamp.

use crate::model::{
    EntryChanges, MAX_BREAKS, MAX_LISTS, MAX_PROMOTIONS, PriceEntry, PriceList, PriceListId, PriceListSpec, Promotion, PromotionId,
    PromotionSpec, Status,
};
use crate::queries::{self, VersionedSettings};
use crate::tax::{CountryRates, RatesFile, TaxPeriod, TaxSettings, check_all_exceptions, check_periods, exceptions};
use crate::{events, sql};
use kernel::{Error, Faults, Result};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use store::{Read, Tx};
use utoipa::ToSchema;
use web::IfMatch;

/// Makes what is compiled old, on every node: see [`crate::compiled`].
fn touch(tx: &mut Tx<'_>) -> Result<()> {
    let stamp = tx.new_id::<()>();
    let settings = sql::to_json(&TaxSettings::default())?;
    tx.exec(sql::TOUCH, (stamp, settings, tx.now()))
}

fn room(read: &mut Read<'_>, count: &'static str, most: i64, what: &'static str) -> Result<()> {
    let (there,): (i64,) = read.one(count, ())?;
    if there >= most {
        let detail = format!("at most {most} {what} that are not archived");
        return Err(Error::failed_precondition("pricing.too_many", detail));
    }
    Ok(())
}

/// Makes a price list. Errors: `request.invalid`; `pricing.too_many`.
pub fn create_price_list(tx: &mut Tx<'_>, spec: &PriceListSpec) -> Result<PriceList> {
    spec.check()?;
    if spec.status != Status::Archived {
        room(tx, sql::COUNT_LISTS, MAX_LISTS, "price lists")?;
    }
    let now = tx.now();
    let list = PriceList { price_list_id: tx.new_id(), spec: spec.clone(), version: 1, created_at: now, updated_at: now };
    tx.exec(sql::INSERT_LIST, (list.price_list_id, spec.status, sql::to_json(spec)?, now))?;
    touch(tx)?;
    tx.emit(events::list_changed(list.price_list_id, &spec.name, spec.status, 1));
    Ok(list)
}

/// What a price list is to be from now on.
#[derive(Clone, Debug)]
pub(crate) struct ChangeList {
    /// Which.
    pub id: PriceListId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: IfMatch,
    /// What.
    pub spec: PriceListSpec,
}

/// Changes a price list. Errors: `request.invalid`; `pricing.price_list_not_found`; `request.precondition_failed`; `pricing.too_many`.
pub(crate) fn change_list(tx: &mut Tx<'_>, change: &ChangeList) -> Result<PriceList> {
    change.spec.check()?;
    let mut list = queries::list(tx, change.id)?;
    change.if_match.check(list.version)?;
    if list.spec == change.spec {
        return Ok(list);
    }
    if list.spec.status == Status::Archived && change.spec.status != Status::Archived {
        room(tx, sql::COUNT_LISTS, MAX_LISTS, "price lists")?;
    }
    if list.spec.currency != change.spec.currency {
        return Err(Error::field("currency", "immutable", "its prices are of the currency that it began with; make another list"));
    }
    list.spec = change.spec.clone();
    list.version += 1;
    list.updated_at = tx.now();
    tx.exec(sql::UPDATE_LIST, (list.price_list_id, list.spec.status, sql::to_json(&list.spec)?, list.version, list.updated_at))?;
    touch(tx)?;
    tx.emit(events::list_changed(list.price_list_id, &list.spec.name, list.spec.status, list.version));
    Ok(list)
}

/// Prices to set in a list and to remove from it.
#[derive(Clone, Debug)]
pub(crate) struct ChangeEntries {
    /// Which list.
    pub id: PriceListId,
    /// Which prices.
    pub changes: EntryChanges,
}

/// What was done with a list's prices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = PriceEntriesChanged)]
pub(crate) struct EntriesChanged {
    /// The list.
    pub price_list_id: PriceListId,
    /// Prices that were set.
    pub set: usize,
    /// Prices that were to be removed and are not there now.
    pub removed: usize,
}

/// Sets and removes prices. They are read with each basket, so no stamp is needed.
/// Errors: `request.invalid`; `pricing.price_list_not_found`.
pub(crate) fn change_entries(tx: &mut Tx<'_>, change: &ChangeEntries) -> Result<EntriesChanged> {
    change.changes.check()?;
    let EntryChanges { set, remove } = &change.changes;
    let list = queries::list(tx, change.id)?;
    let skus: HashSet<&str> = set.iter().map(|entry| entry.sku.as_str()).collect();
    let skus: Vec<String> = skus.into_iter().map(str::to_owned).collect();
    let mut breaks: HashMap<String, HashSet<i64>> = HashMap::new();
    if !skus.is_empty() {
        let there: Vec<(String, i64)> = tx.all(sql::ENTRIES_OF_SKUS, (list.price_list_id, skus))?;
        for (sku, quantity) in there {
            breaks.entry(sku).or_default().insert(quantity);
        }
    }
    for entry in remove {
        if let Some(breaks) = breaks.get_mut(&entry.sku) {
            breaks.remove(&entry.min_quantity);
        }
    }
    let mut faults = Faults::default();
    for (i, entry) in set.iter().enumerate() {
        let breaks = breaks.entry(entry.sku.clone()).or_default();
        breaks.insert(entry.min_quantity);
        if breaks.len() > MAX_BREAKS {
            faults.add(format!("set[{i}].min_quantity"), "too_many", format!("a SKU has at most {MAX_BREAKS} quantity breaks in a list"));
        }
    }
    faults.finish()?;
    tx.exec_each(sql::REMOVE_ENTRY, remove.iter().map(|entry| (list.price_list_id, &entry.sku, entry.min_quantity)))?;
    tx.exec_each(sql::SET_ENTRY, set.iter().map(|entry| (list.price_list_id, &entry.sku, entry.min_quantity, entry.price)))?;
    if !set.is_empty() || !remove.is_empty() {
        tx.emit(events::prices_changed(list.price_list_id, set.len(), remove.len()));
    }
    Ok(EntriesChanged { price_list_id: list.price_list_id, set: set.len(), removed: remove.len() })
}

/// The same for importers and demonstrations: sets prices of a list, at most 1,000 at once.
/// Errors: `request.invalid`; `pricing.price_list_not_found`.
pub fn set_prices(tx: &mut Tx<'_>, id: PriceListId, prices: &[PriceEntry]) -> Result<()> {
    let changes = EntryChanges { set: prices.to_vec(), remove: Vec::new() };
    change_entries(tx, &ChangeEntries { id, changes }).map(|_| ())
}

/// Makes a promotion. Errors: `request.invalid`; `pricing.too_many`.
pub fn create_promotion(tx: &mut Tx<'_>, spec: &PromotionSpec) -> Result<Promotion> {
    spec.check()?;
    if spec.status != Status::Archived {
        room(tx, sql::COUNT_PROMOTIONS, MAX_PROMOTIONS, "promotions")?;
    }
    let now = tx.now();
    let promotion = Promotion { promotion_id: tx.new_id(), spec: spec.clone(), version: 1, created_at: now, updated_at: now };
    tx.exec(sql::INSERT_PROMOTION, (promotion.promotion_id, spec.status, sql::to_json(spec)?, now))?;
    touch(tx)?;
    tx.emit(events::promotion_changed(promotion.promotion_id, &spec.name, spec.status, 1));
    Ok(promotion)
}

/// What a promotion is to be from now on.
#[derive(Clone, Debug)]
pub(crate) struct ChangePromotion {
    /// Which.
    pub id: PromotionId,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: IfMatch,
    /// What.
    pub spec: PromotionSpec,
}

/// Changes a promotion. Errors: `request.invalid`; `pricing.promotion_not_found`; `request.precondition_failed`; `pricing.too_many`.
pub(crate) fn change_promotion(tx: &mut Tx<'_>, change: &ChangePromotion) -> Result<Promotion> {
    change.spec.check()?;
    let mut promotion = queries::promotion(tx, change.id)?;
    change.if_match.check(promotion.version)?;
    if promotion.spec == change.spec {
        return Ok(promotion);
    }
    if promotion.spec.status == Status::Archived && change.spec.status != Status::Archived {
        room(tx, sql::COUNT_PROMOTIONS, MAX_PROMOTIONS, "promotions")?;
    }
    promotion.spec = change.spec.clone();
    promotion.version += 1;
    promotion.updated_at = tx.now();
    let spec = &promotion.spec;
    tx.exec(sql::UPDATE_PROMOTION, (promotion.promotion_id, spec.status, sql::to_json(spec)?, promotion.version, promotion.updated_at))?;
    touch(tx)?;
    tx.emit(events::promotion_changed(promotion.promotion_id, &spec.name, spec.status, promotion.version));
    Ok(promotion)
}

/// How tax is to be charged from now on.
#[derive(Clone, Debug)]
pub(crate) struct ChangeSettings {
    /// The version that the caller has seen, if it insists on it.
    pub if_match: IfMatch,
    /// How.
    pub settings: TaxSettings,
}

/// Changes the tax settings. Errors: `request.invalid`; `request.precondition_failed`.
pub(crate) fn change_settings(tx: &mut Tx<'_>, change: &ChangeSettings) -> Result<VersionedSettings> {
    change.settings.check()?;
    let now = queries::settings(tx)?;
    change.if_match.check(now.version)?;
    if now.settings == change.settings {
        return Ok(now);
    }
    touch(tx)?;
    let changed = VersionedSettings { settings: change.settings.clone(), version: now.version + 1, updated_at: Some(tx.now()) };
    tx.exec(sql::SET_SETTINGS, (sql::to_json(&changed.settings)?, changed.version, tx.now()))?;
    tx.emit(events::settings_changed(changed.version));
    Ok(changed)
}

/// The same for importers and demonstrations, whatever the version. Errors: `request.invalid`.
pub fn set_tax_settings(tx: &mut Tx<'_>, settings: &TaxSettings) -> Result<()> {
    change_settings(tx, &ChangeSettings { if_match: IfMatch(None), settings: settings.clone() }).map(|_| ())
}

/// A country's rates from now on.
#[derive(Clone, Debug)]
pub(crate) struct ChangeRates {
    /// Two letters.
    pub country: String,
    /// The version that the caller has seen, if it insists on it; 0 is that of no rates.
    pub if_match: IfMatch,
    /// The rates.
    pub periods: Vec<TaxPeriod>,
}

/// Sets a country's rates. Errors: `request.invalid`; `request.precondition_failed`.
pub(crate) fn change_rates(tx: &mut Tx<'_>, change: &ChangeRates) -> Result<CountryRates> {
    let mut faults = Faults::default();
    faults.country("country", &change.country);
    check_periods(&change.periods, "periods", &mut faults);
    faults.finish()?;
    let there: Option<CountryRates> = tx.opt(sql::COUNTRY, (&change.country,))?;
    change.if_match.check(there.as_ref().map_or(0, |rates| rates.version))?;
    let own = exceptions(&change.periods);
    if own > there.as_ref().map_or(0, |rates| exceptions(&rates.periods)) {
        let all: Vec<CountryRates> = tx.all(sql::COUNTRIES, ("", 1_000_i64))?;
        let others = all.iter().filter(|rates| rates.country != change.country);
        let others: usize = others.map(|rates| exceptions(&rates.periods)).sum();
        check_all_exceptions("periods", others + own)?;
    }
    let (rates, changed) = set_rates(tx, there, &change.country, &change.periods)?;
    if changed {
        touch(tx)?;
        tx.emit(events::rates_changed(std::slice::from_ref(&change.country), &[]));
    }
    Ok(rates)
}

/// The same for importers and demonstrations, whatever the version. Errors: `request.invalid`.
pub fn set_tax_rates(tx: &mut Tx<'_>, country: &str, periods: &[TaxPeriod]) -> Result<CountryRates> {
    change_rates(tx, &ChangeRates { country: country.to_owned(), if_match: IfMatch(None), periods: periods.to_vec() })
}

/// Writes a country's rates, the newest period first, unless they are there already.
fn set_rates(tx: &mut Tx<'_>, there: Option<CountryRates>, country: &str, periods: &[TaxPeriod]) -> Result<(CountryRates, bool)> {
    let mut periods = periods.to_vec();
    periods.sort_by(|a, b| b.effective_from.cmp(&a.effective_from));
    let version = match there {
        Some(there) if there.periods == periods => return Ok((there, false)),
        Some(there) => there.version + 1,
        None => 1,
    };
    let rates = CountryRates { country: country.to_owned(), periods, version, updated_at: tx.now() };
    tx.exec(sql::SET_COUNTRY, (country, sql::to_json(&rates.periods)?, version, rates.updated_at))?;
    Ok((rates, true))
}

/// A country whose rates are to go.
#[derive(Clone, Debug)]
pub(crate) struct RemoveRates {
    /// Two letters.
    pub country: String,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: IfMatch,
}

/// Removes a country's rates. Errors: `pricing.tax_rates_not_found`; `request.precondition_failed`.
pub(crate) fn remove_rates(tx: &mut Tx<'_>, remove: &RemoveRates) -> Result<()> {
    let there = queries::country(tx, &remove.country)?;
    remove.if_match.check(there.version)?;
    tx.exec(sql::REMOVE_COUNTRY, (&remove.country,))?;
    touch(tx)?;
    tx.emit(events::rates_changed(&[], std::slice::from_ref(&remove.country)));
    Ok(())
}

/// What came of a file of rates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = TaxRatesImported)]
pub struct RatesImported {
    /// Countries of the file whose rates are new or changed.
    pub changed: Vec<String>,
    /// How many countries had these rates already.
    pub unchanged: usize,
}

/// Sets the rates of each country of a file; other countries keep theirs. Errors: `request.invalid`.
pub fn import_tax_rates(tx: &mut Tx<'_>, file: &RatesFile) -> Result<RatesImported> {
    file.check()?;
    let there: Vec<CountryRates> = tx.all(sql::COUNTRIES, ("", 1_000_i64))?;
    let mut there: HashMap<String, CountryRates> = there.into_iter().map(|rates| (rates.country.clone(), rates)).collect();
    let kept = there.values().filter(|rates| !file.items.contains_key(&rates.country));
    let all = kept.map(|rates| &rates.periods).chain(file.items.values());
    check_all_exceptions("items", all.map(|periods| exceptions(periods)).sum())?;
    let mut imported = RatesImported { changed: Vec::new(), unchanged: 0 };
    for (country, periods) in &file.items {
        if set_rates(tx, there.remove(country), country, periods)?.1 {
            imported.changed.push(country.clone());
        } else {
            imported.unchanged += 1;
        }
    }
    if !imported.changed.is_empty() {
        touch(tx)?;
        tx.emit(events::rates_changed(&imported.changed, &[]));
    }
    Ok(imported)
}
