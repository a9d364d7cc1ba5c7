//! Tests of this module: rules as tables and properties, and stories on each engine. Each story ends with the audits: levels are the sums
//! of their movements, and what is reserved is what open reservations hold.

mod naive;
mod rules;
mod stories;
mod storm;

use crate::api::{self, Component, Demand, Item, Level, Location, NewItem, NewLocation, Reserved};
use crate::model::*;
use kernel::{Result, TenantId};
use store::{Read, Tx};
use testkit::{Setup, TestApp};

fn setup() -> Setup {
    Setup::new(vec![crate::module()])
}

/// A tenant's stock, by the module's API.
#[derive(Clone)]
struct Shop {
    app: TestApp,
    tenant: TenantId,
}

impl Shop {
    fn new(app: &TestApp, slug: &str) -> Shop {
        Shop { app: app.clone(), tenant: app.tenant(slug) }
    }

    async fn write<C: Send + 'static, T: Send + 'static>(&self, command: fn(&mut Tx<'_>, &C) -> Result<T>, data: C) -> Result<T> {
        self.app.store().write(self.tenant, command, data).await
    }

    async fn read<T: Send + 'static>(&self, read: impl Fn(&mut Read<'_>) -> Result<T> + Send + Sync + 'static) -> T {
        self.app.store().read(self.tenant, read).await.expect("it can be read")
    }

    async fn item(&self, new: NewItem) -> Item {
        self.write(api::create_item, new).await.expect("an item")
    }

    async fn location(&self, name: &str, priority: i64, coordinates: Option<Coordinates>) -> LocationId {
        let new = NewLocation {
            kind: LocationKind::Warehouse,
            name: name.to_owned(),
            address: Address::default(),
            coordinates,
            priority,
            active: true,
        };
        let location: Location = self.write(api::create_location, new).await.expect("a location");
        location.location_id
    }

    /// A variant of these items.
    async fn variant(&self, components: &[(ItemId, i64)]) -> VariantId {
        let components = components.iter().map(|(item_id, quantity)| Component { item_id: *item_id, quantity: *quantity }).collect();
        let set = |tx: &mut Tx<'_>, components: &Vec<Component>| {
            let variant_id = tx.new_id();
            api::set_components(tx, variant_id, components.clone())
        };
        self.write(set, components).await.expect("components").variant_id
    }

    async fn receive(&self, item_id: ItemId, location_id: LocationId, quantity: i64) {
        let receive = |tx: &mut Tx<'_>, (item, location, quantity): &(ItemId, LocationId, i64)| {
            api::receive(tx, *item, *location, *quantity, "delivery-1")
        };
        self.write(receive, (item_id, location_id, quantity)).await.expect("goods come in");
    }

    /// One item at one location, and the variant of it.
    async fn simple(&self, sku: &str, quantity: i64) -> (ItemId, LocationId, VariantId) {
        let item_id = self.item(NewItem { sku: sku.to_owned(), ..NewItem::default() }).await.item_id;
        let location_id = self.location("Main", 0, None).await;
        if quantity > 0 {
            self.receive(item_id, location_id, quantity).await;
        }
        (item_id, location_id, self.variant(&[(item_id, 1)]).await)
    }

    async fn reserve(&self, demand: Demand) -> Result<Reserved> {
        self.write(api::reserve, demand).await
    }

    async fn level(&self, item_id: ItemId, location_id: LocationId) -> Level {
        self.read(move |read| api::level(read, item_id, location_id)).await
    }

    /// The kinds of all events so far, in order.
    async fn events(&self) -> Vec<String> {
        let events = self.app.store().tenant_events_after(self.tenant, 0, 10_000).await.expect("events");
        events.into_iter().map(|event| event.kind).collect()
    }
}

/// A demand that is held for 15 minutes.
fn demand(app: &TestApp, reference: &str, lines: &[(VariantId, i64)]) -> Demand {
    let expires_at = Some(kernel::Clock::now(app.clock()).plus_ms(900_000));
    Demand { reference: reference.to_owned(), lines: lines.to_vec(), expires_at, destination: None }
}
