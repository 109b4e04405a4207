//! Where an upstream says that something is → what the app is told instead: the place that it was, and nobody else's.

#![no_main]

use std::io;
use std::path::Path;
use std::sync::LazyLock;

use bearerd::config::files::Seen;
use bearerd::config::{Environment, Files, Sources, load};
use bearerd::rules::RouteSettings;
use bearerd::rules::way_back::way_back;
use libfuzzer_sys::fuzz_target;
use url::Url;

const ROUTES: &str = "
listen: 127.0.0.1:4280
routes:
  - {name: plain, match: {path: /plain}, upstream: 'https://api.example', token: none}
  - {name: stripped, match: {path: /stripped}, strip_prefix: true, upstream: 'https://api.example/base', token: none}
  - {name: rest, upstream: 'https://api.example/base', token: none}
";

struct Only;

impl Files for Only {
    fn read(&self, _: &Path, _: usize, _: bool) -> io::Result<Seen> {
        Ok(Seen { bytes: ROUTES.into(), world_readable: false })
    }

    fn folder(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }
}

static SETTINGS: LazyLock<Vec<RouteSettings>> = LazyLock::new(|| {
    let environment = Environment::new();
    let sources = Sources { flags: &[], environment: &environment, files: &Only, parallelism: 2 };
    load(&sources).expect("a configuration").plan.routes
});

fuzz_target!(|reference: &str| {
    // No others come out of a header (`HeaderValue::to_str`).
    if !reference.bytes().all(|byte| byte == b'\t' || (b' '..0x7f).contains(&byte)) {
        return;
    }
    let reference = reference.trim();
    let app = Url::parse("http://localhost:4280/stripped/x").expect("a URL");
    let api = Url::parse("https://api.example/base/x").expect("a URL");
    for settings in SETTINGS.iter() {
        let Some(place) = way_back(settings, reference) else { continue };
        assert_ne!(place, reference);
        // Whatever is changed was the upstream's own. Here a backslash is no slash (RFC 3986), so what a browser takes
        // for another host's is led to the upstream, which does no harm.
        if let Ok(meant) = api.join(&reference.replace('\\', "%5C")) {
            assert_eq!(
                meant.host_str().map(|host| host.trim_end_matches('.')),
                api.host_str(),
                "{reference:?} became {place:?}"
            );
        }
        let Ok(led) = app.join(&place) else { continue };
        let own = if place.starts_with('/') { &app } else { &api };
        assert_eq!(led.origin(), own.origin(), "{reference:?} became {place:?}");
        // A second answer through here leaves it alone.
        if place.starts_with('/') {
            assert!(!place.starts_with("//"), "{place:?}");
        } else {
            assert_eq!(way_back(settings, &place), None, "{reference:?} became {place:?}");
        }
    }
});
