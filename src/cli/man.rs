//! `bearerd man`: the manual page, made from what clap and the settings' table know already, and what neither does.
//!
//! Must never say a flag, a variable or a command that is not there.

use clap::{Arg, Command};
use roff::{Inline, Roff, bold, italic, roman};

use super::arguments::HEADING;
use crate::config::{DEFAULT_FILE, SETTINGS};

/// Exit codes, and what each says.
const EXITS: [(&str, &str); 5] = [
    ("0", "fine"),
    ("1", "failed: a port that is taken, a provider that grants no token, an instance that does not answer"),
    ("2", "wrong usage"),
    ("78", "wrong configuration (EX_CONFIG of sysexits.h); a secret file that is missing at start included"),
    (
        "other",
        "of exec: what the command ended with; 126 if it cannot be run, 127 if there is none, 128 and its number for a \
         signal",
    ),
];

/// Signals to a running bearerd.
const SIGNALS: [(&str, &str); 3] = [
    (
        "SIGTERM, SIGINT",
        "accept for shutdown.delay, finish what is in flight, and cut it after shutdown.timeout; a second one cuts at once",
    ),
    ("SIGHUP", "read the configuration again; what is unchanged goes on, and a bad one leaves the old one serving"),
    ("SIGPIPE", "has no effect"),
];

/// The page in roff, for `man -l`.
pub(super) fn page(mut command: Command) -> String {
    command.build();
    let mut roff = Roff::new();
    let version = format!("bearerd {}", env!("CARGO_PKG_VERSION"));
    roff.control("TH", ["BEARERD", "1", "", version.as_str(), "User Commands"]);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let first = about.chars().next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
    section(&mut roff, "NAME");
    roff.text([roman(format!("bearerd - {first}{}", about.get(first.len()..).unwrap_or_default()))]);
    section(&mut roff, "SYNOPSIS");
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        roff.text(synopsis(one));
        roff.control("br", []);
    }
    section(&mut roff, "DESCRIPTION");
    paragraph(
        &mut roff,
        "bearerd runs beside an app. The app speaks plain HTTP to localhost, with no credential. bearerd keeps a fresh OAuth \
         2.0 access token for it (client credentials grant), puts it on every request, and speaks TLS to the API.",
    );
    paragraph(
        &mut roff,
        "Without a command it is bearerd run. Problems go to standard error; standard output carries only \
                          what was asked for.",
    );
    section(&mut roff, "COMMANDS");
    for one in command.get_subcommands().filter(|one| one.get_name() != "help") {
        roff.control("SS", [one.get_name()]);
        paragraph(&mut roff, &one.get_long_about().or(one.get_about()).map(ToString::to_string).unwrap_or_default());
        one.get_arguments().filter(|arg| is_own(arg)).for_each(|arg| option(&mut roff, arg));
        if has_settings(one) {
            paragraph(&mut roff, "Takes the flags of OPTIONS too.");
        }
    }
    section(&mut roff, "OPTIONS");
    paragraph(&mut roff, "Of the commands that read the configuration. A flag beats its variable, and that the file.");
    for setting in SETTINGS.iter().filter(|setting| !setting.secret) {
        item(&mut roff, [bold(format!("--{}", setting.flag)), roman(" "), italic(setting.value)], setting.help);
    }
    section(&mut roff, "ENVIRONMENT");
    for setting in SETTINGS {
        let same = match setting.secret {
            true => setting.help.to_owned(),
            false => format!("As --{}.", setting.flag),
        };
        item(&mut roff, [bold(setting.variable)], &same);
    }
    item(
        &mut roff,
        [bold("SSL_CERT_FILE"), roman(", "), bold("SSL_CERT_DIR")],
        "The roots to trust instead of the system's.",
    );
    item(
        &mut roff,
        [bold("CREDENTIALS_DIRECTORY")],
        "Where secrets of the form {systemd: NAME} are, as systemd sets it.",
    );
    item(
        &mut roff,
        [bold("NOTIFY_SOCKET")],
        "Never reaches the command of exec, and no more do BEARERD_* and LISTEN_*.",
    );
    section(&mut roff, "FILES");
    item(
        &mut roff,
        [italic(DEFAULT_FILE)],
        "The configuration, where nothing else is named. Its keys stand in \
                                             docs/configuration.md, and bearerd schema prints them for editors.",
    );
    section(&mut roff, "EXIT STATUS");
    EXITS.iter().for_each(|(code, what)| item(&mut roff, [bold(*code)], what));
    section(&mut roff, "SIGNALS");
    SIGNALS.iter().for_each(|(name, what)| item(&mut roff, [bold(*name)], what));
    section(&mut roff, "EXAMPLES");
    roff.control("nf", []);
    for one in command.get_subcommands() {
        let help = one.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = help.lines().skip_while(|line| *line != "Example:").skip(1);
        lines.for_each(|line| {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        });
    }
    roff.control("fi", []);
    section(&mut roff, "SEE ALSO");
    paragraph(&mut roff, "curl(1), systemd.exec(5), openssl-x509(1)");
    paragraph(&mut roff, "RFC 6749 (OAuth 2.0), RFC 6750 (bearer tokens)");
    roff.render()
}

fn section(roff: &mut Roff, name: &str) {
    roff.control("SH", [name]);
}

fn paragraph(roff: &mut Roff, text: &str) {
    roff.control("PP", []);
    roff.text([roman(text)]);
}

fn item<const N: usize>(roff: &mut Roff, head: [Inline; N], text: &str) {
    roff.control("TP", []);
    roff.text(head);
    roff.text([roman(text)]);
}

fn synopsis(command: &Command) -> Vec<Inline> {
    let mut line = vec![bold(format!("bearerd {}", command.get_name()))];
    if has_settings(command) {
        line.push(roman(" [OPTIONS]"));
    }
    for arg in command.get_arguments().filter(|arg| is_own(arg)) {
        let name = name(arg);
        let shown = match (arg.is_required_set(), arg.is_last_set()) {
            (_, true) => format!(" -- {name}..."),
            (true, false) => format!(" {name}"),
            (false, false) => format!(" [{name}]"),
        };
        line.push(roman(shown));
    }
    line
}

fn option(roff: &mut Roff, arg: &Arg) {
    item(roff, [bold(name(arg))], &arg.get_help().map(ToString::to_string).unwrap_or_default());
    let values: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
    if arg.is_positional() && !values.is_empty() {
        roff.control("br", []);
        roff.text([roman(format!("One of {}.", values.join(", ")))]);
    }
}

/// As it is typed: `--wait TIME`, `PROVIDER`.
fn name(arg: &Arg) -> String {
    let value = arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str().to_owned());
    match (arg.get_long(), value.filter(|_| arg.get_action().takes_values())) {
        (Some(long), Some(value)) => format!("--{long} {value}"),
        (Some(long), None) => format!("--{long}"),
        (None, value) => value.unwrap_or_default(),
    }
}

/// Of this command, and not one of the settings, `--help` or `--version`.
fn is_own(arg: &Arg) -> bool {
    !matches!(arg.get_id().as_str(), "help" | "version") && arg.get_help_heading() != Some(HEADING)
}

fn has_settings(command: &Command) -> bool {
    command.get_arguments().any(|arg| arg.get_help_heading() == Some(HEADING))
}
