//! `brandos openapi`: the OpenAPI document of all routes, without a store.

use crate::exit::{Exit, Outcome};
use crate::output::Output;
use crate::wiring;
use kernel::Error;

/// Prints the document as pretty JSON, whoever reads.
pub(crate) fn print(out: Output) -> Outcome<Exit> {
    let document = web::openapi(&wiring::modules());
    let text =
        serde_json::to_string_pretty(&document).map_err(|e| Error::internal("the OpenAPI document does not serialise").caused_by(e))?;
    out.raw(&text);
    Ok(Exit::Ok)
}
