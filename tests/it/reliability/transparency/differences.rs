//! The list: all that differs between an exchange through bearerd and one without it.
//!
//! The same list, word for word, stands in `docs/differences.md`. An entry does not forgive: it says what bearerd must
//! have made of what came, so that anything else is still left over.

use super::Http;
use super::sight::{Message, Sight};

pub(super) struct Difference {
    /// As the page has it.
    pub(super) what: &'static str,
    why: &'static str,
    /// Takes it away from the exchange as it was made directly, and as it was made through bearerd; whether it was
    /// there.
    pub(super) even_out: fn(&mut Sight, &mut Sight, &Circumstances<'_>) -> bool,
}

/// What an entry may have to know besides.
pub(super) struct Circumstances<'a> {
    pub(super) app: Http,
    pub(super) api: Http,
    /// What bearerd puts on.
    pub(super) credential: &'a str,
    /// The API's.
    pub(super) authority: &'a str,
    pub(super) absolute: bool,
    /// The request has one, be it empty.
    pub(super) has_body: bool,
}

/// In the order in which they are taken away.
pub(super) const DIFFERENCES: [Difference; 16] = [
    Difference {
        what: "Names of header fields are in lower case, and fields of one name stand together.",
        why: "Neither means anything (RFC 9110, 5.1 and 5.3). Fields of one name keep their order.",
        even_out: |direct, through, _| {
            let changed = direct != through;
            [direct, through].into_iter().for_each(|sight| {
                sight.messages().into_iter().for_each(|message| {
                    message.fields.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
                    message.trailers.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
                    message.fields.sort_by(|(one, _), (two, _)| one.cmp(two));
                    message.trailers.sort_by(|(one, _), (two, _)| one.cmp(two));
                });
            });
            changed
        },
    },
    Difference {
        what: "Trailers of an answer are announced (`Trailer`, a line for each) to an app that takes them (`TE: trailers`), \
               and over HTTP/1 reach no other.",
        why: "What serves HTTP/1 here sends them to no other.",
        even_out: |direct, through, circumstances| {
            let asks = direct.request.all("te").any(|line| line == "trailers");
            let mut there = false;
            if !asks {
                there |= direct.answer.remove("trailer");
                if circumstances.app == Http::One {
                    there |= !direct.answer.trailers.is_empty();
                    direct.answer.trailers.clear();
                }
            }
            for message in direct.messages().into_iter().chain(through.messages()) {
                let mut names: Vec<String> = message
                    .all("trailer")
                    .flat_map(|line| line.split(','))
                    .map(|name| name.trim().to_ascii_lowercase())
                    .collect();
                names.sort();
                names.dedup();
                message.remove("trailer");
                for name in names {
                    message.add("trailer", &name);
                }
            }
            // That it takes them is said anew to the API, and that this is for one connection.
            let as_option = if circumstances.api == Http::One { &["te"][..] } else { &[] };
            let is_said = through.request.all("connection").eq(as_option.iter().copied());
            if asks && is_said && through.request.all("te").eq(["trailers"]) {
                through.request.remove("te");
                through.request.remove("connection");
            }
            there
        },
    },
    Difference {
        what: "What is for one connection stays on it: `Connection` and all that it names, `Keep-Alive`, \
               `Proxy-Connection`, `TE`, `Upgrade`, `HTTP2-Settings`, `Proxy-Authenticate`, \
               `Proxy-Authentication-Info`.",
        why: "A proxy has to take them off (RFC 9110, 7.6.1); bearerd may say `Connection: close` for itself, and says \
              `TE: trailers` for an app that does.",
        even_out: |direct, through, _| {
            for message in through.messages() {
                message.fields.retain(|(name, value)| name != "connection" || value != "close");
            }
            let mut went = false;
            for (message, besides) in
                [(&mut direct.request, "http2-settings"), (&mut direct.answer, "proxy-authentication-info")]
            {
                let named: Vec<String> = message
                    .all("connection")
                    .flat_map(|line| line.split(','))
                    .map(|name| name.trim().to_ascii_lowercase())
                    .collect();
                let named = named.iter().map(String::as_str).filter(|name| *name != "close" && *name != "keep-alive");
                let own =
                    ["connection", "keep-alive", "proxy-connection", "te", "upgrade", "proxy-authenticate", besides];
                for name in named.chain(own) {
                    went |= message.remove(name);
                }
            }
            went
        },
    },
    Difference {
        what: "The app's `Authorization` and `Proxy-Authorization`, and what some servers take for them \
               (`Proxy_Authorization`), are gone; the bearer is there.",
        why: "That is what bearerd is for.",
        even_out: |direct, _, circumstances| {
            for name in ["authorization", "proxy-authorization", "proxy_authorization", "authorization_"] {
                direct.request.remove(name);
            }
            direct.request.add("authorization", circumstances.credential)
        },
    },
    Difference {
        what: "`Expect: 100-continue` goes from HTTP/1 to HTTP/1 alone.",
        why: "Over HTTP/2 a 100 is neither heard nor said here: the app is to go on at once.",
        even_out: |direct, _, circumstances| {
            let is_old = (circumstances.app, circumstances.api) == (Http::One, Http::One);
            !is_old && direct.request.remove("expect")
        },
    },
    Difference {
        what: "Answers before the answer (100, 102, 103) are not relayed.",
        why: "What serves HTTP/1 here cannot send them; 100 is bearerd's own, to an app that expects it, once the API has \
              said so or nothing for a second.",
        even_out: |direct, through, _| {
            through.interim.retain(|status| *status != 100);
            let there = !direct.interim.is_empty();
            direct.interim.clear();
            there
        },
    },
    Difference {
        what: "The version is that of each connection.",
        why: "It says what a peer can, and not what a message is (RFC 9110, 2.5).",
        even_out: |direct, through, _| {
            let mut there = false;
            for (one, two) in direct.messages().into_iter().zip(through.messages()) {
                there |= one.version != two.version;
                one.version.clone_from(&two.version);
            }
            there
        },
    },
    Difference {
        what: "The words behind a status are the usual ones, or none, where one side speaks HTTP/2.",
        why: "HTTP/2 has none (RFC 9113, 8.3.2), and they mean nothing.",
        even_out: |direct, through, circumstances| {
            if circumstances.api == Http::One {
                return false;
            }
            let there = direct.answer.start != through.answer.start;
            for message in [&mut direct.answer, &mut through.answer] {
                message.start.truncate("200 ".len());
            }
            there
        },
    },
    Difference {
        what: "Lines of `Cookie` over HTTP/2 arrive as one.",
        why: "There a cookie may be cut into lines, and HTTP/1 knows but one (RFC 9113, 8.2.3).",
        even_out: |direct, _, circumstances| {
            let cookies: Vec<String> = direct.request.all("cookie").map(str::to_owned).collect();
            if circumstances.app == Http::One || cookies.len() < 2 {
                return false;
            }
            direct.request.remove("cookie");
            direct.request.add("cookie", &cookies.join("; "))
        },
    },
    Difference {
        what: "How a body ends is told in the way of each connection: by its length, by chunks, by HTTP/2's own sign. \
               Where an API ends the connection instead, HTTP/1 apps get chunks.",
        why: "The end of a connection cannot be told from a failure.",
        even_out: |direct, through, _| {
            let there = direct.answer.ends_with_connection != through.answer.ends_with_connection;
            for message in direct.messages().into_iter().chain(through.messages()) {
                message.ends_with_connection = false;
                message.remove("transfer-encoding");
            }
            there
        },
    },
    Difference {
        what: "Chunks may be cut elsewhere, and their extensions are gone.",
        why: "They are of one connection (RFC 9112, 7.1.1).",
        even_out: |direct, _, _| {
            direct
                .messages()
                .into_iter()
                .fold(false, |there, message| std::mem::take(&mut message.has_extensions) | there)
        },
    },
    Difference {
        what: "An answer without `Date` gets one.",
        why: "Whoever has a clock and hands an answer on has to (RFC 9110, 6.6.1).",
        even_out: |direct, through, _| {
            let is_date = |value: &str| httpdate::parse_http_date(value).is_ok();
            let there = direct.answer.all("date").next().is_none() && through.answer.all("date").all(is_date);
            there && through.answer.remove("date")
        },
    },
    Difference {
        what: "A request without a body says `Content-Length: 0` to an API over HTTP/2, unless its method never has one.",
        why: "It is what a client should say (RFC 9110, 8.6).",
        even_out: |direct, _, circumstances| {
            let request = &mut direct.request;
            let method = request.start.split(' ').next().unwrap_or_default();
            let never_has = ["GET", "HEAD", "DELETE"].contains(&method);
            if circumstances.api == Http::One || circumstances.has_body || never_has {
                return false;
            }
            request.add("content-length", "0")
        },
    },
    Difference {
        what: "The `Content-Length` of a 304 to any method but `HEAD` is gone, over HTTP/1.",
        why: "It would be that of a body which is not there; RFC 9110, 15.4.5, prefers it so.",
        even_out: |direct, _, circumstances| {
            let there = direct.answer.start.starts_with("304 ") && !direct.request.start.starts_with("HEAD ");
            there && circumstances.app == Http::One && direct.answer.remove("content-length")
        },
    },
    Difference {
        what: "`Location`, `Content-Location` and `Link` that name the API are paths, for an app that has bearerd for \
               its server.",
        why: "At the API itself the app would be without a token. Places elsewhere stay as they are.",
        even_out: |direct, _, circumstances| {
            if circumstances.absolute {
                return false;
            }
            let base = format!("http://{}", circumstances.authority);
            let mut there = false;
            for (name, value) in &mut direct.answer.fields {
                if ["location", "content-location", "link"].contains(&name.as_str()) && value.contains(&base) {
                    *value = value.replace(&base, "");
                    there = true;
                }
            }
            there
        },
    },
    Difference {
        what: "`#` and what follows it is not part of the path that arrives.",
        why: "It is no part of a request's target (RFC 9112, 3.2), and servers do not agree about it.",
        even_out: |direct, _, _| {
            let Some((before, _)) = direct.request.start.split_once('#') else { return false };
            direct.request.start = before.to_owned();
            true
        },
    },
];

impl Sight {
    fn messages(&mut self) -> [&mut Message; 2] {
        [&mut self.request, &mut self.answer]
    }
}

impl Message {
    /// Puts a field where it belongs by its name; always `true`.
    fn add(&mut self, name: &str, value: &str) -> bool {
        let at = self.fields.partition_point(|(one, _)| one.as_str() <= name);
        self.fields.insert(at, (name.to_owned(), value.to_owned()));
        true
    }
}

#[test]
fn the_page_has_the_same_list() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/differences.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section =
        page.split("\n## ").find(|section| section.starts_with("What differs from asking directly\n")).unwrap();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let listed: Vec<String> =
        section.split("\n- ").skip(1).map(|entry| words(entry.split("\n\n").next().unwrap())).collect();
    let wanted: Vec<String> =
        DIFFERENCES.iter().map(|entry| words(&format!("**{}** {}", entry.what, entry.why))).collect();
    assert_eq!(listed, wanted);
}
