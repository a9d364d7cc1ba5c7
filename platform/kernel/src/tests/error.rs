//! Errors: what a caller sees, and what only the log sees.

use crate::{Error, ErrorKind, FieldError};

#[test]
fn the_cause_is_for_the_log_alone() {
    let error = Error::internal("the ledger is off by 3").caused_by(std::io::Error::other("disk on fire"));
    assert_eq!((error.kind(), error.code()), (ErrorKind::Internal, "internal"));
    assert!(!error.to_string().contains("disk"));
    assert!(!error.detail().contains("disk"));
    assert!(format!("{error:?}").contains("disk on fire"));
    let error = Error::internal("the ledger is off by 3");
    assert!(!error.to_string().contains("ledger"));
    assert!(format!("{error:?}").contains("the ledger is off by 3"));
}

#[test]
fn bad_input_names_every_field() {
    assert!(Error::fields(Vec::new()).is_ok());
    let fields =
        ["lines[0].quantity", "currency"].map(|field| FieldError { field: field.into(), code: "wrong", detail: "must be right".into() });
    let error = Error::fields(fields.to_vec()).expect_err("two fields are wrong");
    assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "request.invalid"));
    assert_eq!(error.field_errors(), fields);
    assert!(error.to_string().contains("lines[0].quantity: must be right"));
    assert_eq!(Error::field("a", "b", "c").field_errors().len(), 1);
}

#[test]
fn each_constructor_makes_its_kind() {
    for (make, kind) in [
        (Error::invalid as fn(&'static str, &'static str) -> Error, ErrorKind::Invalid),
        (Error::unauthenticated, ErrorKind::Unauthenticated),
        (Error::forbidden, ErrorKind::Forbidden),
        (Error::not_found, ErrorKind::NotFound),
        (Error::conflict, ErrorKind::Conflict),
        (Error::failed_precondition, ErrorKind::FailedPrecondition),
        (Error::limited, ErrorKind::Limited),
        (Error::overloaded, ErrorKind::Overloaded),
        (Error::unavailable, ErrorKind::Unavailable),
        (Error::unknown, ErrorKind::Unknown),
    ] {
        let error = make("test.code", "detail").retry_after_ms(1500);
        assert_eq!((error.kind(), error.code(), error.detail(), error.retry_after()), (kind, "test.code", "detail", Some(1500)));
    }
}
