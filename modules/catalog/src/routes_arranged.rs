//! The HTTP API of how products are arranged and described: categories, collections, attributes, and a product's history.

use crate::attributes::{self, Attribute, AttributeChange, AttributeId, NewAttribute, UpdateAttribute};
use crate::categories::{self, Category, CategoryChange, CategoryId, DeleteCategory, NewCategory, UpdateCategory};
use crate::collections::{self, Choose, Collection, CollectionChange, CollectionId, DeleteCollection, NewCollection, UpdateCollection};
use crate::history::{self, ChangeId, ProductChangeRecord};
use crate::model::ProductId;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use kernel::Page;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;
use web::{Access, App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Result, Route, Versioned};

const READ: Access = Access::Tenant("catalog.read");
const WRITE: Access = Access::Tenant("catalog.write");

/// Every route.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        Route::new(READ, routes!(list_categories)),
        Route::new(WRITE, routes!(create_category)).keyed(),
        Route::new(READ, routes!(get_category)),
        Route::new(WRITE, routes!(update_category, delete_category)),
        Route::new(READ, routes!(list_collections)),
        Route::new(WRITE, routes!(create_collection)).keyed(),
        Route::new(READ, routes!(get_collection)),
        Route::new(WRITE, routes!(update_collection, delete_collection)),
        Route::new(READ, routes!(list_collection_products)),
        Route::new(WRITE, routes!(choose_collection_products)),
        Route::new(READ, routes!(list_attributes)),
        Route::new(WRITE, routes!(create_attribute)).keyed(),
        Route::new(READ, routes!(get_attribute)),
        Route::new(WRITE, routes!(update_attribute)),
        Route::new(READ, routes!(list_product_changes)),
    ]
}

/// The tree of categories, each parent before its children, without descriptions.
#[utoipa::path(get, path = "/api/v1/catalog/categories", tag = "catalog", params(PagingParams), responses((status = 200, body = Page<Category>)))]
async fn list_categories(State(app): State<App>, caller: Caller, paging: Paging<String>) -> Result<Json<Page<Category>>> {
    let list = "catalog.categories";
    let request = paging.request(list)?;
    let rows = app.read(&caller, move |read| categories::categories(read, &request)).await?;
    Ok(Json(paging.page(list, rows, |category| category.path.clone())?))
}

/// Makes a category.
#[utoipa::path(post, path = "/api/v1/catalog/categories", tag = "catalog", request_body = NewCategory,
    responses((status = 201, body = Category), (status = 409, description = "`catalog.slug_taken`, `catalog.tree_too_deep`, `catalog.too_many_categories`")))]
async fn create_category(State(app): State<App>, caller: Caller, new: Keyed<NewCategory>) -> Result<impl IntoResponse> {
    let category = app.submit(&caller, new.key, categories::create_category, new.body).await?.value;
    let location = format!("/api/v1/catalog/categories/{}", category.category_id);
    Ok((ETag(category.version), Created(location, category)))
}

/// A category.
#[utoipa::path(get, path = "/api/v1/catalog/categories/{category_id}", tag = "catalog", params(("category_id" = CategoryId, Path)), responses((status = 200, body = Category)))]
async fn get_category(State(app): State<App>, caller: Caller, Params(id): Params<CategoryId>) -> Result<Versioned<Category>> {
    let category = app.peek(&caller, move |read| categories::category(read, id)).await?;
    Ok(Versioned(category.version, category))
}

/// Changes a category, or moves it with all that is below it; what is left out stays.
#[utoipa::path(patch, path = "/api/v1/catalog/categories/{category_id}", tag = "catalog",
    params(("category_id" = CategoryId, Path), ("If-Match" = Option<String>, Header)), request_body = CategoryChange,
    responses((status = 200, body = Category), (status = 409, description = "`catalog.slug_taken`, `catalog.category_cycle`, `catalog.tree_too_deep`"),
        (status = 412, description = "Changed since the version in `If-Match`")))]
async fn update_category(
    State(app): State<App>,
    caller: Caller,
    Params(category_id): Params<CategoryId>,
    if_match: IfMatch,
    Body(change): Body<CategoryChange>,
) -> Result<Versioned<Category>> {
    let update = UpdateCategory { category_id, if_match, change };
    let category = app.submit(&caller, None, categories::update_category, update).await?.value;
    Ok(Versioned(category.version, category))
}

/// Deletes a category that has neither categories nor products in it.
#[utoipa::path(delete, path = "/api/v1/catalog/categories/{category_id}", tag = "catalog",
    params(("category_id" = CategoryId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204), (status = 409, description = "`catalog.category_not_empty`"), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn delete_category(
    State(app): State<App>,
    caller: Caller,
    Params(category_id): Params<CategoryId>,
    if_match: IfMatch,
) -> Result<StatusCode> {
    app.submit(&caller, None, categories::delete_category, DeleteCategory { category_id, if_match }).await?;
    Ok(StatusCode::NO_CONTENT)
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

/// Attributes, by code.
#[utoipa::path(get, path = "/api/v1/catalog/attributes", tag = "catalog", params(PagingParams), responses((status = 200, body = Page<Attribute>)))]
async fn list_attributes(State(app): State<App>, caller: Caller, paging: Paging<String>) -> Result<Json<Page<Attribute>>> {
    let list = "catalog.attributes";
    let request = paging.request(list)?;
    let rows = app.read(&caller, move |read| attributes::attributes(read, &request)).await?;
    Ok(Json(paging.page(list, rows, |attribute| attribute.code.clone())?))
}

/// Defines an attribute of products and variants.
#[utoipa::path(post, path = "/api/v1/catalog/attributes", tag = "catalog", request_body = NewAttribute,
    responses((status = 201, body = Attribute), (status = 409, description = "`catalog.attribute_taken`, `catalog.too_many_attributes`")))]
async fn create_attribute(State(app): State<App>, caller: Caller, new: Keyed<NewAttribute>) -> Result<impl IntoResponse> {
    let attribute = app.submit(&caller, new.key, attributes::create_attribute, new.body).await?.value;
    let location = format!("/api/v1/catalog/attributes/{}", attribute.attribute_id);
    Ok((ETag(attribute.version), Created(location, attribute)))
}

/// An attribute.
#[utoipa::path(get, path = "/api/v1/catalog/attributes/{attribute_id}", tag = "catalog", params(("attribute_id" = AttributeId, Path)), responses((status = 200, body = Attribute)))]
async fn get_attribute(State(app): State<App>, caller: Caller, Params(id): Params<AttributeId>) -> Result<Versioned<Attribute>> {
    let attribute = app.peek(&caller, move |read| attributes::attribute(read, id)).await?;
    Ok(Versioned(attribute.version, attribute))
}

/// Changes an attribute's title, or adds choices; its code and kind are for ever.
#[utoipa::path(patch, path = "/api/v1/catalog/attributes/{attribute_id}", tag = "catalog",
    params(("attribute_id" = AttributeId, Path), ("If-Match" = Option<String>, Header)), request_body = AttributeChange,
    responses((status = 200, body = Attribute), (status = 409, description = "`catalog.choice_kept`"), (status = 412, description = "Changed since the version in `If-Match`")))]
async fn update_attribute(
    State(app): State<App>,
    caller: Caller,
    Params(attribute_id): Params<AttributeId>,
    if_match: IfMatch,
    Body(change): Body<AttributeChange>,
) -> Result<Versioned<Attribute>> {
    let update = UpdateAttribute { attribute_id, if_match, change };
    let attribute = app.submit(&caller, None, attributes::update_attribute, update).await?.value;
    Ok(Versioned(attribute.version, attribute))
}

/// What was changed of a product and its variants, by whom and when; the newest first.
#[utoipa::path(get, path = "/api/v1/products/{product_id}/changes", tag = "catalog", params(("product_id" = ProductId, Path), PagingParams),
    responses((status = 200, body = Page<ProductChangeRecord>)))]
async fn list_product_changes(
    State(app): State<App>,
    caller: Caller,
    Params(id): Params<ProductId>,
    paging: Paging<ChangeId>,
) -> Result<Json<Page<ProductChangeRecord>>> {
    let list = format!("catalog.product_changes.{id}");
    let request = paging.request(&list)?;
    let rows = app.read(&caller, move |read| history::changes(read, id, &request)).await?;
    Ok(Json(paging.page(&list, rows, |change| change.change_id)?))
}
