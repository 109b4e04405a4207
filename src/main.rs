//! The program. Everything is in the library, where it can be tested.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    bearerd::cli::main(std::env::args_os())
}
