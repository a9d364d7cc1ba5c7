//! Tests of modules as stories: a whole application in the process, on each engine, with a clock that the test sets.
//!
//! Promises: the same test runs on SQLite and on PostgreSQL, each time in a database of its own that is gone afterwards; a test that
//! ends well has no unread event, no dead letter and no failing audit. A missing PostgreSQL is a loud skip, and in CI a failure.
//! Must never know: any module.
//!
//! ```ignore
//! testkit::both_engines! {
//!     setup: || testkit::Setup::new(vec![crate::module()]);
//!
//!     async fn sells_the_last_unit_once(app: TestApp) {
//!         let acme = app.client("acme", &["orders.write"]);
//!         acme.post("/api/v1/orders").key("k1").json(&order).send().await.expect(201);
//!     }
//! }
//! ```

mod app;
mod database;
mod fake;
mod plans;
mod request;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod workflow_tests;

pub use app::{Setup, TestApp, run};
pub use fake::{FakeAuthenticator, platform_token, token};
pub use plans::walks;
pub use request::{Client, TestRequest, TestResponse};
pub use store::Engine;

/// Runs each `async fn name(app: TestApp)` twice: as test `name::sqlite` and as `name::postgres`. `setup:` is a function or closure
/// without arguments that gives the [`Setup`].
#[macro_export]
macro_rules! both_engines {
    (setup: $setup:expr; $($(#[$meta:meta])* async fn $name:ident($app:ident: $type:ty) $body:block)+) => {$(
        $(#[$meta])*
        async fn $name($app: $type) $body

        mod $name {
            #[allow(unused_imports, reason = "what the setup names is in the test's module")]
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                $crate::run($crate::Engine::Sqlite, ($setup)(), super::$name).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                $crate::run($crate::Engine::Postgres, ($setup)(), super::$name).await;
            }
        }
    )+};
}
