use std::sync::Arc;

use uuid::Uuid;

use super::*;

type Names = Schedule<String, &'static str>;

const BOUNDS: Bounds = Bounds { usual: 2, most: 6, waiting: 6, waiting_of_store: 4 };

fn line_of(store: u128, caller: &str, kind: Kind) -> Line {
    Line::new(StoreId(Uuid::from_u128(store)), &Arc::from(caller), kind)
}

fn line(store: u128) -> Line {
    line_of(store, "ann", Kind::Many)
}

fn waits(schedule: &mut Names, line: &Line, name: &'static str) -> u64 {
    match schedule.enter(line, name) {
        Entered::Waits { ticket, displaced: None } => ticket,
        entered @ (Entered::Under | Entered::Full(_) | Entered::Waits { .. }) => {
            panic!("{name}: {entered:?}")
        }
    }
}

fn begins(schedule: &mut Names, line: &Line) {
    assert!(matches!(schedule.enter(line, "nobody"), Entered::Under));
}

fn granted(schedule: &mut Names) -> Vec<&'static str> {
    std::iter::from_fn(|| schedule.grant()).map(|(_, name)| name).collect()
}

fn run(schedule: &mut Names) -> Vec<String> {
    std::iter::from_fn(|| schedule.pop()).collect()
}

#[test]
fn a_store_of_many_slices_gets_no_more_turns_than_one_of_few() {
    let mut schedule = Names::new(BOUNDS);
    for number in 0..4 {
        schedule.push(&line(1), 0, format!("greedy{number}"));
    }
    schedule.push(&line(2), 0, "polite".to_owned());
    schedule.push(&line_of(1, "bob", Kind::Many), 0, "bob".to_owned());
    assert_eq!(run(&mut schedule), ["greedy0", "polite", "bob", "greedy1", "greedy2", "greedy3"]);
    assert!(schedule.stores.is_empty(), "nothing is remembered of who is gone");
}

/// Over a long time, whatever the stores bring, each that always has something gets as much as
/// every other.
#[test]
fn turns_are_shared_equally_for_as_long_as_there_is_work() {
    let mut schedule = Names::new(BOUNDS);
    let bring = |schedule: &mut Names, store: u128, had| schedule.push(&line(store), had, store.to_string());
    for _ in 0..50 {
        bring(&mut schedule, 1, 9);
    }
    bring(&mut schedule, 2, 0);
    bring(&mut schedule, 3, 9);
    let mut turns = [0; 4];
    for _ in 0..300 {
        let store: u128 = schedule.pop().expect("work").parse().expect("a store");
        turns[usize::try_from(store).expect("small")] += 1;
        bring(&mut schedule, store, 0);
    }
    assert_eq!(turns, [0, 100, 100, 100]);
}

#[test]
fn searches_that_have_had_little_go_first_and_the_others_are_not_forgotten() {
    let mut schedule = Names::new(BOUNDS);
    schedule.push(&line(1), 100, "long".to_owned());
    for number in 0..5 {
        schedule.push(&line(1), 0, format!("short{number}"));
    }
    assert_eq!(run(&mut schedule), ["short0", "short1", "short2", "long", "short3", "short4"]);
}

#[test]
fn a_store_with_nothing_under_way_begins_whatever_others_do() {
    let mut schedule = Names::new(BOUNDS);
    begins(&mut schedule, &line(1));
    begins(&mut schedule, &line(1));
    waits(&mut schedule, &line(1), "third");
    begins(&mut schedule, &line(2));
    waits(&mut schedule, &line(2), "second of the other");
    // Nor is a Check behind the lists of its own caller.
    begins(&mut schedule, &line_of(1, "ann", Kind::One));
    // Another caller of the store waits, since its store has its share.
    waits(&mut schedule, &line_of(1, "bob", Kind::Many), "bob");
    assert_eq!((schedule.under_way(), schedule.waiting()), (4, 3));
    begins(&mut schedule, &line(3));
    begins(&mut schedule, &line(4));
    // There is an end to it, though.
    waits(&mut schedule, &line(5), "too many stores");
}

#[test]
fn places_go_to_stores_and_callers_in_turn() {
    let mut schedule = Names::new(Bounds { usual: 1, waiting_of_store: 5, ..BOUNDS });
    begins(&mut schedule, &line(1));
    begins(&mut schedule, &line(2));
    for (line, name) in [
        (line(1), "a1"),
        (line(1), "a2"),
        (line_of(1, "bob", Kind::Many), "b1"),
        (line(2), "c1"),
        (line(2), "c2"),
    ] {
        waits(&mut schedule, &line, name);
    }
    assert!(granted(&mut schedule).is_empty());
    let mut order = Vec::new();
    let mut ends = VecDeque::from([line(1), line(2)]);
    while let Some(ending) = ends.pop_front() {
        schedule.release(&ending, Duration::from_millis(5));
        while let Some((line, name)) = schedule.grant() {
            order.push(name);
            ends.push_back(line);
        }
    }
    assert_eq!(order, ["a1", "c1", "b1", "c2", "a2"]);
    assert!(schedule.stores.is_empty() && schedule.eager.is_empty() && schedule.under_way() == 0);
}

#[test]
fn who_floods_makes_room_and_nobody_else() {
    let mut schedule = Names::new(Bounds { waiting: 4, ..BOUNDS });
    for store in [1, 1, 2, 3] {
        begins(&mut schedule, &line(store));
    }
    for name in ["f1", "f2", "f3", "f4"] {
        waits(&mut schedule, &line(1), name);
    }
    assert!(matches!(schedule.enter(&line(1), "f5"), Entered::Full("f5")), "more than a store may have");
    let displaced = |entered| match entered {
        Entered::Waits { displaced, .. } => displaced,
        entered @ (Entered::Under | Entered::Full(_)) => panic!("{entered:?}"),
    };
    assert_eq!(displaced(schedule.enter(&line(2), "polite")), Some("f4"));
    assert_eq!(displaced(schedule.enter(&line(3), "polite too")), Some("f3"));
    // Now they have about as much each, and who comes next finds it full.
    assert!(matches!(schedule.enter(&line(2), "one more"), Entered::Full("one more")));
    assert_eq!(schedule.waiting(), 4);
}

#[test]
fn the_wait_is_foretold_from_how_long_places_are_held() {
    let mut schedule = Names::new(BOUNDS);
    assert_eq!(schedule.wait(&line(1)), Duration::ZERO);
    begins(&mut schedule, &line(1));
    begins(&mut schedule, &line(1));
    schedule.release(&line(1), Duration::from_millis(100));
    begins(&mut schedule, &line(2));
    // One under way and nobody before: one whole search.
    assert_eq!(schedule.wait(&line(1)), Duration::from_millis(100));
    waits(&mut schedule, &line(1), "first");
    waits(&mut schedule, &line(1), "second");
    assert_eq!(schedule.wait(&line(1)), Duration::from_millis(300));
    // What is known of a line holds for it alone.
    assert!(schedule.wait(&line_of(1, "bob", Kind::Many)) < Duration::from_millis(100));
    assert_eq!(schedule.wait(&line(3)), Duration::ZERO, "a store of its own has a place");
}

#[test]
fn a_pause_costs_the_place_only_if_others_wait() {
    let mut schedule = Names::new(BOUNDS);
    let (begun, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
    begins(&mut schedule, &line(1));
    begins(&mut schedule, &line(1));
    let paused = schedule.park(&line(1), begun);
    assert!(!schedule.reclaim(later), "nobody waits");
    waits(&mut schedule, &line(1), "next");
    assert!(!schedule.reclaim(begun.checked_sub(Duration::from_secs(1)).expect("a moment")), "too soon");
    assert!(schedule.reclaim(later));
    assert_eq!(granted(&mut schedule), ["next"]);
    assert!(!schedule.unpark(paused), "it is no longer its own");
    assert!(matches!(schedule.enter_again(&line(1), "again"), Entered::Waits { .. }));
    waits(&mut schedule, &line(1), "new");
    schedule.release(&line(1), Duration::from_millis(1));
    assert_eq!(granted(&mut schedule), ["again"], "before those that have not begun");
}

#[test]
fn who_leaves_is_not_called() {
    let mut schedule = Names::new(BOUNDS);
    begins(&mut schedule, &line(1));
    begins(&mut schedule, &line(1));
    let tickets = ["a", "b", "c"].map(|name| waits(&mut schedule, &line(1), name));
    assert_eq!(schedule.leave(&line(1), tickets[1]), Some("b"));
    assert_eq!(schedule.leave(&line(1), tickets[1]), None);
    schedule.release(&line(1), Duration::ZERO);
    schedule.release(&line(1), Duration::ZERO);
    assert_eq!(granted(&mut schedule), ["a", "c"]);
    assert_eq!(schedule.leave(&line(1), tickets[0]), None, "it has its place");
}
