//! Tests: pure rules as tables and properties in `rules`; what needs a store, on both engines, in `http`, `arranged` and `bulk`.

mod arranged;
mod bulk;
mod cached;
mod http;
mod rules;

use testkit::TestApp;

/// The application under test.
fn setup() -> testkit::Setup {
    testkit::Setup::new(vec![crate::module()])
}

/// The kinds of all events of a tenant so far, in order.
async fn events(app: &TestApp, slug: &str) -> Vec<String> {
    let events = app.store().tenant_events_after(app.tenant(slug), 0, 1_000).await.unwrap();
    events.into_iter().map(|event| event.kind).collect()
}

/// A column of a list.
fn column(page: &testkit::TestResponse, field: &str) -> Vec<String> {
    page.json["data"].as_array().unwrap().iter().map(|row| row[field].as_str().unwrap_or("null").to_owned()).collect()
}
