//! The shipment's table of states, and what follows from tracking in whatever order it comes.

use crate::shipments::model::*;
use kernel::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Every state by every command: the state after it, or why it is refused.
#[test]
fn every_command_in_every_state() {
    let by = Command::By;
    let commands = [
        by(Step::Pick),
        by(Step::Pack),
        by(Step::MakeReady),
        by(Step::Ship),
        by(Step::Deliver),
        by(Step::Fail),
        by(Step::TakeBack),
        by(Step::Cancel),
        Command::Repack,
        Command::RequestLabel,
        Command::LabelBought,
        Command::LabelRefused,
        Command::LabelVoided,
        Command::Tracked(State::Shipped),
        Command::Tracked(State::Delivered),
        Command::Tracked(State::Failed),
        Command::Tracked(State::ReturnedToSender),
    ];
    #[rustfmt::skip]
    let table = [
        //                       pick      pack      make_ready ship       deliver      fail      take_back             cancel       repack     request_label      bought   refused   voided    tracked shipped       delivered    failed       returned
        ("pending",            "picked    packed    -          -          -            -         -                     cancelled    pending    -                  -        -         -         shipped               delivered    failed       returned_to_sender"),
        ("picked",             "-         packed    -          -          -            -         -                     cancelled    picked     -                  -        -         -         shipped               delivered    failed       returned_to_sender"),
        ("packed",             "-         -         ready      shipped    -            -         -                     cancelled    packed     label_requested    -        -         -         shipped               delivered    failed       returned_to_sender"),
        ("label_requested",    "-         -         -          -          -            -         -                     -            -          -                  ready    packed    -         shipped               delivered    failed       returned_to_sender"),
        ("ready",              "-         -         -          shipped    -            -         -                     cancelled    -          -                  -        -         packed    shipped               delivered    failed       returned_to_sender"),
        ("shipped",            "-         -         -          -          delivered    failed    returned_to_sender    -            -          -                  -        -         -         shipped               delivered    failed       returned_to_sender"),
        ("delivered",          "-         -         -          -          -            -         returned_to_sender    -            -          -                  -        -         -         delivered             delivered    failed       returned_to_sender"),
        ("failed",             "-         -         -          -          delivered    -         returned_to_sender    -            -          -                  -        -         -         shipped               delivered    failed       returned_to_sender"),
        ("cancelled",          "-         -         -          -          -            -         -                     -            -          -                  -        -         -         cancelled             cancelled    cancelled    cancelled"),
        ("returned_to_sender", "-         -         -          -          -            -         -                     -            -          -                  -        -         -         returned_to_sender    delivered    failed       returned_to_sender"),
    ];
    assert_eq!(table.len(), State::ALL.len());
    for (state, (row, expected)) in State::ALL.iter().zip(table) {
        assert_eq!(state.as_str(), row);
        let expected: Vec<&str> = expected.split_whitespace().collect();
        assert_eq!(expected.len(), commands.len(), "{row}");
        for (command, expected) in commands.iter().zip(expected) {
            let decided = match decide(*state, false, *command) {
                Ok(after) => after.as_str(),
                Err(error) => {
                    assert_eq!(error.code(), "shipping.not_allowed");
                    "-"
                }
            };
            assert_eq!(decided, expected, "{command:?} when {row}");
        }
    }
    // A label that was bought is given back before anything else becomes of the shipment.
    for command in [by(Step::Cancel), by(Step::Pack), Command::Repack] {
        assert_eq!(decide(State::Ready, true, command).expect_err("labelled").code(), "shipping.has_label");
    }
    assert_eq!(decide(State::Ready, true, by(Step::Ship)).expect("it goes"), State::Shipped);
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

#[test]
fn what_stands_of_a_parcel() {
    use Tracked::*;
    /// What was told, and at which second it happened.
    type Events = &'static [(Tracked, i64)];
    let table: &[(Events, Option<Tracked>)] = &[
        (&[], None),
        (&[(Announced, 1)], Some(Announced)),
        (&[(InTransit, 2), (Announced, 1)], Some(InTransit)),
        (&[(OutForDelivery, 3), (InTransit, 2)], Some(OutForDelivery)),
        // Announced by a clock that is late.
        (&[(OutForDelivery, 1), (Announced, 2)], Some(OutForDelivery)),
        // It went back to the depot.
        (&[(OutForDelivery, 3), (InTransit, 4)], Some(InTransit)),
        (&[(Exception, 3), (OutForDelivery, 3)], Some(Exception)),
        // A scan of the way that carries a later time than the end.
        (&[(Delivered, 5), (InTransit, 9)], Some(Delivered)),
        (&[(Lost, 5), (InTransit, 9)], Some(InTransit)),
        (&[(Lost, 9), (InTransit, 5)], Some(Lost)),
        (&[(Lost, 9), (Delivered, 5)], Some(Delivered)),
        (&[(Delivered, 5), (Returned, 8)], Some(Returned)),
        (&[(Returned, 5), (Delivered, 8)], Some(Delivered)),
    ];
    for (told, expected) in table {
        let told: Vec<(Tracked, Timestamp)> = told.iter().map(|(status, second)| (*status, at(*second))).collect();
        assert_eq!(progress(&told), *expected, "{told:?}");
    }
}

#[test]
fn where_a_shipment_stands_by_its_parcels() {
    use Tracked::*;
    let table: &[(&[Option<Tracked>], Option<State>)] = &[
        (&[None], None),
        (&[Some(Announced), None], None),
        (&[Some(InTransit), None], Some(State::Shipped)),
        (&[Some(Delivered), None], Some(State::Shipped)),
        (&[Some(Delivered), Some(Announced)], Some(State::Shipped)),
        (&[Some(Delivered), Some(Delivered)], Some(State::Delivered)),
        (&[Some(Delivered), Some(Returned)], Some(State::ReturnedToSender)),
        (&[Some(Delivered), Some(Lost)], Some(State::Failed)),
        (&[Some(Returned), Some(Lost)], Some(State::Failed)),
        (&[Some(Lost), Some(Exception)], Some(State::Shipped)),
        (&[Some(Lost)], Some(State::Failed)),
    ];
    for (parcels, expected) in table {
        assert_eq!(standing(parcels), *expected, "{parcels:?}");
    }
}

#[test]
fn no_more_is_shipped_than_was_ordered() {
    let of = |entries: &[(u32, i64)]| entries.iter().copied().collect::<BTreeMap<u32, i64>>();
    let ordered = of(&[(1, 5), (2, 1)]);
    assert!(within(&ordered, &of(&[]), &of(&[(1, 5), (2, 1)])).is_ok());
    assert!(within(&ordered, &of(&[(1, 3)]), &of(&[(1, 2)])).is_ok());
    assert_eq!(within(&ordered, &of(&[(1, 3)]), &of(&[(1, 3)])).expect_err("too many").code(), "shipping.over_shipment");
    assert_eq!(within(&ordered, &of(&[(1, 9)]), &of(&[(2, 2)])).expect_err("too many").code(), "shipping.over_shipment");
    assert_eq!(within(&ordered, &of(&[]), &of(&[(3, 1)])).expect_err("not ordered").code(), "request.invalid");
}

proptest! {
    /// Whatever is told of two parcels, in whatever order and however often: the shipment ends where all of it together says.
    #[test]
    fn tracking_may_come_in_any_order(
        told in prop::collection::vec((0_usize..2, prop::sample::select(Tracked::ALL.to_vec()), 0_i64..6), 1..10)
            .prop_flat_map(|told| { let copy = told.clone(); (Just(told), Just([copy.clone(), copy].concat()).prop_shuffle()) })
    ) {
        let (in_order, shuffled) = told;
        let follow = |events: &[(usize, Tracked, i64)]| {
            let mut state = State::Ready;
            for upto in 1..=events.len() {
                let of = |parcel: usize| {
                    let known: Vec<(Tracked, Timestamp)> = events[..upto].iter().filter(|e| e.0 == parcel).map(|e| (e.1, at(e.2))).collect();
                    progress(&known)
                };
                if let Some(standing) = standing(&[of(0), of(1)]) {
                    state = decide(state, true, Command::Tracked(standing)).expect("tracking is never refused");
                }
            }
            state
        };
        prop_assert_eq!(follow(&in_order), follow(&shuffled));
    }
}
