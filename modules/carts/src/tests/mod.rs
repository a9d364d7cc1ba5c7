//! Tests: pure rules as tables and properties in `rules`; what needs a store, on both engines, in `stories`.

mod rules;
mod stories;

use crate::api::{CartKey, Change, LineEdit, NewCart, Seen, TokenHash};
use crate::model::{Cart, CartId, CustomerId, Line, Settings, Status, VariantId};
use crate::{commands, queries};
use kernel::{Result, Timestamp, UnitPrice};
use testkit::TestApp;
use web::IfMatch;

/// The application under test.
fn setup() -> testkit::Setup {
    testkit::Setup::new(vec![crate::module()])
}

fn variant(number: i64) -> VariantId {
    VariantId::from_i64(number)
}

fn customer(number: i64) -> CustomerId {
    CustomerId::from_i64(number)
}

fn price(text: &str) -> UnitPrice {
    text.parse().unwrap()
}

fn seen(text: &str) -> Seen {
    Seen { title: "Tea".to_owned(), unit_price: Some(price(text)) }
}

fn add(number: i64, quantity: i64) -> LineEdit {
    LineEdit::Add { variant_id: variant(number), quantity, seen: seen("2.50") }
}

fn set(number: i64, quantity: i64) -> LineEdit {
    LineEdit::Set { variant_id: variant(number), quantity, seen: None }
}

fn lines(edits: impl IntoIterator<Item = LineEdit>) -> Change {
    Change { lines: edits.into_iter().collect(), ..Change::default() }
}

/// A cart in memory, of these variants and quantities.
fn a_cart(of: &[(i64, i64)]) -> Cart {
    let line = |(i, (number, quantity)): (usize, &(i64, i64))| Line {
        variant_id: variant(*number),
        quantity: *quantity,
        title: "Tea".to_owned(),
        unit_price: Some(price("2.50")),
        place: i as i64 + 1,
    };
    Cart {
        cart_id: CartId::from_i64(1),
        customer_id: None,
        status: Status::Open,
        currency: "EUR".parse().unwrap(),
        email: None,
        destination: None,
        shipping_method: None,
        coupons: Vec::new(),
        line_count: of.len() as i64,
        lines: of.iter().enumerate().map(line).collect(),
        version: 1,
        attempts: 0,
        order_id: None,
        merged_into: None,
        created_at: Timestamp::from_micros(0),
        changed_at: Timestamp::from_micros(0),
        expires_at: Settings::default().expiry(None, Timestamp::from_micros(0)),
        abandoned_at: None,
        kept: Settings::default(),
    }
}

/// Variants and quantities, in order.
fn content(cart: &Cart) -> Vec<(i64, i64)> {
    cart.lines.iter().map(|line| (line.variant_id.as_i64(), line.quantity)).collect()
}

/// A tenant's carts, as a flow uses them.
#[derive(Clone)]
struct Shop {
    app: TestApp,
    slug: &'static str,
}

impl Shop {
    fn new(app: &TestApp, slug: &'static str) -> Shop {
        Shop { app: app.clone(), slug }
    }

    async fn write<C: Send + 'static, T: Send + 'static>(
        &self,
        command: impl Fn(&mut store::Tx<'_>, &C) -> Result<T> + Send + 'static,
        data: C,
    ) -> Result<T> {
        self.app.store().write(self.app.tenant(self.slug), command, data).await
    }

    /// A guest's cart under this token.
    async fn guest(&self, token: &str, change: Change) -> Cart {
        let new = NewCart { token: TokenHash::of(token), currency: "EUR".parse().unwrap(), change };
        self.write(commands::create, new).await.unwrap()
    }

    async fn change(&self, key: CartKey, if_match: Option<i64>, change: Change) -> Result<Cart> {
        self.write(commands::change, commands::ChangeCart { key, if_match: IfMatch(if_match), change }).await
    }

    async fn load(&self, key: CartKey) -> Result<Cart> {
        self.app.store().read(self.app.tenant(self.slug), move |read| queries::load(read, &key)).await
    }

    async fn see(&self, cart_id: CartId) -> Cart {
        self.load(CartKey::staff(cart_id)).await.unwrap()
    }

    async fn sign_in(&self, of: CustomerId, guest: Option<CartKey>, token: &str) -> Result<commands::SignedIn> {
        let asked = commands::SignIn { customer_id: of, guest, token: TokenHash::of(token), currency: "EUR".parse().unwrap() };
        self.write(commands::sign_in, asked).await
    }

    async fn begin(&self, cart_id: CartId, version: i64) -> Result<Cart> {
        let begin = |tx: &mut store::Tx<'_>, (cart_id, version): &(CartId, i64)| {
            let mut cart = queries::load(tx, &CartKey::staff(*cart_id))?;
            commands::begin_checkout(tx, &mut cart, *version).map(|()| cart)
        };
        self.write(begin, (cart_id, version)).await
    }

    /// Kind and payload of all events so far, in order.
    async fn events(&self) -> Vec<(String, serde_json::Value)> {
        let events = self.app.store().tenant_events_after(self.app.tenant(self.slug), 0, 1_000).await.unwrap();
        events.into_iter().map(|event| (event.kind, serde_json::from_str(&event.payload).unwrap())).collect()
    }
}
