//! Random commands against a model so simple that it can't be wrong: numbers in maps. More seeds with `BRANDOS_INVENTORY_SEEDS`.

use super::*;
use crate::api::{Change, Changes, Confirmation, Parts, Release, Return, Shipment};
use crate::{levels, reserve};
use kernel::{Rng, SeededRng};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
struct Held {
    state: ReservationState,
    lines: Vec<(VariantId, i64)>,
    allocations: Vec<Allocation>,
    expires_ms: i64,
}

/// What there should be.
#[derive(Default)]
struct Model {
    on_hand: BTreeMap<(ItemId, LocationId), i64>,
    reserved: BTreeMap<(ItemId, LocationId), i64>,
    limits: BTreeMap<ItemId, i64>,
    parts: BTreeMap<VariantId, Vec<(ItemId, i64)>>,
    held: BTreeMap<String, Held>,
    now_ms: i64,
}

impl Model {
    /// How many of an item can be had.
    fn can_be_had(&self, item: ItemId) -> i64 {
        let places = self
            .on_hand
            .keys()
            .chain(self.reserved.keys())
            .filter(|(own, _)| *own == item)
            .copied()
            .collect::<std::collections::BTreeSet<_>>();
        let available = |key: &(ItemId, LocationId)| self.on_hand.get(key).unwrap_or(&0) - self.reserved.get(key).unwrap_or(&0);
        let there: i64 = places.iter().map(|key| available(key).max(0)).sum();
        let promised: i64 = places.iter().map(|key| (-available(key)).max(0)).sum();
        there + (self.limits.get(&item).unwrap_or(&0) - promised).max(0)
    }

    fn fits(&self, lines: &[(VariantId, i64)]) -> bool {
        let mut wanted: BTreeMap<ItemId, i64> = BTreeMap::new();
        for (variant, quantity) in lines {
            for (item, each) in self.parts.get(variant).into_iter().flatten() {
                *wanted.entry(*item).or_default() += each * quantity;
            }
        }
        wanted.iter().all(|(item, wanted)| *wanted <= self.can_be_had(*item))
    }

    fn let_go(&mut self, reference: &str, state: ReservationState) {
        let held = self.held.get_mut(reference).expect("it is held");
        held.state = state;
        for allocation in &held.allocations {
            *self.reserved.entry((allocation.item_id, allocation.location_id)).or_default() -= allocation.open();
        }
    }

    fn sweep(&mut self) {
        let due: Vec<String> = self
            .held
            .iter()
            .filter(|(_, held)| held.state == ReservationState::Held && held.expires_ms <= self.now_ms)
            .map(|(reference, _)| reference.clone())
            .collect();
        due.iter().for_each(|reference| self.let_go(reference, ReservationState::Expired));
    }
}

async fn run(app: &TestApp, seed: u64, steps: u32) {
    let rng = SeededRng::new(seed);
    let below = |n: u64| rng.below(n);
    let shop = Shop::new(app, &format!("seed-{seed}"));
    let mut model = Model::default();
    let (mut items, mut places, mut variants) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..3 {
        let limit = if n == 2 { 4 } else { 0 };
        let policy = if n == 2 { Policy::Backorder } else { Policy::Deny };
        let item = shop.item(NewItem { sku: format!("I{n}"), policy, oversell_limit: limit, ..NewItem::default() }).await.item_id;
        model.limits.insert(item, limit);
        items.push(item);
        places.push(shop.location(&format!("L{n}"), n, None).await);
    }
    for parts in [
        vec![(items[0], 1)],
        vec![(items[1], 1)],
        vec![(items[2], 1)],
        vec![(items[0], 2), (items[1], 1)],
        vec![(items[0], 1), (items[2], 3)],
        vec![],
    ] {
        let variant = shop.variant(&parts).await;
        model.parts.insert(variant, parts);
        variants.push(variant);
    }
    for step in 0..steps {
        let reference = format!("r{}", below(12 + u64::from(step) / 3));
        let (item, place) = (items[below(3) as usize], places[below(3) as usize]);
        let at = format!("seed {seed}, step {step}, {reference}");
        let known = model.held.get(&reference).cloned();
        let open = known.as_ref().is_some_and(|held| held.state.is_open());
        match below(10) {
            0..=3 => {
                let lines: Vec<(VariantId, i64)> = (0..=below(2)).map(|_| (variants[below(6) as usize], 1 + below(4) as i64)).collect();
                let lines = known.as_ref().filter(|_| below(2) == 0).map_or(lines, |held| held.lines.clone());
                let told = shop.reserve(demand(app, &reference, &lines)).await;
                let expected = match &known {
                    Some(held) if held.lines != lines => Some("inventory.reference_reused"),
                    Some(_) if !open => Some("inventory.reservation_ended"),
                    Some(_) => None,
                    None if model.fits(&lines) => None,
                    None => Some("inventory.insufficient"),
                };
                assert_eq!(told.as_ref().err().map(|error| error.code()), expected, "{at}: {lines:?}");
                if let (Ok(reserved), None) = (told, known) {
                    for allocation in &reserved.allocations {
                        *model.reserved.entry((allocation.item_id, allocation.location_id)).or_default() += allocation.quantity;
                    }
                    let held = Held { state: reserved.state, lines, allocations: reserved.allocations, expires_ms: model.now_ms + 900_000 };
                    model.held.insert(reference, held);
                }
            }
            4 => {
                let told = shop.write(|tx, reference: &String| api::confirm(tx, reference), reference.clone()).await.expect("an answer");
                let expected = match known.map(|held| held.state) {
                    None => Confirmation::Unknown,
                    Some(ReservationState::Expired) => Confirmation::Expired,
                    Some(ReservationState::Released) => Confirmation::Released,
                    Some(_) => Confirmation::Confirmed,
                };
                assert_eq!(told, expected, "{at}");
                if open {
                    model.held.get_mut(&reference).expect("it is open").state = ReservationState::Confirmed;
                }
            }
            5 => {
                let told = shop.write(|tx, reference: &String| api::release(tx, reference), reference.clone()).await.expect("an answer");
                let expected = if known.is_none() {
                    Release::Unknown
                } else if open {
                    Release::Released
                } else {
                    Release::Ended
                };
                assert_eq!(told, expected, "{at}");
                if open {
                    model.let_go(&reference, ReservationState::Released);
                }
            }
            6 => {
                let told =
                    shop.write(api::ship, Shipment { reference: reference.clone(), note: String::new(), parts: Parts::At(place) }).await;
                let Some(held) = known.filter(|_| open) else {
                    assert!(told.is_err(), "{at}");
                    continue;
                };
                let mut out: BTreeMap<(ItemId, LocationId), i64> = BTreeMap::new();
                for allocation in held.allocations.iter().filter(|a| a.location_id == place && a.open() > 0) {
                    *out.entry((allocation.item_id, allocation.location_id)).or_default() += allocation.open();
                }
                let there = out.iter().all(|(key, quantity)| model.on_hand.get(key).unwrap_or(&0) >= quantity);
                let expected = match (held.allocations.is_empty(), out.is_empty(), there) {
                    (true, ..) => None,
                    (false, true, _) => Some("inventory.over_shipped"),
                    (false, false, true) => None,
                    (false, false, false) => Some("inventory.not_on_hand"),
                };
                assert_eq!(told.as_ref().err().map(|error| error.code()), expected, "{at}");
                if let Ok(reserved) = told {
                    for (key, quantity) in out {
                        *model.on_hand.entry(key).or_default() -= quantity;
                        *model.reserved.entry(key).or_default() -= quantity;
                    }
                    let all_out = reserved.allocations.iter().all(|allocation| allocation.open() == 0);
                    assert_eq!(reserved.state == ReservationState::Shipped, all_out, "{at}");
                    let held = model.held.get_mut(&reference).expect("it is open");
                    (held.state, held.allocations) = (reserved.state, reserved.allocations);
                }
            }
            7 => {
                let line = below(2) as u32;
                let back = Return {
                    reference: reference.clone(),
                    note: String::new(),
                    location_id: place,
                    lines: vec![(line, 1)],
                    damaged: false,
                };
                if let Ok(reserved) = shop.write(api::restock, back).await {
                    let held = model.held.get_mut(&reference).expect("something went out");
                    let parts = model.parts[&held.lines[line as usize].0].clone();
                    for (item, each) in parts {
                        *model.on_hand.entry((item, place)).or_default() += each;
                        let out: i64 =
                            held.allocations.iter().filter(|a| a.line == line && a.item_id == item).map(|a| a.shipped - a.returned).sum();
                        assert!(out >= each, "{at}: {out} were out");
                    }
                    held.allocations = reserved.allocations;
                }
            }
            8 => {
                let there = model.on_hand.get(&(item, place)).copied().unwrap_or_default();
                let (kind, quantity) = if below(3) == 0 {
                    (MovementKind::WrittenOff, 1 + below(3) as i64)
                } else {
                    (MovementKind::Received, 1 + below(8) as i64)
                };
                let line = Change { item_id: item, location_id: place, kind, quantity, expected: (below(4) == 0).then_some(there) };
                let told = shop.write(levels::change, Changes { reference: String::new(), note: String::new(), lines: vec![line] }).await;
                let by = if kind == MovementKind::Received { quantity } else { -quantity };
                assert_eq!(told.is_ok(), there + by >= 0, "{at}");
                if told.is_ok() {
                    model.on_hand.insert((item, place), there + by);
                }
            }
            _ => {
                model.now_ms += 200_000;
                app.clock().advance_ms(200_000);
                shop.write(|tx, (): &()| reserve::expire_due(tx, 1_000), ()).await.expect("they expire");
                model.sweep();
            }
        }
    }
    for item in items {
        for place in &places {
            let level = shop.level(item, *place).await;
            let key = (item, *place);
            let expected = (model.on_hand.get(&key).copied().unwrap_or_default(), model.reserved.get(&key).copied().unwrap_or_default());
            assert_eq!((level.on_hand, level.reserved), expected, "seed {seed}");
        }
    }
    for (variant, parts) in model.parts.clone() {
        let shown = shop.read(move |read| api::available(read, &[variant])).await.pop().expect("one");
        let expected = parts.iter().map(|(item, each)| model.can_be_had(*item) / each).min();
        assert_eq!(shown.available, expected, "seed {seed}");
    }
}

testkit::both_engines! {
    setup: || Setup::new(vec![web::Module { workflows: Vec::new(), ..crate::module() }]);

    async fn random_commands_do_what_the_model_does(app: TestApp) {
        let seeds: u64 = std::env::var("BRANDOS_INVENTORY_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
        for seed in 0..seeds {
            run(&app, seed, 120).await;
        }
    }
}
