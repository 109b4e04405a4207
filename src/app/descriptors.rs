//! Shares out the descriptors that this process may have, so that a crowd of apps never takes those that renew tokens.
//!
//! Must never know what goes over a connection.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many connections there may be of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// From apps.
    pub(super) apps: usize,
    /// To upstreams, all workers together. Each app's connection may need one, so there are as many at the least.
    pub(super) upstreams: usize,
    /// Told that there is no place for them, at a time.
    pub(super) refusals: usize,
    /// To the admin pages.
    pub(super) pages: usize,
}

/// For token requests, secret files, listeners and what the runtime needs; refusals and pages come out of it too. An
/// eighth, but no fewer than these, and no more than anybody has had a use for.
const RESERVE: (usize, usize) = (64, 256);

/// Raises this process's limit, if need be and as far as it may, to what so many apps' connections take, and shares it
/// out.
pub(super) fn share_out(connections: usize) -> Shares {
    shares(raised_to(for_connections(connections)), connections)
}

/// What so many connections of apps take.
pub(super) fn for_connections(connections: usize) -> usize {
    connections.saturating_mul(2).saturating_add(RESERVE.1)
}

/// The limit in force; `None` is no limit.
fn raised_to(wanted: usize) -> Option<usize> {
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current?;
    if current < wanted {
        let more = limit.maximum.map_or(wanted, |most| most.min(wanted));
        // Where it may not, there is as much as there was.
        if more > current && setrlimit(Resource::Nofile, Rlimit { current: Some(more), ..limit }).is_ok() {
            return usize::try_from(more).ok();
        }
    }
    usize::try_from(current).ok()
}

fn shares(descriptors: Option<usize>, connections: usize) -> Shares {
    let Some(all) = descriptors else {
        let quarter = RESERVE.1 / 4;
        return Shares { apps: connections, upstreams: usize::MAX, refusals: quarter, pages: quarter };
    };
    let reserve = (all / 8).clamp(RESERVE.0, RESERVE.1);
    let left = all.saturating_sub(reserve).max(2);
    let apps = connections.min(left / 2);
    Shares { apps, upstreams: left - apps, refusals: reserve / 4, pages: reserve / 4 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_never_get_what_upstreams_and_tokens_need() {
        for (descriptors, connections, apps, upstreams, few) in [
            (Some(256), 10_000, 96, 96, 16),
            (Some(1024), 10_000, 448, 448, 32),
            (Some(20_000), 10_000, 9_872, 9_872, 64),
            (Some(1 << 20), 10_000, 10_000, (1 << 20) - 256 - 10_000, 64),
            (Some(1024), 10, 10, 886, 32),
            (Some(10), 10_000, 1, 1, 16),
            (None, 10_000, 10_000, usize::MAX, 64),
        ] {
            let expected = Shares { apps, upstreams, refusals: few, pages: few };
            assert_eq!(shares(descriptors, connections), expected, "{descriptors:?} {connections}");
        }
    }
}
