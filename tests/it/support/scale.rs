//! How long a proof by numbers goes on, and how it can be run again: the two things that the environment says.

/// Set to `full`, such tests run their whole number; without it, as much of it as takes a few seconds.
const SCALE: &str = "BEARERD_TESTS";

/// Chooses the number for this run.
pub(crate) fn scaled<T>(short: T, full: T) -> T {
    match std::env::var(SCALE).as_deref() {
        Ok("full") => full,
        Ok(other) => panic!("{SCALE} is `full` or not set, and not {other:?}"),
        Err(_) => short,
    }
}

/// Where this run's randomness begins: anywhere, or at `SEED`. Says which it is, so that a failure can be replayed.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    say(&format!("SEED={seed}"));
    seed
}

/// Prints a figure, on a line of its own.
pub(crate) fn report(line: &str) {
    say(&format!("proof: {line}"));
}

#[expect(clippy::print_stdout, reason = "shown by --nocapture, and of a test that fails")]
fn say(line: &str) {
    println!("{line}");
}
