//! Collections, and what is chosen for them.

use super::{READ, WRITE};
use crate::collections::{self, Choose, Collection, CollectionChange, CollectionId, DeleteCollection, NewCollection, UpdateCollection};
use crate::model::ProductId;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use kernel::Page;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use web::{App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Result, Route, Versioned, handlers};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(READ, handlers!(list_collections)),
        Route::new(WRITE, handlers!(create_collection)).keyed(),
        Route::new(READ, handlers!(get_collection)),
        Route::new(WRITE, handlers!(update_collection, delete_collection)),
        Route::new(READ, handlers!(list_collection_products)),
        Route::new(WRITE, handlers!(choose_collection_products)),
    ]
}

/// Collections, the newest first.
#[utoipa::path(get, path = "/api/v1/catalog/collections", tag = "catalog", params(PagingParams), responses((status = 200, body = Page<Collection>)))]
async fn list_collections(State(app): State<App>, caller: Caller, paging: Paging<CollectionId>) -> Result<Json<Page<Collection>>> {
    let list = "catalog.collections";
    let request = paging.request(list)?;
    let rows = app.read(&caller, move |read| collections::collections(read, &request)).await?;
    Ok(Json(paging.page(list, rows, |collection| collection.collection_id)?))
}

/// Makes a collection: by a rule, or to be chosen by hand.
#[utoipa::path(post, path = "/api/v1/catalog/collections", tag = "catalog", request_body = NewCollection,
    responses((status = 201, body = Collection), (status = 409, description = "`catalog.slug_taken`, `catalog.too_many_collections`")))]
async fn create_collection(State(app): State<App>, caller: Caller, new: Keyed<NewCollection>) -> Result<impl IntoResponse> {
    let collection = app.submit(&caller, new.key, collections::create_collection, new.body).await?.value;
    let location = format!("/api/v1/catalog/collections/{}", collection.collection_id);
    Ok((ETag(collection.version), Created(location, collection)))
}

/// A collection.
#[utoipa::path(get, path = "/api/v1/catalog/collections/{collection_id}", tag = "catalog", params(("collection_id" = CollectionId, Path)), responses((status = 200, body = Collection)))]
async fn get_collection(State(app): State<App>, caller: Caller, Params(id): Params<CollectionId>) -> Result<Versioned<Collection>> {
    let collection = app.peek(&caller, move |read| collections::collection(read, id)).await?;
    Ok(Versioned(collection.version, collection))
}

/// Changes a collection; what is left out stays.
#[utoipa::path(patch, path = "/api/v1/catalog/collections/{collection_id}", tag = "catalog",
    params(("collection_id" = CollectionId, Path), ("If-Match" = Option<String>, Header)), request_body = CollectionChange,
    responses((status = 200, body = Collection), (status = 409, description = "`catalog.slug_taken`, `catalog.collection_kind`"),
        (status = 412, description = "Changed since the version in `If-Match`")))]
async fn update_collection(
    State(app): State<App>,
    caller: Caller,
    Params(collection_id): Params<CollectionId>,
    if_match: IfMatch,
    Body(change): Body<CollectionChange>,
) -> Result<Versioned<Collection>> {
    let update = UpdateCollection { collection_id, if_match, change };
    let collection = app.submit(&caller, None, collections::update_collection, update).await?.value;
    Ok(Versioned(collection.version, collection))
}

/// Deletes a collection; its products stay.
#[utoipa::path(delete, path = "/api/v1/catalog/collections/{collection_id}", tag = "catalog",
    params(("collection_id" = CollectionId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn delete_collection(
    State(app): State<App>,
    caller: Caller,
    Params(collection_id): Params<CollectionId>,
    if_match: IfMatch,
) -> Result<StatusCode> {
    app.submit(&caller, None, collections::delete_collection, DeleteCollection { collection_id, if_match }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A product of a collection.
#[derive(Serialize, ToSchema)]
struct CollectionProduct {
    product_id: ProductId,
}

/// The products of a collection, whether they are for sale or not: those chosen by hand in their order, those of a rule the newest first.
/// A page may have fewer than `limit`, even none, while there is a `next_cursor`.
#[utoipa::path(get, path = "/api/v1/catalog/collections/{collection_id}/products", tag = "catalog",
    params(("collection_id" = CollectionId, Path), PagingParams), responses((status = 200, body = Page<CollectionProduct>)))]
async fn list_collection_products(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<CollectionId>,
    paging: Paging<i64>,
) -> Result<Json<Page<CollectionProduct>>> {
    let list = format!("catalog.collection_products.{id}");
    let request = paging.request(&list)?;
    let (ids, next) = app
        .read(&caller, move |read| {
            let collection = collections::collection(read, id)?;
            collections::products(read, &collection, request.after, request.limit)
        })
        .await?;
    let data = ids.into_iter().map(|product_id| CollectionProduct { product_id }).collect();
    Ok(Json(paging.page_to(&list, data, next)?))
}

/// Products for a collection.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChosenProducts {
    /// All of them, in the order in which they are shown.
    #[schema(max_items = 1000)]
    product_ids: Vec<ProductId>,
}

/// Chooses all products of a collection by hand, in their order.
#[utoipa::path(put, path = "/api/v1/catalog/collections/{collection_id}/products", tag = "catalog",
    params(("collection_id" = CollectionId, Path), ("If-Match" = Option<String>, Header)), request_body = ChosenProducts,
    responses((status = 200, body = Collection), (status = 409, description = "`catalog.collection_kind`"), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn choose_collection_products(
    State(app): State<App>,
    caller: Caller,
    Params(collection_id): Params<CollectionId>,
    if_match: IfMatch,
    Body(ChosenProducts { product_ids }): Body<ChosenProducts>,
) -> Result<Versioned<Collection>> {
    let collection = app.submit(&caller, None, collections::choose, Choose { collection_id, if_match, product_ids }).await?.value;
    Ok(Versioned(collection.version, collection))
}
