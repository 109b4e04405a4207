//! What was found: a line as soon as it is known, or one JSON document at the end.
//!
//! Whatever a peer chose comes in here through [`shown`] alone. Must never know what is checked, nor a secret.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::{Failed, print};

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Warn,
    Fail,
    /// It could not be made, because an earlier one failed.
    Skip,
}

#[derive(Debug)]
struct Finding {
    check: &'static str,
    subject: String,
    outcome: Outcome,
    what: String,
    cure: Option<String>,
    took: Duration,
}

/// A check that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    check: &'static str,
    subject: String,
    at: Instant,
}

/// The check that failed, by name: why others cannot be made.
#[derive(Clone, Debug)]
pub(super) struct Blame(String);

/// All that was found so far.
#[derive(Debug)]
pub(super) struct Report {
    findings: Vec<Finding>,
    json: bool,
    coloured: bool,
    /// Standard output takes nothing more, and why.
    broken: Option<Failed>,
}

/// Nobody reads so short a time, and it makes two runs differ.
const SHORT: Duration = Duration::from_millis(1);

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }

    /// Green, yellow, red, and dim (ECMA-48, SGR).
    fn colour(self) -> &'static str {
        match self {
            Self::Ok => "32",
            Self::Warn => "33",
            Self::Fail => "1;31",
            Self::Skip => "2",
        }
    }
}

pub(super) fn begin(check: &'static str, subject: impl Into<String>) -> Begun {
    Begun { check, subject: subject.into(), at: Instant::now() }
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        // https://no-color.org: whatever it is set to, unless that is nothing.
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let coloured = !json && !unwanted && std::io::stdout().is_terminal();
        Self { findings: Vec::new(), json, coloured, broken: None }
    }

    pub(super) fn ok(&mut self, begun: Begun, what: impl Into<String>) {
        self.end(begun, Outcome::Ok, what.into(), None);
    }

    pub(super) fn warn(&mut self, begun: Begun, what: impl Into<String>, cure: impl Into<String>) {
        self.end(begun, Outcome::Warn, what.into(), Some(cure.into()));
    }

    /// What can be said to those that have to be skipped for it.
    pub(super) fn fail(&mut self, begun: Begun, what: impl Into<String>, cure: impl Into<String>) -> Blame {
        let blame = Blame(format!("`{} {}`", begun.check, begun.subject));
        self.end(begun, Outcome::Fail, what.into(), Some(cure.into()));
        blame
    }

    pub(super) fn skip(&mut self, check: &'static str, subject: impl Into<String>, Blame(blame): &Blame) {
        self.end(begin(check, subject), Outcome::Skip, format!("{blame} failed"), None);
    }

    /// Not made, for a reason that is no failure.
    pub(super) fn leave(&mut self, begun: Begun, why: impl Into<String>) {
        self.end(begun, Outcome::Skip, why.into(), None);
    }

    fn end(&mut self, begun: Begun, outcome: Outcome, what: String, cure: Option<String>) {
        let Begun { check, subject, at } = begun;
        let finding = Finding { check, subject, outcome, what, cure, took: at.elapsed() };
        if !self.json {
            let line = self.line(&finding);
            self.print(&line);
        }
        self.findings.push(finding);
    }

    fn line(&self, finding: &Finding) -> String {
        let Finding { check, subject, outcome, what, cure, took } = finding;
        let mark = format!("{:<4}", outcome.word());
        let mark = match self.coloured {
            true => format!("\u{1b}[{}m{mark}\u{1b}[0m", outcome.colour()),
            false => mark,
        };
        let took = match *took >= SHORT {
            true => format!(" ({})", humantime::format_duration(Duration::from_millis(to_millis(*took)))),
            false => String::new(),
        };
        let cure = cure.as_ref().map(|cure| format!("\n      hint: {cure}")).unwrap_or_default();
        format!("{mark}  {check:<13}  {subject}: {what}{took}{cure}\n")
    }

    fn print(&mut self, text: &str) {
        if self.broken.is_none() {
            self.broken = print(text).err();
        }
    }

    pub(super) fn count(&self, outcome: Outcome) -> usize {
        self.findings.iter().filter(|finding| finding.outcome == outcome).count()
    }

    /// What there is to say at the end.
    pub(super) fn close(mut self) -> Result<(), Failed> {
        let (all, failed) = (self.findings.len(), self.count(Outcome::Fail));
        if self.json {
            let document = json!({
                "ok": failed == 0,
                "checks": self.findings.iter().map(Finding::document).collect::<Vec<_>>(),
            });
            self.print(&format!("{document:#}\n"));
        } else if failed == 0 {
            let warned = match self.count(Outcome::Warn) {
                0 => String::new(),
                1 => ", 1 with a warning".to_owned(),
                several => format!(", {several} with a warning"),
            };
            self.print(&format!("{all} checks: nothing failed{warned}\n"));
        }
        match (self.broken, failed) {
            (Some(broken), _) => Err(broken),
            (None, 0) => Ok(()),
            (None, _) => Err(Failed::Because(format!("{failed} of {all} checks failed"))),
        }
    }
}

impl Finding {
    fn document(&self) -> Value {
        json!({
            "check": self.check,
            "subject": self.subject,
            "outcome": self.outcome.word().to_ascii_lowercase(),
            "what": self.what,
            "cure": self.cure,
            "took_seconds": self.took.as_secs_f64(),
        })
    }
}

fn to_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A time as people say it: whole seconds, or days where there are many.
pub(super) fn spell(time: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match time.as_secs() {
        seconds if seconds >= 2 * DAY => format!("{} days", seconds / DAY),
        seconds => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    }
}

/// What a peer said, fit for a terminal: not too long, and without what could steer one.
pub(super) fn shown(text: &str) -> String {
    format!("`{}`", tame(text).replace('`', "\u{fffd}"))
}

/// The same without quotation marks, of what has its own.
pub(super) fn tame(text: &str) -> String {
    /// The longest name of a host.
    const MOST: usize = 253;
    /// What turns the direction of writing round, or is not seen at all, is no control character to Unicode.
    const UNSEEN: [std::ops::RangeInclusive<char>; 4] =
        ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}', '\u{feff}'..='\u{feff}'];
    let unseen = |c: char| c.is_control() || UNSEEN.iter().any(|range| range.contains(&c));
    let mut shown: String = text.chars().take(MOST).map(|c| if unseen(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().count() > MOST {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_said_stays_on_its_line() {
        assert_eq!(shown("a\n\u{1b}[31m`b\u{202e}"), "`a\u{fffd}\u{fffd}[31m\u{fffd}b\u{fffd}`");
        assert_eq!(shown(&"x".repeat(1_000)).chars().count(), 256);
    }

    #[test]
    fn a_line_has_its_cure_below_it() {
        let mut report = Report { findings: Vec::new(), json: true, coloured: false, broken: None };
        report.fail(begin("dns", "id.example"), "no address", "look at the name");
        assert_eq!(
            report.line(&report.findings[0]),
            "FAIL  dns            id.example: no address\n      hint: look at the name\n"
        );
        let coloured = Report { coloured: true, ..report };
        assert!(coloured.line(&coloured.findings[0]).starts_with("\u{1b}[1;31mFAIL\u{1b}[0m  dns"));
    }
}
