//! The file of the state directory → what is remembered of a token. Whatever it says, there is an end to the waiting.

#![no_main]

use std::time::{Duration, SystemTime};

use bearerd::clock::Now;
use bearerd::token::machine::Machine;
use bearerd::token::memory::remembered;
use bearerd::token::policy::{RETRY_AFTER_MAX, Refresh};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for seconds in [0, 1_800_000_000] {
        let wall = Duration::from_secs(seconds);
        let memory = remembered(text, SystemTime::UNIX_EPOCH + wall);
        // Nothing was asked before 1970.
        assert!(memory.asked.iter().flatten().all(|age| *age <= wall));
        _ = memory.later(Duration::from_secs(3600));
        let now = Now { mono: Duration::from_secs(5), wall: SystemTime::UNIX_EPOCH + wall };
        let mut machine = Machine::new(Refresh::default(), None, memory.asked.len().max(1), 7);
        machine.recall(now, &memory);
        let kept = machine.memory(now);
        assert!(kept.embargo <= RETRY_AFTER_MAX && kept.embargo <= memory.embargo);
    }
});
