//! The HTTP routes: parse, check, and hand over to a command or a query. Here is what they have in common.

mod attributes;
mod categories;
mod collections;
mod products;

use crate::history::By;
use web::{Access, Caller, Route};

const READ: Access = Access::Tenant("catalog.read");
const WRITE: Access = Access::Tenant("catalog.write");

/// Every route.
pub(crate) fn routes() -> Vec<Route> {
    [products::routes(), categories::routes(), collections::routes(), attributes::routes()].into_iter().flatten().collect()
}

/// Who asks, for the history.
fn by(caller: &Caller) -> By {
    By { actor: caller.actor, request_id: Some(caller.request_id.clone()) }
}
