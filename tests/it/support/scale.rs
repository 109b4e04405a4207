//! How long a proof by numbers goes on, and how it can be run again: the two things that the environment says.

/// Set to `full`, such tests go on for up to twenty seconds; set to `long`, for what docs/reliability.md is made of, which
/// takes two hours; without it, for a few seconds.
const SCALE: &str = "BEARERD_TESTS";

/// Chooses the number for this run, where the whole one is the most that there is to see.
pub(crate) fn scaled<T>(short: T, full: T) -> T {
    match std::env::var(SCALE).as_deref() {
        Ok("full" | "long") => full,
        Ok(other) => panic!("{SCALE} is `full`, `long` or not set, and not {other:?}"),
        Err(_) => short,
    }
}

/// The same for what goes on showing more.
pub(crate) fn lasting<T>(short: T, full: T, long: T) -> T {
    let whole = scaled(short, full);
    if std::env::var(SCALE).as_deref() == Ok("long") { long } else { whole }
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
