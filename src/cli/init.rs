//! `bearerd init`: a configuration to begin with, for one provider.

use clap::ArgMatches;

use super::{Failed, print};
use crate::config::presets;

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failed> {
    // clap takes no other name.
    let preset = matches.get_one::<String>("provider").and_then(|name| presets::find(name));
    let preset = preset.ok_or_else(|| Failed::Because("a bug in bearerd: a provider without a preset".into()))?;
    print(&presets::example(preset))
}
