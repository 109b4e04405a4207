//! Finds the longest of many path prefixes without looking at the others: ten thousand routes cost what one does.

use std::hash::Hash;

use fnv::FnvHashMap;

/// Values by (listener, place, path prefix); a listener or a place that is left out takes any. A named listener beats a
/// named place beats a longer prefix.
#[derive(Debug)]
pub(super) struct Table<P> {
    by: FnvHashMap<(Option<usize>, Option<P>), Prefixes>,
    names_listeners: bool,
    names_places: bool,
}

#[derive(Debug, Default)]
struct Prefixes {
    by: FnvHashMap<Box<str>, usize>,
    /// Takes what no prefix does.
    all: Option<usize>,
    longest: usize,
}

impl<P: Hash + Eq> Default for Table<P> {
    fn default() -> Self {
        Self { by: FnvHashMap::default(), names_listeners: false, names_places: false }
    }
}

impl<P: Hash + Eq + Clone> Table<P> {
    /// The first of two equals stays. `prefix` has no trailing slash; `""` is all.
    pub(super) fn insert(&mut self, listener: Option<usize>, place: Option<P>, prefix: &str, value: usize) {
        self.names_listeners |= listener.is_some();
        self.names_places |= place.is_some();
        let prefixes = self.by.entry((listener, place)).or_default();
        if prefix.is_empty() {
            prefixes.all.get_or_insert(value);
        } else {
            prefixes.longest = prefixes.longest.max(prefix.len());
            prefixes.by.entry(prefix.into()).or_insert(value);
        }
    }

    /// The value whose prefix is the whole path.
    pub(super) fn exact(&self, listener: usize, place: Option<&P>, path: &str) -> Option<usize> {
        self.first(listener, place, |prefixes| prefixes.exact(path))
    }

    pub(super) fn find(&self, listener: usize, place: Option<&P>, path: &str) -> Option<usize> {
        self.first(listener, place, |prefixes| prefixes.find(path))
    }

    fn first(&self, listener: usize, place: Option<&P>, find: impl Fn(&Prefixes) -> Option<usize>) -> Option<usize> {
        let listeners = [self.names_listeners.then_some(listener), None];
        let places = [place.filter(|_| self.names_places), None];
        for listener in skip_same(listeners) {
            for place in skip_same(places) {
                let found = self.by.get(&(listener, place.cloned())).and_then(&find);
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }
}

/// Without a first there is only "any".
fn skip_same<T>([named, any]: [Option<T>; 2]) -> impl Iterator<Item = Option<T>> {
    named.map(Some).into_iter().chain([any])
}

impl Prefixes {
    /// A path that is longer than any is not looked at: the app chooses how long it is.
    fn exact(&self, path: &str) -> Option<usize> {
        (path.len() <= self.longest).then(|| self.by.get(path).copied()).flatten()
    }

    fn find(&self, path: &str) -> Option<usize> {
        if self.by.is_empty() {
            return self.all;
        }
        // The whole path, then every shorter one that ends where a segment does, if it is not too long.
        let mut end = path.len();
        loop {
            if end <= self.longest
                && let Some(value) = self.by.get(&path[..end])
            {
                return Some(*value);
            }
            let before = &path.as_bytes()[..end.min(self.longest + 1)];
            match before.iter().rposition(|byte| *byte == b'/') {
                Some(slash) => end = slash,
                None => return self.all,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(Option<usize>, Option<&'static str>, &str)]) -> Table<&'static str> {
        let mut table = Table::default();
        for (value, (listener, place, prefix)) in rows.iter().enumerate() {
            table.insert(*listener, *place, prefix, value);
        }
        table
    }

    #[test]
    fn the_longest_prefix_at_a_segment_wins() {
        let table = table(&[(None, None, ""), (None, None, "/a"), (None, None, "/a/b")]);
        for (path, value) in [("/", 0), ("/ab", 0), ("/a", 1), ("/a/", 1), ("/a/bc", 1), ("/a/b", 2), ("/a/b/c/d", 2)] {
            assert_eq!(table.find(0, None, path), Some(value), "{path}");
        }
    }

    #[test]
    fn a_listener_beats_a_place_beats_a_path() {
        let table = table(&[(None, None, "/a/b"), (None, Some("x"), "/a"), (Some(1), None, "")]);
        assert_eq!(table.find(0, Some(&"y"), "/a/b"), Some(0));
        assert_eq!(table.find(0, Some(&"x"), "/a/b"), Some(1));
        assert_eq!(table.find(0, Some(&"x"), "/b"), None);
        assert_eq!(table.find(1, Some(&"x"), "/a/b"), Some(2));
    }

    #[test]
    fn the_whole_path_is_looked_for_in_every_place() {
        let table = table(&[(Some(1), None, "/a"), (None, Some("x"), "/a"), (None, None, "/a/b")]);
        for (listener, path, value) in
            [(0, "/a", Some(1)), (1, "/a", Some(0)), (1, "/a/b", Some(2)), (1, "/a/c", None), (1, "/", None)]
        {
            assert_eq!(table.exact(listener, Some(&"x"), path), value, "{listener} {path}");
        }
    }

    #[test]
    fn the_first_of_two_equals_stays() {
        assert_eq!(table(&[(None, None, "/a"), (None, None, "/a")]).find(0, None, "/a"), Some(0));
    }
}
