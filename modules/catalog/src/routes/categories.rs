//! The tree of categories.

use super::{READ, WRITE};
use crate::categories::{self, Category, CategoryChange, CategoryId, DeleteCategory, NewCategory, UpdateCategory};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use kernel::Page;
use web::{App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Result, Route, Versioned, handlers};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(READ, handlers!(list_categories)),
        Route::new(WRITE, handlers!(create_category)).keyed(),
        Route::new(READ, handlers!(get_category)),
        Route::new(WRITE, handlers!(update_category, delete_category)),
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
