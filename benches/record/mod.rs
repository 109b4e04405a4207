//! What a request costs, as it was recorded, and what of it has grown. `benches/instructions.rs` counts;
//! `tests/it/benchmarks.rs` sees to it that growth is found.

use std::fmt;

/// How many instructions more than recorded, in percent, are as good as the same: several times what one build differs
/// from the next in by where code happens to lie, and less than a change that somebody would want to know of.
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
    /// What else decides how many instructions there are: compiler, C library, valgrind, processor.
    pub(crate) with: String,
    pub(crate) costs: Vec<Cost>,
}

/// What comes of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing costs more.
    Holds,
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
        let (mut grown, mut is_comparable) = (Vec::new(), self.with == measured.with);
        for now in &measured.costs {
            let Some(then) = self.costs.iter().find(|then| then.call == now.call) else {
                grown.push(format!("{}: it is not recorded", now.call));
                continue;
            };
            if now.allocations > then.allocations {
                grown.push(format!("{}: {} allocations, and it was {}", now.call, now.allocations, then.allocations));
            }
            match (then.instructions, now.instructions) {
                (Some(was), Some(is)) if self.with == measured.with && is * 100 > was * (100 + TOLERANCE) => {
                    let more = (is - was) as f64 * 100.0 / was as f64;
                    grown.push(format!("{}: {is} instructions, and it was {was}: {more:.1} % more", now.call));
                }
                (Some(_), Some(_)) => {}
                (None, _) | (_, None) => is_comparable = false,
            }
        }
        match (grown.is_empty(), is_comparable) {
            (false, _) => Verdict::Grown(grown),
            (true, true) => Verdict::Holds,
            (true, false) => Verdict::NotComparable,
        }
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
