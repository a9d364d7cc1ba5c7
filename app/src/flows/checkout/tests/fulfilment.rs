//! What follows a sale: goods that go out, come back, or never go, and the money for each.

use super::world::{World, setup};
use serde_json::{Value, json};
use testkit::TestApp;

impl World {
    /// Ships so many of an order's first line, and lets it be taken in.
    async fn ship(&self, order_id: &str, quantity: i64) {
        self.send(order_id, quantity).await;
        self.app.drained().await;
    }

    async fn send(&self, order_id: &str, quantity: i64) {
        let path = format!("{}/steps", self.packed(order_id, quantity).await);
        self.acme.post(path).json(&json!({ "step": "ship" })).send().await.expect(200);
    }

    /// A shipment that is ready to go: its path.
    async fn packed(&self, order_id: &str, quantity: i64) -> String {
        let destination = json!({ "recipient": "Ada", "line1": "Kade 1", "city": "Utrecht", "postal_code": "3511 AA", "country": "NL" });
        let parcel = json!({ "weight_g": 500, "lines": [{ "line": 1, "quantity": quantity }] });
        let shipment = json!({ "order_id": order_id, "destination": destination, "parcels": [parcel] });
        let shipment = self.acme.post("/api/v1/shipping/shipments").json(&shipment).send().await.expect(201).header("location").to_owned();
        for step in ["pick", "pack"] {
            self.acme.post(format!("{shipment}/steps")).json(&json!({ "step": step })).send().await.expect(200);
        }
        shipment
    }

    /// Has so many of an order's first line back: some to be sold again, the others not.
    async fn take_back(&self, order_id: &str, restock: i64, write_off: i64) {
        let path = self.come_back(order_id, restock, write_off).await;
        self.acme.post(format!("{path}/refund")).send().await.expect(200);
        self.app.drained().await;
    }

    /// The same up to its inspection: the return's path.
    async fn come_back(&self, order_id: &str, restock: i64, write_off: i64) -> String {
        let lines = json!([{ "line": 1, "quantity": restock + write_off }]);
        let asked = json!({ "lines": lines, "reason": "too green" });
        let asked = self.acme.post(format!("/api/v1/orders/{order_id}/returns")).json(&asked).send().await.expect(201);
        let path = format!("/api/v1/returns/{}", asked.text("return_id"));
        self.acme.post(format!("{path}/steps")).json(&json!({ "step": "approve" })).send().await.expect(200);
        self.acme.post(format!("{path}/receive")).send().await.expect(200);
        let inspected = json!({ "lines": [{ "line": 1, "restock": restock, "write_off": write_off }] });
        self.acme.post(format!("{path}/inspect")).json(&inspected).send().await.expect(200);
        path
    }

    async fn order(&self, order_id: &str) -> Value {
        self.acme.get(format!("/api/v1/orders/{order_id}")).send().await.expect(200).json
    }

    /// Taken and given back for an order, by its payments.
    async fn paid(&self, order_id: &str) -> (i64, i64) {
        let paid = self.acme.get(format!("/api/v1/orders/{order_id}/payments")).send().await.expect(200).json;
        (paid["captured_minor"].as_i64().expect("an amount"), paid["refunded_minor"].as_i64().expect("an amount"))
    }

    /// What that follows was refused: its part and why.
    async fn refused(&self) -> Vec<(String, String)> {
        let events = self.app.store().tenant_events_after(self.app.tenant("acme"), 0, 100_000).await.expect("events");
        let refused = events.iter().filter(|event| event.kind == "fulfilment.refused");
        let told = refused.map(|event| serde_json::from_str::<Value>(&event.payload).expect("a payload"));
        told.map(|told| of((told["part"].as_str().expect("a part"), told["code"].as_str().expect("a code")))).collect()
    }

    async fn refusals(&self) -> usize {
        self.refused().await.len()
    }
}

fn of((part, code): (&str, &str)) -> (String, String) {
    (part.to_owned(), code.to_owned())
}

async fn sold(world: &World, capture: &str) -> (String, String) {
    let settings = json!({ "capture": capture, "hold_minutes": 15, "shipping_required": false });
    world.acme.put("/api/v1/checkout-settings").json(&settings).send().await.expect(200);
    let (variant, item) = world.variant("TEA-01", "3.333", Some(10)).await;
    let bought = world.buy(&variant, 3, "tok_approve", 5_000).await.expect(201);
    world.app.drained().await;
    (bought.text("order_id"), item)
}

testkit::both_engines! {
    setup: setup;

    /// What goes out leaves the stock, fulfils the order, and only then is paid for; the parts add up to the whole.
    async fn what_is_shipped_is_taken_from_the_shelf_and_paid_for(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, item) = sold(&world, "manual").await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await), ((10, 3), (0, 0)));
        world.ship(&order_id, 2).await;
        assert_eq!(world.order(&order_id).await["state"], "partly_fulfilled");
        assert_eq!((world.level(&item).await, world.paid(&order_id).await), ((8, 1), (667, 0)));
        world.ship(&order_id, 1).await;
        assert_eq!(world.order(&order_id).await["state"], "fulfilled");
        assert_eq!((world.level(&item).await, world.paid(&order_id).await), ((7, 0), (1_000, 0)));
        assert_eq!(world.refusals().await, 0);
    }

    /// Two parcels go while the first one is being paid for: all of it is taken in the end.
    async fn parcels_that_go_together_are_paid_for(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, item) = sold(&world, "manual").await;
        tokio::join!(world.send(&order_id, 1), world.send(&order_id, 1), world.send(&order_id, 1));
        world.app.drained().await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await), ((7, 0), (1_000, 0)));
        assert_eq!(world.refusals().await, 0);
    }

    /// An order on hold does not go. What a carrier has all the same is out of stock, and is not paid for by that.
    async fn what_is_on_hold_does_not_go(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, item) = sold(&world, "manual").await;
        let hold = json!({ "reason": "looks odd" });
        world.acme.post(format!("/api/v1/orders/{order_id}/hold")).json(&hold).send().await.expect(200);
        let shipment = world.packed(&order_id, 3).await;
        let steps = format!("{shipment}/steps");
        world.acme.post(&steps).json(&json!({ "step": "ship" })).send().await.expect_problem(409, "orders.on_hold");
        let seen = json!({ "parcel": 1, "event_ref": "e1", "status": "in_transit", "occurred_at": "2026-01-05T12:00:00Z" });
        world.acme.post(format!("{shipment}/tracking")).json(&seen).send().await.expect(200);
        world.app.drained().await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await, world.refusals().await), ((7, 0), (0, 0), 1));
        // Once it may go, what the order says follows, and nothing leaves the stock again.
        world.acme.post(format!("/api/v1/orders/{order_id}/release")).send().await.expect(200);
        world.acme.post(format!("/api/v1/orders/{order_id}/fulfil")).send().await.expect(200);
        world.app.drained().await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await, world.refusals().await), ((7, 0), (1_000, 0), 1));
    }

    /// What is added to an order is reserved with it or not added, what is taken off is free, and what goes by hand leaves the stock.
    async fn stock_follows_an_edit(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, item) = sold(&world, "manual").await;
        let (variant, cup) = world.variant("CUP-01", "5", Some(2)).await;
        let line = world.order(&order_id).await["lines"][0].clone();
        let edit = async |teas: i64, cups: i64| {
            let mut lines = vec![json!({ "line": 1, "sku": line["sku"], "variant_id": line["variant_id"], "quantity": teas, "unit_price": "3.333" })];
            if cups > 0 {
                lines.push(json!({ "line": 7, "sku": "CUP-01", "variant_id": variant, "quantity": cups, "unit_price": "5" }));
            }
            world.acme.patch(format!("/api/v1/orders/{order_id}")).json(&json!({ "lines": lines })).send().await
        };
        assert!(edit(4, 3).await.expect_problem(409, "inventory.insufficient").names_field("lines[1].quantity"));
        assert_eq!((world.level(&item).await, world.level(&cup).await), ((10, 3), (2, 0)), "nothing of it was done");
        assert_eq!(world.order(&order_id).await["version"], 1);
        edit(2, 2).await.expect(200);
        assert_eq!((world.level(&item).await, world.level(&cup).await), ((10, 2), (2, 2)));
        edit(2, 1).await.expect(200);
        assert_eq!(world.level(&cup).await, (2, 1));
        // By hand, both lines; what they cost now is taken, as far as it was authorised.
        let some = json!({ "lines": [{ "line": 1, "quantity": 1 }, { "line": 7, "quantity": 1 }] });
        world.acme.post(format!("/api/v1/orders/{order_id}/fulfil")).json(&some).send().await.expect(200);
        world.app.drained().await;
        assert_eq!((world.level(&item).await, world.level(&cup).await, world.paid(&order_id).await), ((9, 1), (1, 0), (334 + 500, 0)));
        world.ship(&order_id, 1).await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await, world.refusals().await), ((8, 0), (1_000, 0), 0));
        assert_eq!(world.order(&order_id).await["state"], "fulfilled");
    }

    /// An edited line costs what it costs now, whatever it was bought for; and it is reserved as before, when the edit names no variant.
    async fn what_goes_is_taken_at_its_price_of_now(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, item) = sold(&world, "manual").await;
        let cheaper = json!({ "lines": [{ "line": 1, "sku": "TEA-01", "quantity": 3, "unit_price": "0.10" }] });
        world.acme.patch(format!("/api/v1/orders/{order_id}")).json(&cheaper).send().await.expect(200);
        assert!(world.order(&order_id).await["lines"][0]["variant_id"].is_string());
        assert_eq!(world.level(&item).await, (10, 3));
        world.ship(&order_id, 1).await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await), ((9, 2), (10, 0)));
        world.ship(&order_id, 2).await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await, world.refusals().await), ((7, 0), (30, 0), 0));
        assert!(world.charges().iter().all(|charge| charge.captured_minor == 30 && !charge.open), "the rest is let go of");
    }

    /// An edit takes off what has not gone: all of the order has gone, and the customer has the rest of the money back.
    async fn an_order_that_an_edit_completes_lets_go_of_the_rest(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, item) = sold(&world, "manual").await;
        world.ship(&order_id, 1).await;
        assert!(world.charges().iter().all(|charge| charge.captured_minor == 333 && charge.open));
        let fewer = json!({ "lines": [{ "line": 1, "sku": "TEA-01", "quantity": 1, "unit_price": "3.333" }] });
        let order = world.acme.patch(format!("/api/v1/orders/{order_id}")).json(&fewer).send().await.expect(200).json;
        assert_eq!(order["state"], "fulfilled");
        world.app.drained().await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await, world.refusals().await), ((9, 0), (333, 0), 0));
        assert!(world.charges().iter().all(|charge| charge.captured_minor == 333 && !charge.open));
        let checkout = order_id.replace("ord_", "chk_");
        assert!(world.checkout(&checkout).await["reason"].is_null(), "nobody is told that the payment is lost");
    }

    /// Goods that have left were taken off the order before it was known: that they are missing is told.
    async fn what_went_and_is_not_reserved_any_more_is_told(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, item) = sold(&world, "manual").await;
        let shipment = world.packed(&order_id, 3).await;
        world.acme.post(format!("/api/v1/orders/{order_id}/hold")).json(&json!({ "reason": "looks odd" })).send().await.expect(200);
        let fewer = json!({ "lines": [{ "line": 1, "sku": "TEA-01", "quantity": 1, "unit_price": "3.333" }] });
        world.acme.patch(format!("/api/v1/orders/{order_id}")).json(&fewer).send().await.expect(200);
        let seen = json!({ "parcel": 1, "event_ref": "e1", "status": "in_transit", "occurred_at": "2026-01-05T12:00:00Z" });
        world.acme.post(format!("{shipment}/tracking")).json(&seen).send().await.expect(200);
        world.app.drained().await;
        assert_eq!(world.level(&item).await, (9, 0), "what was left of it is out of stock");
        assert_eq!(world.refused().await, [("order", "orders.on_hold"), ("stock", "fulfilment.not_reserved")].map(of));
    }

    /// What comes back is on the shelf again or is damaged, and its price is given back.
    async fn what_comes_back_is_refunded(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, item) = sold(&world, "automatic").await;
        world.ship(&order_id, 3).await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await), ((7, 0), (1_000, 0)));
        world.take_back(&order_id, 1, 1).await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await), ((8, 0), (1_000, 667)));
        world.take_back(&order_id, 1, 0).await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await), ((9, 0), (1_000, 1_000)));
        assert_eq!(world.refusals().await, 0);
    }

    /// What came back pays for what takes its place, as far as that is not paid for; the rest is given back.
    async fn an_exchange_moves_the_difference(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, item) = sold(&world, "automatic").await;
        world.ship(&order_id, 3).await;
        // One that was bought, and is paid for.
        let (cup, _) = world.variant("CUP-01", "5", Some(2)).await;
        let bought = world.buy(&cup, 1, "tok_approve", 5_000).await.expect(201).text("order_id");
        let path = world.come_back(&order_id, 1, 0).await;
        let done = world.acme.post(format!("{path}/exchange")).json(&json!({ "order_id": bought })).send().await.expect(200).json;
        assert_eq!((done["due_minor"].as_i64(), done["carried_minor"].as_i64()), (Some(-333), Some(0)));
        world.app.drained().await;
        assert_eq!((world.level(&item).await, world.paid(&order_id).await), ((8, 0), (1_000, 333)));
        // One that somebody has placed: 2.00 of 3.34 pay for it.
        let line = json!({ "sku": "CUP-02", "quantity": 1, "unit_price": "2" });
        let placed = json!({ "country": "NL", "currency": "EUR", "lines": [line] });
        let placed = world.acme.post("/api/v1/orders").json(&placed).send().await.expect(201).text("order_id");
        let path = world.come_back(&order_id, 1, 0).await;
        let done = world.acme.post(format!("{path}/exchange")).json(&json!({ "order_id": placed })).send().await.expect(200).json;
        assert_eq!((done["due_minor"].as_i64(), done["carried_minor"].as_i64()), (Some(-134), Some(200)));
        world.app.drained().await;
        assert_eq!(world.paid(&order_id).await, (1_000, 333 + 134));
        let due = async |order_id: &str| {
            let paid = world.acme.get(format!("/api/v1/orders/{order_id}/payments")).send().await.expect(200).json;
            (paid["payment_state"].as_str().expect("a state").to_owned(), paid["carried_minor"].as_i64(), paid["due_minor"].as_i64())
        };
        assert_eq!(due(&placed).await, ("paid".to_owned(), Some(200), Some(0)));
        assert_eq!(due(&order_id).await, ("partly_refunded".to_owned(), Some(-200), Some(0)));
        assert_eq!(world.refusals().await, 0);
        // It is called off after all: what the exchange has paid for it is nobody's, and that is told.
        world.acme.post(format!("/api/v1/orders/{placed}/cancel")).send().await.expect(200);
        world.app.drained().await;
        assert_eq!(world.refused().await, [("payment", "fulfilment.carried_over")].map(of));
    }

    /// What came back does not pay for an order whose own payment will: that is taken in part, and the rest with the next parcel.
    async fn an_exchange_leaves_an_open_payment_alone(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, _) = sold(&world, "automatic").await;
        world.ship(&order_id, 3).await;
        let settings = json!({ "capture": "manual", "hold_minutes": 15, "shipping_required": false });
        world.acme.put("/api/v1/checkout-settings").json(&settings).send().await.expect(200);
        let (cup, _) = world.variant("CUP-01", "5", Some(2)).await;
        let bought = world.buy(&cup, 2, "tok_approve", 5_000).await.expect(201).text("order_id");
        world.app.drained().await;
        world.ship(&bought, 1).await;
        assert_eq!(world.paid(&bought).await, (500, 0));
        let path = world.come_back(&order_id, 1, 0).await;
        let done = world.acme.post(format!("{path}/exchange")).json(&json!({ "order_id": bought })).send().await.expect(200).json;
        assert_eq!((done["due_minor"].as_i64(), done["carried_minor"].as_i64()), (Some(-333), Some(0)));
        world.ship(&bought, 1).await;
        assert_eq!((world.paid(&bought).await, world.paid(&order_id).await), ((1_000, 0), (1_000, 333)));
        assert_eq!(world.refusals().await, 0);
    }

    /// An order that is called off holds nothing, and nobody has paid for it.
    async fn an_order_that_is_called_off_is_undone(app: TestApp) {
        let world = World::new(app).await;
        for (capture, paid) in [("manual", (0, 0)), ("automatic", (1_000, 1_000))] {
            let sku = format!("TEA-{capture}");
            let settings = json!({ "capture": capture, "hold_minutes": 15, "shipping_required": false });
            world.acme.put("/api/v1/checkout-settings").json(&settings).send().await.expect(200);
            let (variant, item) = world.variant(&sku, "10", Some(1)).await;
            let order_id = world.buy(&variant, 1, "tok_approve", 5_000).await.expect(201).text("order_id");
            world.acme.post(format!("/api/v1/orders/{order_id}/cancel")).send().await.expect(200);
            world.app.drained().await;
            assert_eq!((world.level(&item).await, world.paid(&order_id).await), ((1, 0), paid), "{capture}");
        }
        assert_eq!(world.refusals().await, 0);
        assert!(world.charges().iter().all(|charge| charge.captured_minor == charge.refunded_minor && !charge.open));
    }

    /// What somebody has done by hand is told, and holds nothing up.
    async fn what_can_t_follow_is_told(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, item) = sold(&world, "automatic").await;
        world.acme.post(format!("/api/v1/orders/{order_id}/fulfil")).send().await.expect(200);
        world.ship(&order_id, 3).await;
        assert_eq!(world.level(&item).await, (7, 0), "the stock follows all the same");
        assert_eq!(world.refusals().await, 1);
    }
}
