//! The HTTP routes: parse, check, and hand over to a command or a query. Here is what they have in common.

mod codes;
mod money;
mod policy;
mod requests;
mod schedules;
mod transfers;
mod wallets;

use crate::model::*;
use crate::moves::Reach;
use crate::service::Wallets;
use crate::{error, outside};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kernel::{ActorKind, Currency};
use serde::Deserialize;
use utoipa::ToSchema;
use web::{App, Caller, Created, Result, Route};

const BODY: usize = 8 * 1024;
const POLICY_BODY: usize = 256 * 1024;

pub(crate) fn routes() -> Vec<Route> {
    let all = [
        wallets::routes(),
        money::routes(),
        transfers::routes(),
        requests::routes(),
        codes::routes(),
        schedules::routes(),
        policy::routes(),
    ];
    all.into_iter().flatten().collect()
}

/// Whose wallets the caller may use. A program without `wallets.operate` has none of its own.
fn reach(caller: &Caller) -> Reach {
    if caller.has("wallets.operate") {
        return Reach::All;
    }
    Reach::Own(UserId::from_i64(if caller.actor.kind == ActorKind::User { caller.actor.id } else { 0 }))
}

fn service(app: &App) -> Wallets {
    app.part::<Wallets>().clone()
}

/// An active currency. Errors: `money.unknown_currency`.
fn currency(text: &str) -> kernel::Result<Currency> {
    text.parse().map_err(|_| error::unknown_currency("currency"))
}

fn note(text: &str) -> kernel::Result<()> {
    check_text("note", text, 0, MAX_NOTE)
}

fn reason(text: &str) -> kernel::Result<()> {
    check_text("reason", text, 1, 500)
}

/// Where the payer is when it asks, as far as the application knows: for the score.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PayerWhence)]
struct Whence {
    /// A name of the payer's device that stays the same.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    device: Option<String>,
    /// Two capital letters.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}$")]
    country: Option<String>,
}

impl Whence {
    fn read(&self) -> kernel::Result<(u32, [u8; 2])> {
        let device = match &self.device {
            Some(device) => {
                check_text("whence.device", device, 1, 200)?;
                outside::target_of(device)
            }
            None => 0,
        };
        Ok((device, country("whence.country", self.country.as_deref())?))
    }
}

/// A transfer by what has become of it: 201 when the money has moved, 202 while something is waited for, a problem when it was denied.
fn answer(transfer: Transfer) -> Result<Response> {
    let location = format!("/api/v1/wallet-transfers/{}", transfer.transfer_id);
    match transfer.status {
        TransferStatus::Denied => Err(error::denied(&transfer).into()),
        TransferStatus::Completed => Ok(Created(location, transfer).into_response()),
        _ => Ok((StatusCode::ACCEPTED, [(axum::http::header::LOCATION, location)], Json(transfer)).into_response()),
    }
}

/// An empty object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}
