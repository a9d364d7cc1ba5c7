//! Walks every operation of the OpenAPI document, on both engines: nothing of another tenant leaks, and no input is answered by anything
//! but a problem that names the field. A new route is walked by itself; a parameter that the walk can't make up fails it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod client;
#[path = "../common/mod.rs"]
mod common;
mod document;
mod input;
mod isolation;
mod once;
mod world;

use common::Sandbox;

#[test]
fn nothing_leaks_on_sqlite() {
    isolation::walk(&Sandbox::new());
}

#[test]
fn nothing_leaks_on_postgres() {
    Sandbox::on_postgres().iter().for_each(isolation::walk);
}

#[test]
fn wrong_input_is_refused_on_sqlite() {
    input::walk(&Sandbox::new());
}

#[test]
fn wrong_input_is_refused_on_postgres() {
    Sandbox::on_postgres().iter().for_each(input::walk);
}

#[test]
fn two_hundred_threads_make_one_order_on_sqlite() {
    once::walk(&Sandbox::new());
}

#[test]
fn two_hundred_threads_make_one_order_on_postgres() {
    Sandbox::on_postgres().iter().for_each(once::walk);
}

/// Whoever reads the document can follow it.
#[test]
fn every_reference_of_the_document_leads_somewhere() {
    let document = world::document(&Sandbox::new());
    fn check(value: &serde_json::Value, document: &serde_json::Value) {
        if let Some(target) = value["$ref"].as_str() {
            assert!(target.strip_prefix('#').and_then(|path| document.pointer(path)).is_some(), "{target} is not in the document");
        }
        match value {
            serde_json::Value::Object(fields) => fields.values().for_each(|inner| check(inner, document)),
            serde_json::Value::Array(items) => items.iter().for_each(|inner| check(inner, document)),
            _ => {}
        }
    }
    check(&document.value, &document.value);
}
