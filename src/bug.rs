//! Panics where a proof wants one, to show what it costs. In what users get there is nothing of it: without debug
//! assertions it is empty.
//!
//! `BEARERD_PANIC=request:3,driver:1` has the first three requests panic, and a token's loop once; `request:/10` every
//! tenth. Must never know what happens at a place.

/// Panics if this place is to, this time.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn at(_place: &str) {}

#[cfg(debug_assertions)]
pub use armed::at;

#[cfg(debug_assertions)]
mod armed {
    use std::collections::HashMap;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// How often each was come to, and which times are bugs.
    static PLACES: LazyLock<HashMap<String, (AtomicU64, Times)>> = LazyLock::new(|| {
        let wanted = std::env::var("BEARERD_PANIC").unwrap_or_default();
        let places = wanted.split(',').filter_map(|place| place.split_once(':'));
        places.filter_map(|(place, times)| Some((place.to_owned(), (AtomicU64::new(0), Times::of(times)?)))).collect()
    });

    enum Times {
        First(u64),
        Every(u64),
    }

    impl Times {
        fn of(text: &str) -> Option<Self> {
            match text.strip_prefix('/') {
                Some(every) => every.parse().ok().filter(|every| *every > 0).map(Self::Every),
                None => text.parse().ok().map(Self::First),
            }
        }
    }

    /// Panics if this place is to, this time.
    #[expect(clippy::panic, reason = "it is what this is for")]
    pub fn at(place: &str) {
        let Some((count, times)) = PLACES.get(place) else { return };
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        let is_bug = match times {
            Times::First(first) => count <= *first,
            Times::Every(every) => count.is_multiple_of(*every),
        };
        if is_bug {
            panic!("a proof wants a bug here");
        }
    }
}
