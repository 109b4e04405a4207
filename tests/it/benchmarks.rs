//! That the benchmark which counts instructions fails when it should, and tells what fell, without counting any.

#[path = "../../benches/record/mod.rs"]
mod record;

use record::{Cost, Record, Verdict, without_packager};

fn record(instructions: u64, allocations: u64) -> Record {
    let cost = Cost { call: "get".to_owned(), instructions: Some(instructions), allocations, bytes: 4096 };
    Record { with: "one compiler".to_owned(), costs: vec![cost] }
}

#[test]
fn more_than_three_percent_and_one_allocation_are_growth() {
    let was = record(100_000, 30);
    assert_eq!(was.against(&record(102_900, 30)), Verdict::Holds);
    assert_eq!(was.against(&record(103_000, 30)), Verdict::Holds);
    let grown = |told: &str| Verdict::Grown(vec![told.to_owned()]);
    let told = "get: 103100 instructions, and it was 100000: 3.1 % more";
    assert_eq!(was.against(&record(103_100, 30)), grown(told));
    assert_eq!(was.against(&record(50_000, 31)), grown("get: 31 allocations, and it was 30"));
}

#[test]
fn more_than_three_percent_less_and_one_allocation_less_are_told() {
    let was = record(100_000, 30);
    assert_eq!(was.against(&record(97_000, 30)), Verdict::Holds);
    let fallen = |told: &str| Verdict::Fallen(vec![told.to_owned()]);
    assert_eq!(was.against(&record(96_900, 30)), fallen("get: 96900 instructions, and it was 100000: 3.1 % less"));
    assert_eq!(was.against(&record(100_000, 29)), fallen("get: 29 allocations, and it was 30"));
}

#[test]
fn instructions_of_another_compiler_say_nothing_and_allocations_do() {
    let was = record(100_000, 30);
    let other = |now: Record| Record { with: "another".to_owned(), ..now };
    assert_eq!(was.against(&other(record(200_000, 30))), Verdict::NotComparable);
    assert_eq!(was.against(&other(record(50_000, 29))), Verdict::NotComparable);
    assert!(matches!(was.against(&other(record(100_000, 31))), Verdict::Grown(_)));
    let mut uncounted = record(0, 30);
    uncounted.costs[0].instructions = None;
    assert_eq!(was.against(&uncounted), Verdict::NotComparable);
    uncounted.costs[0].allocations = 31;
    assert!(matches!(was.against(&uncounted), Verdict::Grown(_)));
}

#[test]
fn a_call_that_is_not_recorded_is_told() {
    let mut now = record(100_000, 30);
    now.costs[0].call = "put".to_owned();
    assert_eq!(record(100_000, 30).against(&now), Verdict::Grown(vec!["put: it is not recorded".to_owned()]));
}

#[test]
fn what_is_written_is_read() {
    let record = record(100_000, 30);
    assert_eq!(Record::parse(&record.to_string()), Some(record));
    assert_eq!(Record::parse("get 1 2 3"), None);
    assert_eq!(Record::parse("with x\nget 1 2"), None);
}

#[test]
fn who_packed_a_compiler_is_not_recorded() {
    assert_eq!(without_packager("cc (Debian 12.2.0-14+deb12u1) 12.2.0"), "cc 12.2.0");
    assert_eq!(without_packager("Debian clang version 14.0.6"), "Debian clang version 14.0.6");
}

#[test]
fn the_recorded_figures_are_a_record() {
    let record = Record::parse(include_str!("../../benches/instructions.txt"));
    assert!(record.is_some_and(|record| !record.costs.is_empty()));
}
