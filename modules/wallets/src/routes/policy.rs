//! The policy.

use super::{POLICY_BODY, service};
use crate::commands::{self, PolicyVersion, PutPolicy};
use crate::policy::Policy;
use crate::service;
use crate::sql;
use axum::Json;
use axum::extract::State as AppState;
use kernel::{Error, Page, Timestamp};
use web::{Access, App, Body, Caller, IfMatch, Paging, PagingParams, Result, Route, Versioned, handlers};

pub(super) fn routes() -> Vec<Route> {
    let own = Access::Tenant("wallets.use");
    vec![
        Route::new(own, handlers!(get_policy)),
        Route::new(Access::Tenant("wallets.configure"), handlers!(set_policy)).body_limit(POLICY_BODY),
        Route::new(Access::Tenant("wallets.configure"), handlers!(list_policies)),
    ]
}

/// Reads the policy that is in force.
#[utoipa::path(get, path = "/api/v1/wallet-policy", tag = "wallets", responses((status = 200, body = PolicyVersion)))]
async fn get_policy(AppState(app): AppState<App>, caller: Caller) -> Result<Versioned<PolicyVersion>> {
    let wallets = service(&app);
    let found = app.read(&caller, move |read| service::policy(read, Some(&wallets))).await?;
    let created_at = Some(found.at).filter(|at| at.micros() > 0);
    Ok(Versioned(found.version, PolicyVersion { version: found.version, created_at, policy: found.policy.clone() }))
}

/// Puts a policy into force as a new version: limits of the levels, fees, times, and what makes a score.
#[utoipa::path(put, path = "/api/v1/wallet-policy", tag = "wallets", params(("If-Match" = Option<String>, Header)), request_body = Policy,
    responses((status = 200, body = PolicyVersion), (status = 412, description = "Another version is in force than If-Match says.")))]
async fn set_policy(
    AppState(app): AppState<App>,
    caller: Caller,
    if_match: IfMatch,
    Body(policy): Body<Policy>,
) -> Result<Versioned<PolicyVersion>> {
    policy.check()?;
    let put = PutPolicy { if_match, policy, by: caller.actor.id };
    let put = app.submit(&caller, None, commands::put_policy, put).await?.value;
    Ok(Versioned(put.version, put))
}

/// Lists the versions of the policy, the latest first.
#[utoipa::path(get, path = "/api/v1/wallet-policy/versions", tag = "wallets", params(PagingParams), responses((status = 200, body = Page<PolicyVersion>)))]
async fn list_policies(AppState(app): AppState<App>, caller: Caller, paging: Paging<i64>) -> Result<Json<Page<PolicyVersion>>> {
    const LIST: &str = "wallets.policies";
    let page = paging.request(LIST)?;
    let (before, limit) = (page.after.unwrap_or(i64::MAX), i64::from(page.limit) + 1);
    let rows = app.read(&caller, move |read| {
        let rows: Vec<(i64, String, Timestamp)> = read.all(sql::POLICIES_PAGE, (before, limit))?;
        rows.into_iter()
            .map(|(version, body, at)| {
                let policy = serde_json::from_str(&body).map_err(|e| Error::internal("a policy can't be read").caused_by(e))?;
                Ok(PolicyVersion { version, created_at: Some(at), policy })
            })
            .collect::<kernel::Result<Vec<PolicyVersion>>>()
    });
    Ok(Json(paging.page(LIST, rows.await?, |policy| policy.version)?))
}
