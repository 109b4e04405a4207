//! Holds `docs/logs.md` and the events together: each has a section there with its level, its sentences and its fields.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::*;

const PAGE: &str = include_str!("../../docs/logs.md");

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Calls `see` with at least one event of every kind, and with one for each sentence that a kind has.
fn every(mut see: impl FnMut(Event<'_>)) {
    see(Event::ConfigWarning { text: "tokens.orders.client_secret: the secret stands in the configuration" });
    for (tls, inherited) in [(false, false), (true, false), (false, true)] {
        see(Event::Listening { name: "egress", address: "192.0.2.7:8443", tls, inherited });
    }
    see(Event::ListenSkipped {
        address: "[::1]:4280".parse().unwrap(),
        error: "Cannot assign requested address (os error 99)",
    });
    see(Event::Ready);
    for connections in [1, 3] {
        see(Event::Draining { signal: "SIGTERM", connections });
    }
    let under_way = |requests, websockets, tunnels| UnderWay { requests, websockets, tunnels };
    for (found, cut) in [
        (under_way(0, 0, 0), under_way(0, 0, 0)),
        (under_way(7, 2, 1), under_way(0, 0, 0)),
        (under_way(7, 2, 1), under_way(1, 0, 0)),
        (under_way(7, 2, 1), under_way(0, 2, 1)),
    ] {
        see(Event::Stopped { found, cut });
    }
    see(Event::TokenAsked { token: "orders", credential: "reports", why: "a planned renewal" });
    for recovered in [None, Some((4, seconds(123)))] {
        see(Event::TokenGranted(TokenGranted {
            token: "orders",
            credential: "reports",
            fingerprint: Fingerprint::of(b"a token"),
            generation: 7,
            life: seconds(3_600),
            renew_in: seconds(2_700),
            took: Duration::from_millis(84),
            recovered,
        }));
    }
    let why = "the provider does not accept the credential (invalid_client)";
    for (next, usable_for) in
        [(Some(seconds(20)), None), (Some(seconds(20)), Some(seconds(840))), (None, Some(seconds(840))), (None, None)]
    {
        let cure = usable_for.map(|_| "compare `client_id` and `client_secret` with the provider's");
        see(Event::TokenFailed { token: "orders", credential: "reports", why, cure, next, usable_for, in_force: true });
    }
    let (cure, next) = (None, Some(seconds(20)));
    see(Event::TokenFailed {
        token: "orders",
        credential: "reports",
        why,
        cure,
        next,
        usable_for: None,
        in_force: false,
    });
    see(Event::BudgetSpent { token: "orders", next: seconds(600) });
    for rejected in [true, false] {
        see(Event::CredentialSwitched { rejected, token: "orders", from: "reports", to: "reports-2" });
    }
    see(Event::TokenRefused { token: "orders", generation: 7 });
    see(Event::TokenNoBetter { token: "orders" });
    see(Event::SecretChanged { token: "orders" });
    see(Event::FilesUnwatched { error: "no inotify instance is left" });
    see(Event::ScopeDiffers { token: "orders" });
    see(Event::ClockOff { token: "orders", off: "1h 2s ahead of" });
    see(Event::SecretUnreadable { token: "orders", why: "/run/secrets/orders: permission denied" });
    see(Event::PasswordUnreadable { client: "billing", why: "/run/secrets/billing: permission denied" });
    see(Event::StateUnwritable { path: "/var/lib/bearerd/orders.json", error: "no storage space" });
    see(Event::TokenTypeOdd { token: "orders" });
    see(Event::TaskPanicked { task: "a token's loop" });
    see(Event::WorkerFell { worker: 0 });
    let why = "called `Option::unwrap()` on a `None` value";
    see(Event::Panicked { thread: "worker-0", place: "src/forward/mod.rs:94:5", why: Some(why) });
    see(Event::Panicked { thread: "worker-0", place: "src/forward/mod.rs:94:5", why: None });
    see(Event::FewDescriptors { connections: 400, wanted: 10_000, descriptors: 20_200 });
    see(Event::AcceptFailed { listener: "legacy", error: "Connection reset by peer (os error 104)", suppressed: 0 });
    let asked = |method, host: &str, listener: &str| Asked {
        method,
        host: Some(host.to_owned()).filter(|host| !host.is_empty()),
        peer: Some((Ipv4Addr::LOCALHOST, 51_522).into()),
        listener: Some(listener.into()),
        ..Asked::default()
    };
    see(Event::TurnedAway {
        reason: Reason::AppTls,
        why: "it shows no client certificate, and `client_ca_file` asks for one",
        asked: &asked(None, "", "egress"),
        suppressed: 12,
    });
    let certificate = "/run/bearerd/ca/ca.pem";
    for anew in [None, Some("the old one ends soon")] {
        see(Event::Authority { certificate, anew });
    }
    see(Event::CertificateRenewed { listener: "egress" });
    see(Event::CertificateUnusable {
        listener: "egress",
        why: "/etc/bearerd/egress.key: there is no private key in it",
    });
    see(Event::Reloaded { what: "routes: +new -gone ~changed; tokens: ~orders; also limits" });
    see(Event::Reloaded { what: "limits, shutdown" });
    see(Event::ReloadUnchanged);
    see(Event::ReloadRefused {
        problems: &[
            "/etc/bearerd/config.yaml:7:5: limits.conections: unknown key (did you mean `connections`?)".to_owned(),
            "`workers` cannot change while bearerd runs; restart it to have that, or put the old back".to_owned(),
        ],
    });
    see(Event::ReloadWaits { tokens: "`orders` (the provider does not accept the credential (invalid_client))" });
    see(Event::Refused {
        reason: Reason::HostNotOurs,
        route: None,
        why: "its Host is not one of ours; if apps rightly call bearerd by it, list it in `callers.hosts`",
        asked: &asked(Some("GET"), "rebind.attacker.test", "localhost:4280"),
        suppressed: 41,
    });
    see(Event::Refused {
        reason: Reason::NotAllowed,
        route: Some("orders"),
        why: "none of the route's `allow` rules takes this path",
        asked: &Asked { caller: Some("billing".into()), ..asked(Some("POST"), "localhost:4280", "legacy") },
        suppressed: 0,
    });
    see(Event::Refused {
        reason: Reason::Internal,
        route: Some("orders"),
        why: "a bug in bearerd: a request panicked; please report it",
        asked: &Asked { uid: Some(1_001), ..asked(Some("GET"), "localhost", "legacy") },
        suppressed: 0,
    });
    see(Event::UpstreamFailed {
        reason: Reason::UpstreamRefused,
        route: "orders",
        why: "the upstream: the connection was refused, or the network has no way there",
        asked: &asked(Some("GET"), "", "legacy"),
        suppressed: 0,
    });
    see(Event::UpstreamFailed {
        reason: Reason::UpstreamDns,
        route: "tunnel",
        why: "the upstream: its name has no address",
        asked: &asked(Some("CONNECT"), "queue.example.com:443", "legacy"),
        suppressed: 3,
    });
    see(Event::UpstreamRecovered { route: "orders", lasted: seconds(192), failed: 412 });
    see(Event::AccessLogLost { lines: 318, why: "whoever reads or stores it is too slow" });
    see(Event::AccessLogLost { lines: 1, why: "No space left on device (os error 28)" });
    see(Event::AccessLogLost {
        lines: 0,
        why: "it was moved away and cannot be opened anew (Permission denied (os error 13)); lines go on into the old one",
    });
    see(Event::LogLost { lines: 37 });
    for advice in Advice::ALL {
        see(Event::Advised { advice, route: "orders", suppressed: 0 });
    }
    see(Event::Exchange {
        route: Some("orders"),
        method: "GET",
        status: 200,
        reason: None,
        took: Duration::from_micros(18_300),
    });
}

/// The heading of a section and what is below it.
fn sections() -> Vec<(&'static str, &'static str)> {
    PAGE.split("\n### ").skip(1).map(|section| section.split_once('\n').unwrap()).collect()
}

#[test]
fn the_page_has_every_event_with_its_levels_sentences_and_fields() {
    let mut missing = String::new();
    let mut told = BTreeSet::new();
    every(|event| {
        let Line { level, event, message, fields } = event.line();
        let fields: Vec<_> = fields.iter().map(|(name, _)| format!("`{name}`")).collect();
        let fields = if fields.is_empty() { "none".to_owned() } else { fields.join(", ") };
        let level = format!("{level:?}").to_lowercase();
        told.insert(event);
        let section = sections().into_iter().find(|(heading, _)| heading.starts_with(&format!("`{event}`")));
        let wanted = [format!("{level}: {message}"), format!("Fields: {fields}.")];
        for wanted in wanted {
            if !section.is_some_and(|(_, text)| text.lines().any(|line| line == wanted)) {
                missing += &format!("### `{event}`\n{wanted}\n");
            }
        }
    });
    assert_eq!(missing, "", "docs/logs.md lacks these lines");
    let written: BTreeSet<_> = sections().iter().map(|(heading, _)| heading.trim_matches('`')).collect();
    assert_eq!(written, told, "sections of docs/logs.md and events");
}

#[test]
fn the_page_leaves_no_event_out() {
    // A derived Debug begins with the variant's name; which there are says the source.
    let mut shown = BTreeSet::new();
    every(|event| {
        let text = format!("{event:?}");
        shown.insert(text[..text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len())].to_owned());
    });
    let source = include_str!("event.rs");
    let body = source.split_once("pub enum Event<'a> {\n").unwrap().1.split_once("\n}").unwrap().0;
    let variants = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
    let variants: BTreeSet<_> =
        variants.map(|line| line[..line.find(|c: char| !c.is_alphanumeric()).unwrap()].to_owned()).collect();
    assert!(variants.len() > 20, "{variants:?}");
    assert_eq!(shown, variants);
}

#[test]
fn the_page_has_every_reason_and_whose_it_is() {
    for reason in Reason::ALL {
        let row = format!("| `{reason}` | {} |", reason.whose());
        assert!(PAGE.contains(&row), "docs/logs.md has no row {row}");
    }
}

#[test]
fn numbers_are_numbers_and_durations_are_seconds() {
    every(|event| {
        for (name, value) in event.line().fields {
            let is_number =
                ["_seconds", "suppressed", "lines", "failures", "failed", "status", "generation", "cut_off"]
                    .iter()
                    .any(|end| name.ends_with(end));
            assert!(!is_number || value.is_number(), "{name} is {value}");
            assert!(!value.is_object() && !value.is_array(), "{name} is {value}");
        }
    });
}

#[test]
fn what_is_the_same_refusal_has_the_same_words_whatever_port_it_came_from() {
    let of = |port| {
        let peer = Some((Ipv4Addr::LOCALHOST, port).into());
        Asked { method: Some("GET"), host: Some("a.test".to_owned()), peer, ..Asked::default() }.of("why")
    };
    assert_eq!((of(1), of(2)), ("GET for a.test: why".to_owned(), "GET for a.test: why".to_owned()));
}

#[test]
fn durations_read_as_people_say_them() {
    for (millis, text) in [(618, "0.6s"), (1_000, "1s"), (1_750, "1.8s"), (13_400, "13s"), (3_590_000, "59m 50s")] {
        assert_eq!(rounded(Duration::from_millis(millis)), text);
    }
}
