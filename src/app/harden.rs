//! Keeps this process's memory, which holds tokens, to itself.

use rustix::io;

/// No core dumps and, on Linux, no reading of this process's memory by others of the same user.
///
/// # Errors
/// The first that the system refuses; the caller decides whether that matters.
pub fn harden() -> io::Result<()> {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    // Each helps without the other.
    let dumped = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    #[cfg(target_os = "linux")]
    let dumped = dumped.and(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable));
    dumped
}
