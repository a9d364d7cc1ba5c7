//! The rules, told one by one.

use super::*;
use crate::events;

fn target(labels: &[&str]) -> Target {
    Target { labels: labels.iter().map(|label| (*label).to_owned()).collect(), ..Target::default() }
}

/// Lines with one label each: SKU, quantity, price, label.
fn labelled(lines: &[(&str, i64, &str, &str)]) -> Basket {
    let bare: Vec<(&str, i64, &str)> = lines.iter().map(|(sku, quantity, price, _)| (*sku, *quantity, *price)).collect();
    let mut basket = basket(&bare);
    for (line, (_, _, _, label)) in basket.lines.iter_mut().zip(lines) {
        line.labels.push((*label).to_owned());
    }
    basket
}

fn discounts(priced: &Priced) -> Vec<i64> {
    priced.lines.iter().map(|line| line.discount_minor).collect()
}

fn reasons(priced: &Priced) -> Vec<(&str, Reason)> {
    priced.not_applied.iter().map(|refused| (refused.name.as_str(), refused.reason)).collect()
}

fn by(name: &str, effect: Effect, change: impl FnOnce(&mut PromotionSpec)) -> PromotionSpec {
    let mut spec = promotion(name, effect);
    change(&mut spec);
    spec
}

#[test]
fn who_a_promotion_is_for() {
    let shoes = |stacking| by("shoes", percent_off("50"), |spec| spec.stacking = stacking);
    let table: Vec<(PromotionSpec, Option<Reason>)> = vec![
        (shoes(Stacking::Combinable), None),
        (by("x", percent_off("50"), |s| s.starts_at = Some(at("2026-01-31T12:00:00Z"))), None),
        (by("x", percent_off("50"), |s| s.starts_at = Some(at("2026-01-31T12:00:01Z"))), Some(Reason::NotStarted)),
        (by("x", percent_off("50"), |s| s.ends_at = Some(at("2026-01-31T12:00:01Z"))), None),
        (by("x", percent_off("50"), |s| s.ends_at = Some(at("2026-01-31T12:00:00Z"))), Some(Reason::Ended)),
        (by("x", percent_off("50"), |s| s.currency = None), None),
        (by("x", percent_off("50"), |s| s.currency = Some("USD".parse().unwrap())), Some(Reason::OtherCurrency)),
        (by("x", percent_off("50"), |s| s.customer_groups = vec!["b".to_owned(), "vip".to_owned()]), None),
        (by("x", percent_off("50"), |s| s.customer_groups = vec!["b".to_owned()]), Some(Reason::OtherCustomers)),
        (by("x", percent_off("50"), |s| s.target = target(&["shoes"])), None),
        (by("x", percent_off("50"), |s| s.target = target(&["hats"])), Some(Reason::NoMatchingLines)),
        (by("x", percent_off("50"), |s| s.target.skus = vec!["a".to_owned()]), None),
        (by("x", percent_off("50"), |s| s.target.skus = vec!["A".to_owned()]), Some(Reason::NoMatchingLines)),
        (by("x", percent_off("50"), |s| s.target.except_labels = vec!["shoes".to_owned()]), Some(Reason::NoMatchingLines)),
        (
            by("x", percent_off("50"), |s| s.target = Target { except_skus: vec!["a".to_owned()], ..target(&["shoes"]) }),
            Some(Reason::NoMatchingLines),
        ),
        (by("x", percent_off("50"), |s| s.minimum = Some(Minimum { amount_minor: 2_000, ..Minimum::default() })), None),
        (
            by("x", percent_off("50"), |s| s.minimum = Some(Minimum { amount_minor: 2_001, ..Minimum::default() })),
            Some(Reason::BelowMinimumAmount),
        ),
        (by("x", percent_off("50"), |s| s.minimum = Some(Minimum { quantity: 2, ..Minimum::default() })), None),
        (
            by("x", percent_off("50"), |s| s.minimum = Some(Minimum { quantity: 3, ..Minimum::default() })),
            Some(Reason::BelowMinimumQuantity),
        ),
        (by("x", Effect::FreeShipping { at_most_minor: None }, |_| ()), Some(Reason::NothingLeft)),
    ];
    let basket = Basket { customer_groups: vec!["vip".to_owned()], ..labelled(&[("a", 2, "10", "shoes")]) };
    for (spec, reason) in table {
        let priced = price(&promoting(vec![spec.clone()]), &basket).unwrap();
        assert_eq!(priced.not_applied.first().map(|refused| refused.reason), reason, "{spec:?}");
        assert_eq!(priced.totals.discount_minor, if reason.is_none() { 1_000 } else { 0 }, "{spec:?}");
    }
    // A minimum of the order counts what the promotion is not for.
    let order = by("x", percent_off("50"), |s| {
        s.target = target(&["hats"]);
        s.minimum = Some(Minimum { amount_minor: 2_500, quantity: 3, of: Of::Order });
    });
    let priced = price(&promoting(vec![order]), &labelled(&[("a", 2, "10", "shoes"), ("b", 1, "5", "hats")])).unwrap();
    assert_eq!(discounts(&priced), [0, 250]);
}

#[test]
fn what_stacks_with_what() {
    use Stacking::{Combinable, Exclusive, ExclusiveOnLines};
    let off = |name: &str, percent: &str, priority: i32, stacking: Stacking, label: &str| {
        by(name, percent_off(percent), |spec| {
            spec.priority = priority;
            spec.stacking = stacking;
            spec.target = if label.is_empty() { Target::default() } else { target(&[label]) };
        })
    };
    let basket = labelled(&[("a", 1, "100", "shoes"), ("b", 1, "10", "hats")]);
    type Expected<'a> = (&'a [i64], &'a [(&'a str, Reason)]);
    let table: Vec<(Vec<PromotionSpec>, Expected<'_>)> = vec![
        // Each takes of what those before it have left.
        (vec![off("A", "10", 0, Combinable, ""), off("B", "50", 0, Combinable, "")], (&[5_500, 550], &[])),
        (vec![off("A", "10", 0, Combinable, ""), off("B", "50", 1, Combinable, "shoes")], (&[5_500, 100], &[])),
        // An exclusive one that comes first stays alone, one that comes later comes too late.
        (vec![off("A", "10", 2, Exclusive, ""), off("B", "50", 1, Combinable, "")], (&[1_000, 100], &[("B", Reason::NotCombinable)])),
        (vec![off("A", "10", 1, Exclusive, ""), off("B", "50", 2, Combinable, "")], (&[5_000, 500], &[("A", Reason::NotCombinable)])),
        (vec![off("A", "10", 1, Exclusive, ""), off("B", "50", 1, Exclusive, "")], (&[1_000, 100], &[("B", Reason::NotCombinable)])),
        // An exclusive one that gives nothing excludes nothing.
        (
            vec![off("A", "10", 2, Exclusive, "socks"), off("B", "50", 1, Combinable, "")],
            (&[5_000, 500], &[("A", Reason::NoMatchingLines)]),
        ),
        // On lines: what it touches is its own, the rest is free.
        (vec![off("A", "10", 2, ExclusiveOnLines, "shoes"), off("B", "50", 1, Combinable, "")], (&[1_000, 500], &[])),
        (vec![off("A", "10", 1, ExclusiveOnLines, ""), off("B", "50", 2, Combinable, "shoes")], (&[5_000, 100], &[])),
        (
            vec![off("A", "10", 1, ExclusiveOnLines, "shoes"), off("B", "50", 2, Combinable, "shoes")],
            (&[5_000, 0], &[("A", Reason::NotCombinable)]),
        ),
        (vec![off("A", "100", 1, Combinable, ""), off("B", "50", 0, Combinable, "")], (&[10_000, 1_000], &[("B", Reason::NothingLeft)])),
    ];
    for (specs, (expected, refused)) in table {
        let names: Vec<String> = specs.iter().map(|spec| format!("{} {:?}", spec.name, spec.stacking)).collect();
        let priced = price(&promoting(specs), &basket).unwrap();
        assert_eq!((discounts(&priced), reasons(&priced)), (expected.to_vec(), refused.to_vec()), "{names:?}");
    }
}

#[test]
fn what_one_gets_for_what_one_buys() {
    let buy =
        |buy, get, off: &str, get_target: Option<Target>, at_most| Effect::BuyGet { buy, get, percent: percent(off), get_target, at_most };
    let hats = || Some(target(&["hats"]));
    let everything = || Target::default();
    type Row<'a> = (Effect, Target, &'a [(&'a str, i64, &'a str, &'a str)], &'a [i64]);
    let table: Vec<Row<'_>> = vec![
        // Three for two: the cheapest is free, once for each three.
        (buy(2, 1, "100", None, None), everything(), &[("a", 2, "10", "shoes")], &[0]),
        (buy(2, 1, "100", None, None), everything(), &[("a", 3, "10", "shoes")], &[1_000]),
        (buy(2, 1, "100", None, None), everything(), &[("a", 5, "10", "shoes")], &[1_000]),
        (buy(2, 1, "100", None, None), everything(), &[("a", 6, "10", "shoes")], &[2_000]),
        (buy(2, 1, "100", None, Some(1)), everything(), &[("a", 6, "10", "shoes")], &[1_000]),
        (buy(2, 1, "100", None, None), everything(), &[("a", 2, "10", "shoes"), ("b", 1, "4", "hats")], &[0, 400]),
        (buy(2, 1, "100", None, None), everything(), &[("b", 1, "4", "hats"), ("a", 5, "10", "shoes")], &[400, 1_000]),
        (buy(1, 2, "50", None, None), everything(), &[("a", 3, "3.33", "shoes")], &[333]),
        // Other goods: a hat for each two pairs of shoes.
        (buy(2, 1, "100", hats(), None), target(&["shoes"]), &[("a", 5, "10", "shoes"), ("b", 3, "4", "hats")], &[0, 800]),
        (buy(2, 1, "100", hats(), None), target(&["shoes"]), &[("a", 5, "10", "shoes"), ("b", 1, "4", "hats")], &[0, 400]),
        (buy(2, 1, "100", hats(), None), target(&["shoes"]), &[("a", 1, "10", "shoes"), ("b", 3, "4", "hats")], &[0, 0]),
        (buy(2, 1, "100", hats(), None), target(&["shoes"]), &[("a", 9, "10", "shoes")], &[0]),
        // Overlapping: a hat that one gets is not one that one buys.
        (buy(1, 1, "100", hats(), None), everything(), &[("b", 3, "4", "hats")], &[400]),
        (buy(1, 1, "100", hats(), None), everything(), &[("a", 1, "10", "shoes"), ("b", 3, "4", "hats")], &[0, 800]),
    ];
    for (effect, target, lines, expected) in table {
        let rules = promoting(vec![by("x", effect.clone(), |spec| spec.target = target)]);
        assert_eq!(discounts(&price(&rules, &labelled(lines)).unwrap()), expected, "{effect:?} {lines:?}");
    }
}

#[test]
fn tiers_and_caps() {
    let by_amount = Effect::Tiers {
        by: TierMeasure::Amount,
        steps: vec![
            Tier { at_least: 10_000, percent: percent("20"), amount_minor: 0 },
            Tier { at_least: 5_000, percent: Percent::ZERO, amount_minor: 700 },
        ],
    };
    let by_quantity = Effect::Tiers {
        by: TierMeasure::Quantity,
        steps: vec![
            Tier { at_least: 3, percent: percent("5"), amount_minor: 0 },
            Tier { at_least: 5, percent: percent("10"), amount_minor: 0 },
        ],
    };
    let table: [(&Effect, i64, i64, Option<Reason>); 8] = [
        (&by_amount, 4, 0, Some(Reason::BelowMinimumAmount)),
        (&by_amount, 5, 700, None),
        (&by_amount, 9, 700, None),
        (&by_amount, 10, 2_000, None),
        (&by_quantity, 2, 0, Some(Reason::BelowMinimumQuantity)),
        (&by_quantity, 3, 150, None),
        (&by_quantity, 4, 200, None),
        (&by_quantity, 5, 500, None),
    ];
    for (effect, quantity, expected, reason) in table {
        let priced = price(&promoting(vec![promotion("x", effect.clone())]), &basket(&[("a", quantity, "10")])).unwrap();
        assert_eq!((priced.totals.discount_minor, priced.not_applied.first().map(|refused| refused.reason)), (expected, reason));
    }
    // Tiers are measured before any promotion, so their order does not matter.
    let before = by("half", percent_off("50"), |spec| spec.priority = 9);
    let priced = price(&promoting(vec![before, promotion("x", by_amount)]), &basket(&[("a", 10, "10")])).unwrap();
    assert_eq!(priced.totals.discount_minor, 5_000 + 1_000);
    let capped = by("x", percent_off("50"), |spec| spec.max_discount_minor = Some(100));
    assert_eq!(discounts(&price(&promoting(vec![capped]), &basket(&[("a", 1, "10"), ("b", 2, "10")])).unwrap()), [33, 67]);
    let each = promotion("x", Effect::AmountEach { amount_minor: 300 });
    assert_eq!(discounts(&price(&promoting(vec![each]), &basket(&[("a", 3, "10"), ("b", 2, "2.50")])).unwrap()), [900, 500]);
}

#[test]
fn shipping_is_free_in_whole_or_in_part() {
    let mut basket = basket(&[("a", 1, "10")]);
    basket.charges = vec![shipping(2, 495), Charge { kind: ChargeKind::Fee, ..shipping(3, 200) }];
    let free = |at_most_minor| promoting(vec![promotion("x", Effect::FreeShipping { at_most_minor })]);
    let priced = price(&free(None), &basket).unwrap();
    assert_eq!((discounts(&priced), priced.totals.total_minor, priced.totals.charges_minor), (vec![0, 495, 0], 1_200, 695));
    assert_eq!(discounts(&price(&free(Some(300)), &basket).unwrap()), [0, 300, 0]);
    assert_eq!(discounts(&price(&free(Some(900)), &basket).unwrap()), [0, 495, 0]);
    // It leaves the goods alone, even those that nothing may follow on.
    let locked = by("sale", percent_off("10"), |spec| (spec.priority, spec.stacking) = (9, Stacking::ExclusiveOnLines));
    let free = by("x", Effect::FreeShipping { at_most_minor: None }, |spec| spec.stacking = Stacking::ExclusiveOnLines);
    assert_eq!(discounts(&price(&promoting(vec![locked, free]), &basket).unwrap()), [100, 495, 0]);
}

#[test]
fn coupons_open_promotions() {
    let specs = vec![
        by("secret", percent_off("10"), |spec| spec.coupon_required = true),
        by("other", percent_off("50"), |spec| (spec.coupon_required, spec.priority, spec.stacking) = (true, 9, Stacking::Exclusive)),
    ];
    let rules = promoting(specs);
    let with = |coupons: &[(&str, Result<i64, Reason>)]| {
        let presented = |(code, found): &(&str, Result<i64, Reason>)| PresentedCoupon {
            code: (*code).to_owned(),
            found: found.map(PromotionId::from_i64),
        };
        let basket = Basket { coupons: coupons.iter().map(presented).collect(), ..basket(&[("a", 1, "10")]) };
        let priced = price(&rules, &basket).unwrap();
        let outcomes: Vec<Option<Reason>> = priced.coupons.iter().map(|outcome| outcome.reason).collect();
        assert!(priced.coupons.iter().all(|outcome| outcome.applied == outcome.reason.is_none()));
        (priced.totals.discount_minor, outcomes, priced.not_applied.len())
    };
    assert_eq!(with(&[]), (0, vec![], 0));
    assert_eq!(with(&[("A", Ok(1))]), (100, vec![None], 0));
    assert_eq!(with(&[("A", Ok(1)), ("B", Ok(1))]), (100, vec![None, Some(Reason::NotCombinable)], 0));
    assert_eq!(with(&[("A", Ok(1)), ("C", Ok(2))]), (500, vec![Some(Reason::NotCombinable), None], 1));
    assert_eq!(with(&[("D", Ok(3))]), (0, vec![Some(Reason::PromotionNotActive)], 0));
    assert_eq!(with(&[("A", Err(Reason::CouponUsedUp)), ("B", Ok(1))]), (100, vec![Some(Reason::CouponUsedUp), None], 0));
}

#[test]
fn which_price_list_is_asked_first() {
    let list = |id: i64, change: fn(&mut PriceListSpec)| {
        let mut spec = PriceListSpec {
            name: id.to_string(),
            currency: eur(),
            status: Status::Active,
            priority: 0,
            customer_group: None,
            prices_include_tax: None,
            starts_at: None,
            ends_at: None,
        };
        change(&mut spec);
        let zero = Timestamp::from_micros(0);
        PriceList { price_list_id: PriceListId::from_i64(id), spec, version: 1, created_at: zero, updated_at: zero }
    };
    let lists = vec![
        list(1, |_| ()),
        list(2, |spec| spec.starts_at = Some(at("2026-01-01T00:00:00Z"))),
        list(3, |spec| spec.customer_group = Some("vip".to_owned())),
        list(4, |spec| (spec.priority, spec.ends_at) = (5, Some(at("2026-01-31T12:00:00Z")))),
        list(5, |spec| (spec.priority, spec.status) = (9, Status::Paused)),
        list(6, |spec| (spec.priority, spec.currency) = (9, "USD".parse().unwrap())),
        list(7, |spec| (spec.priority, spec.customer_group) = (1, Some("staff".to_owned()))),
        list(8, |_| ()),
    ];
    let rules = Rules::compile(1, TaxSettings::default(), lists, Vec::new(), Vec::new()).unwrap();
    let order = |groups: &[&str], moment: &str| {
        let groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        rules.lists_in_force(eur(), &groups, at(moment)).iter().map(|list| list.list_id.as_i64()).collect::<Vec<_>>()
    };
    assert_eq!(order(&[], "2026-01-31T12:00:00Z"), [2, 8, 1]);
    assert_eq!(order(&["vip"], "2026-01-31T12:00:00Z"), [3, 2, 8, 1]);
    assert_eq!(order(&["vip", "staff"], "2026-01-31T11:59:59Z"), [4, 7, 3, 2, 8, 1]);
    assert_eq!(order(&[], "2025-12-31T23:59:59Z"), [4, 8, 1]);
    // The first list that has an entry for the quantity decides, even if the next one is cheaper.
    let entry = |list: i64, min_quantity, price: &str| ListedPrice {
        list_id: PriceListId::from_i64(list),
        sku: "a".to_owned(),
        min_quantity,
        price: price.parse().unwrap(),
    };
    let prices = vec![entry(1, 1, "5"), entry(2, 10, "8"), entry(2, 3, "9"), entry(6, 1, "1"), entry(8, 2, "7")];
    for (quantity, expected) in [(1, "5"), (2, "7"), (3, "9"), (9, "9"), (10, "8"), (1_000, "8")] {
        let basket = Basket { prices: prices.clone(), ..basket(&[("a", quantity, "99")]) };
        assert_eq!(price(&rules, &basket).unwrap().lines[0].unit_price.to_string(), expected, "{quantity}");
    }
}

fn taxed(settings: TaxSettings) -> Rules {
    let exception = |name: &str, postcode: &str, standard: &str| TaxException {
        name: name.to_owned(),
        postcode: postcode.to_owned(),
        rates: [("standard".to_owned(), percent(standard))].into(),
    };
    let mut austrian = period("2016-01-01", &[("standard", "20"), ("reduced1", "10"), ("reduced2", "13")]);
    austrian.exceptions = vec![exception("Jungholz", "6691", "19"), exception("Mittelberg", "699[123]", "19")];
    let mut spanish = period("0000-01-01", &[("standard", "21"), ("reduced", "10")]);
    spanish.exceptions = vec![exception("Canary Islands", r"(35\d{3}|38\d{3})", "0")];
    let german =
        vec![period("0000-01-01", &[("standard", "19"), ("reduced", "7")]), period("2026-02-01", &[("standard", "25"), ("reduced", "7")])];
    let countries = vec![("DE".to_owned(), german), ("AT".to_owned(), vec![austrian]), ("ES".to_owned(), vec![spanish])];
    Rules::compile(1, settings, Vec::new(), Vec::new(), countries).unwrap()
}

#[test]
fn where_tax_is_due_and_at_which_rate() {
    let settings = TaxSettings {
        origin_country: Some("DE".to_owned()),
        registrations: ["AT", "ES"].map(|country| Registration { country: country.to_owned(), number: None, starts_at: None }).to_vec(),
        reverse_charge: true,
        classes: vec![ClassRule { tax_class: "books".to_owned(), country: "AT".to_owned(), rate: "reduced1".to_owned() }],
        ..TaxSettings::default()
    };
    let rules = taxed(settings.clone());
    use TaxReason::*;
    // Country, postcode, VAT id, class => reason, exception, rate, whether standard stands in.
    type Row<'a> = (&'a str, &'a str, &'a str, &'a str, TaxReason, &'a str, &'a str, bool);
    let table: [Row<'_>; 19] = [
        ("", "", "", "standard", Origin, "", "19", false),
        ("DE", "", "", "standard", Origin, "", "19", false),
        ("DE", "10115", "", "reduced", Origin, "", "7", false),
        ("DE", "10115", "", "books", Origin, "", "19", true),
        ("DE", "10115", "", "exempt", Origin, "", "0", false),
        ("DE", "10115", "DE123456789", "standard", Origin, "", "19", false),
        ("AT", "1010", "", "standard", Destination, "", "20", false),
        ("AT", "1010", "", "books", Destination, "", "10", false),
        ("AT", "1010", "", "reduced", Destination, "", "20", true),
        ("AT", "6691", "", "standard", Destination, "Jungholz", "19", false),
        ("AT", "A-6691", "", "standard", Destination, "", "20", false),
        ("AT", "69 92", "", "standard", Destination, "Mittelberg", "19", false),
        ("AT", "6694", "", "standard", Destination, "", "20", false),
        ("AT", "6691", "", "reduced1", Destination, "Jungholz", "10", false),
        ("AT", "1010", "ATU12345678", "standard", ReverseCharge, "", "0", false),
        ("AT", "1010", "FR12345678901", "standard", Destination, "", "20", false),
        ("ES", "35001", "", "reduced", Destination, "Canary Islands", "0", false),
        ("ES", "350011", "", "reduced", Destination, "", "10", false),
        ("US", "35001", "", "standard", NotRegistered, "", "0", false),
    ];
    for (country, postcode, vat_id, class, reason, exception, rate, fallback) in table {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut basket = Basket { country: some(country), postcode: some(postcode), vat_id: some(vat_id), ..basket(&[("a", 1, "100")]) };
        basket.lines[0].tax_class = Some(class.to_owned());
        let priced = price(&rules, &basket).unwrap();
        let line = &priced.lines[0].tax;
        let got = (priced.tax.reason, priced.tax.exception.clone().unwrap_or_default(), line.rate, line.fallback);
        assert_eq!(got, (reason, exception.to_owned(), percent(rate), fallback), "{country} {postcode} {vat_id} {class}");
    }
    // Elsewhere the origin's tax, if so set; its postcodes are not those of the country where it goes.
    let origin = taxed(TaxSettings { unregistered: Unregistered::OriginTax, ..settings.clone() });
    let abroad = Basket { country: Some("US".to_owned()), postcode: Some("27498".to_owned()), ..basket(&[("a", 1, "119")]) };
    let priced = price(&origin, &abroad).unwrap();
    assert_eq!(
        (priced.tax.reason, priced.tax.country.as_deref(), priced.totals.included_tax_minor),
        (NotRegisteredOrigin, Some("DE"), 1_900)
    );
    // Prices that are kept where no tax is due.
    let keep = taxed(TaxSettings { untaxed_price: UntaxedPrice::Keep, ..settings.clone() });
    assert_eq!(price(&keep, &abroad).unwrap().totals.total_minor, 11_900);
    assert_eq!(price(&rules, &abroad).unwrap().totals.total_minor, 10_000);
    // Rates change with the day.
    for (moment, tax) in [("2026-01-31T23:59:59.999999Z", 1_900), ("2026-02-01T00:00:00Z", 2_380)] {
        let basket = Basket { at: at(moment), ..basket(&[("a", 1, "119")]) };
        assert_eq!(price(&rules, &basket).unwrap().totals.included_tax_minor, tax, "{moment}");
    }
    // A registration begins, too; and a country without rates is no reason to sell without tax.
    let from = |country: &str, moment: &str| Registration { country: country.to_owned(), number: None, starts_at: Some(at(moment)) };
    let later = TaxSettings { registrations: vec![from("AT", "2026-02-01T00:00:00Z"), from("FR", "2026-01-01T00:00:00Z")], ..settings };
    let later = taxed(later);
    let to = |country: &str| Basket { country: Some(country.to_owned()), ..basket(&[("a", 1, "100")]) };
    assert_eq!(price(&later, &to("AT")).unwrap().tax.reason, NotRegistered);
    assert_eq!(price(&later, &to("FR")).unwrap_err().code(), "pricing.no_tax_rate");
    // A country's name is not taken for a country where no tax is due.
    assert_eq!(price(&later, &to("Austria")).unwrap_err().field_errors()[0].field, "country");
    let nothing = taxed(TaxSettings::default());
    assert_eq!(price(&nothing, &to("DE")).unwrap().tax.reason, NotSetUp);
}

#[test]
fn shipping_is_taxed_like_most_of_the_goods_or_as_set() {
    let rules = |charge_class: Option<&str>| {
        taxed(TaxSettings {
            origin_country: Some("DE".to_owned()),
            prices_include_tax: false,
            charge_class: charge_class.map(str::to_owned),
            ..TaxSettings::default()
        })
    };
    let mut basket = basket(&[("a", 1, "10"), ("b", 3, "4")]);
    basket.lines[1].tax_class = Some("reduced".to_owned());
    basket.charges = vec![shipping(3, 500), Charge { tax_class: Some("exempt".to_owned()), ..shipping(4, 100) }];
    let rates = |rules: &Rules, basket: &Basket| {
        price(rules, basket).unwrap().lines.iter().map(|line| line.tax.rate.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(rates(&rules(None), &basket), ["19", "7", "7", "0"]);
    assert_eq!(rates(&rules(Some("standard")), &basket), ["19", "7", "19", "0"]);
    basket.lines[0].quantity = 2;
    assert_eq!(rates(&rules(None), &basket), ["19", "7", "19", "0"]);
}

#[test]
fn refunds_refuse_what_was_not_sold() {
    let priced = price(&Rules::default(), &basket(&[("a", 3, "1"), ("b", 1, "1")])).unwrap().snapshot();
    let part = |line, quantity| LineQuantity { line, quantity };
    let table: [(&[LineQuantity], &[LineQuantity], &str); 6] = [
        (&[], &[part(1, 4)], "pricing.refund_too_much"),
        (&[part(1, 2)], &[part(1, 2)], "pricing.refund_too_much"),
        (&[part(1, 2), part(1, 1)], &[part(1, 1)], "pricing.refund_too_much"),
        (&[], &[part(1, 2), part(1, 2)], "pricing.refund_too_much"),
        (&[], &[part(7, 1)], "pricing.refund_unknown_line"),
        (&[], &[part(1, 0)], "request.invalid"),
    ];
    for (already, now, code) in table {
        assert_eq!(refund(&priced, already, now).unwrap_err().code(), code);
    }
    assert_eq!(refund(&priced, &[part(1, 2)], &[part(1, 1), part(2, 1)]).unwrap().total_minor, 200);
    assert_eq!(refund(&priced, &[], &[]).unwrap().total_minor, 0);
}

#[test]
fn percentages() {
    for (text, shown) in [("0", "0"), ("19", "19"), ("5.5", "5.5"), ("8.8750", "8.875"), ("0.0001", "0.0001"), ("100", "100"), ("007", "7")]
    {
        assert_eq!(percent(text).to_string(), shown);
    }
    for wrong in ["", "-1", "100.0001", "1.00001", "1,5", ".5", "5.", "1e2", "NaN", " 1"] {
        assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
    }
    for (json, shown) in [("4.8", "4.8"), ("25.5", "25.5"), ("19", "19"), ("\"2.1\"", "2.1"), ("2.10", "2.1")] {
        assert_eq!(serde_json::from_str::<Percent>(json).unwrap().to_string(), shown);
    }
    for wrong in ["-1", "100.5", "1e30", "null", "true", "[]", "0.00001"] {
        assert!(serde_json::from_str::<Percent>(wrong).is_err(), "{wrong}");
    }
}

/// The real rates, if they are there.
#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn the_rates_of_the_european_union() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/eu-vat-rates.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("SKIPPED: {path} is not there");
        return;
    };
    let file: RatesFile = serde_json::from_str(&text).unwrap();
    file.check().unwrap();
    let registrations = file.items.keys().map(|country| Registration { country: country.clone(), number: None, starts_at: None }).collect();
    let settings = TaxSettings { origin_country: Some("DE".to_owned()), registrations, ..TaxSettings::default() };
    let rules = Rules::compile(1, settings, Vec::new(), Vec::new(), file.items.clone().into_iter().collect()).unwrap();
    let rate = |country: &str, postcode: &str, class: &str, moment: &str| {
        let mut basket =
            Basket { at: at(moment), country: Some(country.to_owned()), postcode: Some(postcode.to_owned()), ..basket(&[("a", 1, "100")]) };
        basket.lines[0].tax_class = Some(class.to_owned());
        price(&rules, &basket).unwrap().lines[0].tax.rate.to_string()
    };
    let now = "2026-01-31T12:00:00Z";
    let table = [
        ("DE", "10115", "standard", now, "19"),
        ("DE", "10115", "reduced", "2020-12-31T23:00:00Z", "5"),
        ("DE", "78266", "standard", now, "0"),
        ("FR", "75001", "super_reduced", now, "2.1"),
        ("FR", "97110", "standard", now, "8.5"),
        ("FR", "97110", "reduced1", now, "5.5"),
        ("ES", "38001", "reduced", now, "0"),
        ("PT", "9500-123", "standard", now, "18"),
        ("PT", "9000-001", "standard", now, "22"),
        ("IE", "D02", "standard", "2020-12-01T00:00:00Z", "21"),
        ("FI", "00100", "standard", now, "25.5"),
        ("SK", "81101", "standard", now, "23"),
        ("LU", "1111", "parking", "2023-06-01T00:00:00Z", "13"),
        ("GR", "630 86", "standard", now, "0"),
    ];
    for (country, postcode, class, moment, expected) in table {
        assert_eq!(rate(country, postcode, class, moment), expected, "{country} {postcode} {class} {moment}");
    }
    // What is stored is what the file says, to the digit.
    let stored: RatesFile = serde_json::from_str(&serde_json::to_string(&file).unwrap()).unwrap();
    assert_eq!(stored, file);
}

/// What has been written to the log is read for ever: these texts change only by a new version of the event.
#[test]
fn events_as_they_are_written() {
    let (list, promotion) = (PriceListId::from_i64(1), PromotionId::from_i64(2));
    let written = [
        events::list_changed(list, "Winter", Status::Active, 1),
        events::prices_changed(list, 3, 1),
        events::promotion_changed(promotion, "Ten", Status::Paused, 4),
        events::coupon_changed("TEN", promotion, Status::Archived, 2),
        events::coupons_generated(promotion, 50, "VIP-"),
        events::coupon_redeemed("TEN", promotion, "cart-1", Some("cus-1")),
        events::coupon_redeemed("TEN", promotion, "cart-1", None),
        events::coupon_released("TEN", "cart-1", None, false),
        events::settings_changed(3),
        events::rates_changed(&["DE".to_owned()], &[]),
    ];
    let golden = include_str!("events.txt");
    let golden: Vec<(&str, &str, &str)> = golden
        .lines()
        .map(|line| {
            let mut parts = line.splitn(3, ' ');
            (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
        })
        .collect();
    assert_eq!(written.len(), golden.len());
    for (event, (kind, subject, payload)) in written.iter().zip(golden) {
        assert_eq!((event.kind, event.version, event.subject.as_str(), event.payload.as_str()), (kind, 1, subject, payload));
        assert!(events::EVENTS.iter().any(|known| known.kind == event.kind && known.version == event.version));
    }
    assert!(events::EVENTS.iter().all(|known| written.iter().any(|event| event.kind == known.kind)));
}
