//! `bearerd doctor`: goes the whole way that a request and its token go, one step at a time, and says of each step what
//! was found and what to do.
//!
//! Each step is made by the code that `run` makes it by, so that the two cannot disagree. Nothing is tried twice, and
//! every step has a limit in time.

pub(super) mod certificate;
mod clock;
mod discovery;
mod listeners;
mod report;
mod secrets;
mod token;
mod upstream;
mod way;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use tokio::runtime::Builder;
use tokio::time::Instant;

use self::report::{Blame, Report, begin, spell};
use self::token::Granted;
use super::run::{cure_of_log, on_its_own};
use super::{Failed, check, loaded, refused};
use crate::config::{Loaded, Plan, Problem};
use crate::observe::access::AccessLog;
use crate::tls::ClientConfigs;

/// A configuration of a dozen routes whose peers all hang is told within this time. What is not looked at by then is
/// named.
const WHOLE: Duration = Duration::from_secs(180);

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failed> {
    let mut report = Report::new(matches.get_flag("json"));
    let Loaded { plan, warnings, origin } = match loaded(matches, &crate::config::Disk) {
        Ok(loaded) => loaded,
        Err(problems) => {
            if matches.get_flag("json") {
                for Problem { place, path, what, hint } in &problems.problems {
                    let subject = if path.is_empty() { place.to_string() } else { format!("{place}: {path}") };
                    let cure = hint.clone().unwrap_or_else(|| "correct it; `bearerd check` tells the same".to_owned());
                    report.fail(begin("configuration", subject), what, cure);
                }
                let _ = report.close();
            }
            return Err(refused(&problems));
        }
    };
    let begun = begin("configuration", origin.to_string());
    if let Err(Failed::Configuration(text)) = check::files(&plan) {
        if matches.get_flag("json") {
            let (what, cure) = text.split_once("\n  hint: ").unwrap_or((&text, "correct the file"));
            report.fail(begun, what, cure.lines().next().unwrap_or_default());
            let _ = report.close();
        }
        return Err(Failed::Configuration(text));
    }
    let count = |number: usize, name| format!("{number} {name}{}", if number == 1 { "" } else { "s" });
    report.ok(begun, format!("{}, {}", count(plan.tokens.len(), "token"), count(plan.routes.len(), "route")));
    for Problem { place, path, what, hint } in warnings {
        let subject = if path.is_empty() { place.to_string() } else { format!("{place}: {path}") };
        report.warn(begin("configuration", subject), what, hint.unwrap_or_else(|| "correct it".to_owned()));
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    on_its_own(runtime, |runtime| runtime.block_on(examine(plan, &mut report)))?;
    report.close()
}

/// What the checks have in common.
struct Round<'a> {
    report: &'a mut Report,
    configs: ClientConfigs,
    /// Ways that were gone already, and what became of them.
    ways: way::Ways,
    until: Instant,
}

impl Round<'_> {
    /// What is left of `most`, so that the whole stays within its time; never too little for a peer that is well.
    fn limit(&self, most: Duration) -> Duration {
        most.min(self.until.saturating_duration_since(Instant::now()).max(Duration::from_secs(1)))
    }

    /// Whether there is no time for another, which is told.
    fn is_over(&mut self, check: &'static str, subject: &str) -> bool {
        let over = Instant::now() >= self.until;
        if over {
            // It is no failure, and may not pass for a success.
            self.report.warn(
                begin(check, subject),
                format!("not looked at: the {} for all are over", spell(WHOLE)),
                "mend what is slow above, and run doctor again",
            );
        }
        over
    }
}

async fn examine(plan: Plan, report: &mut Report) -> Result<(), Failed> {
    let mut round =
        Round { report, configs: ClientConfigs::default(), ways: way::Ways::default(), until: Instant::now() + WHOLE };
    secrets::look(&mut round, &plan).await;
    certificate::look(&mut round, &plan);
    if let Some(AccessLog::File(path)) = &plan.access_log {
        let begun = begin("access_log", path.display().to_string());
        match check::no_access_log(&plan) {
            None => round.report.ok(begun, "can be written to"),
            Some(wrong) => {
                let cure = cure_of_log(&wrong.error).unwrap_or("name another file, or write `access_log: stdout`");
                round.report.fail(begun, format!("cannot be written to: {}", wrong.error), cure);
            }
        }
    }
    let Plan { tokens, routes, listeners, admin, health, .. } = plan;
    let mut granted: BTreeMap<Arc<str>, Result<Granted, Blame>> = BTreeMap::new();
    for settings in tokens {
        let name = Arc::clone(&settings.name);
        if !round.is_over("token", &format!("token {name}")) {
            granted.insert(name, token::look(&mut round, settings).await?);
        }
    }
    upstream::look(&mut round, &routes, &granted, listeners::guard(&listeners, &admin, &health)).await?;
    listeners::look(&mut round, &listeners, admin, health).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_looked_at_for_want_of_time_is_not_passed_over() {
        let mut report = Report::new(true);
        let mut round = Round {
            report: &mut report,
            configs: ClientConfigs::default(),
            ways: way::Ways::default(),
            until: Instant::now() + WHOLE,
        };
        assert!(!round.is_over("token", "token main"));
        tokio::time::advance(WHOLE).await;
        assert!(round.is_over("token", "token main"));
        assert_eq!(round.limit(WHOLE), Duration::from_secs(1));
        assert_eq!(report.count(report::Outcome::Warn), 1, "{report:?}");
    }
}
