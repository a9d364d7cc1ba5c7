//! Limits of coupons under races, and what is compiled against what is committed.

use super::{basket, percent_off, promotion};
use crate::api::*;
use kernel::{Error, Result};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use store::Tx;
use testkit::{Client, TestApp};

/// A promotion that takes a coupon, and a coupon of it.
async fn coupon(client: &Client, code: &str, limits: serde_json::Value) -> String {
    let promotion = json!({ "name": "Ten", "coupon_required": true, "effect": { "kind": "percent", "percent": 10 } });
    let id = client.post("/api/v1/pricing/promotions").json(&promotion).send().await.expect(201).text("promotion_id");
    let mut body = json!({ "code": code, "promotion_id": id });
    body.as_object_mut().unwrap().extend(limits.as_object().unwrap().clone());
    client.post("/api/v1/pricing/coupons").json(&body).send().await.expect(201);
    id
}

/// What a checkout does with a code.
#[derive(Clone)]
struct Take {
    pricing: Pricing,
    customer: Option<String>,
    reference: String,
    /// Whether the checkout is refused after it took the coupon.
    fails: bool,
}

/// Prices a basket and takes the coupon with it, as a checkout does.
fn take(tx: &mut Tx<'_>, take: &Take) -> Result<i64> {
    let rules = take.pricing.rules(tx)?;
    let mut basket = Basket { at: tx.now(), ..basket(&[("a", 1, "100")]) };
    let presented = Presented { codes: vec!["save".to_owned()], customer: take.customer.clone(), reference: Some(take.reference.clone()) };
    load(tx, &rules, &mut basket, &presented)?;
    let priced = price(&rules, &basket)?;
    redeem(tx, "save", take.customer.as_deref(), &take.reference)?;
    if take.fails {
        return Err(Error::failed_precondition("pricing.no_price", "the checkout failed for a reason of its own"));
    }
    Ok(priced.totals.total_minor)
}

async fn uses(client: &Client) -> i64 {
    client.get("/api/v1/pricing/coupons/SAVE").send().await.expect(200).json["uses"].as_i64().unwrap()
}

testkit::both_engines! {
    setup: crate::tests::setup;

    async fn a_coupon_of_a_hundred_uses_is_used_a_hundred_times(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        coupon(&acme, "save", json!({ "max_uses": 100 })).await;
        let pricing = app.app().part::<Pricing>().clone();
        let (taken, refused, failed) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let mut tasks = Vec::new();
        for caller in 0..50 {
            let (store, tenant, pricing) = (app.store().clone(), app.tenant("acme"), pricing.clone());
            let (taken, refused, failed) = (taken.clone(), refused.clone(), failed.clone());
            tasks.push(tokio::spawn(async move {
                for n in 0..10 {
                    let reference = format!("cart-{caller}-{n}");
                    // Some checkouts fail after they took it, some ask twice, some change their minds.
                    let data = Take { pricing: pricing.clone(), customer: None, reference: reference.clone(), fails: n % 5 == 4 };
                    match store.write(tenant, take, data.clone()).await {
                        Ok(total) => {
                            assert_eq!(total, 9_000);
                            assert_eq!(store.write(tenant, take, data).await.unwrap(), 9_000, "again, by the same reference");
                            if n == 1 {
                                store.write(tenant, |tx, reference: &String| release(tx, reference), reference).await.unwrap();
                            } else {
                                taken.fetch_add(1, Ordering::SeqCst);
                                store.write(tenant, |tx, reference: &String| keep(tx, reference), reference).await.unwrap();
                            }
                        }
                        Err(error) if error.code() == "pricing.coupon_used_up" => {
                            refused.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(error) => {
                            assert_eq!(error.code(), "pricing.no_price");
                            failed.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        // Whoever changed its mind has left room: it is taken by those who ask now.
        for late in 0..200 {
            let data = Take { pricing: pricing.clone(), customer: None, reference: format!("late-{late}"), fails: false };
            match app.store().write(app.tenant("acme"), take, data).await {
                Ok(_) => taken.fetch_add(1, Ordering::SeqCst),
                Err(error) => {
                    assert_eq!(error.code(), "pricing.coupon_used_up");
                    refused.fetch_add(1, Ordering::SeqCst)
                }
            };
        }
        assert_eq!((taken.load(Ordering::SeqCst), uses(&acme).await), (100, 100));
        assert!(refused.load(Ordering::SeqCst) > 100);
        let quote = json!({ "currency": "EUR", "coupons": ["save"], "lines": [{ "sku": "a", "quantity": 1, "list_price": "100" }] });
        let quote = acme.post("/api/v1/pricing/quotes").json(&quote).send().await.expect(200);
        assert_eq!(quote.json["coupons"], json!([{ "code": "SAVE", "applied": false, "reason": "coupon_used_up", "promotion_id": null }]));
    }

    async fn each_customer_uses_it_as_often_as_one_may(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        coupon(&acme, "save", json!({ "max_uses_per_customer": 2 })).await;
        let pricing = app.app().part::<Pricing>().clone();
        let mut tasks = Vec::new();
        for caller in 0..30 {
            let (store, tenant) = (app.store().clone(), app.tenant("acme"));
            let customer = Some(format!("customer-{}", caller % 5));
            let data = Take { pricing: pricing.clone(), customer, reference: format!("cart-{caller}"), fails: false };
            tasks.push(tokio::spawn(async move { store.write(tenant, take, data).await }));
        }
        let mut taken = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => taken += 1,
                Err(error) => assert_eq!(error.code(), "pricing.coupon_used_by_customer"),
            }
        }
        assert_eq!((taken, uses(&acme).await), (10, 10));
        let nobody = Take { pricing: pricing.clone(), customer: None, reference: "cart-x".to_owned(), fails: false };
        assert_eq!(app.store().write(app.tenant("acme"), take, nobody).await.unwrap_err().code(), "pricing.coupon_customer_required");
        // Given back, it can be used again by the same customer, and once only.
        for _ in 0..2 {
            for n in 0..30 {
                app.store().write(app.tenant("acme"), |tx, reference: &String| release(tx, reference), format!("cart-{n}")).await.unwrap();
            }
            assert_eq!(uses(&acme).await, 0);
        }
        let again = Take { pricing, customer: Some("customer-1".to_owned()), reference: "cart-again".to_owned(), fails: false };
        app.store().write(app.tenant("acme"), take, again).await.unwrap();
        let list = acme.get("/api/v1/pricing/coupons/save/redemptions").send().await.expect(200);
        assert_eq!(list.json["data"].as_array().unwrap().len(), 1);
        assert_eq!((&list.json["data"][0]["reference"], &list.json["data"][0]["kept"]), (&json!("cart-again"), &json!(false)));
    }

    async fn what_an_order_keeps_is_only_given_back_on_purpose(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        coupon(&acme, "save", json!({ "max_uses": 1 })).await;
        let tenant = app.tenant("acme");
        let write = async |command: fn(&mut Tx<'_>, &String) -> Result<()>, reference: &str| {
            app.store().write(tenant, command, reference.to_owned()).await
        };
        let redeem_save: fn(&mut Tx<'_>, &String) -> Result<()> = |tx, reference| redeem(tx, " save ", Some("c"), reference);
        write(redeem_save, "order-1").await.unwrap();
        write(|tx, reference| keep(tx, reference), "order-1").await.unwrap();
        // A release that comes late does not take it from the order.
        write(|tx, reference| release(tx, reference), "order-1").await.unwrap();
        assert_eq!(uses(&acme).await, 1);
        assert_eq!(write(redeem_save, "order-2").await.unwrap_err().code(), "pricing.coupon_used_up");
        write(redeem_save, "order-1").await.unwrap();
        write(|tx, reference| give_back(tx, reference), "order-1").await.unwrap();
        write(|tx, reference| give_back(tx, reference), "order-1").await.unwrap();
        assert_eq!(uses(&acme).await, 0);
        write(redeem_save, "order-2").await.unwrap();
        let unknown: fn(&mut Tx<'_>, &String) -> Result<()> = |tx, reference| redeem(tx, "nothing", None, reference);
        assert_eq!(write(unknown, "order-3").await.unwrap_err().code(), "pricing.coupon_unknown");
        let kinds = super::http::events(&app, "acme").await;
        assert_eq!(kinds[2..], ["coupon.redeemed", "coupon.released", "coupon.redeemed"]);
    }

    async fn what_was_acknowledged_decides_and_what_was_rolled_back_does_not(app: TestApp) {
        let acme = app.client("acme", &["*"]);
        let pricing = app.app().part::<Pricing>().clone();
        let tenant = app.tenant("acme");
        let total = async || {
            let data = pricing.clone();
            let quote: fn(&mut Tx<'_>, &Pricing) -> Result<i64> = |tx, pricing| {
                let rules = pricing.rules(tx)?;
                Ok(price(&rules, &Basket { at: tx.now(), ..basket(&[("a", 1, "100")]) })?.totals.total_minor)
            };
            app.store().write(tenant, quote, data).await.unwrap()
        };
        assert_eq!(total().await, 10_000);
        let spec = |off: &str| json!({ "name": "All", "effect": { "kind": "percent", "percent": off } });
        let made = acme.post("/api/v1/pricing/promotions").json(&spec("10")).send().await.expect(201);
        let path = made.header("location").to_owned();
        assert_eq!(total().await, 9_000);
        for percent in 1..20_i64 {
            acme.put(&path).json(&spec(&percent.to_string())).send().await.expect(200);
            assert_eq!(total().await, 10_000 - percent * 100);
            // Rules are compiled within a transaction that changes them and fails: nobody else ever sees those.
            let failing: fn(&mut Tx<'_>, &Pricing) -> Result<()> = |tx, pricing| {
                crate::commands::create_promotion(tx, &PromotionSpec { currency: None, ..promotion("half", percent_off("50")) })?;
                let rules = pricing.rules(tx)?;
                let priced = price(&rules, &Basket { at: tx.now(), ..basket(&[("a", 1, "100")]) })?;
                assert_eq!(priced.adjustments.len(), 2);
                Err(Error::failed_precondition("pricing.no_price", "rolled back"))
            };
            app.store().write(tenant, failing, pricing.clone()).await.unwrap_err();
            assert_eq!(total().await, 10_000 - percent * 100);
        }
        // Another tenant has its own.
        let other: fn(&mut Tx<'_>, &Pricing) -> Result<usize> = |tx, pricing| Ok(pricing.rules(tx)?.promotions.len());
        assert_eq!(app.store().write(app.tenant("globex"), other, pricing.clone()).await.unwrap(), 0);
        assert_eq!(app.store().write(tenant, other, pricing.clone()).await.unwrap(), 1);
    }
}
