//! Each check says what is wrong, and of which field.

use crate::Faults;

fn codes(check: impl FnOnce(&mut Faults)) -> Vec<&'static str> {
    let mut faults = Faults::default();
    check(&mut faults);
    faults.finish().err().map_or(Vec::new(), |error| error.field_errors().iter().map(|field| field.code).collect())
}

#[test]
fn what_is_wrong_is_named() {
    for (value, code) in
        [("", Some("too_short")), ("ä", None), ("äöüß", None), ("äöüßé", Some("too_long")), ("a\tb", Some("control_character"))]
    {
        assert_eq!(codes(|faults| _ = faults.text("a", value, 1, 4)), code.into_iter().collect::<Vec<_>>(), "{value:?}");
    }
    for (value, code) in [("é", Some("too_short")), ("éé", None), ("ééé", None), ("éééé", Some("too_long"))] {
        assert_eq!(codes(|faults| _ = faults.text("a", value, 2, 3)), code.into_iter().collect::<Vec<_>>(), "{value:?}");
    }
    assert_eq!(codes(|faults| faults.check("a", Ok(()))), Vec::<&str>::new());
    assert_eq!(codes(|faults| faults.check("a", Err(("space", "two in a row".to_owned())))), ["space"]);
    for (value, code) in [("", Some("too_short")), ("  ", Some("too_short")), (" a ", None), ("abcde", Some("too_long"))] {
        assert_eq!(codes(|faults| faults.name("a", value, 4)), code.into_iter().collect::<Vec<_>>(), "{value:?}");
    }
    for (value, code) in
        [("a@b.c", None), ("a@b", None), ("@b", Some("too_short")), ("a b@c", Some("not_an_email")), ("a@b@c", Some("not_an_email"))]
    {
        assert_eq!(codes(|faults| faults.email("a", value)), code.into_iter().collect::<Vec<_>>(), "{value:?}");
    }
    for (value, code) in [("DE", None), ("de", Some("not_a_country")), ("DEU", Some("not_a_country")), ("", Some("not_a_country"))] {
        assert_eq!(codes(|faults| faults.country("a", value)), code.into_iter().collect::<Vec<_>>(), "{value:?}");
    }
    assert_eq!(codes(|faults| faults.optional_text("a", None, 4)), Vec::<&str>::new());
    assert_eq!(codes(|faults| faults.number("a", 5, 1, 4)), ["out_of_range"]);
    assert_eq!(codes(|faults| faults.number("a", f64::NAN, 1.0, 4.0)), ["out_of_range"], "what is no number is in no range");
    assert_eq!(codes(|faults| assert!(!faults.count("a", 5, 1, 4))), ["wrong_count"]);
    assert_eq!(codes(|faults| assert!(faults.count("a", 0, 1, 4))), ["wrong_count"]);
}

#[test]
fn a_long_list_of_wrong_fields_is_cut() {
    assert_eq!(codes(|faults| (0..100).for_each(|n| faults.add(format!("a[{n}]"), "wrong", ""))).len(), 20);
}
