//! Keeps this process's memory, which holds tokens, to itself.

use rustix::io;

/// No core dumps and, on Linux, no reading of this process's memory by others of the same user.
///
/// # Errors
/// The system refuses; the caller decides whether that matters.
pub fn harden() -> io::Result<()> {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
