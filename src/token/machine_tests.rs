//! The rules of the machine, one test each, and a seeded sweep over random inputs.

use std::time::SystemTime;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

fn epoch() -> Now {
    Now { mono: 1_000 * SECOND, wall: SystemTime::UNIX_EPOCH + 1_000_000 * SECOND }
}

fn granted(life: Duration) -> Input {
    Input::Granted { life, unchanged: false }
}

fn failed(kind: FailureKind) -> Input {
    Input::Failed(Failed { kind, retry_after: None })
}

const WAKE: Input = Input::Wake { used: true };

/// A machine that holds a token of an hour, asked for at `epoch()`.
fn holding(credentials: usize) -> Machine {
    let mut machine = Machine::new(Refresh::default(), None, credentials, 7);
    assert_eq!(machine.step(epoch(), Input::Start), [Effect::Ask { credential: 0, why: Why::First }]);
    assert_eq!(machine.step(epoch() + SECOND, granted(HOUR)), []);
    machine
}

fn generation(machine: &Machine, now: Now) -> Generation {
    machine.view(now).held.expect("a token is held").0
}

fn asks(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Ask { .. })).count()
}

#[test]
fn rule_1_one_flight_at_a_time() {
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    assert_eq!(asks(&machine.step(epoch(), Input::Start)), 1);
    for input in [Input::Wanted, WAKE, Input::Rotated, Input::Refused(Generation(1))] {
        assert_eq!(machine.step(epoch() + HOUR, input), [], "{input:?}");
    }
}

#[test]
fn rule_2_never_ask_before_the_embargo_not_even_for_a_refused_token() {
    let mut machine = holding(1);
    let due = machine.wake_at(epoch()).unwrap() - epoch().mono;
    assert_eq!(asks(&machine.step(epoch() + due, WAKE)), 1);
    let wish = Failed { kind: FailureKind::Transient, retry_after: Some(60 * SECOND) };
    machine.step(epoch() + due, Input::Failed(wish));
    for later in [SECOND, 59 * SECOND] {
        for input in [Input::Refused(Generation(1)), Input::Wanted, Input::Rotated, WAKE] {
            assert_eq!(machine.step(epoch() + due + later, input), [], "{input:?} after {later:?}");
        }
    }
    assert_eq!(asks(&machine.step(epoch() + due + 60 * SECOND, WAKE)), 1);
}

#[test]
fn rule_2_a_retry_after_of_an_hour_is_obeyed_for_five_minutes() {
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch(), Input::Failed(Failed { kind: FailureKind::Transient, retry_after: Some(HOUR) }));
    assert_eq!(machine.wake_at(epoch()), Some(epoch().mono + 300 * SECOND));
}

#[test]
fn rule_3_lifetime_counts_from_when_we_asked() {
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch() + 9 * SECOND, granted(100 * SECOND));
    let (_, until) = machine.view(epoch()).held.unwrap();
    assert_eq!(until, epoch().plus(90 * SECOND));
}

#[test]
fn rule_4_an_expired_token_is_past_its_deadline_by_either_clock() {
    let machine = holding(1);
    let (_, until) = machine.view(epoch()).held.unwrap();
    assert!(until.passed(epoch() + HOUR));
    assert!(until.passed(Now { wall: epoch().wall + HOUR, ..epoch() }));
}

#[test]
fn rule_4_a_reader_that_finds_an_expired_token_after_a_suspension_has_it_renewed_at_once() {
    let mut machine = holding(1);
    let woken = Now { wall: epoch().wall + HOUR, ..epoch() + 2 * SECOND };
    assert_eq!(machine.step(woken, Input::Wanted), [Effect::Ask { credential: 0, why: Why::Expired }]);
}

#[test]
fn rule_5_renewal_starts_at_the_early_share_with_jitter() {
    let due: Vec<_> = (0..200)
        .map(|seed| {
            let mut machine = Machine::new(Refresh::default(), None, 1, seed);
            machine.step(epoch(), Input::Start);
            machine.step(epoch(), granted(HOUR));
            machine.wake_at(epoch()).unwrap() - epoch().mono
        })
        .collect();
    let (latest, earliest) = (HOUR.mul_f64(0.75), HOUR.mul_f64(0.75 * 0.9) - 10 * SECOND);
    assert!(due.iter().all(|due| (earliest..=latest).contains(due)), "{due:?}");
    let spread = *due.iter().max().unwrap() - *due.iter().min().unwrap();
    assert!(spread > 120 * SECOND, "200 replicas spread over {spread:?} only");
}

#[test]
fn rule_5_no_sooner_than_the_minimal_interval() {
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch(), granted(SECOND / 10));
    assert_eq!(machine.wake_at(epoch()), Some(epoch().mono + SECOND));
    assert_eq!(machine.step(epoch() + SECOND / 2, Input::Wanted), []);
}

#[test]
fn rule_5_an_unused_token_is_left_to_expire_when_idle_is_off() {
    let mut machine = Machine::new(Refresh { when_idle: false, ..Refresh::default() }, None, 1, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch(), granted(HOUR));
    let idle = Input::Wake { used: false };
    let due = machine.wake_at(epoch()).unwrap() - epoch().mono;
    assert_eq!(machine.step(epoch() + due, idle), []);
    let again = machine.wake_at(epoch() + due).unwrap() - epoch().mono;
    assert!(again > due && again < HOUR, "looked at again while it lives, not spun on");
    assert_eq!(asks(&machine.clone().step(epoch() + again, WAKE)), 1, "used since: renewed");
    assert_eq!(machine.step(epoch() + HOUR, idle), []);
    assert_eq!(machine.wake_at(epoch() + HOUR), None, "expired and unused: nothing to wake for");
    assert_eq!(asks(&machine.step(epoch() + 2 * HOUR, Input::Wanted)), 1);
}

#[test]
fn rule_6_a_refusal_counts_only_if_it_is_of_what_is_held_and_withdraws_nothing() {
    let mut machine = holding(1);
    let now = epoch() + 60 * SECOND;
    assert_eq!(machine.step(now, Input::Refused(Generation(0))), []);
    assert_eq!(machine.step(now, Input::Refused(Generation(2))), []);
    assert_eq!(machine.step(now, Input::Refused(Generation(1))), [Effect::Ask { credential: 0, why: Why::Refused }]);
    assert_eq!(generation(&machine, now), Generation(1), "still there while the renewal is under way");
    machine.step(now, granted(HOUR));
    assert_eq!(machine.step(now + SECOND, Input::Refused(Generation(1))), [], "a late refusal of the old one");
}

#[test]
fn rule_7_a_rejected_credential_gives_way_at_once_then_backs_off() {
    let mut machine = Machine::new(Refresh::default(), None, 2, 7);
    machine.step(epoch(), Input::Start);
    assert_eq!(
        machine.step(epoch(), failed(FailureKind::Rejected)),
        [
            Effect::Switched { from: 0, to: 1, why: FailureKind::Rejected },
            Effect::Ask { credential: 1, why: Why::Retry }
        ]
    );
    assert_eq!(
        machine.step(epoch(), failed(FailureKind::Rejected)),
        [Effect::Switched { from: 1, to: 0, why: FailureKind::Rejected }]
    );
    assert!(machine.wake_at(epoch()).unwrap() > epoch().mono);
}

#[test]
fn rule_7_a_credential_that_cannot_be_used_gives_way_as_well() {
    let mut machine = Machine::new(Refresh::default(), None, 2, 7);
    machine.step(epoch(), Input::Start);
    let why = FailureKind::Unusable;
    assert_eq!(
        machine.step(epoch(), failed(why)),
        [Effect::Switched { from: 0, to: 1, why }, Effect::Ask { credential: 1, why: Why::Retry }]
    );
}

#[test]
fn rule_7_one_credential_has_no_other_to_give_way_to() {
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    machine.step(epoch(), Input::Start);
    assert_eq!(machine.step(epoch(), failed(FailureKind::Rejected)), []);
}

#[test]
fn rule_7_what_works_becomes_current_and_the_first_is_not_tried_again_by_a_timer() {
    let mut machine = Machine::new(Refresh::default(), None, 2, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch(), failed(FailureKind::Rejected));
    machine.step(epoch(), granted(HOUR));
    let due = machine.wake_at(epoch()).unwrap() - epoch().mono;
    assert_eq!(machine.step(epoch() + due, WAKE), [Effect::Ask { credential: 1, why: Why::Planned }]);
}

#[test]
fn rule_7_changed_files_return_to_the_first_and_lift_the_backoff_not_a_retry_after() {
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch(), failed(FailureKind::Rejected));
    assert_eq!(machine.step(epoch(), Input::Rotated), [Effect::Ask { credential: 0, why: Why::First }]);
    machine.step(epoch(), Input::Failed(Failed { kind: FailureKind::Rejected, retry_after: Some(60 * SECOND) }));
    assert_eq!(machine.step(epoch(), Input::Rotated), []);
    assert_eq!(machine.wake_at(epoch()), Some(epoch().mono + 60 * SECOND));
}

#[test]
fn rule_7_a_rejection_of_what_was_replaced_in_flight_says_nothing_about_the_new() {
    let mut machine = Machine::new(Refresh::default(), None, 2, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch(), Input::Rotated);
    assert_eq!(machine.step(epoch(), failed(FailureKind::Rejected)), [Effect::Ask { credential: 0, why: Why::First }]);
}

#[test]
fn rule_7_a_changed_file_costs_no_token_request_while_the_token_is_good() {
    let mut machine = holding(1);
    assert_eq!(machine.step(epoch() + 60 * SECOND, Input::Rotated), []);
}

#[test]
fn rule_8_a_bad_answer_never_overwrites_a_good_token() {
    let machine = holding(1);
    let due = machine.wake_at(epoch()).unwrap() - epoch().mono;
    for kind in [FailureKind::Transient, FailureKind::Rejected, FailureKind::Unusable] {
        let mut machine = machine.clone();
        machine.step(epoch() + due, WAKE);
        machine.step(epoch() + due, failed(kind));
        assert_eq!(generation(&machine, epoch() + due), Generation(1));
    }
}

#[test]
fn rule_9_forced_renewals_back_off_while_fresh_tokens_do_not_cure() {
    let mut machine = holding(1);
    let mut now = epoch() + 60 * SECOND;
    let mut gaps = Vec::new();
    for _ in 0..12 {
        let refused = Input::Refused(generation(&machine, now));
        let mut waited = Duration::ZERO;
        let mut effects = machine.step(now, refused);
        while asks(&effects) == 0 {
            now = now + SECOND;
            waited += SECOND;
            effects = machine.step(now, WAKE);
        }
        gaps.push(waited.as_secs());
        machine.step(now, granted(24 * HOUR));
    }
    assert_eq!(gaps, [0, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]);
}

/// Two of its tokens were refused, 10 s apart, and the third has just been granted.
fn refused_twice() -> (Machine, Now) {
    let mut machine = holding(1);
    let mut now = epoch() + 60 * SECOND;
    for _ in 0..2 {
        machine.step(now, Input::Refused(generation(&machine, now)));
        now = now + 10 * SECOND;
        machine.step(now, WAKE);
        machine.step(now, granted(HOUR));
    }
    (machine, now)
}

#[test]
fn rule_9_a_cure_resets_and_so_does_a_life_without_refusal() {
    for cure in [true, false] {
        let (mut machine, mut now) = refused_twice();
        if cure {
            machine.step(now, Input::Cured(generation(&machine, now)));
        } else {
            now = now + HOUR;
            machine.step(now, WAKE);
            machine.step(now, granted(HOUR));
        }
        now = now + 60 * SECOND;
        assert_eq!(asks(&machine.step(now, Input::Refused(generation(&machine, now)))), 1);
        machine.step(now, granted(HOUR));
        machine.step(now + SECOND, Input::Refused(generation(&machine, now)));
        assert_eq!(machine.wake_at(now + SECOND), Some(now.mono + 10 * SECOND), "cured by replay: {cure}");
    }
}

#[test]
fn rule_9_a_cure_is_by_the_token_that_is_held_and_was_not_refused_since() {
    for is_refused in [true, false] {
        let (mut machine, mut now) = refused_twice();
        let held = generation(&machine, now);
        if is_refused {
            machine.step(now, Input::Refused(held));
            machine.step(now, Input::Cured(held));
        } else {
            machine.step(now, Input::Cured(Generation(1)));
            machine.step(now, Input::Refused(held));
        }
        let waits = Some(now.mono + 10 * SECOND);
        assert_eq!(machine.wake_at(now), waits, "20 s behind the last; refused meanwhile: {is_refused}");
        // And the gap after that is doubled still.
        now = now + 10 * SECOND;
        machine.step(now, WAKE);
        machine.step(now, granted(HOUR));
        machine.step(now, Input::Refused(generation(&machine, now)));
        assert_eq!(machine.wake_at(now), Some(now.mono + 40 * SECOND), "refused meanwhile: {is_refused}");
    }
}

#[test]
fn rule_9_refusals_never_delay_a_planned_renewal() {
    let mut machine = holding(1);
    let mut now = epoch() + 60 * SECOND;
    for _ in 0..9 {
        machine.step(now, Input::Refused(generation(&machine, now)));
        while machine.view(now).next_ask.is_some() {
            now = now + SECOND;
            machine.step(now, WAKE);
        }
        machine.step(now, granted(60 * SECOND));
    }
    machine.step(now, Input::Refused(generation(&machine, now)));
    assert!(machine.wake_at(now).unwrap() <= now.mono + 45 * SECOND);
}

#[test]
fn rule_9_a_forced_renewal_that_brought_no_token_is_tried_again_by_the_backoff() {
    let mut machine = holding(1);
    let mut now = epoch() + 60 * SECOND;
    machine.step(now, Input::Refused(Generation(1)));
    for whole in [1, 2, 4, 8, 16, 30, 30, 30] {
        machine.step(now, failed(FailureKind::Transient));
        let waited = machine.wake_at(now).unwrap() - now.mono;
        assert!(waited <= whole * SECOND, "{waited:?} of {whole} s");
        now = now + waited;
        assert_eq!(asks(&machine.step(now, WAKE)), 1);
    }
    machine.step(now, granted(HOUR));
    let next = now + SECOND;
    machine.step(next, Input::Refused(generation(&machine, next)));
    assert_eq!(machine.wake_at(next), Some(now.mono + 10 * SECOND), "the gap has not grown meanwhile");
}

#[test]
fn rule_9_the_same_token_granted_again_is_not_a_cure() {
    let mut machine = holding(1);
    let now = epoch() + 60 * SECOND;
    machine.step(now, Input::Refused(Generation(1)));
    assert_eq!(machine.step(now, Input::Granted { life: HOUR, unchanged: true }), []);
    assert_eq!(generation(&machine, now), Generation(1));
    assert_eq!(machine.wake_at(now), Some(now.mono + 10 * SECOND), "tried again, but not before the gap");
}

#[test]
fn rule_10_the_margin_is_at_most_a_tenth_of_life() {
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch(), granted(4 * SECOND));
    let (_, until) = machine.view(epoch()).held.unwrap();
    assert_eq!(until, epoch().plus(Duration::from_millis(3_600)));
    assert!(machine.wake_at(epoch()).unwrap() <= epoch().mono + Duration::from_millis(2_700));
}

#[test]
fn rule_11_backoff_is_exponential_with_equal_jitter() {
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    let mut now = epoch();
    machine.step(now, Input::Start);
    for whole in [1, 2, 4, 8, 16, 30, 30] {
        machine.step(now, failed(FailureKind::Transient));
        let waited = machine.wake_at(now).unwrap() - now.mono;
        assert!((whole * SECOND / 2..=whole * SECOND).contains(&waited), "{waited:?} of {whole} s");
        now = now + waited;
        assert_eq!(asks(&machine.step(now, WAKE)), 1);
    }
}

/// Found by the books: of a token that lived for a minute half a minute of backoff left nothing, though the provider was back in
/// ten seconds.
#[test]
fn rule_11_an_outage_that_ends_before_the_token_does_is_over_in_time() {
    for seed in 0..200 {
        let mut machine = Machine::new(Refresh::default(), None, 1, seed);
        machine.step(epoch(), Input::Start);
        machine.step(epoch(), granted(60 * SECOND));
        let (_, until) = machine.view(epoch()).held.unwrap();
        let mut now = epoch() + (machine.wake_at(epoch()).unwrap() - epoch().mono);
        let mut attempts = 0;
        while until.left(now) > 2 * SECOND {
            assert_eq!(asks(&machine.step(now, WAKE)), 1);
            attempts += 1;
            machine.step(now, failed(FailureKind::Transient));
            let waited = machine.wake_at(now).unwrap() - now.mono;
            assert!(waited <= (until.left(now) / 4).max(SECOND), "{waited:?} with {:?} left", until.left(now));
            now = now + waited;
        }
        assert!(!until.passed(now), "it is asked again before the end");
        assert!(attempts <= 25, "{attempts} in a quarter of a minute");
    }
}

#[test]
fn rule_11_who_asks_to_be_asked_less_is() {
    let mut machine = holding(1);
    let (_, until) = machine.view(epoch()).held.unwrap();
    let mut now = epoch() + (until.mono - epoch().mono - 10 * SECOND);
    for whole in [1, 2, 4] {
        assert_eq!(asks(&machine.step(now, WAKE)), 1);
        machine.step(now, failed(FailureKind::Limited));
        let waited = machine.wake_at(now).unwrap() - now.mono;
        assert!((whole * SECOND / 2..=whole * SECOND).contains(&waited), "{waited:?} of {whole} s");
        now = now + waited;
    }
}

#[test]
fn rule_12_a_restarted_loop_keeps_its_token_and_asks_again_for_what_was_in_flight() {
    let mut machine = holding(1);
    let due = machine.wake_at(epoch()).unwrap() - epoch().mono;
    machine.step(epoch() + due, WAKE);
    assert_eq!(asks(&machine.step(epoch() + due, Input::Start)), 1);
    assert_eq!(generation(&machine, epoch() + due), Generation(1));
}

const BUDGET: Budget = Budget { requests: 10, window: HOUR };

/// A machine with a budget that holds a token of an hour, asked for at `epoch()`.
fn holding_with(budget: Budget) -> Machine {
    let mut machine = Machine::new(Refresh::default(), Some(budget), 1, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch(), granted(HOUR));
    machine
}

#[test]
fn rule_13_no_window_sees_more_requests_than_the_budget() {
    let mut machine = holding_with(BUDGET);
    let mut asked = vec![epoch().mono];
    let mut now = epoch();
    for _ in 0..4 * 3_600 {
        now = now + SECOND;
        let refused = Input::Refused(generation(&machine, now));
        if asks(&machine.step(now, refused)) == 1 {
            asked.push(now.mono);
            machine.step(now, granted(60 * SECOND));
            // A replay took it: without that, refusals would back off by themselves.
            machine.step(now, Input::Cured(generation(&machine, now)));
        }
    }
    for from in &asked {
        let within = asked.iter().filter(|at| (*from..*from + HOUR).contains(*at)).count();
        assert!(within <= 10, "{within} in the hour from {from:?}");
    }
    assert!(asked.len() >= 40, "and all of it is used: {}", asked.len());
}

#[test]
fn rule_13_refusals_leave_the_share_of_planned_renewals_alone() {
    let mut machine = holding_with(BUDGET);
    let mut now = epoch();
    let mut forced = 0;
    // Renewals of an hour's token come every 45 min or so: two in a window of an hour.
    while now.mono < epoch().mono + 40 * 60 * SECOND {
        now = now + SECOND;
        if asks(&machine.step(now, Input::Refused(generation(&machine, now)))) == 1 {
            forced += 1;
            machine.step(now, granted(HOUR));
            machine.step(now, Input::Cured(generation(&machine, now)));
        }
    }
    assert_eq!(forced, 7, "ten, less the first and the two that are planned");
}

#[test]
fn rule_13_tries_after_failures_last_for_the_window() {
    let mut machine = Machine::new(Refresh::default(), Some(BUDGET), 1, 7);
    let mut now = epoch();
    let mut asked = Vec::new();
    let mut effects = machine.step(now, Input::Start);
    while now.mono < epoch().mono + HOUR {
        if asks(&effects) == 1 {
            asked.push(now.mono - epoch().mono);
            machine.step(now, failed(FailureKind::Transient));
        }
        now = now + SECOND;
        effects = machine.step(now, WAKE);
    }
    assert!(asked.iter().filter(|at| **at < 60 * SECOND).count() <= 5, "half of it for bad luck: {asked:?}");
    assert!(*asked.last().unwrap() > 20 * 60 * SECOND, "the rest is spread: {asked:?}");
}

#[test]
fn rule_13_what_the_budget_alone_keeps_back_is_known() {
    let machine = holding_with(Budget { requests: 1, window: 2 * HOUR });
    assert_eq!(machine.budget_holds(epoch() + 60 * SECOND), None, "nothing is due");
    assert_eq!(machine.budget_holds(epoch() + HOUR), Some(epoch().mono + 2 * HOUR));
    assert_eq!(holding_with(BUDGET).budget_holds(epoch() + HOUR), None, "there is enough of it");
}

#[test]
fn rule_13_the_budget_keeps_nothing_back_alone_while_something_else_does() {
    let one = Budget { requests: 1, window: 2 * HOUR };
    let early = epoch() + 55 * 60 * SECOND;
    assert_eq!(holding_with(one).budget_holds(early), Some(epoch().mono + 2 * HOUR), "due, and not expired yet");

    let mut idle = Machine::new(Refresh { when_idle: false, ..Refresh::default() }, Some(one), 1, 7);
    idle.step(epoch(), Input::Start);
    idle.step(epoch(), granted(HOUR));
    idle.step(epoch() + HOUR, Input::Wake { used: false });
    assert_eq!(idle.budget_holds(epoch() + HOUR), None, "nobody wants it");

    let mut held = holding_with(Budget { requests: 2, window: 2 * HOUR });
    let now = epoch() + HOUR;
    assert_eq!(asks(&held.step(now, WAKE)), 1);
    held.step(now, Input::Failed(Failed { kind: FailureKind::Transient, retry_after: Some(300 * SECOND) }));
    assert_eq!(held.budget_holds(now + 299 * SECOND), None, "so does the provider's wish");
    assert_eq!(held.budget_holds(now + 300 * SECOND), Some(epoch().mono + 2 * HOUR));
}

#[test]
fn rule_13_only_tries_after_failures_are_spread() {
    // Half of it is spent, and an hour later is when a failed one would be tried again.
    let machine = holding_with(Budget { requests: 2, window: 2 * HOUR });
    let (next, why) = told(&machine, epoch());
    assert!(next.unwrap() < HOUR && why == "a planned renewal", "{next:?} {why}");
}

#[test]
fn rule_13_is_remembered_over_a_restart() {
    let spent = holding_with(Budget { requests: 1, window: HOUR });
    let memory = spent.memory(epoch() + 60 * SECOND);
    let mut machine = Machine::new(Refresh::default(), Some(Budget { requests: 1, window: HOUR }), 1, 7);
    machine.recall(epoch(), &memory);
    assert_eq!(machine.step(epoch(), Input::Start), []);
    assert_eq!(machine.wake_at(epoch()), Some(epoch().mono + HOUR - 60 * SECOND));
}

#[test]
fn rule_2_a_wish_is_remembered_over_a_restart() {
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    machine.step(epoch(), Input::Start);
    let wish = Failed { kind: FailureKind::Transient, retry_after: Some(60 * SECOND) };
    machine.step(epoch(), Input::Failed(wish));
    let memory = machine.memory(epoch() + 10 * SECOND);
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    machine.recall(epoch(), &memory);
    assert_eq!(machine.step(epoch(), Input::Start), []);
    assert_eq!(machine.wake_at(epoch()), Some(epoch().mono + 50 * SECOND));
}

#[test]
fn what_is_remembered_ages() {
    let memory = Memory { embargo: 60 * SECOND, asked: vec![vec![5 * SECOND, SECOND], vec![]] };
    let later = Memory { embargo: 50 * SECOND, asked: vec![vec![15 * SECOND, 11 * SECOND], vec![]] };
    assert_eq!(memory.later(10 * SECOND), later);
    assert_eq!(later.later(HOUR).embargo, Duration::ZERO);
}

#[test]
fn rule_14_a_token_that_is_granted_again_until_its_end_costs_few_requests() {
    // ServiceNow: half an hour, and whoever asks before its end gets the same token with the rest of its life.
    let life = 1_800 * SECOND;
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    let mut now = epoch();
    let mut issued = now.mono;
    let mut asked = 0;
    let mut unusable = Duration::ZERO;
    let tenth = SECOND / 10;
    let mut effects = machine.step(now, Input::Start);
    while now.mono < epoch().mono + 2 * life - 10 * SECOND {
        if asks(&effects) == 1 {
            asked += 1;
            let unchanged = asked > 1 && now.mono < issued + life;
            if !unchanged {
                issued = now.mono;
            }
            let left = issued + life - now.mono;
            machine.step(now, Input::Granted { life: left, unchanged });
        }
        if machine.view(now).held.is_none_or(|(_, until)| until.passed(now)) {
            unusable += tenth;
        }
        now = now + tenth;
        effects = machine.step(now, WAKE);
    }
    assert!(asked <= 12, "{asked} token requests in an hour");
    assert!(unusable <= 3 * SECOND, "without a token for {unusable:?}");
}

#[test]
fn rule_10_early_off_renews_when_the_token_is_over() {
    let mut machine = Machine::new(Refresh { early: None, ..Refresh::default() }, None, 1, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch(), granted(HOUR));
    assert_eq!(machine.wake_at(epoch()), Some(epoch().mono + HOUR - 10 * SECOND));
}

/// When the next token request is, from `now` on, and what it says why; `None` if there is none.
fn told(machine: &Machine, now: Now) -> (Option<Duration>, String) {
    let view = machine.view(now);
    (view.next_ask.map(|next| next.saturating_sub(now.mono)), view.cause.to_string())
}

fn in_seconds(seconds: u32, why: &str) -> (Option<Duration>, String) {
    (Some(seconds * SECOND), why.to_owned())
}

#[test]
fn it_says_why_it_asks_when_it_does() {
    let mut machine = Machine::new(Refresh::default(), None, 1, 7);
    assert_eq!(told(&machine, epoch()), in_seconds(0, "the first"));
    machine.step(epoch(), Input::Start);
    assert_eq!(told(&machine, epoch()), (None, "the first".to_owned()), "it is under way");
    machine.step(epoch(), granted(HOUR));
    let (due, why) = told(&machine, epoch());
    assert_eq!(why, "a planned renewal");
    let due = epoch() + due.unwrap();
    machine.step(due, WAKE);
    assert_eq!(told(&machine, due), (None, "a planned renewal".to_owned()));
    for why in ["backoff after 1 failure", "backoff after 2 failures", "backoff after 3 failures"] {
        machine.step(due, failed(FailureKind::Transient));
        let (next, said) = told(&machine, due);
        assert_eq!(said, why);
        assert_eq!(next.unwrap() + due.mono, machine.wake_at(due).unwrap(), "what it says is when it wakes");
        let mut again = machine.clone();
        let later = due + next.unwrap();
        assert_eq!(asks(&again.step(later, WAKE)), 1);
        assert_eq!(told(&again, later), (None, "another try".to_owned()));
        machine = again;
    }
    // A wish beats our own patience where it is longer, and only there.
    let wish = |seconds| Input::Failed(Failed { kind: FailureKind::Transient, retry_after: Some(seconds * SECOND) });
    let mut patient = machine.clone();
    patient.step(due, wish(120));
    assert_eq!(told(&patient, due), in_seconds(120, "the provider said Retry-After"));
    machine.step(due, wish(1));
    assert_eq!(told(&machine, due).1, "backoff after 4 failures");
}

#[test]
fn it_names_no_hindrance_that_ends_when_it_would_ask_anyway() {
    let machine = Machine::new(Refresh::default(), None, 1, 7);
    let at_boot = Now { mono: Duration::ZERO, ..epoch() };
    assert_eq!(told(&machine, at_boot), in_seconds(0, "the first"));
}

#[test]
fn it_says_what_holds_a_renewal_back_that_an_upstream_asks_for() {
    let mut machine = holding(1);
    let now = epoch() + SECOND / 2;
    machine.step(now, Input::Refused(Generation(1)));
    assert_eq!(
        told(&machine, now),
        (Some(SECOND / 2), "two token requests are never closer (`min_interval`)".to_owned())
    );
    let now = epoch() + 60 * SECOND;
    machine.step(now, WAKE);
    assert_eq!(told(&machine, now), (None, "an upstream refused the last one".to_owned()));
    machine.step(now, granted(HOUR));
    let now = now + 4 * SECOND;
    machine.step(now, Input::Refused(Generation(2)));
    let held = "an upstream refused the token; renewals for that are held back (`after_401`)";
    assert_eq!(told(&machine, now), in_seconds(6, held));
    // What is planned sooner than that is planned.
    machine.step(now + 6 * SECOND, WAKE);
    machine.step(now + 6 * SECOND, granted(20 * SECOND));
    machine.step(now + 10 * SECOND, Input::Refused(Generation(3)));
    assert_eq!(told(&machine, now + 10 * SECOND).1, "a planned renewal");
}

#[test]
fn it_says_when_nothing_uses_the_token_and_when_it_has_expired() {
    let mut machine = Machine::new(Refresh { when_idle: false, ..Refresh::default() }, None, 1, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch(), granted(HOUR));
    for now in [epoch(), epoch() + 2 * HOUR] {
        machine.step(now, Input::Wake { used: false });
        assert_eq!(told(&machine, now), (None, "nothing uses the token (`when_idle: off`)".to_owned()));
    }
    machine.step(epoch() + 2 * HOUR, Input::Wanted);
    assert_eq!(told(&machine, epoch() + 2 * HOUR), (None, "the last one has expired".to_owned()));
}

#[test]
fn it_says_what_the_budget_has_to_do_with_it() {
    let spent = holding_with(Budget { requests: 1, window: 2 * HOUR });
    assert_eq!(spent.view(epoch()).budget_left, Some(0));
    assert_eq!(told(&spent, epoch() + HOUR), in_seconds(3_600, "the budget is spent"));
    assert_eq!(spent.view(epoch() + 2 * HOUR).budget_left, Some(1), "the window has moved on");
    assert_eq!(Machine::new(Refresh::default(), None, 1, 7).view(epoch()).budget_left, None);

    // Of three, two are for the renewals of an hour's token.
    let mut machine = holding_with(Budget { requests: 3, window: HOUR });
    assert_eq!(machine.view(epoch()).budget_left, Some(2));
    let now = epoch() + 60 * SECOND;
    machine.step(now, Input::Refused(Generation(1)));
    let (next, why) = told(&machine, now);
    assert_eq!(why, "a planned renewal", "it is sooner than the window");
    assert!(next.unwrap() < HOUR);

    let mut machine = Machine::new(Refresh::default(), Some(BUDGET), 1, 7);
    let mut now = epoch();
    machine.step(now, Input::Start);
    let mut said = Vec::new();
    for _ in 0..7 {
        machine.step(now, failed(FailureKind::Transient));
        let (next, why) = told(&machine, now);
        said.push(why);
        now = now + next.unwrap();
        assert_eq!(asks(&machine.step(now, WAKE)), 1);
    }
    assert_eq!(said[3], "backoff after 4 failures");
    assert_eq!(said[5], "half of the budget is spent, and tries after failures are spread over the rest");
}

#[test]
fn refusals_are_told_that_the_rest_of_the_budget_is_not_for_them() {
    // A token that lives for a day is renewed once a window of two hours at the most, and the window is long over by then.
    let mut machine = Machine::new(Refresh::default(), Some(Budget { requests: 2, window: 2 * HOUR }), 1, 7);
    machine.step(epoch(), Input::Start);
    machine.step(epoch(), granted(24 * HOUR));
    let now = epoch() + HOUR;
    machine.step(now, Input::Refused(Generation(1)));
    assert_eq!(machine.view(now).budget_left, Some(1));
    assert_eq!(told(&machine, now), in_seconds(3_600, "what is left of the budget is kept for planned renewals"));
}

#[test]
fn an_outage_of_ten_minutes_costs_at_most_forty_requests_and_is_invisible_to_a_token_of_an_hour() {
    for seed in 0..100 {
        let mut machine = Machine::new(Refresh::default(), None, 1, seed);
        machine.step(epoch(), Input::Start);
        machine.step(epoch(), granted(HOUR));
        let mut now = epoch() + (machine.wake_at(epoch()).unwrap() - epoch().mono);
        let end = now.mono + 600 * SECOND;
        let mut asked = 0;
        while now.mono < end {
            asked += asks(&machine.step(now, WAKE));
            machine.step(now, failed(FailureKind::Transient));
            assert!(!machine.view(now).held.unwrap().1.passed(now), "seed {seed}");
            now = now + (machine.wake_at(now).unwrap() - now.mono);
        }
        assert!((20..=40).contains(&asked), "{asked} with seed {seed}");
    }
}

#[test]
fn an_api_that_always_says_401_forces_few_renewals() {
    let mut machine = holding(1);
    let mut now = epoch() + 60 * SECOND;
    let mut forced = Vec::new();
    for _ in 0..36_000 {
        now = now + SECOND / 10;
        let refused = Input::Refused(generation(&machine, now));
        for effect in machine.step(now, refused) {
            if let Effect::Ask { why, .. } = effect {
                if why == Why::Refused {
                    forced.push(now.mono);
                }
                machine.step(now, granted(HOUR));
            }
        }
    }
    let first = forced[0];
    assert!(forced.iter().filter(|at| **at < first + 60 * SECOND).count() <= 4, "{forced:?}");
    assert!(forced.len() <= 12, "{forced:?}");
}

/// Random inputs against a model of the promises. A failure prints its seed: `SEED=n cargo test sweep` replays it.
#[test]
fn sweep() {
    let replay = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    for seed in replay.map_or(0..2_000, |seed: u64| seed..seed + 1) {
        let outcome = std::panic::catch_unwind(|| sweep_one(seed));
        assert!(outcome.is_ok(), "the sweep failed at SEED={seed}");
    }
}

fn sweep_one(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let credentials = rng.usize(1..=3);
    let early = rng.bool().then(|| 0.05 + rng.f64() * 0.8);
    let refresh = Refresh { when_idle: rng.bool(), early, ..Refresh::default() };
    let budget =
        rng.bool().then(|| Budget { requests: rng.u32(1..20), window: Duration::from_secs(rng.u64(60..20_000)) });
    let mut machine = Machine::new(refresh, budget, credentials, seed);
    let mut asked_with: Vec<Vec<Duration>> = vec![Vec::new(); credentials];
    let mut now = epoch();
    let mut airborne: Option<Now> = None;
    let mut embargo = Duration::ZERO;
    let mut last_grant = Duration::ZERO;
    let mut failed_since = false;
    let mut refusals_asked: Vec<Duration> = Vec::new();
    for _ in 0..500 {
        now = now + Duration::from_millis(rng.u64(0..20_000));
        if rng.u8(..) == 0 {
            now.wall += HOUR; // a restored snapshot, or a date set right
        }
        let before = machine.view(now);
        let input = match rng.u8(0..10) {
            0 => Input::Refused(Generation(rng.u64(0..4) + before.held.map_or(0, |held| held.0.0.saturating_sub(2)))),
            1 => Input::Wanted,
            2 => Input::Rotated,
            3 => Input::Cured(before.held.map_or(Generation(1), |held| held.0)),
            4..=6 if airborne.is_some() => {
                let unchanged = rng.u8(0..5) == 0;
                Input::Granted { life: Duration::from_secs(rng.u64(1..7_200)), unchanged }
            }
            7 if airborne.is_some() => {
                let kinds =
                    [FailureKind::Transient, FailureKind::Limited, FailureKind::Rejected, FailureKind::Unusable];
                let kind = kinds[rng.usize(..kinds.len())];
                let retry_after = rng.bool().then(|| Duration::from_secs(rng.u64(0..1_000)));
                Input::Failed(Failed { kind, retry_after })
            }
            _ => Input::Wake { used: rng.bool() },
        };
        let asked_at = airborne;
        match input {
            Input::Granted { .. } => {
                airborne = None;
                embargo = Duration::ZERO;
                last_grant = asked_at.expect("only what flies lands").mono;
                failed_since = false;
            }
            Input::Failed(failed) => {
                airborne = None;
                failed_since = true;
                if let Some(wish) = failed.retry_after {
                    embargo = now.mono + wish.min(RETRY_AFTER_MAX);
                }
            }
            Input::Start
            | Input::Wake { .. }
            | Input::Wanted
            | Input::Refused(_)
            | Input::Cured(_)
            | Input::Rotated => {}
        }
        for effect in machine.step(now, input) {
            if let Effect::Ask { credential, why } = effect {
                assert!(airborne.is_none(), "rule 1: {input:?}");
                assert!(now.mono >= embargo, "rule 2: {input:?}");
                assert!(failed_since || now.mono >= last_grant + refresh.min_interval, "rule 5: {input:?}");
                assert!(credential < credentials, "rule 7: {input:?}");
                let asked = &mut asked_with[credential];
                asked.push(now.mono);
                if let Some(budget) = budget {
                    let within = asked.iter().filter(|at| **at + budget.window > now.mono).count();
                    assert!(within <= budget.requests as usize, "rule 13: {within} of {budget:?} at {input:?}");
                }
                if why == Why::Refused {
                    if let Some(last) = refusals_asked.last().filter(|_| !failed_since) {
                        assert!(now.mono >= *last + refresh.after_401, "rule 9: {input:?}");
                    }
                    refusals_asked.push(now.mono);
                }
                airborne = Some(now);
            }
        }
        let after = machine.view(now);
        assert_eq!(after.airborne, airborne.is_some());
        assert!(after.held.is_some() || before.held.is_none(), "rule 8: a token was dropped by {input:?}");
        if let (Some(old), Some(new)) = (before.held, after.held) {
            assert!(new.0 >= old.0, "generations only grow");
            assert!(matches!(input, Input::Granted { .. }) || old == new, "rules 6 and 8: {input:?} changed the token");
        }
        // What it says of the next request is what it does.
        if let Some(next) = after.next_ask {
            assert!(next > now.mono, "due, and not asked: {after:?}");
            assert!(after.cause != Cause::Unused, "{after:?}");
            assert!(after.cause != Cause::Backoff(0), "{after:?}");
            assert!(after.cause != Cause::Spaced || next <= last_grant + refresh.min_interval, "{after:?}");
            assert!(after.cause != Cause::RetryAfter || next == embargo, "{after:?}");
            assert!(after.cause != Cause::Budget || after.budget_left == Some(0), "{after:?}");
        }
        // Rule 12: unless it flies, or waits for a reader by choice, something will wake it.
        let wake = machine.wake_at(now);
        let waits_for_a_reader = !refresh.when_idle && after.held.is_some_and(|held| held.1.passed(now));
        assert!(wake.is_some() || after.airborne || waits_for_a_reader, "rule 12: stuck after {input:?}");
        if let Some(wake) = wake {
            assert!(wake > now.mono, "a wake-up in the past would spin: {input:?}");
        }
    }
}
