//! Attributes of products and variants.

use super::{READ, WRITE};
use crate::attributes::{self, Attribute, AttributeChange, AttributeId, NewAttribute, UpdateAttribute};
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use kernel::Page;
use web::{App, Body, Caller, Created, ETag, IfMatch, Keyed, Paging, PagingParams, Params, Result, Route, Versioned, handlers};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(READ, handlers!(list_attributes)),
        Route::new(WRITE, handlers!(create_attribute)).keyed(),
        Route::new(READ, handlers!(get_attribute)),
        Route::new(WRITE, handlers!(update_attribute)),
    ]
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

/// Changes an attribute's title, whether shops show it, or adds choices; its code and kind are for ever.
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
