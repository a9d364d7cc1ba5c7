//! The pure rules: SKUs, barcodes, prices, changes of status, and which rows of a file are refused.

use crate::import::{Format, ImportReport, ImportRow, MAX_PROBLEMS, MAX_ROWS, Rows};
use crate::model::*;
use crate::upsert::UpsertRow;
use kernel::{Timestamp, UnitPrice};
use proptest::prelude::*;

fn code(outcome: Result<(), Fault>) -> &'static str {
    outcome.map_or_else(|(code, _)| code, |()| "ok")
}

#[test]
fn skus() {
    let longest = "x".repeat(64);
    let too_long = "x".repeat(65);
    let wide = "é".repeat(64);
    let table = [
        ("85123A", "ok"),
        ("gift_0001_40", "ok"),
        ("BANK CHARGES", "ok"),
        ("m", "ok"),
        ("a/b?c#d%41\"'<>", "ok"),
        ("茶-1", "ok"),
        (&*longest, "ok"),
        (&*wide, "ok"),
        (&*too_long, "too_long"),
        ("", "empty"),
        (" ", "space"),
        ("a ", "space"),
        (" a", "space"),
        ("a  b", "space"),
        ("a\tb", "invisible_character"),
        ("a\nb", "invisible_character"),
        ("a\0b", "invisible_character"),
        ("a\u{a0}b", "invisible_character"),
        ("a\u{200b}", "invisible_character"),
        ("\u{feff}a", "invisible_character"),
        ("\u{202e}a", "invisible_character"),
    ];
    for (sku, expected) in table {
        assert_eq!(code(check_sku(sku)), expected, "{sku:?}");
    }
}

#[test]
fn barcodes() {
    let table = [
        ("96385074", "ok"),
        ("036000291452", "ok"),
        ("4006381333931", "ok"),
        ("9780201379624", "ok"),
        ("10614141000415", "ok"),
        ("00000000", "ok"),
        ("96385075", "check_digit"),
        ("036000291453", "check_digit"),
        ("4006381333932", "check_digit"),
        ("4006381333391", "check_digit"),
        ("10614141000416", "check_digit"),
        // Other lengths, and codes that are not all digits, have no check digit that we know.
        ("123456789", "ok"),
        ("1234567", "ok"),
        ("123456789012345", "ok"),
        ("9638507X", "ok"),
        ("CODE-128/A", "ok"),
        ("", "empty"),
        ("96385074 ", "space"),
        ("９６３８５０７４", "not_ascii"),
        ("é", "not_ascii"),
    ];
    for (barcode, expected) in table {
        assert_eq!(code(check_barcode(barcode)), expected, "{barcode:?}");
    }
}

proptest! {
    /// Against the standard's own words: multiply the digits by 3 and 1 in turn, the last one by 3; what is missing to the next ten.
    #[test]
    fn a_gtin_with_its_check_digit_is_right_and_one_wrong_digit_is_found(
        length in prop::sample::select(vec![7_usize, 11, 12, 13]),
        digits in prop::collection::vec(0_u8..10, 13),
        at in 0_usize..14,
        off in 1_u8..10,
    ) {
        let body = &digits[..length];
        let mut sum = 0_u32;
        for (i, digit) in body.iter().enumerate() {
            sum += u32::from(*digit) * if (length - i) % 2 == 1 { 3 } else { 1 };
        }
        let check = (0..10_u8).find(|c| (sum + u32::from(*c)).is_multiple_of(10)).unwrap();
        prop_assert_eq!(gtin_check_digit(body), check);
        let mut whole = body.to_vec();
        whole.push(check);
        let text = |digits: &[u8]| digits.iter().map(|d| char::from(b'0' + d)).collect::<String>();
        prop_assert_eq!(code(check_barcode(&text(&whole))), "ok");
        let at = at % whole.len();
        whole[at] = (whole[at] + off) % 10;
        prop_assert_eq!(code(check_barcode(&text(&whole))), "check_digit");
    }

    #[test]
    fn a_sku_that_passes_is_one_visible_line(sku in "\\PC{0,70}|.{0,70}| ?[a-z ]{0,5}") {
        let passes = check_sku(&sku).is_ok();
        let one_line = !sku.is_empty() && sku.trim() == sku && !sku.contains("  ") && sku.chars().count() <= 64;
        let visible = sku.chars().all(|c| c == ' ' || !(c.is_control() || c.is_whitespace()));
        prop_assert!(!passes || (one_line && visible));
        // What is printable ASCII and one line always passes.
        prop_assert!(passes || !(one_line && sku.bytes().all(|b| (0x20..0x7f).contains(&b))));
    }

    /// Whatever bytes come: no panic, every row is counted once, and lines rise.
    #[test]
    fn any_file_is_read_to_its_end(text in prop::collection::vec("(sku,title|a,b|\"|\n|\r\n|,|é|\\{\"sku\":\"a\"\\}|x){0,4}", 0..30), csv in any::<bool>()) {
        let body = text.concat();
        let (format, file) = if csv { (Format::Csv, format!("sku,title\n{body}")) } else { (Format::Ndjson, body) };
        let mut rows = Rows::open(format, file.as_bytes()).unwrap();
        let mut report = ImportReport::default();
        let mut good = 0;
        while let Some((lines, batch)) = rows.next_batch(&mut report).unwrap() {
            prop_assert_eq!(lines.len(), batch.len());
            prop_assert!(lines.windows(2).all(|pair| pair[0] < pair[1]));
            good += batch.len() as u64;
        }
        prop_assert_eq!(report.rows, report.rejected);
        let newlines = file.bytes().filter(|b| *b == b'\n').count() as u64;
        prop_assert!(good + report.rejected <= file.len() as u64);
        prop_assert!(report.problems.iter().all(|problem| problem.line <= newlines + 1));
    }
}

#[test]
fn lines_and_texts() {
    let table = [
        ("a title", 10, "ok"),
        ("", 10, "empty"),
        ("  ", 10, "empty"),
        ("12345678901", 10, "too_long"),
        ("a\nb", 10, "control_character"),
        ("a\0", 10, "control_character"),
    ];
    for (text, max, expected) in table {
        assert_eq!(code(check_line(text, max)), expected, "{text:?}");
    }
    assert_eq!(code(check_text("", 3)), "ok");
    assert_eq!(code(check_text("a\n\tb\r\n", 9)), "ok");
    assert_eq!(code(check_text("a\u{7}", 9)), "control_character");
}

#[test]
fn prices() {
    let table = [("0", "ok"), ("0.000001", "ok"), ("100000000000", "ok"), ("100000000000.000001", "too_large"), ("-0.000001", "negative")];
    for (price, expected) in table {
        assert_eq!(code(check_price(price.parse().unwrap())), expected, "{price}");
    }
}

#[test]
fn what_was_for_sale_is_never_a_draft_again() {
    use ProductStatus::*;
    let table = [
        (Draft, Draft, true),
        (Draft, Active, true),
        (Draft, Archived, true),
        (Active, Draft, false),
        (Active, Active, true),
        (Active, Archived, true),
        (Archived, Draft, false),
        (Archived, Active, true),
        (Archived, Archived, true),
    ];
    for (from, to, allowed) in table {
        assert_eq!(from.may_become(to), allowed, "{from:?} to {to:?}");
    }
}

fn a_product() -> Product {
    Product {
        product_id: ProductId::from_i64(1),
        external_id: Some("shirt".to_owned()),
        title: "Shirt".to_owned(),
        description: String::new(),
        status: ProductStatus::Active,
        tax_class: None,
        variant_count: 0,
        version: 3,
        created_at: Timestamp::from_micros(0),
        updated_at: Timestamp::from_micros(0),
    }
}

#[test]
fn a_change_names_what_differs_and_nothing_else() {
    let table: [(&str, &[&str]); 5] = [
        ("{}", &[]),
        (r#"{"title":"Shirt","external_id":"shirt","status":"active"}"#, &[]),
        (r#"{"title":"Linen shirt"}"#, &["title"]),
        (r#"{"external_id":null,"status":"archived"}"#, &["external_id", "status"]),
        (r#"{"description":"long\nsleeves"}"#, &["description"]),
    ];
    for (change, expected) in table {
        let change: ProductChange = serde_json::from_str(change).unwrap();
        assert_eq!(a_product().apply(&change).unwrap(), expected, "{change:?}");
    }
    let back: ProductChange = serde_json::from_str(r#"{"title":"x","status":"draft"}"#).unwrap();
    let mut product = a_product();
    assert_eq!(product.apply(&back).unwrap_err().code(), "catalog.product_not_draft_again");
    assert_eq!(product, a_product(), "a refused change leaves everything as it was");
}

#[test]
fn a_new_product_names_every_wrong_field() {
    let new: NewProduct = serde_json::from_str(
        r#"{"title":" ","external_id":"a  b","variants":[
            {"sku":"a","barcode":"96385075","prices":[{"currency":"EUR","price":"1"},{"currency":"EUR","price":"-1"}]},
            {"sku":"a","options":[{"name":"Size","value":"M"},{"name":"Size","value":""}]}]}"#,
    )
    .unwrap();
    let error = new.validate().unwrap_err();
    let found: Vec<(&str, &str)> = error.field_errors().iter().map(|f| (f.field.as_str(), f.code)).collect();
    assert_eq!(
        found,
        [
            ("title", "empty"),
            ("external_id", "space"),
            ("variants[0].barcode", "check_digit"),
            ("variants[0].prices[1].price", "negative"),
            ("variants[0].prices[1].currency", "duplicate"),
            ("variants[1].options[1].value", "empty"),
            ("variants[1].options[1].name", "duplicate"),
            ("variants[1].sku", "duplicate"),
        ]
    );
}

/// A good row of a file: its line and SKU.
type Good = (u64, String);
/// A problem of a file: its line, field and code.
type Wrong = (u64, String, &'static str);

/// Reads a whole file.
fn read(format: Format, file: &str) -> (Vec<Good>, Vec<Wrong>) {
    let mut rows = Rows::open(format, file.as_bytes()).unwrap();
    let mut report = ImportReport::default();
    let mut good = Vec::new();
    while let Some((lines, batch)) = rows.next_batch(&mut report).unwrap() {
        good.extend(lines.into_iter().zip(batch.into_iter().map(|row| row.sku)));
    }
    (good, report.problems.into_iter().map(|p| (p.line, p.field, p.code)).collect())
}

#[test]
fn rows_of_a_csv_file_that_are_refused() {
    let header = "sku,product,title,barcode,currency,price,option1_name,option1_value,option3_name,option3_value";
    let table: [(&str, &[(&str, &str)]); 19] = [
        ("a,,,,,,,,,", &[]),
        ("a,shirt,Shirt,96385074,EUR,12.50,Size,M,Colour,red", &[]),
        (" a , shirt ,\"Shirt, long\",,,,,,,", &[]),
        (",,,,,,,,,", &[("sku", "empty")]),
        ("a\u{200b},,,,,,,,,", &[("sku", "invisible_character")]),
        ("a", &[("row", "columns")]),
        ("a,,,,,,,,,,", &[("row", "columns")]),
        ("a,,\"two\nlines\",,,,,,,", &[("title", "control_character")]),
        ("a,x  y,,,,,,,,", &[("product", "space")]),
        ("a,,,96385075,,,,,,", &[("barcode", "check_digit")]),
        ("a,,,,EUR,,,,,", &[("price", "required")]),
        ("a,,,,,1,,,,", &[("currency", "required")]),
        ("a,,,,eur,1,,,,", &[("currency", "unknown")]),
        ("a,,,,EUR,-1,,,,", &[("price", "negative")]),
        ("a,,,,EUR,\"1,50\",,,,", &[("price", "invalid")]),
        ("a,,,,XXX,1.1234567,,,,", &[("currency", "unknown"), ("price", "invalid")]),
        ("a,,,,,,Size,,,", &[("option1_value", "required")]),
        ("a,,,,,,,,,red", &[("option3_name", "required")]),
        ("a,,,,,,,,Size,\"a\nb\"", &[("option3_value", "control_character")]),
    ];
    for (row, expected) in table {
        let (good, problems) = read(Format::Csv, &format!("{header}\n{row}\n"));
        let found: Vec<(&str, &str)> = problems.iter().map(|(_, field, code)| (field.as_str(), *code)).collect();
        assert_eq!(found, expected, "{row:?}");
        assert_eq!(good.len(), usize::from(expected.is_empty()), "{row:?}");
        assert!(problems.iter().all(|p| p.0 == 2), "{row:?}");
    }
    let mut rows = Rows::open(Format::Csv, b"sku\n\xff\n").unwrap();
    assert_eq!(rows.next().unwrap().unwrap().1.unwrap_err()[0].code, "encoding");
}

#[test]
fn rows_of_an_ndjson_file_that_are_refused() {
    let table: [(&str, &[(&str, &str)]); 16] = [
        (r#"{"sku":"a"}"#, &[]),
        (r#"{"sku":"a","status":"archived","product_status":"draft"}"#, &[]),
        (r#"{"sku":"a","status":"draft","product_status":"Active"}"#, &[("status", "unknown"), ("product_status", "unknown")]),
        (r#"{"sku":"a","tax_class":"reduced","weight_g":0,"length_mm":"1","width_mm":100000,"height_mm":30}"#, &[]),
        (r#"{"sku":"a","weight_g":-1}"#, &[("weight_g", "out_of_range")]),
        (r#"{"sku":"a","weight_g":100000001}"#, &[("weight_g", "out_of_range")]),
        (r#"{"sku":"a","weight_g":"1.5"}"#, &[("weight_g", "invalid")]),
        (
            r#"{"sku":"a","length_mm":1,"width_mm":0,"height_mm":100001}"#,
            &[("dimensions.width_mm", "out_of_range"), ("dimensions.height_mm", "out_of_range")],
        ),
        (r#"{"sku":"a","length_mm":1}"#, &[("width_mm", "required"), ("height_mm", "required")]),
        (r#"{"sku":"a","product":null,"currency":"EUR","price":"1.5","options":[{"name":"Size","value":"M"}]}"#, &[]),
        (r#"{"sku":"a","#, &[("row", "json")]),
        (r#"{"sku":7}"#, &[("row", "json")]),
        (r#"{"sku":"a","stock":7}"#, &[("row", "json")]),
        (r#"[]"#, &[("row", "json")]),
        (r#"{"sku":"a","title":""}"#, &[("title", "empty")]),
        (r#"{"sku":"a\u0000","price":"1"}"#, &[("currency", "required"), ("sku", "invisible_character")]),
    ];
    for (row, expected) in table {
        let (good, problems) = read(Format::Ndjson, &format!("\n{row}\r\n"));
        let found: Vec<(&str, &str)> = problems.iter().map(|(_, field, code)| (field.as_str(), *code)).collect();
        assert_eq!(found, expected, "{row:?}");
        assert_eq!(good.len(), usize::from(expected.is_empty()), "{row:?}");
        assert!(problems.iter().all(|p| p.0 == 2), "{row:?}");
    }
}

#[test]
fn headers_that_are_refused() {
    let table = [
        ("", "required"),
        ("title\n", "required"),
        ("sku;title\na;b\n", "unknown_column"),
        ("sku,stock\n", "unknown_column"),
        ("sku,option6_name\n", "unknown_column"),
        ("sku,option0_name\n", "unknown_column"),
        ("sku,SKU\n", "repeated_column"),
        ("sku,option1_name,option01_name\n", "repeated_column"),
    ];
    for (file, expected) in table {
        let error = Rows::open(Format::Csv, file.as_bytes()).err().unwrap();
        assert_eq!((error.field_errors()[0].field.as_str(), error.field_errors()[0].code), ("header", expected), "{file:?}");
    }
}

#[test]
fn lines_are_counted_over_blank_ones_and_quoted_breaks() {
    let rows = |lines: &[(u64, &str)]| lines.iter().map(|(line, sku)| (*line, (*sku).to_owned())).collect::<Vec<_>>();
    type Case = (Format, &'static str, &'static [(u64, &'static str)]);
    let table: [Case; 6] = [
        (Format::Csv, "sku,title\na,x\nb,y", &[(2, "a"), (3, "b")]),
        (Format::Csv, "\u{feff}sku,title\r\na,x\r\nb,y\r\n", &[(2, "a"), (3, "b")]),
        (Format::Csv, "sku,title\n\n\na,x\n\nb,y\n\n", &[(4, "a"), (6, "b")]),
        (Format::Csv, "sku,title\r\n\r\n\r\na,x\r\n\r\nb,y\r\n", &[(4, "a"), (6, "b")]),
        (Format::Csv, "sku,title\n\"a\n\",x\nb,y\n", &[(2, "a"), (4, "b")]),
        (Format::Ndjson, "{\"sku\":\"a\"}\n\n  \n{\"sku\":\"b\"}", &[(1, "a"), (4, "b")]),
    ];
    for (format, file, expected) in table {
        assert_eq!(read(format, file), (rows(expected), Vec::new()), "{file:?}");
    }
}

#[test]
fn a_sku_may_have_a_row_for_each_currency_but_not_two() {
    let file = "sku,currency,price\na,EUR,1\na,USD,2\na,EUR,3\nA,EUR,3\na,,\na,,\n";
    let (good, problems) = read(Format::Csv, file);
    assert_eq!(good.iter().map(|g| g.0).collect::<Vec<_>>(), [2, 3, 5, 6]);
    assert_eq!(problems, [(4, "sku".to_owned(), "duplicate"), (7, "sku".to_owned(), "duplicate")]);
}

#[test]
fn files_and_reports_are_bounded() {
    let file = |rows: usize| format!("sku\n{}", "-  -\n".repeat(rows));
    assert_eq!(Rows::open(Format::Csv, file(MAX_ROWS + 1).as_bytes()).err().unwrap().code(), "catalog.too_many_rows");
    assert_eq!(Rows::open(Format::Ndjson, "{}\n".repeat(MAX_ROWS + 1).as_bytes()).err().unwrap().code(), "catalog.too_many_rows");
    let file = file(MAX_ROWS);
    let mut rows = Rows::open(Format::Csv, file.as_bytes()).unwrap();
    let mut report = ImportReport::default();
    assert!(rows.next_batch(&mut report).unwrap().is_none());
    assert_eq!((report.rows, report.rejected), (MAX_ROWS as u64, MAX_ROWS as u64));
    assert_eq!((report.problems.len(), report.problems_left_out), (MAX_PROBLEMS, (MAX_ROWS - MAX_PROBLEMS) as u64));
}

#[test]
fn formats_by_content_type() {
    assert_eq!(Format::of("text/csv; charset=utf-8").unwrap(), Format::Csv);
    assert_eq!(Format::of("Application/X-NDJSON").unwrap(), Format::Ndjson);
    for wrong in ["", "application/json", "text/csvx"] {
        assert_eq!(Format::of(wrong).unwrap_err().code(), "request.unsupported_media_type");
    }
}

#[test]
fn a_row_is_read_into_values() {
    let row = ImportRow { sku: "a".to_owned(), currency: Some("JPY".to_owned()), price: Some("1200".to_owned()), ..ImportRow::default() };
    let price = Price { currency: "JPY".parse().unwrap(), price: UnitPrice::from_micros(1_200_000_000) };
    assert_eq!(row.check().unwrap(), UpsertRow { sku: "a".to_owned(), prices: vec![price], ..UpsertRow::default() });
}

/// What has been written to the log is read for ever: these texts change only by a new version of the event.
#[test]
fn events_as_they_are_written() {
    use crate::events;
    let product = a_product();
    let price = Price { currency: "EUR".parse().unwrap(), price: "12.5".parse().unwrap() };
    let variant = Variant {
        variant_id: VariantId::from_i64(2),
        product_id: product.product_id,
        sku: "S-1".to_owned(),
        title: "Shirt M".to_owned(),
        options: vec![VariantOption { name: "Size".to_owned(), value: "M".to_owned() }],
        barcode: None,
        status: VariantStatus::Active,
        tax_class: None,
        weight_g: None,
        dimensions: None,
        attributes: Default::default(),
        prices: vec![price],
        version: 1,
        created_at: Timestamp::from_micros(0),
        updated_at: Timestamp::from_micros(0),
    };
    let written = [
        events::product_created(&product),
        events::product_updated(&product, &["title"]),
        events::variant_created(&variant),
        events::variant_updated(&variant, &["sku", "options"]),
        events::price_changed(&variant, price, None),
        events::price_changed(&variant, price, Some(UnitPrice::from_micros(1))),
    ];
    let variant = r#""variant_id":"var_00000000002","product_id":"prd_00000000001","sku":"S-1""#;
    let fields = r#""title":"Shirt M","options":[{"name":"Size","value":"M"}],"barcode":null,"status":"active""#;
    let golden = [
        ("product.created", r#"{"product_id":"prd_00000000001","external_id":"shirt","title":"Shirt","status":"active"}"#.to_owned()),
        (
            "product.updated",
            r#"{"product_id":"prd_00000000001","external_id":"shirt","title":"Shirt","status":"active","changed":["title"]}"#.to_owned(),
        ),
        ("variant.created", format!("{{{variant},{fields}}}")),
        ("variant.updated", format!(r#"{{{variant},{fields},"changed":["sku","options"]}}"#)),
        ("price.changed", format!(r#"{{{variant},"currency":"EUR","price":"12.5","previous":null}}"#)),
        ("price.changed", format!(r#"{{{variant},"currency":"EUR","price":"12.5","previous":"0.000001"}}"#)),
    ];
    for (event, (kind, payload)) in written.iter().zip(&golden) {
        assert_eq!((event.kind, event.version, event.subject.as_str(), &event.payload), (*kind, 1, "prd_00000000001", payload));
        assert!(events::EVENTS.iter().any(|known| known.kind == event.kind && known.version == event.version));
    }
}

/// The same of how products are arranged.
#[test]
fn events_of_what_is_arranged_as_they_are_written() {
    use crate::attributes::{Attribute, AttributeKind};
    use crate::categories::{Category, CategoryId};
    use crate::collections::{Collection, Rule};
    use crate::events;
    let at = Timestamp::from_micros(0);
    let category = Category {
        category_id: CategoryId::from_i64(2),
        parent_id: Some(CategoryId::from_i64(1)),
        depth: 2,
        slug: "shirts".to_owned(),
        title: "Shirts".to_owned(),
        description: String::new(),
        position: 0,
        version: 1,
        created_at: at,
        updated_at: at,
        path: String::new(),
    };
    let collection = Collection {
        collection_id: kernel::Id::from_i64(3),
        slug: "summer".to_owned(),
        title: "Summer".to_owned(),
        description: String::new(),
        rule: Some(Rule { tags: vec!["summer".to_owned()], ..Rule::default() }),
        version: 1,
        created_at: at,
        updated_at: at,
    };
    let attribute = Attribute {
        attribute_id: kernel::Id::from_i64(4),
        code: "colour".to_owned(),
        title: "Colour".to_owned(),
        kind: AttributeKind::Choice,
        choices: vec!["red".to_owned()],
        storefront: true,
        version: 1,
        created_at: at,
        updated_at: at,
    };
    let golden = [
        (
            events::category("category.updated", &category),
            "cat_00000000002",
            r#"{"category_id":"cat_00000000002","parent_id":"cat_00000000001","slug":"shirts","title":"Shirts"}"#,
        ),
        (
            events::collection("collection.created", &collection),
            "col_00000000003",
            r#"{"collection_id":"col_00000000003","slug":"summer","title":"Summer","by_rule":true}"#,
        ),
        (
            events::attribute("attribute.created", &attribute),
            "atr_00000000004",
            r#"{"attribute_id":"atr_00000000004","code":"colour","title":"Colour","kind":"choice"}"#,
        ),
        (
            events::moment("product.published", &a_product(), at),
            "prd_00000000001",
            r#"{"product_id":"prd_00000000001","at":"1970-01-01T00:00:00.000000Z"}"#,
        ),
    ];
    for (event, subject, payload) in golden {
        assert_eq!((event.version, event.subject.as_str(), event.payload.as_str()), (1, subject, payload));
        assert!(events::EVENTS.iter().any(|known| known.kind == event.kind && known.version == event.version));
    }
}
