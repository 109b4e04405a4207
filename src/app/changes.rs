//! What one plan has and another has not, by name: for the line that says what a reload did.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::compiled::Compiled;

/// From one plan to the next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) routes: Names,
    pub(super) tokens: Names,
    /// Other keys of the configuration.
    others: Vec<&'static str>,
}

/// In the order of the configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) added: Vec<Arc<str>>,
    pub(super) removed: Vec<Arc<str>>,
    pub(super) changed: Vec<Arc<str>>,
}

impl Changes {
    pub(super) fn between(one: &Compiled, other: &Compiled) -> Self {
        let routes = |compiled: &Compiled| -> Vec<Arc<str>> {
            compiled.live.routes.all().map(|route| Arc::clone(&route.settings.name)).collect()
        };
        let tokens = |compiled: &Compiled| -> Vec<Arc<str>> { compiled.registry.names().cloned().collect() };
        let kept: HashSet<_> = one.live.routes.all().map(|route| route.id).collect();
        let kept: HashSet<&str> = other
            .live
            .routes
            .all()
            .filter(|route| kept.contains(&route.id))
            .map(|route| &*route.settings.name)
            .collect();
        let changes = Self {
            routes: Names::between(&routes(one), &routes(other), |name| kept.contains(name)),
            tokens: Names::between(&tokens(one), &tokens(other), |name| one.registry.shares(name, &other.registry)),
            others: Vec::new(),
        };
        let moved =
            changes.routes.added.is_empty() && changes.routes.removed.is_empty() && routes(one) != routes(other);
        let intercepts = |compiled: &Compiled| compiled.live.ca.as_ref().map(Arc::as_ptr);
        let others = [
            ("the order of routes", moved),
            ("callers", one.callers != other.callers),
            ("tunnel", one.tunnels != other.tunnels),
            ("limits", one.live.limits != other.live.limits),
            ("intercept", intercepts(one) != intercepts(other)),
            ("log", one.log != other.log),
            ("access_log", one.access_log != other.access_log),
            ("tracing", one.live.tracing != other.live.tracing),
            ("shutdown", one.shutdown != other.shutdown),
        ];
        Self { others: others.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect(), ..changes }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Names {
    fn between(one: &[Arc<str>], other: &[Arc<str>], is_same: impl Fn(&str) -> bool) -> Self {
        let (before, after): (HashSet<&Arc<str>>, HashSet<&Arc<str>>) = (one.iter().collect(), other.iter().collect());
        Self {
            added: other.iter().filter(|name| !before.contains(name)).cloned().collect(),
            removed: one.iter().filter(|name| !after.contains(name)).cloned().collect(),
            changed: other.iter().filter(|name| before.contains(name) && !is_same(name)).cloned().collect(),
        }
    }
}

/// Of ten thousand routes a line does not tell each.
const MOST: usize = 10;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |sign, names: &[Arc<str>]| names.iter().map(|name| format!("{sign}{name}")).collect::<Vec<_>>();
        let all = [of('+', &self.added), of('-', &self.removed), of('~', &self.changed)].concat();
        f.write_str(&all[..all.len().min(MOST)].join(" "))?;
        match all.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// `routes: +a -b ~c; tokens: ~orders; also limits`: come, gone, changed.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (key, names) in [("routes", &self.routes), ("tokens", &self.tokens)] {
            if *names != Names::default() {
                parts.push(format!("{key}: {names}"));
            }
        }
        if !self.others.is_empty() {
            let also = if parts.is_empty() { "" } else { "also " };
            parts.push(format!("{also}{}", self.others.join(", ")));
        }
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &[&str]) -> Vec<Arc<str>> {
        text.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn a_line_names_what_is_different() {
        let routes = Names::between(&names(&["a", "b", "c"]), &names(&["d", "c", "a"]), |name| name == "a");
        assert_eq!(routes.to_string(), "+d -b ~c");
        let changes = Changes { routes, others: vec!["limits", "log"], ..Changes::default() };
        assert_eq!(changes.to_string(), "routes: +d -b ~c; also limits, log");
        let others = Changes { others: vec!["log", "shutdown"], ..Changes::default() };
        assert_eq!(others.to_string(), "log, shutdown");
        assert!(!changes.is_empty() && Changes::default().is_empty());
        let many: Vec<_> = (0..12).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let removed = Names::between(&names(&many), &[], |_| true);
        assert_eq!(removed.to_string(), "-0 -1 -2 -3 -4 -5 -6 -7 -8 -9 and 2 more");
    }
}
