//! Cursors: what was sealed is opened, and nothing else is.

use crate::{CursorKey, Page, Scope, TenantId};
use proptest::prelude::*;

fn key() -> CursorKey {
    CursorKey::new(&[7; 32])
}

fn tenant(number: i64) -> Scope {
    Scope::Tenant(TenantId::from_i64(number))
}

#[track_caller]
fn refused(key: &CursorKey, scope: Scope, list: &str, cursor: &str) {
    let error = key.open::<(i64, String)>(scope, list, cursor).expect_err("the cursor is not this list's");
    assert_eq!(error.code(), "request.invalid_cursor");
    assert_eq!(error.field_errors()[0].field, "cursor");
}

#[test]
fn a_cursor_is_bound_to_its_key_its_tenant_and_its_list() {
    let position = (42_i64, "mug".to_owned());
    let cursor = key().seal(tenant(1), "orders", &position).expect("sealed");
    assert_eq!(key().open(tenant(1), "orders", &cursor).ok(), Some(position));
    refused(&key(), tenant(2), "orders", &cursor);
    refused(&key(), Scope::Platform, "orders", &cursor);
    refused(&key(), tenant(1), "customers", &cursor);
    refused(&key(), tenant(1), "order", &cursor);
    refused(&CursorKey::new(&[8; 32]), tenant(1), "orders", &cursor);
}

/// The name of the list can't be moved into the position, or the other way.
#[test]
fn the_parts_do_not_run_into_each_other() {
    let cursor = key().seal(tenant(1), "a", &"bc").expect("sealed");
    assert!(key().open::<String>(tenant(1), "a\"", &cursor).is_err());
    assert!(key().open::<String>(tenant(1), "", &cursor).is_err());
}

#[test]
fn a_position_of_another_shape_is_refused() {
    let cursor = key().seal(tenant(1), "orders", &"text").expect("sealed");
    refused(&key(), tenant(1), "orders", &cursor);
}

#[test]
fn what_is_no_cursor_is_refused() {
    let long = "A".repeat(100_000);
    for cursor in ["", "A", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA", "not base64!", "é", "====", long.as_str()] {
        refused(&key(), tenant(1), "orders", cursor);
    }
}

proptest! {
    #[test]
    fn what_was_sealed_is_opened(number: i64, text in "\\PC{0,80}", scope in prop_oneof![Just(Scope::Platform), (1..i64::MAX).prop_map(tenant)], list in "[a-z.]{1,20}") {
        let cursor = key().seal(scope, &list, &(number, &text)).expect("sealed");
        prop_assert_eq!(key().open::<(i64, String)>(scope, &list, &cursor).ok(), Some((number, text)));
    }

    /// One changed character anywhere, one more or one fewer, and it is refused.
    #[test]
    fn an_edited_cursor_is_refused(number: i64, at: prop::sample::Index, replacement in prop::sample::select(b"ABCDwxyz0189-_".to_vec())) {
        let cursor = key().seal(tenant(1), "orders", &(number, "mug")).expect("sealed");
        let at = at.index(cursor.len());
        let mut edited = cursor.clone().into_bytes();
        if edited[at] != replacement {
            edited[at] = replacement;
            refused(&key(), tenant(1), "orders", std::str::from_utf8(&edited).expect("ASCII"));
        }
        refused(&key(), tenant(1), "orders", &cursor[..at]);
        refused(&key(), tenant(1), "orders", &format!("{cursor}{}", char::from(replacement)));
    }

    #[test]
    fn no_text_panics(cursor in "\\PC{0,100}|[A-Za-z0-9_-]{0,100}") {
        prop_assert!(key().open::<(i64, String)>(tenant(1), "orders", &cursor).is_err());
    }

    /// Walking page by page meets every row once, in order, and ends with a page that says so.
    #[test]
    fn pages_cover_the_list(rows in 0..60_usize, limit in 1..20_u32) {
        let all: Vec<usize> = (0..rows).collect();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let start = after.map_or(0, |last: usize| last + 1);
            let found: Vec<usize> = all[start..].iter().copied().take(limit as usize + 1).collect();
            let page = Page::build(found, limit, &key(), tenant(1), "rows", |row| *row).expect("built");
            prop_assert!(page.data.len() <= limit as usize);
            seen.extend(page.data);
            match page.next_cursor {
                Some(cursor) => after = Some(key().open::<usize>(tenant(1), "rows", &cursor).expect("its own cursor")),
                None => break,
            }
        }
        prop_assert_eq!(seen, all);
    }
}
