//! A lawful exchange, made up: what an app asks and what an API answers.
//!
//! Must never know what bearerd does with it.

use std::fmt;

use fastrand::Rng;

use crate::reliability::random::{spelt, text, word};

/// Names as they are spelt, and values.
pub(super) type Fields = Vec<(String, Vec<u8>)>;

pub(super) struct Exchange {
    pub(super) request: Request,
    pub(super) answer: Answer,
    /// The API's.
    pub(super) authority: String,
    /// The app takes bearerd for a proxy, and not for its server.
    pub(super) is_absolute: bool,
}

pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) fields: Fields,
    pub(super) framing: Framing,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Fields,
}

pub(super) struct Answer {
    /// Statuses of answers before it.
    pub(super) interim: Vec<u16>,
    /// From an HTTP/1.0 server.
    pub(super) is_old: bool,
    pub(super) status: u16,
    pub(super) phrase: &'static str,
    pub(super) fields: Fields,
    pub(super) framing: Framing,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Fields,
}

#[derive(Debug)]
pub(super) enum Framing {
    /// No body; or of an answer, one that the end of the connection ends.
    None,
    Length,
    /// Behind each size stands the extension.
    Chunks {
        sizes: Vec<usize>,
        extension: &'static str,
    },
}

/// Those that no route has to list.
const METHODS: [&str; 12] =
    ["GET", "GET", "GET", "HEAD", "HEAD", "POST", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"];

/// Every kind of path and query that `http::Uri` takes.
const TARGETS: [&str; 16] = [
    "/",
    "/plain",
    "//",
    "/a//b/",
    "/a;b=c;d/e",
    "/%2F%5C%00%7e%E4",
    "/\u{e4}\u{20ac}",
    "/:@!$&'()*+,;=-._~",
    "/{a}\"|[b]",
    "/?",
    "/??a=b?c=d",
    "/q?a=b&a=c&&=&d",
    "/q?a=/../b&c=%2e%2e",
    "/q?'`^|{}[]\\",
    "/q?u=https://other.example/x%0d%0a",
    "/q?\u{e4}=\u{20ac}",
];

/// The length of a line that servers take.
const LONG: usize = 6_000;

impl Exchange {
    /// `authority` is the API's, for links to itself.
    pub(super) fn any(random: &mut Rng, authority: &str) -> Self {
        let request = Request::any(random);
        let answer = Answer::any(random, &request.method, authority);
        Self { request, answer, authority: authority.to_owned(), is_absolute: random.u8(..4) == 0 }
    }

    /// Without what HTTP/2 has no words for: what concerns a connection (RFC 9113, 8.2.2), how a body is framed, phrases.
    pub(super) fn without_http1(mut self) -> Self {
        self.is_absolute = false;
        (self.answer.interim, self.answer.is_old) = (Vec::new(), false);
        for framing in [&mut self.request.framing, &mut self.answer.framing] {
            if let Framing::Chunks { extension, .. } = framing {
                *extension = "";
            }
        }
        if let Some(end) = self.request.target.find('#') {
            self.request.target.truncate(end);
        }
        for fields in [&mut self.request.fields, &mut self.answer.fields] {
            let of_http1 = ["connection", "keep-alive", "proxy-connection", "upgrade", "http2-settings"];
            fields.retain(|(name, _)| !of_http1.iter().any(|one| name.eq_ignore_ascii_case(one)));
        }
        self
    }
}

impl Request {
    fn any(random: &mut Rng) -> Self {
        let method = random.choice(METHODS).unwrap().to_owned();
        let mut target = random.choice(TARGETS).unwrap().to_owned();
        match random.u8(..20) {
            0 => target.push_str(&format!("?{}", "x".repeat(LONG))),
            1 => target.push_str("#fragment"),
            _ => {}
        }
        let mut fields = ordinary(random);
        // What belongs to the connection, and what belongs to the app's hop.
        let of_hop: [(&str, &[u8]); 12] = [
            ("Connection", b"keep-alive"),
            ("Connection", b"X-Of-Hop, x-of-hop-too"),
            ("Keep-Alive", b"timeout=5"),
            ("Proxy-Connection", b"keep-alive"),
            ("TE", b"trailers"),
            ("Upgrade", b"h2c"),
            ("HTTP2-Settings", b"AAMAAABkAAQAAP__"),
            ("Authorization", b"Basic eDp5"),
            ("Proxy-Authorization", b"Basic eDp5"),
            ("Proxy_Authorization", b"Basic eDp5"),
            ("AUTHORIZATION_", b"Basic eDp5"),
            ("Authorization", b""),
        ];
        let ordinary: [(&str, &[u8]); 17] = [
            ("Accept", b"*/*"),
            ("Accept", b"text/html;q=0.5"),
            ("Accept-Encoding", b"gzip, br;q=0.9, identity;q=0"),
            ("User-Agent", b"an/app (of \"some\" kind)"),
            ("Cookie", b"a=b; c=d"),
            ("Cookie", b"e=f"),
            ("If-None-Match", b"W/\"1\", \"2\""),
            ("If-Modified-Since", b"Sun, 06 Nov 1994 08:49:37 GMT"),
            ("Range", b"bytes=0-1,-5"),
            ("Cache-Control", b"no-cache"),
            ("Pragma", b"no-cache"),
            ("Forwarded", b"for=192.0.2.1;proto=http"),
            ("X-Forwarded-For", b"192.0.2.1"),
            ("Via", b"1.0 fred"),
            ("Max-Forwards", b"0"),
            ("X-Of-Hop", b"named by Connection"),
            ("X-Of-Hop-Too", b""),
        ];
        for (name, value) in of_hop {
            maybe(random, &mut fields, 12, name, value);
        }
        for (name, value) in ordinary {
            maybe(random, &mut fields, 6, name, value);
        }
        let (framing, body) = match random.u8(..8) {
            0 => (Framing::Length, Vec::new()),
            1 | 2 => (Framing::Length, content(random, &mut fields)),
            3 | 4 => {
                let body = if random.u8(..6) == 0 { Vec::new() } else { content(random, &mut fields) };
                (chunks(random, body.len()), body)
            }
            _ => (Framing::None, Vec::new()),
        };
        let mut trailers = Vec::new();
        if matches!(framing, Framing::Chunks { .. }) && random.u8(..3) == 0 {
            trailers = trailing(random, &mut fields);
        }
        if !body.is_empty() {
            maybe(random, &mut fields, 8, "Expect", b"100-continue");
        }
        random.shuffle(&mut fields);
        Self { method, target, fields, framing, body, trailers }
    }
}

/// Those of which an answer has a body.
const STATUSES: [u16; 40] = [
    200, 200, 200, 200, 200, 201, 202, 203, 206, 207, 226, 299, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404,
    405, 407, 409, 410, 412, 416, 418, 422, 426, 429, 451, 500, 502, 503, 504, 511, 999,
];

impl Answer {
    fn any(random: &mut Rng, method: &str, authority: &str) -> Self {
        let status = match random.u8(..10) {
            0 => 204,
            1 => 304,
            _ => random.choice(STATUSES).unwrap(),
        };
        let mut fields = ordinary(random);
        let links = [
            ("Location", format!("http://{authority}/new/place?a=b#c")),
            ("Location", "/new/place".to_owned()),
            ("Location", "https://other.example/new".to_owned()),
            ("Content-Location", format!("http://{authority}/there")),
            ("Link", format!("<http://{authority}/2>; rel=\"next\", </3>; rel=last")),
        ];
        let singles: [(&str, &[u8]); 24] = [
            ("Date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
            ("Server", b"an/api (of some kind)"),
            ("Set-Cookie", b"a=b; Path=/; HttpOnly"),
            ("Set-Cookie", b"c=d, e; Expires=Sun, 06 Nov 1994 08:49:37 GMT"),
            ("Set-Cookie", b"a=b; Path=/; HttpOnly"),
            ("ETag", b"W/\"1\""),
            ("Last-Modified", b"Sun, 06 Nov 1994 08:49:37 GMT"),
            ("Vary", b"Accept, Authorization"),
            ("Cache-Control", b"max-age=60"),
            ("Age", b"5"),
            ("Content-Range", b"bytes 0-4/10"),
            ("Accept-Ranges", b"bytes"),
            ("Retry-After", b"120"),
            ("Allow", b"GET, HEAD"),
            ("Strict-Transport-Security", b"max-age=60"),
            ("Access-Control-Allow-Origin", b"*"),
            ("Alt-Svc", b"h3=\":443\""),
            ("Via", b"1.0 fred"),
            ("Connection", b"X-Of-Hop"),
            ("X-Of-Hop", b"named by Connection"),
            ("Keep-Alive", b"timeout=5, max=100"),
            ("Upgrade", b"TLS/1.0, HTTP/2.0"),
            ("Proxy-Authenticate", b"Basic realm=\"theirs\""),
            ("Proxy-Authentication-Info", b"nextnonce=1"),
        ];
        for (name, value) in links {
            maybe(random, &mut fields, 8, name, value.as_bytes());
        }
        for (name, value) in singles {
            maybe(random, &mut fields, 8, name, value);
        }
        if status == 401 {
            let challenges: [&[u8]; 3] = [b"Basic realm=\"a, b\"", b"Bearer error=\"invalid_token\"", b"Negotiate"];
            fields.push(("WWW-Authenticate".to_owned(), random.choice(challenges).unwrap().to_vec()));
        }
        let is_old = random.u8(..16) == 0;
        let (mut framing, mut body) = match random.u8(..10) {
            0 => (Framing::Length, Vec::new()),
            1..5 => (Framing::Length, content(random, &mut fields)),
            5 => (Framing::None, content(random, &mut fields)),
            6 => (Framing::None, Vec::new()),
            _ => {
                let body = if random.u8(..6) == 0 { Vec::new() } else { content(random, &mut fields) };
                (chunks(random, body.len()), body)
            }
        };
        if is_old && matches!(framing, Framing::Chunks { .. }) {
            framing = Framing::Length;
        }
        if status == 204 || status == 304 && random.bool() {
            (framing, body) = (Framing::None, Vec::new());
        } else if status == 304 {
            // The length of what was not modified.
            fields.push(("Content-Length".to_owned(), b"120".to_vec()));
            (framing, body) = (Framing::None, Vec::new());
        }
        let mut trailers = Vec::new();
        if matches!(framing, Framing::Chunks { .. }) && method != "HEAD" && random.u8(..3) == 0 {
            trailers = trailing(random, &mut fields);
        }
        random.shuffle(&mut fields);
        let phrase = match status {
            200 if random.u8(..4) == 0 => "Fine, thank you",
            200 => "OK",
            404 if random.u8(..4) == 0 => "",
            404 => "Not Found",
            _ => "Some Words",
        };
        let interim = [103, 102, 100, 103].into_iter().filter(|_| random.u8(..24) == 0).collect();
        Self { interim, is_old, status, phrase, fields, framing, body, trailers }
    }

    /// Of an answer over HTTP/1: the end of the connection is its own.
    pub(super) fn closes(&self) -> bool {
        self.is_old || matches!(self.framing, Framing::None) && !self.is_bodiless()
    }

    pub(super) fn is_bodiless(&self) -> bool {
        matches!(self.status, 204 | 304)
    }
}

/// Fields without a meaning: of odd names, empty, beyond ASCII, long, several of one name.
fn ordinary(random: &mut Rng) -> Fields {
    let mut fields = Vec::new();
    for _ in 0..random.u8(..4) {
        fields.push((word(random), text(random).trim_ascii().to_vec()));
    }
    let mut add = |random: &mut Rng, chance: u8, name: &str, value: Vec<u8>| {
        if random.u8(..chance) == 0 {
            fields.push((spelt(random, name), value));
        }
    };
    for _ in 0..3 {
        let value = text(random).trim_ascii().to_vec();
        add(random, 4, "X-Repeated", value);
    }
    add(random, 4, "X-Empty", Vec::new());
    add(random, 4, "X-Empty", Vec::new());
    add(random, 4, "X-Latin-1", b"caf\xe9 \xff\x80".to_vec());
    add(random, 4, "X-Utf-8", "caf\u{e9}, \u{20ac}".into());
    add(random, 12, "X-Long", vec![b'v'; LONG]);
    add(random, 8, "X_Under_Score", b"_".to_vec());
    add(random, 8, "X-Quoted", b"\"a, \\\"b\\\"\"; c=\"d".to_vec());
    fields
}

fn maybe(random: &mut Rng, fields: &mut Fields, chance: u8, name: &str, value: &[u8]) {
    if random.u8(..chance) == 0 {
        fields.push((spelt(random, name), value.to_vec()));
    }
}

/// A body, not empty, and what is said about it.
fn content(random: &mut Rng, fields: &mut Fields) -> Vec<u8> {
    let most = if random.u8(..24) == 0 { 100_000 } else { 2_000 };
    let mut body: Vec<u8> = (0..random.usize(1..most)).map(|_| random.u8(..)).collect();
    let kinds: [(&str, &[u8], &[u8]); 5] = [
        ("application/octet-stream", b"", b""),
        ("application/json", b"gzip", b"\x1f\x8b\x08\0\0\0\0\0"),
        ("text/html; charset=\"iso-8859-1\"", b"br", b"\x0b\x02\x80"),
        ("multipart/byteranges; boundary=x", b"gzip, br", b"--x\r\n"),
        ("application/json", b"identity", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ];
    let (kind, coding, begin) = random.choice(kinds).unwrap();
    body.splice(..0, begin.iter().copied());
    if random.u8(..4) > 0 {
        fields.push((spelt(random, "Content-Type"), kind.into()));
        if !coding.is_empty() {
            fields.push((spelt(random, "Content-Encoding"), coding.to_vec()));
        }
    }
    body
}

/// So many bytes in pieces of odd sizes.
fn chunks(random: &mut Rng, length: usize) -> Framing {
    let (mut sizes, mut left) = (Vec::new(), length);
    while left > 0 {
        let most = random.choice([1, 3, 17, 300, 9_000, left]).unwrap().min(left);
        // A byte at a time is for the first few.
        let size = if sizes.len() > 40 { left } else { random.usize(1..=most) };
        sizes.push(size);
        left -= size;
    }
    let extension = random.choice(["", "", "", ";a", ";name=\"va;lue\""]).unwrap();
    Framing::Chunks { sizes, extension }
}

/// Some trailers, which the head announces.
fn trailing(random: &mut Rng, fields: &mut Fields) -> Fields {
    let all: [(&str, &[u8]); 4] =
        [("X-Checksum", b"abc"), ("X-Checksum", b"caf\xe9"), ("Server-Timing", b"db;dur=5"), ("X-Empty-Too", b"")];
    let mut trailers = all.to_vec();
    trailers.retain(|_| random.bool());
    let trailers: Fields = trailers.into_iter().map(|(name, value)| (spelt(random, name), value.to_vec())).collect();
    if !trailers.is_empty() {
        let names: Vec<&str> = trailers.iter().map(|(name, _)| name.as_str()).collect();
        fields.push((spelt(random, "Trailer"), names.join(", ").into()));
    }
    trailers
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request, answer, .. } = self;
        writeln!(f, "  {} {} (absolute: {})", request.method, request.target, self.is_absolute)?;
        fields(f, &request.fields)?;
        writeln!(f, "    {} bytes, {:?}", request.body.len(), request.framing)?;
        fields(f, &request.trailers)?;
        writeln!(f, "  {:?} {} {} (old: {})", answer.interim, answer.status, answer.phrase, answer.is_old)?;
        fields(f, &answer.fields)?;
        writeln!(f, "    {} bytes, {:?}", answer.body.len(), answer.framing)?;
        fields(f, &answer.trailers)
    }
}

fn fields(f: &mut fmt::Formatter<'_>, fields: &Fields) -> fmt::Result {
    fields.iter().try_for_each(|(name, value)| writeln!(f, "    {name}: {}", value.escape_ascii()))
}
