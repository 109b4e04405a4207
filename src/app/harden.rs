//! Keeps this process's memory, which holds tokens, to itself, and what that takes away from the children that are to
//! live as if there were no bearerd.

use rustix::io;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// No core dumps and, on Linux, no reading of this process's memory by others of the same user. `for_good` keeps
/// children from core dumps as well.
///
/// # Errors
/// The first that the system refuses; the caller decides whether that matters.
pub fn harden(for_good: bool) -> io::Result<()> {
    let maximum = if for_good { Some(0) } else { getrlimit(Resource::Core).maximum };
    // Each helps without the other.
    let dumped = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    #[cfg(target_os = "linux")]
    let dumped = dumped.and(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable));
    dumped
}

/// The limits that this process changes for itself, and that a child would inherit: core dumps and descriptors.
#[derive(Clone, Debug)]
pub struct Limits([(Resource, Rlimit); 2]);

impl Limits {
    /// Those in force.
    pub fn read() -> Self {
        Self([Resource::Core, Resource::Nofile].map(|resource| (resource, getrlimit(resource))))
    }

    /// Puts these in force for as long as it takes to start a child.
    pub fn lend<T>(&self, start: impl FnOnce() -> T) -> T {
        let own = Self::read();
        self.put();
        let started = start();
        own.put();
        started
    }

    fn put(&self) {
        for (resource, limit) in &self.0 {
            // Only what is allowed was read, and what is not put back is no reason to serve nobody.
            let _ = setrlimit(*resource, *limit);
        }
    }
}
