//! What a request costs, as it was recorded, and what of it has grown or fallen. `benches/instructions.rs` counts;
//! `tests/it/benchmarks.rs` sees to it that growth is found.

use std::cmp::Ordering;
use std::fmt;

/// How many instructions more or less than recorded, in percent, are as good as the same: several times what one build
/// differs from the next in by where code happens to lie, and less than a change that somebody would want to know of.
pub(crate) const TOLERANCE: u64 = 3;

/// What one call costs bearerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) call: String,
    /// In user space; `None` where nobody counted.
    pub(crate) instructions: Option<u64>,
    /// How often the heap is asked for memory, or for more of it.
    pub(crate) allocations: u64,
    /// How much it is asked for.
    pub(crate) bytes: u64,
}

/// A file of costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// What else decides how many instructions there are: compilers, C library, valgrind, processor.
    pub(crate) with: String,
    pub(crate) costs: Vec<Cost>,
}

/// What comes of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing costs more.
    Holds,
    /// Nothing costs more, and this costs less: a gain that would be lost unseen if it is not recorded.
    Fallen(Vec<String>),
    /// The allocations do not cost more; instructions were counted with something else, or by nobody, and say nothing.
    NotComparable,
    /// This does.
    Grown(Vec<String>),
}

impl Record {
    /// `None` if it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let with = lines.next()?.strip_prefix("with ")?.to_owned();
        let cost = |line: &str| {
            let mut words = line.split_whitespace();
            let call = words.next()?.to_owned();
            let mut number = || words.next()?.parse().ok();
            Some(Cost { call, instructions: Some(number()?), allocations: number()?, bytes: number()? })
        };
        Some(Self { with, costs: lines.map(cost).collect::<Option<_>>()? })
    }

    /// Holds what was measured against it.
    pub(crate) fn against(&self, measured: &Self) -> Verdict {
        let (mut grown, mut fallen) = (Vec::new(), Vec::new());
        let mut is_comparable = self.with == measured.with;
        for now in &measured.costs {
            let Some(then) = self.costs.iter().find(|then| then.call == now.call) else {
                grown.push(format!("{}: it is not recorded", now.call));
                continue;
            };
            let allocations =
                || format!("{}: {} allocations, and it was {}", now.call, now.allocations, then.allocations);
            match now.allocations.cmp(&then.allocations) {
                Ordering::Greater => grown.push(allocations()),
                Ordering::Less => fallen.push(allocations()),
                Ordering::Equal => {}
            }
            let (Some(was), Some(is)) = (then.instructions, now.instructions) else {
                is_comparable = false;
                continue;
            };
            let told = |how: &str| {
                let percent = is.abs_diff(was) as f64 * 100.0 / was as f64;
                format!("{}: {is} instructions, and it was {was}: {percent:.1} % {how}", now.call)
            };
            if self.with == measured.with && is * 100 > was * (100 + TOLERANCE) {
                grown.push(told("more"));
            } else if self.with == measured.with && is * 100 < was * (100 - TOLERANCE) {
                fallen.push(told("less"));
            }
        }
        match (grown.is_empty(), is_comparable, fallen.is_empty()) {
            (false, _, _) => Verdict::Grown(grown),
            // Nothing can be recorded here.
            (true, false, _) => Verdict::NotComparable,
            (true, true, false) => Verdict::Fallen(fallen),
            (true, true, true) => Verdict::Holds,
        }
    }
}

/// A compiler's name and version, without what stands in brackets: who packed it, and how often.
pub(crate) fn without_packager(line: &str) -> String {
    match line.split_once(" (").and_then(|(name, rest)| Some((name, rest.split_once(')')?.1))) {
        Some((name, version)) => format!("{name}{version}"),
        None => line.to_owned(),
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# What one request costs bearerd. `BLESS=1 cargo bench --bench instructions` writes it anew.")?;
        writeln!(f, "with {}", self.with)?;
        writeln!(f, "# {:<10}{:>13}{:>13}{:>9}", "call", "instructions", "allocations", "bytes")?;
        for Cost { call, instructions, allocations, bytes } in &self.costs {
            let instructions = instructions.map_or_else(|| "-".to_owned(), |number| number.to_string());
            writeln!(f, "{call:<12}{instructions:>13}{allocations:>13}{bytes:>9}")?;
        }
        Ok(())
    }
}
