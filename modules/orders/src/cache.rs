//! What is remembered of orders: those that were read last, for as long as the database is away and nobody knows better.

use crate::model::OrderId;
use crate::queries::Order;
use kernel::{Result, TenantId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;
use store::Change;
use traffic::cache::{Cache, Cached, Caches, Normal, Settings, Tag, Tags};
use web::{ModuleCaches, Part};

/// Of the memory of all caches, in percent.
const MEMORY_PERCENT: u8 = 5;

/// Orders by tenant and id, each as it was last read. An order is always read from the store; this stands in when it is away.
pub(crate) struct Orders(pub Cache<(TenantId, OrderId), Shared>);

/// An order that is remembered and answered with at once, without a copy for each.
#[derive(Clone)]
pub(crate) struct Shared(pub Arc<Order>);

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        Order::deserialize(deserializer).map(Shared::from)
    }
}

impl From<Order> for Shared {
    fn from(order: Order) -> Self {
        Shared(Arc::new(order))
    }
}

/// An order's own events name it. A credit note changes one that its event does not name: none of the tenant's is known to be right then.
pub(crate) const CACHES: ModuleCaches = ModuleCaches {
    open,
    events: &[
        "order.placed",
        "order.changed",
        "order.fulfilled",
        "order.closed",
        "order.cancelled",
        "order.held",
        "order.released",
        "order.delivered",
        "order.tagged",
        "order.exchanged_for",
        "credit_note.issued",
    ],
    tags: |change: &Change| match change.tenant {
        Some(tenant) if change.kind == "credit_note.issued" => Tags::of([all(tenant)]),
        _ => Tags::NONE,
    },
    forget: |app, change| {
        if let (Some(tenant), Ok(order)) = (change.tenant, change.subject.parse()) {
            app.part::<Orders>().0.forget(&(tenant, order));
        }
    },
    // Nothing is loaded ahead: only what was asked for is remembered.
    hot: |_, _| serde_json::Value::Null,
    warm: |_, _, _| Box::pin(std::future::ready(0)),
};

fn all(tenant: TenantId) -> Tag {
    Tag::new("orders", tenant.as_i64())
}

fn open(caches: &Caches) -> Result<Part> {
    let settings = Settings::standing_in::<Shared>("orders.orders", MEMORY_PERCENT);
    Ok(Part::new(Orders(Cache::new(caches, settings, |key: &(TenantId, OrderId)| Tags::of([all(key.0)]))?)))
}

impl Cached for Shared {
    type Class = Normal;

    fn bytes(&self) -> usize {
        let Order { head, lines, .. } = &*self.0;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let lines = lines.iter().map(|line| size_of_val(line) + line.line.description.len() + line.line.sku.len());
        size_of::<Order>() + text(&head.external_ref) + head.country.len() + lines.sum::<usize>()
    }

    /// Nothing of an order changes without its version. The time is for one that was restored from a backup and changed anew.
    fn same(&self, other: &Shared) -> bool {
        let of = |order: &Order| (order.head.version, order.head.updated_at);
        of(&self.0) == of(&other.0)
    }
}
