//! What a publishable key opens, from where, and what it does not.

use super::{WebConfig, bench, bench_with};
use crate::Result;
use crate::handlers;
use crate::module::{Access, Module, Route};

const SHELF: &str = "/api/v1/storefront/shelf";

#[tokio::test]
async fn a_publishable_key_opens_the_storefront_and_nothing_else() {
    let bench = bench();
    // What its permissions might say besides is of no account.
    let pk = ("authorization", "Bearer pk-any:acme:storefront.use,things.read,platform.report");
    assert_eq!(bench.get(SHELF, &[pk]).await.json["tenant"], super::ACME.to_string());
    assert_eq!(bench.get("/api/v1/tenants/acme/storefront/shelf", &[pk]).await.status, 200);
    for path in ["/api/v1/things", "/api/v1/me", "/api/v1/platform/report"] {
        bench.get(path, &[pk]).await.is_problem(403, "request.forbidden", "");
    }
    bench.get(SHELF, &[pk, ("x-tenant-id", "globex")]).await.is_problem(400, "request.tenant_mismatch", "X-Tenant-Id");
    // Other credentials need the permission, and a tenant.
    assert_eq!(bench.get(SHELF, &[("authorization", "Bearer 5:acme:storefront.use")]).await.status, 200);
    bench.get(SHELF, &[("authorization", "Bearer 5:acme:things.read")]).await.is_problem(403, "request.forbidden", "");
    bench.get(SHELF, &[("authorization", "Bearer 5:-:storefront.use")]).await.is_problem(400, "request.tenant_required", "X-Tenant-Id");
    bench.get(SHELF, &[("authorization", "Bearer 5:platform:storefront.use"), ("x-tenant-id", "acme")]).await.is_problem(
        403,
        "request.forbidden",
        "",
    );
    bench.get(SHELF, &[]).await.is_problem(401, "request.unauthenticated", "");
}

#[tokio::test]
async fn a_key_may_be_for_pages_of_some_origins() {
    let bench = bench();
    let pk = ("authorization", "Bearer pk:acme:storefront.use");
    assert_eq!(bench.get(SHELF, &[pk, ("origin", "https://shop.example")]).await.status, 200);
    // A request that is not a page's has no origin.
    assert_eq!(bench.get(SHELF, &[pk]).await.status, 200);
    for other in ["https://evil.example", "http://shop.example", "https://shop.example:444", "null"] {
        bench.get(SHELF, &[pk, ("origin", other)]).await.is_problem(403, "request.origin_not_allowed", "");
    }
}

#[tokio::test]
async fn pages_of_every_origin_may_ask_the_storefront() {
    let origin = ("origin", "https://any.example");
    let ask = [origin, ("access-control-request-method", "POST")];
    for config in [WebConfig::default(), WebConfig { cors_origins: vec!["https://other.example".to_owned()], ..WebConfig::default() }] {
        let bench = bench_with(config);
        for path in [SHELF, "/api/v1/tenants/acme/storefront/shelf"] {
            let preflight = bench.send("OPTIONS", path, &ask, "").await;
            assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, "https://any.example"));
            assert!(preflight.header("access-control-allow-headers").contains("cart-token"));
        }
        let pk = ("authorization", "Bearer pk-any:acme:storefront.use");
        let answer = bench.get(SHELF, &[pk, origin]).await;
        assert_eq!((answer.header("access-control-allow-origin"), answer.header("vary")), ("https://any.example", "origin"));
        // Nothing else is opened by it.
        assert_eq!(bench.get("/api/v1/probe", &[origin]).await.header("access-control-allow-origin"), "");
        assert_ne!(bench.send("OPTIONS", "/api/v1/things", &ask, "").await.header("access-control-allow-origin"), "https://any.example");
    }
}

#[utoipa::path(get, path = "/api/v1/elsewhere", responses((status = 200)))]
async fn elsewhere() {}

#[utoipa::path(get, path = "/api/v1/storefront/inside", responses((status = 200)))]
async fn inside() {}

#[tokio::test]
async fn the_storefronts_routes_are_where_pages_may_ask() {
    let one = |route: Route| -> Result<()> { Ok(crate::module::check(&[Module { routes: vec![route], ..Module::new("m", &[]) }])?) };
    assert!(one(Route::new(Access::Storefront, handlers!(elsewhere))).is_err());
    assert!(one(Route::new(Access::Public, handlers!(inside))).is_err());
    assert!(one(Route::new(Access::Storefront, handlers!(inside))).is_ok());
    assert!(one(Route::new(Access::Public, handlers!(elsewhere))).is_ok());
}
