//! The pure rules: allocation and changes of levels as tables, and what must hold for any input.

use crate::allocate::*;
use crate::error;
use crate::events;
use crate::levels::{Change, Deltas, decide, deltas};
use crate::model::*;
use crate::reserve::Wanted;
use kernel::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeMap;

const fn item(n: i64) -> ItemId {
    ItemId::from_i64(n)
}
const fn place(n: i64) -> LocationId {
    LocationId::from_i64(n)
}

const BERLIN: Coordinates = Coordinates { latitude: 52.52, longitude: 13.405 };
const HAMBURG: Coordinates = Coordinates { latitude: 53.551, longitude: 9.994 };
const MUNICH: Coordinates = Coordinates { latitude: 48.137, longitude: 11.575 };
const SYDNEY: Coordinates = Coordinates { latitude: -33.869, longitude: 151.209 };

/// Locations 1 to 4: Hamburg, Munich, a shop in Berlin, a supplier without coordinates.
fn site(location: i64) -> Site {
    let (kind, coordinates, priority) = match location {
        1 => (LocationKind::Warehouse, Some(HAMBURG), 20),
        2 => (LocationKind::Warehouse, Some(MUNICH), 10),
        3 => (LocationKind::Shop, Some(BERLIN), 30),
        _ => (LocationKind::Supplier, None, 10),
    };
    Site { kind, coordinates, priority, active: location != 9 }
}

/// Stock of an item: `(location, available)`.
fn stock(policy: Policy, oversell_limit: i64, levels: &[(i64, i64)]) -> Stock {
    let level =
        |(location, available): &(i64, i64)| StockAt { location_id: place(*location), site: site(*location), available: *available };
    Stock { policy, oversell_limit, promised_at: None, low_stock_at: None, levels: levels.iter().map(level).collect() }
}

fn rules(text: &str) -> Rules {
    use Ranking::*;
    let all = LocationKind::ALL.to_vec();
    match text {
        "fewest,near" => Rules { fewest_parcels: true, order: vec![Nearest, Priority], kinds: all },
        "near" => Rules { fewest_parcels: false, order: vec![Nearest, Priority], kinds: all },
        "priority" => Rules { fewest_parcels: false, order: vec![Priority], kinds: all },
        "priority,near" => Rules { fewest_parcels: false, order: vec![Priority, Nearest], kinds: all },
        "fewest,priority" => Rules { fewest_parcels: true, order: vec![Priority], kinds: all },
        "warehouses" => Rules { fewest_parcels: false, order: vec![Nearest], kinds: vec![LocationKind::Warehouse] },
        "any" => Rules { fewest_parcels: false, order: vec![], kinds: all },
        other => panic!("no rules {other}"),
    }
}

type Told = Result<Vec<(i64, i64, i64, i64)>, Vec<(i64, i64, i64)>>;

fn run(rules_text: &str, to: Option<Coordinates>, wanted: &[(i64, i64)], all: &[(i64, Stock)]) -> Told {
    let wanted: BTreeMap<ItemId, i64> = wanted.iter().map(|(n, quantity)| (item(*n), *quantity)).collect();
    let all: BTreeMap<ItemId, Stock> = all.iter().map(|(n, stock)| (item(*n), stock.clone())).collect();
    let elsewhere = || Ok((1..=3).map(|n| (place(n), site(n))).collect());
    match allocate(&rules(rules_text), to, &wanted, &all, elsewhere).expect("nothing is looked up in vain") {
        Ok(portions) => Ok(portions.iter().map(|p| (p.item_id.as_i64(), p.location_id.as_i64(), p.quantity, p.backordered)).collect()),
        Err(short) => Err(short.iter().map(|s| (s.item_id.as_i64(), s.wanted, s.available)).collect()),
    }
}

#[test]
fn allocation_of_one_item() {
    let deny = |levels: &[(i64, i64)]| stock(Policy::Deny, 99, levels);
    let back = |limit: i64, levels: &[(i64, i64)]| stock(Policy::Backorder, limit, levels);
    let table: Vec<(&str, Option<Coordinates>, i64, Stock, Told)> = vec![
        // The rules, where it goes, how many, what there is; then (item, location, quantity, backordered) or (item, wanted, available).
        ("any", None, 5, deny(&[(1, 5)]), Ok(vec![(1, 1, 5, 0)])),
        ("any", None, 6, deny(&[(1, 5)]), Err(vec![(1, 6, 5)])),
        ("any", None, 1, deny(&[]), Err(vec![(1, 1, 0)])),
        ("any", None, 6, deny(&[(1, 5), (2, 5)]), Ok(vec![(1, 1, 5, 0), (1, 2, 1, 0)])),
        // Each comes from the first that has all of it.
        ("any", None, 4, deny(&[(1, 3), (2, 5)]), Ok(vec![(1, 2, 4, 0)])),
        // Below zero is nothing, and takes nothing from the others.
        ("any", None, 5, deny(&[(1, -3), (2, 5)]), Ok(vec![(1, 2, 5, 0)])),
        // Not sold from.
        ("any", None, 5, deny(&[(9, 50), (2, 4)]), Err(vec![(1, 5, 4)])),
        ("warehouses", None, 5, deny(&[(3, 50), (2, 5)]), Ok(vec![(1, 2, 5, 0)])),
        ("warehouses", None, 6, deny(&[(3, 50), (2, 5)]), Err(vec![(1, 6, 5)])),
        // The nearest, if anybody knows where it goes; else as old as the locations are.
        ("near", Some(BERLIN), 1, deny(&[(1, 9), (2, 9), (3, 9)]), Ok(vec![(1, 3, 1, 0)])),
        ("near", Some(MUNICH), 1, deny(&[(1, 9), (2, 9), (3, 9)]), Ok(vec![(1, 2, 1, 0)])),
        ("near", Some(SYDNEY), 1, deny(&[(4, 9), (2, 9)]), Ok(vec![(1, 2, 1, 0)])),
        ("near", None, 1, deny(&[(1, 9), (2, 9)]), Ok(vec![(1, 2, 1, 0)])),
        ("near", Some(BERLIN), 20, deny(&[(1, 9), (2, 9), (3, 9)]), Ok(vec![(1, 3, 9, 0), (1, 1, 9, 0), (1, 2, 2, 0)])),
        // The lowest number, then the nearest, then the oldest.
        ("priority", Some(HAMBURG), 1, deny(&[(1, 9), (2, 9), (4, 9)]), Ok(vec![(1, 2, 1, 0)])),
        ("priority,near", Some(HAMBURG), 1, deny(&[(4, 9), (2, 9)]), Ok(vec![(1, 2, 1, 0)])),
        ("priority", None, 1, deny(&[(4, 9), (2, 9)]), Ok(vec![(1, 2, 1, 0)])),
        // As few as possible, and of these the best.
        ("fewest,near", Some(BERLIN), 9, deny(&[(1, 9), (2, 9), (3, 8)]), Ok(vec![(1, 1, 9, 0)])),
        ("fewest,near", Some(BERLIN), 12, deny(&[(1, 9), (2, 9), (3, 3)]), Ok(vec![(1, 3, 3, 0), (1, 1, 9, 0)])),
        ("fewest,priority", None, 12, deny(&[(1, 9), (2, 3), (3, 9)]), Ok(vec![(1, 2, 3, 0), (1, 1, 9, 0)])),
        // What is not there is promised within the limit, on top of what is there.
        ("any", None, 7, back(2, &[(1, 5)]), Ok(vec![(1, 1, 7, 2)])),
        ("any", None, 8, back(2, &[(1, 5)]), Err(vec![(1, 8, 7)])),
        // What was promised before counts.
        ("any", None, 1, back(2, &[(1, -2)]), Err(vec![(1, 1, 0)])),
        ("any", None, 1, back(2, &[(1, -1)]), Ok(vec![(1, 1, 1, 1)])),
        ("any", None, 3, back(2, &[(1, -1), (2, 2)]), Ok(vec![(1, 2, 3, 1)])),
        // Kept nowhere: at the best of all.
        ("near", Some(BERLIN), 2, back(2, &[]), Ok(vec![(1, 3, 2, 2)])),
        ("any", None, 2, stock(Policy::Preorder, 2, &[]), Ok(vec![(1, 1, 2, 2)])),
        // Kept only where nothing is sold from: at the best of the others.
        ("any", None, 1, back(9, &[(9, 0)]), Ok(vec![(1, 1, 1, 1)])),
    ];
    for (rules, to, wanted, stock, told) in table {
        assert_eq!(run(rules, to, &[(1, wanted)], &[(1, stock.clone())]), told, "{rules} {wanted} {stock:?}");
    }
}

#[test]
fn allocation_of_several_items() {
    let deny = |levels: &[(i64, i64)]| stock(Policy::Deny, 0, levels);
    // One parcel from where both are, though each is nearer elsewhere.
    let both = [(1, deny(&[(1, 5), (2, 5)])), (2, deny(&[(3, 5), (2, 5)]))];
    assert_eq!(run("fewest,near", Some(BERLIN), &[(1, 2), (2, 2)], &both), Ok(vec![(1, 2, 2, 0), (2, 2, 2, 0)]));
    assert_eq!(run("near", Some(BERLIN), &[(1, 2), (2, 2)], &both), Ok(vec![(1, 1, 2, 0), (2, 3, 2, 0)]));
    // All or nothing, and every shortage is told.
    let short = [(1, deny(&[(1, 1)])), (2, deny(&[(1, 9)])), (3, deny(&[]))];
    assert_eq!(run("any", None, &[(1, 2), (2, 2), (3, 1)], &short), Err(vec![(1, 2, 1), (3, 1, 0)]));
    // Two of three have everything: the best two that do.
    let three = [(1, deny(&[(1, 4), (2, 6)])), (2, deny(&[(1, 3), (3, 3)])), (3, deny(&[(2, 1)]))];
    assert_eq!(run("fewest,priority", None, &[(1, 6), (2, 3), (3, 1)], &three), Ok(vec![(1, 2, 6, 0), (2, 1, 3, 0), (3, 2, 1, 0)]));
    // What is backordered waits where the rest comes from.
    let late = [(1, deny(&[(2, 5)])), (2, stock(Policy::Backorder, 5, &[(1, 0)]))];
    assert_eq!(run("fewest,priority", None, &[(1, 1), (2, 1)], &late), Ok(vec![(1, 2, 1, 0), (2, 2, 1, 1)]));
}

#[test]
fn many_locations_are_chosen_greedily() {
    // Fourteen with one each and one with eight: the eight first, then as many others as it takes.
    let mut levels: Vec<(i64, i64)> = (20..34).map(|n| (n, 1)).collect();
    levels.push((40, 8));
    let told = run("fewest,priority", None, &[(1, 10)], &[(1, stock(Policy::Deny, 0, &levels))]).expect("there is enough");
    assert_eq!(told, vec![(1, 20, 1, 0), (1, 21, 1, 0), (1, 40, 8, 0)]);
}

#[test]
fn ways_over_the_earth() {
    for (from, to, km) in [(BERLIN, HAMBURG, 255), (BERLIN, MUNICH, 504), (BERLIN, SYDNEY, 16_089), (BERLIN, BERLIN, 0)] {
        let metres = from.metres_to(to);
        assert!((metres - km * 1_000).abs() <= km * 5 + 1, "{km} km: {metres} m");
    }
    let pole = |longitude| Coordinates { latitude: 90.0, longitude };
    assert_eq!(pole(0.0).metres_to(pole(180.0)), 0);
    let (east, west) = (Coordinates { latitude: 0.0, longitude: 179.5 }, Coordinates { latitude: 0.0, longitude: -179.5 });
    assert!((111_000..111_400).contains(&east.metres_to(west)));
}

#[test]
fn rules_that_make_no_sense_are_refused() {
    let with = |order: &[Ranking], kinds: &[LocationKind]| Rules { fewest_parcels: true, order: order.to_vec(), kinds: kinds.to_vec() };
    let shop = [LocationKind::Shop];
    for (rules, field) in [
        (with(&[], &[]), Some("rules.kinds")),
        (with(&[Ranking::Nearest, Ranking::Nearest], &shop), Some("rules.order[1]")),
        (with(&[Ranking::Nearest, Ranking::Priority, Ranking::Nearest], &shop), Some("rules.order")),
        (with(&[], &[LocationKind::Shop, LocationKind::Shop]), Some("rules.kinds[1]")),
        (with(&[Ranking::Nearest], &shop), None),
        (Rules::default(), None),
    ] {
        assert_eq!(rules.check().err().map(|e| e.field_errors()[0].field.clone()).as_deref(), field, "{rules:?}");
    }
}

proptest! {
    /// Whatever there is and whatever is wanted: what is given is what is wanted, nobody gives more than there is but what the limit allows,
    /// and a refusal is right.
    #[test]
    fn nothing_is_given_that_is_not_there(
        fewest in any::<bool>(),
        order in prop::sample::select(vec!["near", "priority", "any"]),
        items in prop::collection::vec((0_i64..12, 0_usize..3, 0_i64..6, prop::collection::vec((1_i64..10, -4_i64..9), 0..5)), 1..4),
    ) {
        let mut all = BTreeMap::new();
        let mut wanted = BTreeMap::new();
        for (n, (quantity, policy, limit, mut levels)) in items.into_iter().enumerate() {
            levels.sort_unstable();
            levels.dedup_by_key(|level| level.0);
            all.insert(item(n as i64), stock(Policy::ALL[policy], limit, &levels));
            wanted.insert(item(n as i64), quantity + 1);
        }
        let rules = Rules { fewest_parcels: fewest, ..rules(order) };
        let elsewhere = || Ok((1..=3).map(|n| (place(n), site(n))).collect());
        let enough = |item_id: &ItemId, wanted: i64| wanted <= all[item_id].in_stock(&rules) + all[item_id].beyond();
        match allocate(&rules, Some(BERLIN), &wanted, &all, elsewhere).expect("nothing is looked up in vain") {
            Err(shortages) => {
                let told: Vec<ItemId> = shortages.iter().map(|short| short.item_id).collect();
                let right: Vec<ItemId> = wanted.iter().filter(|(item_id, n)| !enough(item_id, **n)).map(|(item_id, _)| *item_id).collect();
                prop_assert_eq!(told, right);
            }
            Ok(portions) => {
                for (item_id, wanted) in &wanted {
                    let own: Vec<&Portion> = portions.iter().filter(|portion| portion.item_id == *item_id).collect();
                    prop_assert_eq!(own.iter().map(|portion| portion.quantity).sum::<i64>(), *wanted);
                    let late = own.iter().map(|portion| portion.backordered).sum::<i64>();
                    prop_assert!(late <= all[item_id].beyond());
                    prop_assert_eq!(late, (wanted - all[item_id].in_stock(&rules)).max(0));
                    for portion in own {
                        let level = all[item_id].levels.iter().find(|level| level.location_id == portion.location_id);
                        prop_assert!(portion.quantity - portion.backordered <= level.map_or(0, |level| level.available.max(0)));
                        prop_assert!(level.is_none_or(|level| level.site.active));
                        prop_assert!(portion.quantity > 0);
                    }
                }
            }
        }
    }

    /// As few locations as there can be, found by trying all sets.
    #[test]
    fn the_fewest_parcels_are_the_fewest(levels in prop::collection::vec(prop::collection::vec(0_i64..5, 2), 1..6), wanted in prop::collection::vec(1_i64..8, 2)) {
        let of = |n: usize| {
            let levels: Vec<(i64, i64)> = levels.iter().enumerate().map(|(at, has)| (20 + at as i64, has[n])).collect();
            (n as i64, stock(Policy::Deny, 0, &levels))
        };
        let least = (0..1_u32 << levels.len())
            .filter(|set| (0..2).all(|n| levels.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1).map(|(_, has)| has[n]).sum::<i64>() >= wanted[n]))
            .map(u32::count_ones)
            .min();
        let told = run("fewest,priority", None, &[(0, wanted[0]), (1, wanted[1])], &[of(0), of(1)]);
        let parcels = told.ok().map(|portions| {
            let mut places: Vec<i64> = portions.iter().map(|portion| portion.1).collect();
            places.sort_unstable();
            places.dedup();
            places.len() as u32
        });
        prop_assert_eq!(parcels, least);
    }
}

/// Of five that are incoming, two are on their way from another location.
fn level() -> Level {
    Level { on_hand: 10, reserved: 4, incoming: 5, in_transit: 2, damaged: 2, safety: 1, available: 5, ..Level::nothing(item(1), place(1)) }
}

#[test]
fn what_changes_do_to_a_level() {
    use MovementKind::*;
    let by = |on_hand, incoming, damaged, safety| Deltas { on_hand, incoming, damaged, safety, in_transit: 0 };
    let moved = |on_hand, incoming, damaged| Deltas { in_transit: incoming, ..by(on_hand, incoming, damaged, 0) };
    let table = [
        (Expected, 5, by(0, 5, 0, 0)),
        (Expected, -3, by(0, -3, 0, 0)),
        (Received, 2, by(2, -2, 0, 0)),
        // More than was announced.
        (Received, 7, by(7, -3, 0, 0)),
        (Restocked, 2, by(2, 0, 0, 0)),
        (WrittenOff, 2, by(-2, 0, 0, 0)),
        (Damaged, 2, by(-2, 0, 2, 0)),
        (Repaired, 2, by(2, 0, -2, 0)),
        (Scrapped, 2, by(0, 0, -2, 0)),
        (Corrected, 12, by(2, 0, 0, 0)),
        (Corrected, 0, by(-10, 0, 0, 0)),
        (SafetySet, 0, by(0, 0, 0, -1)),
        (Returned, 1, by(1, 0, 0, 0)),
        (ReturnedDamaged, 1, by(0, 0, 1, 0)),
        (TransferOut, 1, by(-1, 0, 0, 0)),
        (TransferExpected, 1, moved(0, 1, 0)),
        (TransferIn, 2, moved(2, -2, 0)),
        (TransferDamaged, 2, moved(0, -2, 2)),
        (TransferShort, 2, moved(0, -2, 0)),
        (Counted, -4, by(-4, 0, 0, 0)),
    ];
    for (kind, quantity, told) in table {
        assert_eq!(deltas(&level(), kind, quantity), told, "{kind:?} {quantity}");
        let change = Change { item_id: item(1), location_id: place(1), kind, quantity, expected: None };
        let (after, by) = decide(&level(), &change, || "lines[0]".to_owned()).expect("it is allowed");
        assert_eq!((by, after.available), (told, 5 + told.on_hand - told.safety), "{kind:?} {quantity}");
    }
}

#[test]
fn changes_that_are_refused() {
    use MovementKind::*;
    let table = [
        (WrittenOff, 11, None, Some("inventory.below_zero")),
        (WrittenOff, 10, None, None),
        (Damaged, 11, None, Some("inventory.below_zero")),
        (Repaired, 3, None, Some("inventory.below_zero")),
        (Scrapped, 3, None, Some("inventory.below_zero")),
        (Expected, -4, None, Some("inventory.below_zero")),
        (TransferIn, 3, None, Some("inventory.below_zero")),
        // Only what is nobody's is sent away; what is broken is broken, whoever has it reserved.
        (TransferOut, 5, None, None),
        (TransferOut, 6, None, Some("inventory.below_zero")),
        (Counted, -11, None, Some("inventory.below_zero")),
        (Restocked, MAX_LEVEL, None, Some("inventory.level_too_large")),
        (Corrected, 7, Some(10), None),
        (Corrected, 7, Some(9), Some("inventory.expected_differs")),
        (SafetySet, 7, Some(1), None),
        (SafetySet, 7, Some(0), Some("inventory.expected_differs")),
        (Scrapped, 1, Some(2), None),
        (Scrapped, 1, Some(1), Some("inventory.expected_differs")),
    ];
    for (kind, quantity, expected, code) in table {
        let change = Change { item_id: item(1), location_id: place(1), kind, quantity, expected };
        assert_eq!(decide(&level(), &change, || "lines[0]".to_owned()).err().map(|e| e.code()), code, "{kind:?} {quantity} {expected:?}");
    }
}

#[test]
fn a_shortage_names_its_lines() {
    let variants: Vec<VariantId> = (1..=3).map(VariantId::from_i64).collect();
    let line = |(at, quantity): (usize, i64)| Wanted { at, line: at as u32, variant_id: variants[at], quantity };
    let wanted = [(0, 2), (1, 1), (2, 3)].map(line);
    // The first is a bundle with two of the item, the third the item itself: 2 * 2 + 3 = 7 are wanted, and 5 there.
    let parts = [(variants[0], vec![(item(1), 2)]), (variants[1], vec![(item(2), 1)]), (variants[2], vec![(item(1), 1)])].into();
    let refused = error::insufficient(&wanted, &[Shortage { item_id: item(1), wanted: 7, available: 5 }], &parts);
    let told: Vec<(&str, &str)> = refused.field_errors().iter().map(|field| (field.field.as_str(), field.detail.as_str())).collect();
    let together = "the lines want 7 of itm_00000000001 together, of which 5 can be had";
    assert_eq!(
        told,
        [
            ("lines[0].quantity", &*format!("2 wanted, 2 available; {together}")),
            ("lines[2].quantity", &*format!("3 wanted, 5 available; {together}"))
        ]
    );
}

#[test]
fn events_as_they_are_written() {
    let at = Timestamp::from_micros(1_767_614_400_000_000);
    let thing = Item {
        item_id: item(1),
        sku: "MUG".to_owned(),
        name: "Mug".to_owned(),
        policy: Policy::Backorder,
        oversell_limit: 5,
        promised_at: Some(at),
        low_stock_at: Some(2),
        version: 3,
        created_at: at,
        updated_at: at,
    };
    let warehouse = Location {
        location_id: place(2),
        kind: LocationKind::Warehouse,
        name: "North".to_owned(),
        address: Address { line1: "Quay 1".to_owned(), ..Address::default() },
        coordinates: Some(HAMBURG),
        priority: 10,
        active: true,
        version: 1,
        created_at: at,
        updated_at: at,
    };
    let movement = Movement {
        movement_id: MovementId::from_i64(3),
        item_id: item(1),
        location_id: place(2),
        kind: MovementKind::Received,
        on_hand: 5,
        incoming: -2,
        damaged: 0,
        safety: 0,
        reference: "po-1".to_owned(),
        note: "by hand".to_owned(),
        moved_at: at,
    };
    let held = Reserved {
        reference: "chk_1".to_owned(),
        state: ReservationState::Held,
        expires_at: Some(at),
        promised_at: None,
        lines: vec![ReservedLine { line: 0, variant_id: VariantId::from_i64(4), quantity: 2 }],
        allocations: Vec::new(),
        created_at: at,
        updated_at: at,
    };
    let bundle =
        Components { variant_id: VariantId::from_i64(4), components: vec![Component { item_id: item(1), quantity: 2 }], version: 7 };
    let written = [
        events::item("inventory.item_created", &thing),
        events::location("inventory.location_changed", &warehouse),
        events::components_set(&bundle),
        events::moved(&movement),
        events::low(item(1), 2, 3),
        events::oversold(item(1), place(2), 4, 6),
        events::expired(&held),
    ];
    let time = "2026-01-05T12:00:00.000000Z";
    let golden = [
        (
            "inventory.item_created",
            "itm_00000000001",
            format!(
                r#"{{"item_id":"itm_00000000001","sku":"MUG","name":"Mug","policy":"backorder","oversell_limit":5,"promised_at":"{time}","low_stock_at":2,"version":3,"created_at":"{time}","updated_at":"{time}"}}"#
            ),
        ),
        (
            "inventory.location_changed",
            "loc_00000000002",
            r#"{"location_id":"loc_00000000002","kind":"warehouse","name":"North","priority":10,"active":true,"version":1}"#.to_owned(),
        ),
        (
            "inventory.components_set",
            "var_00000000004",
            r#"{"variant_id":"var_00000000004","components":[{"item_id":"itm_00000000001","quantity":2}],"version":7}"#.to_owned(),
        ),
        (
            "stock.received",
            "itm_00000000001",
            r#"{"movement_id":"mov_00000000003","item_id":"itm_00000000001","location_id":"loc_00000000002","kind":"received","on_hand":5,"incoming":-2,"damaged":0,"safety":0,"reference":"po-1"}"#.to_owned(),
        ),
        ("stock.low", "itm_00000000001", r#"{"item_id":"itm_00000000001","available":2,"low_stock_at":3}"#.to_owned()),
        (
            "stock.oversold",
            "itm_00000000001",
            r#"{"item_id":"itm_00000000001","location_id":"loc_00000000002","on_hand":4,"reserved":6}"#.to_owned(),
        ),
        (
            "stock.reservation_expired",
            "chk_1",
            format!(r#"{{"reference":"chk_1","expires_at":"{time}","lines":[{{"line":0,"variant_id":"var_00000000004","quantity":2}}]}}"#),
        ),
    ];
    for (event, (kind, subject, payload)) in written.iter().zip(&golden) {
        assert_eq!((event.kind, event.version, event.subject.as_str(), &event.payload), (*kind, 1, *subject, payload));
    }
    let told = MovementKind::ALL.iter().map(|kind| kind.event()).chain(written.iter().map(|event| event.kind));
    for kind in told {
        assert!(events::EVENTS.iter().any(|known| known.kind == kind && known.version == 1), "{kind}");
    }
}
