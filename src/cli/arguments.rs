//! What can be typed. The settings' flags come from the configuration's own table, so that each is declared once.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::Shell;

use crate::config::{SETTINGS, formats, presets};

const COMMANDS: [&str; 11] =
    ["run", "exec", "demo", "check", "doctor", "token", "health", "init", "schema", "completions", "man"];

/// Over the flags that come from the settings' table.
pub(super) const HEADING: &str = "Settings";

/// How the file of a configuration ends.
const ENDINGS: [&str; 3] = [".yaml", ".yml", ".json"];

pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<ArgMatches, clap::Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // A bare `bearerd`, with flags or without, is `bearerd run`.
    let is_run = match arguments.get(1).and_then(|first| first.to_str()) {
        None => true,
        Some(first) => first.starts_with('-') && !matches!(first, "-h" | "--help" | "-V" | "--version"),
    };
    if is_run {
        arguments.insert(arguments.len().min(1), "run".into());
    }
    let is_exec = arguments.get(1).is_some_and(|command| command == COMMANDS[1]);
    command(Secrets::Taken).try_get_matches_from(arguments).map_err(|error| pointed(error, is_exec))
}

/// A file that was named without its flag is told what it lacks, a command of `exec` that `--` goes before it, and `init`
/// without a provider which there are.
fn pointed(mut error: clap::Error, is_exec: bool) -> clap::Error {
    let tip = match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) if is_file(word) => {
            Some(format!("name the configuration with a flag: '--config {word}'"))
        }
        (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) if is_exec && !word.starts_with('-') => {
            Some(format!("the command stands behind '--': 'bearerd exec -- {word}'"))
        }
        (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) => {
            let lacks = |argument: &str| missing.iter().any(|one| one.starts_with(argument));
            if lacks("<PROVIDER>") {
                let names: Vec<&str> = presets::names().collect();
                Some(format!("the providers are {}", names.join(", ")))
            } else {
                lacks("<CMD>").then(|| "the command stands behind '--', as in 'bearerd exec -- curl URL'".to_owned())
            }
        }
        _ => None,
    };
    if let Some(tip) = tip {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn is_file(word: &str) -> bool {
    ENDINGS.iter().any(|ending| word.ends_with(ending))
}

/// A token's name, and not the file that somebody forgot a flag for.
fn token_name(word: &str) -> Result<String, String> {
    match is_file(word) {
        true => Err(format!("that is a file; name the configuration with a flag: '--config {word}'")),
        false => Ok(word.to_owned()),
    }
}

/// The settings that were given as flags: name and value.
pub(super) fn settings(matches: &ArgMatches) -> Vec<(String, String)> {
    let value = |flag: &str| matches.try_get_one::<String>(flag).ok().flatten().cloned();
    SETTINGS.iter().filter_map(|setting| Some((setting.flag.to_owned(), value(setting.flag)?))).collect()
}

/// What becomes of the flags of secrets, which are not to be typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// Taken, so that they can be refused with a reason.
    Taken,
    /// Not there: shells would offer even what is hidden.
    LeftOut,
}

pub(super) fn command(secrets: Secrets) -> Command {
    let with_settings = |command| with_settings(command, secrets);
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    let run = Command::new(COMMANDS[0])
        .about("Run the proxy")
        .long_about(
            "Run the proxy. Without --config: BEARERD_CONFIG, else flags and environment when they name an \
             upstream, else /etc/bearerd/config.yaml.",
        )
        .after_help(
            "Example:\n  bearerd run --upstream https://api.example.com \\\n    --token-url https://id.example.com/oauth2/token \\\n    \
             --client-id reports --client-secret-file /run/secrets/reports",
        );
    let exec = Command::new(COMMANDS[1])
        .about("Run a command with the proxy beside it, on free ports, and end as it does")
        .long_about(
            "Run a command with the proxy beside it, on free ports of 127.0.0.1, and end with the command's exit code. \
             The command finds the proxy in BEARERD_URL, HTTP_PROXY and their like, and inherits no secret. It starts \
             once every required token is there. What bearerd itself has to say from a warning on goes to standard \
             error; --log-level says otherwise.",
        )
        .arg(
            Arg::new("wait")
                .long("wait")
                .value_name("TIME")
                .default_value("30s")
                .value_parser(|text: &str| formats::duration(text).map_err(|complaint| complaint.what))
                .help("How long the tokens may take; without them the command is not started"),
        )
        .arg(
            Arg::new("command")
                .value_name("CMD")
                .required(true)
                .num_args(1..)
                .last(true)
                .value_parser(value_parser!(OsString))
                .value_hint(ValueHint::CommandWithArguments)
                .help("The command and its arguments; no shell reads them"),
        )
        .after_help("Example:\n  bearerd exec --config bearerd.yaml -- sh -c 'curl -fsS \"$BEARERD_URL/orders/7\"'");
    let demo = Command::new(COMMANDS[2])
        .about("Show the main job: a provider, an API and the proxy in one process, on loopback")
        .arg(flag("once", "Make one request, show both sides of it, and exit 0 or 1"))
        .after_help("Example:\n  bearerd demo --once");
    let check = Command::new(COMMANDS[3])
        .about("Check the configuration: all problems at once, else the resolved plan without secrets")
        .after_help("Example:\n  bearerd check --config bearerd.yaml");
    let doctor = Command::new(COMMANDS[4])
        .about("Look for what is wrong, from the configuration to the API's answer, and say what to do")
        .long_about(
            "Go through configuration, secrets, certificates, names, TCP, TLS, discovery, clock, tokens, the API's answer \
             and listeners: one line each as soon as it is known, with a hint below what is doubtful (warn) or wrong \
             (FAIL). It asks for one token with each credential, those that stand by included, and sends one GET with \
             the token to each upstream. Exit code 1 if something failed, 78 if the configuration is wrong.",
        )
        .arg(flag("json", "Print one JSON document instead of lines"))
        .after_help("Example:\n  bearerd doctor --config bearerd.yaml");
    let token = Command::new(COMMANDS[5])
        .about("Ask for a token now and print it, alone, for scripts")
        .arg(
            Arg::new("name")
                .value_name("NAME")
                .value_parser(token_name)
                .help("Which token; may be left out where there is one"),
        )
        .arg(flag("claims", "Print the claims in the token (a JWT) instead"))
        .after_help("Example:\n  bearerd token --config bearerd.yaml --claims");
    let health = Command::new(COMMANDS[6])
        .about("Ask the running instance whether it lives; exit 0 or 1")
        .arg(flag("ready", "Ask whether it is ready instead of whether it lives"))
        .after_help("Example:\n  bearerd health --ready");
    let init = Command::new(COMMANDS[7])
        .about("Print a commented configuration for a known provider")
        .arg(
            Arg::new("provider")
                .value_name("PROVIDER")
                .required(true)
                .value_parser(presets::names().collect::<Vec<_>>())
                .help("Whose tokens to use"),
        )
        .after_help("Example:\n  bearerd init keycloak > bearerd.yaml");
    let schema = Command::new(COMMANDS[8])
        .about("Print the configuration's JSON Schema, for editors and CI")
        .after_help("Example:\n  bearerd schema > bearerd.schema.json");
    let completions = Command::new(COMMANDS[9])
        .about("Print what completes bearerd's commands and flags in a shell")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(value_parser!(Shell))
                .help("For which shell"),
        )
        .after_help(
            "Example:\n  bearerd completions bash > ~/.local/share/bash-completion/completions/bearerd\n  \
             bearerd completions zsh > ~/.zfunc/_bearerd   # with fpath+=~/.zfunc before compinit\n  \
             bearerd completions fish > ~/.config/fish/completions/bearerd.fish\n  \
             # where a folder is not there yet, first: mkdir -p ~/.local/share/bash-completion/completions",
        );
    let man = Command::new(COMMANDS[10]).about("Print the manual page").after_help(
        "Example:\n  bearerd man | man -l -\n  mkdir -p ~/.local/share/man/man1\n  \
             bearerd man > ~/.local/share/man/man1/bearerd.1\n  \
             MANPATH=~/.local/share/man: man bearerd   # with ~/.local/bin in PATH, man-db needs no MANPATH",
    );
    Command::new("bearerd")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Puts a fresh OAuth 2.0 bearer token on every request of an app that knows nothing of OAuth")
        .after_help(
            "Without a command it is `bearerd run`, with all the flags that `bearerd run --help` lists.\n\n\
             Example:\n  bearerd demo",
        )
        .subcommands([
            with_settings(run),
            with_settings(exec)
                .mut_arg("listen", |arg| {
                    arg.help(
                        "Needed where the configuration listens on no plain TCP address; the port is a free one anyway",
                    )
                })
                .mut_arg("admin", |arg| {
                    arg.help("Whether admin pages are served at all (off); the port is a free one anyway")
                })
                // A command's has no kubelet.
                .mut_arg("health", |arg| arg.hide(true)),
            demo,
            with_settings(check),
            with_settings(doctor),
            with_settings(token),
            with_settings(health),
            init,
            schema,
            completions,
            man,
        ])
}

fn with_settings(command: Command, secrets: Secrets) -> Command {
    let settings = SETTINGS.iter().filter(|setting| secrets == Secrets::Taken || !setting.secret);
    command.next_help_heading(HEADING).args(settings.map(|setting| {
        Arg::new(setting.flag)
            .long(setting.flag)
            .value_name(setting.value)
            .value_hint(if setting.value == "FILE" { ValueHint::FilePath } else { ValueHint::Unknown })
            .hide(setting.secret)
            .help(format!("{} [env: {}]", setting.help, setting.variable))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<ArgMatches, clap::Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_table_makes_valid_commands() {
        command(Secrets::Taken).debug_assert();
    }

    #[test]
    fn bare_is_run() {
        for line in ["bearerd", "bearerd --listen 127.0.0.1:0", "bearerd run"] {
            assert_eq!(parsed(line).unwrap().subcommand_name(), Some("run"), "{line}");
        }
        assert_eq!(parsed("bearerd demo --once").unwrap().subcommand_name(), Some("demo"));
    }

    #[test]
    fn wrong_usage_is_told_from_a_question() {
        for (line, wrong) in [
            ("bearerd --help", false),
            ("bearerd --version", false),
            ("bearerd run --help", false),
            ("bearerd nonsense", true),
            ("bearerd --nonsense", true),
            ("bearerd run extra", true),
        ] {
            assert_eq!(parsed(line).unwrap_err().use_stderr(), wrong, "{line}");
        }
    }

    #[test]
    fn every_help_has_an_example() {
        for command in command(Secrets::Taken).get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example:\n  bearerd"), "{help}");
        }
    }

    #[test]
    fn flags_reach_the_configuration_by_their_names() {
        let matches = parsed("bearerd --token-url https://id.example/token --client-id app").unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        assert_eq!(
            settings(matches),
            [("token-url".into(), "https://id.example/token".into()), ("client-id".into(), "app".into())]
        );
    }
}
