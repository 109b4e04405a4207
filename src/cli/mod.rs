//! Words on a screen and exit codes.
//!
//! 0 is fine, 1 failed, 2 wrong usage, 78 (EX_CONFIG of sysexits) wrong configuration. Problems go to standard error;
//! standard output carries only what was asked for.

mod arguments;
mod check;
mod demo;
mod doctor;
mod exec;
mod health;
mod init;
mod man;
mod run;
mod token;

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::ArgMatches;
use clap_complete::Shell;

use crate::app::harden;
use crate::config::{self, Disk, Files, Loaded, Problems, Sources};

/// What a command came to.
#[derive(Debug)]
enum Failed {
    /// Exit code 1; the text says what happened and what to do.
    Because(String),
    /// Exit code 78.
    Configuration(String),
}

const EX_CONFIG: u8 = 78;

impl Failed {
    /// What is wrong with a configuration, and how many things that are.
    fn configuration(problems: &str, count: usize) -> Self {
        let plural = if count == 1 { "" } else { "s" };
        Self::Configuration(format!("{problems}\n\nerror: {count} problem{plural} in the configuration"))
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    /// An error with its causes, which libraries keep apart from each other.
    fn from(error: E) -> Self {
        Self::Because(format!("{:#}", error.into()))
    }
}

/// Carries out one command line, the program's name included.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = match arguments::parse(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version are answers; the rest is wrong usage. clap knows which goes where.
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    // Before anything secret is read. A system that refuses is no reason not to do what was asked.
    let limits = harden::Limits::read();
    // What the user's own command does with its memory is the user's.
    let for_good = matches.subcommand_name() != Some("exec");
    let hardened = harden::harden(for_good).map_err(Into::into);
    let outcome = match matches.subcommand() {
        Some(("run", matches)) => run::run(matches, hardened),
        // The one that ends as somebody else does.
        Some(("exec", matches)) => match exec::run(matches, hardened, &limits) {
            Ok(code) => return ExitCode::from(code),
            Err(failed) => Err(failed),
        },
        Some(("demo", matches)) => demo::run(matches),
        Some(("check", matches)) => check::run(matches),
        Some(("token", matches)) => token::run(matches),
        Some(("doctor", matches)) => doctor::run(matches),
        Some(("health", matches)) => health::run(matches),
        Some(("init", matches)) => init::run(matches),
        Some(("schema", _)) => print(&format!("{:#}\n", config::schema::published())),
        Some(("completions", matches)) => completions(matches),
        Some(("man", _)) => print(&man::page(arguments::command(arguments::Secrets::LeftOut))),
        Some((_, _)) | None => Err(Failed::Because("a bug in bearerd: a command without a deed".into())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Because(text)) => {
            complain(&format!("error: {text}"));
            ExitCode::FAILURE
        }
        Err(Failed::Configuration(text)) => {
            complain(&text);
            ExitCode::from(EX_CONFIG)
        }
    }
}

fn completions(matches: &ArgMatches) -> Result<(), Failed> {
    // clap takes no other.
    let shell = matches.get_one::<Shell>("shell").copied();
    let shell = shell.ok_or_else(|| Failed::Because("a bug in bearerd: completions without a shell".into()))?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut arguments::command(arguments::Secrets::LeftOut), "bearerd", &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Reads the configuration that flags, environment and file make together.
fn load(matches: &ArgMatches) -> Result<Loaded, Failed> {
    load_with(matches, &Disk)
}

fn load_with(matches: &ArgMatches, files: &dyn Files) -> Result<Loaded, Failed> {
    loaded(matches, files).map_err(|problems| refused(&problems))
}

/// All that is wrong with a configuration.
fn refused(problems: &Problems) -> Failed {
    // What is doubtful may well be the cause: a misspelt variable has no effect, and so something is missing.
    for warning in &problems.warnings {
        complain(&format!("warning: {warning}"));
    }
    Failed::configuration(&problems.to_string(), problems.problems.len())
}

/// The same, with each problem by itself.
fn loaded(matches: &ArgMatches, files: &dyn Files) -> Result<Loaded, Problems> {
    // A cgroup that grows meanwhile is no other configuration.
    static PARALLELISM: OnceLock<usize> = OnceLock::new();
    let parallelism = *PARALLELISM.get_or_init(|| std::thread::available_parallelism().map_or(1, Into::into));
    let flags = arguments::settings(matches);
    let environment = config::sources::environment(std::env::vars_os());
    config::load(&Sources { flags: &flags, environment: &environment, files, parallelism })
}

/// To standard output. A reader that has had enough (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// To standard error, where a failure has nowhere else to be told.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
