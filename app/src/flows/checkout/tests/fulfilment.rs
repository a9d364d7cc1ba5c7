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
        let destination = json!({ "recipient": "Ada", "line1": "Kade 1", "city": "Utrecht", "postal_code": "3511 AA", "country": "NL" });
        let parcel = json!({ "weight_g": 500, "lines": [{ "line": 1, "quantity": quantity }] });
        let shipment = json!({ "order_id": order_id, "destination": destination, "parcels": [parcel] });
        let shipment = self.acme.post("/api/v1/shipping/shipments").json(&shipment).send().await.expect(201).text("shipment_id");
        for step in ["pick", "pack", "ship"] {
            let path = format!("/api/v1/shipping/shipments/{shipment}/steps");
            self.acme.post(path).json(&json!({ "step": step })).send().await.expect(200);
        }
    }

    /// Has so many of an order's first line back: some to be sold again, the others not.
    async fn take_back(&self, order_id: &str, restock: i64, write_off: i64) {
        let lines = json!([{ "line": 1, "quantity": restock + write_off }]);
        let asked = json!({ "lines": lines, "reason": "too green" });
        let asked = self.acme.post(format!("/api/v1/orders/{order_id}/returns")).json(&asked).send().await.expect(201);
        let path = format!("/api/v1/returns/{}", asked.text("return_id"));
        self.acme.post(format!("{path}/steps")).json(&json!({ "step": "approve" })).send().await.expect(200);
        self.acme.post(format!("{path}/receive")).send().await.expect(200);
        let inspected = json!({ "lines": [{ "line": 1, "restock": restock, "write_off": write_off }] });
        self.acme.post(format!("{path}/inspect")).json(&inspected).send().await.expect(200);
        self.acme.post(format!("{path}/refund")).send().await.expect(200);
        self.app.drained().await;
    }

    async fn order(&self, order_id: &str) -> Value {
        self.acme.get(format!("/api/v1/orders/{order_id}")).send().await.expect(200).json
    }

    /// Taken and given back for an order, by its payments.
    async fn paid(&self, order_id: &str) -> (i64, i64) {
        let paid = self.acme.get(format!("/api/v1/orders/{order_id}/payments")).send().await.expect(200).json;
        (paid["captured_minor"].as_i64().expect("an amount"), paid["refunded_minor"].as_i64().expect("an amount"))
    }

    /// How often something that follows was refused.
    async fn refusals(&self) -> usize {
        let events = self.app.store().tenant_events_after(self.app.tenant("acme"), 0, 100_000).await.expect("events");
        events.iter().filter(|event| event.kind == "fulfilment.refused").count()
    }
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

    /// An order on hold that was sent all the same is not paid for by that.
    async fn what_was_on_hold_is_told(app: TestApp) {
        let world = World::new(app).await;
        let (order_id, _) = sold(&world, "manual").await;
        world.acme.post(format!("/api/v1/orders/{order_id}/hold")).json(&json!({ "reason": "looks odd" })).send().await.expect(200);
        world.ship(&order_id, 3).await;
        assert_eq!((world.paid(&order_id).await, world.refusals().await), ((0, 0), 1));
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
