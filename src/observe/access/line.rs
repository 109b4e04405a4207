//! What a request leaves behind, as a line of JSON.
//!
//! Every name is there in every line, `null` where there is nothing to say. A line is ASCII, whatever an app put into its
//! path: nothing in it ends a line or steers a terminal.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Version;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::{Entry, Phase};

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    listener: Option<&'a str>,
    caller: Option<&'a str>,
    uid: Option<u32>,
    peer: Option<String>,
    protocol: Option<&'static str>,
    method: Option<&'a str>,
    host: Option<&'a str>,
    path: Option<&'a str>,
    route: Option<&'a str>,
    upstream: Option<&'a str>,
    status: Option<u16>,
    reason: Option<&'static str>,
    token: Option<&'a str>,
    fingerprint: Option<String>,
    credential: Option<&'a str>,
    sent: u32,
    bytes_in: u64,
    bytes_out: u64,
    queue_seconds: f64,
    token_seconds: f64,
    connect_seconds: f64,
    upstream_seconds: f64,
    total_seconds: f64,
    trace_id: Option<String>,
}

impl Entry {
    /// Appends its line.
    pub(super) fn write(&self, text: &mut Vec<u8>) {
        let spent = |phase| seconds(self.spent[phase as usize]);
        let line = Line {
            time: humantime::format_rfc3339_millis(self.came).to_string(),
            listener: self.listener.as_deref(),
            caller: self.caller.as_deref(),
            uid: self.uid,
            peer: self.peer.map(|peer| peer.to_string()),
            protocol: self.protocol.map(protocol),
            method: self.method.as_deref(),
            host: self.host.as_deref(),
            path: self.path.as_deref(),
            route: self.route.as_ref().map(super::RouteMetrics::name),
            upstream: self.upstream.as_deref(),
            status: self.status,
            reason: self.reason.map(super::Reason::as_str),
            token: self.token.as_deref(),
            fingerprint: self.signed.as_ref().map(|(fingerprint, _)| fingerprint.to_string()),
            credential: self.signed.as_ref().and_then(|(_, credential)| credential.as_deref()),
            sent: self.sent,
            bytes_in: self.tally.read.load(Ordering::Relaxed),
            bytes_out: self.tally.written.load(Ordering::Relaxed),
            queue_seconds: spent(Phase::Queue),
            token_seconds: spent(Phase::Token),
            connect_seconds: spent(Phase::Connect),
            upstream_seconds: spent(Phase::Upstream),
            total_seconds: seconds(self.total),
            trace_id: self.trace.map(|id| format!("{id:032x}")),
        };
        // Texts and finite numbers always serialise, and memory takes them.
        let _ = line.serialize(&mut Serializer::with_formatter(&mut *text, Ascii));
        text.push(b'\n');
    }
}

/// To the microsecond: what is below is noise.
fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        // hyper serves no others.
        _ => "HTTP/1.1",
    }
}

/// JSON in ASCII. What JSON has to escape serde_json does already.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        const DELETE: char = '\u{7f}';
        let mut rest = fragment;
        while let Some(at) = rest.find(|character: char| !character.is_ascii() || character == DELETE) {
            let (plain, from) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut characters = from.chars();
            if let Some(character) = characters.next() {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            rest = characters.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Uri};
    use serde_json::Value;

    use super::super::{LONGEST_PATH, Trail};
    use super::*;
    use crate::secret::Fingerprint;

    fn written(entry: &Entry) -> String {
        let mut text = Vec::new();
        entry.write(&mut text);
        String::from_utf8(text).unwrap()
    }

    fn of_path(path: &str) -> Value {
        let mut entry = Entry::new();
        entry.asks(&Method::GET, &path.parse::<Uri>().unwrap(), Version::HTTP_11);
        let line = written(&entry);
        assert!(line.ends_with('\n') && line.lines().count() == 1, "{line:?}");
        assert!(line.trim_end().bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{line:?}");
        serde_json::from_str(&line).unwrap()
    }

    /// The page about it shows a line that looks like this one.
    #[test]
    fn a_line_has_every_name_in_one_order() {
        let mut trail = Trail::begin(true);
        trail.note(|entry| {
            entry.listener = Some("app".into());
            entry.signed = Some((Fingerprint::of(b"abc"), Some("reports".into())));
            entry.status = Some(200);
            entry.trace = Some(0xab);
        });
        let entry = trail.end().unwrap();
        let line = written(&entry);
        let mut at = 0;
        for name in [
            "time",
            "listener",
            "caller",
            "uid",
            "peer",
            "protocol",
            "method",
            "host",
            "path",
            "route",
            "upstream",
            "status",
            "reason",
            "token",
            "fingerprint",
            "credential",
            "sent",
            "bytes_in",
            "bytes_out",
            "queue_seconds",
            "token_seconds",
            "connect_seconds",
            "upstream_seconds",
            "total_seconds",
            "trace_id",
        ] {
            at += line[at..].find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name} after {at} in {line}"));
        }
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.as_object().unwrap().len(), 25, "{line}");
        assert_eq!((&line["fingerprint"], &line["credential"]), (&"ba7816bf".into(), &"reports".into()));
        assert_eq!(line["trace_id"], "000000000000000000000000000000ab");
        assert!(line["path"].is_null() && line["reason"].is_null(), "{line}");
    }

    #[test]
    fn a_path_is_one_piece_of_text_whatever_is_in_it_and_has_no_query() {
        for path in ["/a%0a%0d{\"status\":200}", "/\"},{\"", "/%1b[31m", "/caf\u{e9}\u{9b}31m\u{2028}\u{202e}\u{1f600}"]
        {
            assert_eq!(of_path(path)["path"], path);
        }
        for (uri, path) in [
            ("/a?token=canary", "/a"),
            ("/a?x=/b?canary", "/a"),
            ("http://api.example.com/a?canary", "/a"),
            ("http://api.example.com?canary", "/"),
            ("/?canary", "/"),
        ] {
            let line = of_path(uri);
            assert_eq!(line["path"], path);
            assert!(!line.to_string().contains("canary"), "{line}");
        }
        assert_eq!(of_path("api.example.com:443")["path"], Value::Null);
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let long = format!("/{}", "\u{e9}".repeat(LONGEST_PATH));
        let path = of_path(&long)["path"].as_str().unwrap().to_owned();
        assert!(path.ends_with("\u{e9}\u{2026}") && path.len() <= LONGEST_PATH + 3, "{path}");
        let mut entry = Entry::new();
        let method = Method::from_bytes(&[b'M'; 500]).unwrap();
        entry.asks(&method, &Uri::from_static("/"), Version::HTTP_2);
        let line: Value = serde_json::from_str(&written(&entry)).unwrap();
        assert_eq!(line["method"], format!("{}\u{2026}", "M".repeat(32)));
        assert_eq!(line["protocol"], "HTTP/2");
    }

    #[test]
    fn a_trail_that_is_off_keeps_nothing() {
        let mut trail = Trail::begin(false);
        trail.note(|_| panic!("nobody listens"));
        trail.sent();
        trail.unsent();
        trail.enter(Phase::Token);
        assert!(!trail.is_on() && trail.tally().is_none() && trail.end().is_none());
    }
}
