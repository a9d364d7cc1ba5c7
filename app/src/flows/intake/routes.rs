//! The HTTP route: where something stands that was taken in.

use super::{OrderIntake, tell};
use axum::Json;
use axum::extract::State;
use kernel::{Error, ErrorKind};
use web::{Access, App, Caller, IntakeId, Params, Result, Route, TakenIn, handlers};

pub(super) fn routes() -> Vec<Route> {
    // Whoever may place orders may know what became of them.
    vec![Route::new(Access::Tenant("orders.write"), handlers!(get_order_intake))]
}

/// Where an order stands that was taken in while the database was away. The node that took it in knows at once; any other as soon as it was
/// placed or refused.
#[utoipa::path(get, path = "/api/v1/order-intake/{intake_id}", tag = "orders", params(("intake_id" = IntakeId, Path)),
    responses((status = 200, body = TakenIn)))]
async fn get_order_intake(State(app): State<App>, caller: Caller, Params(intake_id): Params<IntakeId>) -> Result<Json<TakenIn>> {
    let queue = app.part::<OrderIntake>().queue();
    if let Some(queue) = queue
        && let Some(known) = queue.find(caller.tenant()?, intake_id).await?
    {
        return Ok(Json(known));
    }
    let told = match app.peek(&caller, move |read| tell::outcome(read, intake_id)).await {
        Err(error) if error.kind() == ErrorKind::Unavailable && !queue.is_some_and(|queue| queue.made(intake_id)) => {
            let detail = "another node has taken it in, and while the database is away only that one knows";
            return Err(Error::unavailable("intake.elsewhere", detail).retry_after_ms(5_000).caused_by(error).into());
        }
        told => told?,
    };
    let found = told.ok_or_else(|| Error::not_found("intake.not_found", "nothing was taken in under this id, or long ago"))?;
    Ok(Json(tell::shown(found)))
}
