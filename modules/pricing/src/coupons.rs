//! Uses of coupons: taken with the checkout's transaction, kept by the order or given back.
//!
//! A use is one guarded UPDATE of the coupon and one INSERT of the redemption (and one guarded upsert more where a code is limited for
//! each customer), so that a limit holds whoever races for it.

use crate::engine::{Basket, ListedPrice, MAX_COUPONS, PresentedCoupon, Reason, Rules};
use crate::model::{Coupon, CouponSpec, PromotionId, Status, normal_code};
use crate::{events, sql};
use kernel::{Error, Result, Timestamp};
use std::collections::HashSet;
use store::{FromRow, Read, Row, Tx};

/// Who gives which codes for what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presented {
    /// The codes as they were typed.
    pub codes: Vec<String>,
    /// Who the customer is, in the caller's own words (at most 128 bytes): limits for each customer count by it.
    pub customer: Option<String>,
    /// Of the checkout, if it has one already: what it holds itself is not used up for it.
    pub reference: Option<String>,
}

struct Redeemable {
    promotion_id: PromotionId,
    spec: CouponSpec,
    uses: i64,
    uses_by_customer: i64,
    /// Whether the reference has it, and keeps it.
    kept: Option<bool>,
}

impl FromRow for Redeemable {
    fn from_row(row: &dyn Row) -> Result<Self> {
        Ok(Redeemable {
            promotion_id: row.get(0)?,
            spec: CouponSpec {
                status: row.get(1)?,
                max_uses: row.get(2)?,
                max_uses_per_customer: row.get(3)?,
                starts_at: row.get(4)?,
                ends_at: row.get(5)?,
            },
            uses: row.get(6)?,
            uses_by_customer: row.get(7)?,
            kept: row.get(8)?,
        })
    }
}

impl Redeemable {
    /// Why it can't be used once more. Guards in order.
    fn refusal(&self, at: Timestamp, customer: Option<&str>) -> Option<Reason> {
        let spec = &self.spec;
        if spec.status != Status::Active {
            return Some(Reason::CouponNotActive);
        }
        if spec.starts_at.is_some_and(|from| at < from) {
            return Some(Reason::NotStarted);
        }
        if spec.ends_at.is_some_and(|end| end <= at) {
            return Some(Reason::Ended);
        }
        if spec.max_uses.is_some_and(|most| self.uses >= most) {
            return Some(Reason::CouponUsedUp);
        }
        match (spec.max_uses_per_customer, customer) {
            (Some(_), None) => Some(Reason::CustomerRequired),
            (Some(most), Some(_)) if self.uses_by_customer >= most => Some(Reason::CouponUsedByCustomer),
            _ => None,
        }
    }
}

/// Fills in what the store knows of a basket: prices of the lists in force for its SKUs (one statement, none where no list is in force), and
/// what its codes open (a point read each). Errors: `request.invalid` for too many codes.
pub fn load(read: &mut Read<'_>, rules: &Rules, basket: &mut Basket, presented: &Presented) -> Result<()> {
    let lists = rules.lists_in_force(basket.currency, &basket.customer_groups, basket.at);
    if !lists.is_empty() && !basket.lines.is_empty() && basket.lines.len() <= crate::engine::MAX_LINES {
        let lists: Vec<i64> = lists.iter().map(|list| list.list_id.as_i64()).collect();
        let mut skus: Vec<String> = basket.lines.iter().map(|line| line.sku.clone()).collect();
        skus.sort_unstable();
        skus.dedup();
        basket.prices.clear();
        read.each(sql::PRICES, (lists, skus), |row| {
            basket.prices.push(ListedPrice { list_id: row.get(0)?, sku: row.get(1)?, min_quantity: row.get(2)?, price: row.get(3)? });
            Ok(())
        })?;
    }
    if presented.codes.len() > MAX_COUPONS {
        return Err(Error::field("coupons", "too_many", format!("at most {MAX_COUPONS}")));
    }
    let mut seen = HashSet::new();
    basket.coupons.clear();
    for typed in &presented.codes {
        let Ok(code) = normal_code(typed) else {
            let code = typed.chars().filter(|c| !c.is_control()).take(40).collect();
            basket.coupons.push(PresentedCoupon { code, found: Err(Reason::UnknownCoupon) });
            continue;
        };
        if !seen.insert(code.clone()) {
            continue;
        }
        let row: Option<Redeemable> = read.opt(sql::REDEEMABLE, (&code, &presented.customer, &presented.reference))?;
        let found = match row {
            None => Err(Reason::UnknownCoupon),
            Some(row) if row.kept.is_some() => Ok(row.promotion_id),
            Some(row) => row.refusal(basket.at, presented.customer.as_deref()).map_or(Ok(row.promotion_id), Err),
        };
        basket.coupons.push(PresentedCoupon { code, found });
    }
    Ok(())
}

/// Takes a use of a coupon for the checkout `reference` (at most 128 bytes), within the checkout's transaction. The same reference again
/// changes nothing. `customer` as in [`Presented`].
/// Errors: `pricing.coupon_unknown`, `pricing.coupon_not_active`, `pricing.coupon_not_started`, `pricing.coupon_ended`,
/// `pricing.coupon_used_up`, `pricing.coupon_used_by_customer`, `pricing.coupon_customer_required`.
pub fn redeem(tx: &mut Tx<'_>, code: &str, customer: Option<&str>, reference: &str) -> Result<()> {
    for (field, text) in [("reference", Some(reference)), ("customer", customer)] {
        if text.is_some_and(|text| text.is_empty() || text.len() > 128) {
            return Err(Error::field(field, "out_of_range", "between 1 and 128 bytes"));
        }
    }
    let code = normal_code(code).map_err(|_| refused(Reason::UnknownCoupon))?;
    let row: Option<Redeemable> = tx.opt(sql::REDEEMABLE, (&code, customer, reference))?;
    let row = row.ok_or_else(|| refused(Reason::UnknownCoupon))?;
    if row.kept.is_some() {
        return Ok(());
    }
    let now = tx.now();
    if let Some(reason) = row.refusal(now, customer) {
        return Err(refused(reason));
    }
    tx.must(sql::USE, (&code,), || refused(Reason::CouponUsedUp))?;
    if let (Some(most), Some(customer)) = (row.spec.max_uses_per_customer, customer) {
        tx.must(sql::USE_BY_CUSTOMER, (&code, customer, most), || refused(Reason::CouponUsedByCustomer))?;
    }
    let counted = row.spec.max_uses_per_customer.is_some();
    tx.must(sql::INSERT_REDEMPTION, (reference, &code, customer, counted, now), || {
        Error::conflict("pricing.coupon_held", "this checkout has the coupon already")
    })?;
    tx.emit(events::coupon_redeemed(&code, row.promotion_id, reference, customer));
    Ok(())
}

/// What the checkout holds is the order's from now on: [`release`] leaves it alone. Again, or without any coupon: nothing.
pub fn keep(tx: &mut Tx<'_>, reference: &str) -> Result<()> {
    tx.exec(sql::KEEP, (reference,))
}

/// Gives back what the checkout holds and no order keeps. Again: nothing.
pub fn release(tx: &mut Tx<'_>, reference: &str) -> Result<()> {
    give_back_if(tx, reference, false)
}

/// Gives back what an order keeps, and what is held: for an order that was cancelled. Again: nothing.
pub fn give_back(tx: &mut Tx<'_>, reference: &str) -> Result<()> {
    give_back_if(tx, reference, true)
}

fn give_back_if(tx: &mut Tx<'_>, reference: &str, kept_too: bool) -> Result<()> {
    let held: Vec<(String, Option<String>, bool, bool)> = tx.all(sql::REDEMPTIONS_OF, (reference,))?;
    for (code, customer, counted, kept) in held {
        if kept && !kept_too {
            continue;
        }
        let missing = || Error::internal("a redeemed coupon does not count its use");
        tx.must(sql::REMOVE_REDEMPTION, (reference, &code), missing)?;
        tx.must(sql::GIVE_BACK, (&code,), missing)?;
        if let (true, Some(customer)) = (counted, &customer) {
            tx.must(sql::GIVE_BACK_TO_CUSTOMER, (&code, customer), missing)?;
        }
        tx.emit(events::coupon_released(&code, reference, customer.as_deref(), kept));
    }
    Ok(())
}

/// A use for a sale that was made elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct RedeemOutside {
    /// In its normal form.
    pub code: String,
    /// Who bought.
    pub customer: Option<String>,
    /// Of the sale.
    pub reference: String,
}

/// Takes a use and keeps it. Errors: `pricing.coupon_not_found`, and those of [`redeem`].
pub(crate) fn redeem_outside(tx: &mut Tx<'_>, sale: &RedeemOutside) -> Result<Coupon> {
    crate::queries::coupon(tx, &sale.code)?;
    redeem(tx, &sale.code, sale.customer.as_deref(), &sale.reference)?;
    keep(tx, &sale.reference)?;
    crate::queries::coupon(tx, &sale.code)
}

fn refused(reason: Reason) -> Error {
    match reason {
        Reason::CouponNotActive => Error::failed_precondition("pricing.coupon_not_active", "the coupon was withdrawn"),
        Reason::NotStarted => Error::failed_precondition("pricing.coupon_not_started", "the coupon is not valid yet"),
        Reason::Ended => Error::failed_precondition("pricing.coupon_ended", "the coupon is not valid any more"),
        Reason::CouponUsedUp => Error::failed_precondition("pricing.coupon_used_up", "the coupon was used as often as it may be"),
        Reason::CouponUsedByCustomer => {
            Error::failed_precondition("pricing.coupon_used_by_customer", "the customer has used the coupon as often as one may")
        }
        Reason::CustomerRequired => {
            Error::failed_precondition("pricing.coupon_customer_required", "the coupon is limited for each customer: say who it is")
        }
        _ => Error::failed_precondition("pricing.coupon_unknown", "there is no such coupon"),
    }
}

/// A coupon to make.
#[derive(Clone, Debug)]
pub struct NewCoupon {
    /// In its normal form.
    pub code: String,
    /// What it opens.
    pub promotion_id: PromotionId,
    /// How it may be used.
    pub spec: CouponSpec,
}

/// Makes a coupon. Errors: `request.invalid`; `pricing.coupon_taken`.
pub fn create_coupon(tx: &mut Tx<'_>, new: &NewCoupon) -> Result<Coupon> {
    if normal_code(&new.code).as_ref() != Ok(&new.code) {
        return Err(Error::field("code", "wrong", "3 to 40 capital letters, digits, hyphens and underscores"));
    }
    new.spec.check()?;
    opens_by_coupon(tx, new.promotion_id)?;
    insert(tx, &new.code, new.promotion_id, &new.spec)?;
    tx.emit(events::coupon_changed(&new.code, new.promotion_id, new.spec.status, 1));
    let now = tx.now();
    Ok(Coupon {
        code: new.code.clone(),
        promotion_id: new.promotion_id,
        spec: new.spec.clone(),
        uses: 0,
        version: 1,
        created_at: now,
        updated_at: now,
    })
}

/// Many coupons of one promotion to make.
#[derive(Clone, Debug)]
pub(crate) struct Generate {
    /// In their normal form, no two alike.
    pub codes: Vec<String>,
    /// What they begin with.
    pub prefix: String,
    /// What they open.
    pub promotion_id: PromotionId,
    /// How each may be used.
    pub spec: CouponSpec,
}

/// Makes a batch. Errors: `request.invalid`; `pricing.coupon_taken`.
pub(crate) fn generate(tx: &mut Tx<'_>, batch: &Generate) -> Result<Vec<String>> {
    batch.spec.check()?;
    opens_by_coupon(tx, batch.promotion_id)?;
    for code in &batch.codes {
        insert(tx, code, batch.promotion_id, &batch.spec)?;
    }
    tx.emit(events::coupons_generated(batch.promotion_id, batch.codes.len(), &batch.prefix));
    Ok(batch.codes.clone())
}

/// Errors: `request.invalid` when there is no such promotion or it needs no coupon.
fn opens_by_coupon(read: &mut Read<'_>, id: PromotionId) -> Result<()> {
    let promotion: Option<crate::model::Promotion> = read.opt(sql::PROMOTION, (id,))?;
    match promotion {
        None => Err(Error::field("promotion_id", "unknown", "there is no such promotion")),
        Some(promotion) if !promotion.spec.coupon_required => {
            Err(Error::field("promotion_id", "needs_no_coupon", "the promotion applies without a coupon: set its coupon_required first"))
        }
        Some(_) => Ok(()),
    }
}

fn insert(tx: &mut Tx<'_>, code: &str, promotion_id: PromotionId, spec: &CouponSpec) -> Result<()> {
    let taken = Error::conflict("pricing.coupon_taken", format!("there is a coupon {code} already"));
    let now = tx.now();
    let limits = (spec.max_uses, spec.max_uses_per_customer, spec.starts_at, spec.ends_at);
    tx.must(sql::INSERT_COUPON, (code, promotion_id, spec.status, limits.0, limits.1, limits.2, limits.3, now), || taken)
}

/// What to change of which coupon.
#[derive(Clone, Debug)]
pub(crate) struct ChangeCoupon {
    /// In its normal form.
    pub code: String,
    /// The version that the caller has seen, if it insists on it.
    pub if_match: web::IfMatch,
    /// How it may be used from now on.
    pub spec: CouponSpec,
}

/// Changes how a coupon may be used. Errors: `request.invalid`; `pricing.coupon_not_found`; `request.precondition_failed`;
/// `pricing.coupon_in_use` for a limit for each customer where uses were not counted for it.
pub(crate) fn change(tx: &mut Tx<'_>, change: &ChangeCoupon) -> Result<Coupon> {
    change.spec.check()?;
    let mut coupon = crate::queries::coupon(tx, &change.code)?;
    change.if_match.check(coupon.version)?;
    if coupon.spec == change.spec {
        return Ok(coupon);
    }
    if coupon.uses > 0 && coupon.spec.max_uses_per_customer.is_none() && change.spec.max_uses_per_customer.is_some() {
        let detail = "its uses so far were not counted for each customer; make another coupon";
        return Err(Error::failed_precondition("pricing.coupon_in_use", detail));
    }
    coupon.spec = change.spec.clone();
    coupon.version += 1;
    coupon.updated_at = tx.now();
    let spec = &coupon.spec;
    let limits = (spec.max_uses, spec.max_uses_per_customer, spec.starts_at, spec.ends_at);
    tx.exec(sql::UPDATE_COUPON, (&coupon.code, spec.status, limits.0, limits.1, limits.2, limits.3, coupon.version, coupon.updated_at))?;
    tx.emit(events::coupon_changed(&coupon.code, coupon.promotion_id, coupon.spec.status, coupon.version));
    Ok(coupon)
}
