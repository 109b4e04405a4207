//! Reads what was sent to the API as the strictest server would: what could be cut in two ways is an error here.
//!
//! The demo's API forgives what hyper forgives; this forgives nothing.

/// A request on its way to the API.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) method: String,
    pub(super) target: String,
    /// Names as sent.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Names as sent.
    pub(super) trailers: Vec<(String, String)>,
    /// All of the body came.
    pub(super) whole: bool,
}

/// Cuts all that came over one connection into its messages, the last of which may have been given up. If there is more
/// that is no message: why not.
pub(super) fn messages(mut bytes: &[u8]) -> (Vec<Message>, Option<String>) {
    let mut messages: Vec<Message> = Vec::new();
    while !bytes.is_empty() {
        let rest = bytes;
        match message(&mut bytes) {
            Ok(message) => messages.push(message),
            Err(why) => return (messages, Some(format!("{why} in {}", rest.escape_ascii()))),
        }
    }
    (messages, None)
}

impl Message {
    /// The values of a header.
    pub(super) fn header(&self, name: &str) -> Vec<&str> {
        let is_it = |(one, _): &&(String, String)| one.eq_ignore_ascii_case(name);
        self.headers.iter().filter(is_it).map(|(_, value)| value.as_str()).collect()
    }
}

fn message(bytes: &mut &[u8]) -> Result<Message, String> {
    let first = line(bytes)?;
    let [method, target, "HTTP/1.1"] = first.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("request line {first:?}"));
    };
    if !is_token(method) || !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("method or target of {first:?}"));
    }
    let headers = fields(bytes)?;
    let (method, target) = (method.to_owned(), target.to_owned());
    let mut message = Message { method, target, headers, body: Vec::new(), trailers: Vec::new(), whole: true };
    match (&message.header("content-length")[..], &message.header("transfer-encoding")[..]) {
        ([], []) => {}
        ([length], []) if is_number(length, 10) => {
            let length: usize = length.parse().map_err(|_| format!("length {length}"))?;
            message.whole = take(bytes, length, &mut message.body);
        }
        ([], ["chunked"]) => {
            message.whole = chunks(bytes, &mut message.body)?;
            if message.whole {
                message.trailers = fields(bytes)?;
            }
        }
        framing => return Err(format!("framing {framing:?}")),
    }
    Ok(message)
}

/// Fields up to an empty line.
fn fields(bytes: &mut &[u8]) -> Result<Vec<(String, String)>, String> {
    let mut fields = Vec::new();
    loop {
        let line = line(bytes)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| format!("header {line:?}"))?;
        let value = value.strip_prefix(' ').unwrap_or(value);
        if !is_token(name) || value != value.trim() || value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(format!("header {line:?}"));
        }
        fields.push((name.to_owned(), value.to_owned()));
    }
}

/// Whether the last chunk came, and what stands behind it with it. No extensions: whoever writes chunks anew has no use
/// for them.
fn chunks(bytes: &mut &[u8], body: &mut Vec<u8>) -> Result<bool, String> {
    while !bytes.is_empty() {
        let size = line(bytes)?;
        if !is_number(&size, 16) {
            return Err(format!("chunk size {size:?}"));
        }
        let size = usize::from_str_radix(&size, 16).map_err(|_| format!("chunk size {size:?}"))?;
        if size == 0 {
            return Ok(bytes.starts_with(b"\r\n") || bytes.windows(4).any(|window| window == b"\r\n\r\n"));
        }
        if !take(bytes, size, body) || bytes.is_empty() {
            return Ok(false);
        }
        *bytes = bytes.strip_prefix(b"\r\n").ok_or("no line end behind a chunk")?;
    }
    Ok(false)
}

/// A line without its end.
fn line(bytes: &mut &[u8]) -> Result<String, String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("a line without an end")?;
    let line = bytes[..end].strip_suffix(b"\r").ok_or("a line that ends in LF alone")?;
    if line.contains(&b'\r') {
        return Err("a CR within a line".to_owned());
    }
    *bytes = &bytes[end + 1..];
    Ok(String::from_utf8_lossy(line).into_owned())
}

/// Takes so many bytes, if they are there, and else what is there.
fn take(bytes: &mut &[u8], length: usize, into: &mut Vec<u8>) -> bool {
    let there = length.min(bytes.len());
    into.extend(&bytes[..there]);
    *bytes = &bytes[there..];
    there == length
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Digits alone, without a zero in front.
fn is_number(text: &str, radix: u32) -> bool {
    text == "0" || !text.is_empty() && !text.starts_with('0') && text.chars().all(|c| c.is_digit(radix))
}

#[test]
fn nothing_is_forgiven() {
    let read = |text: &str| {
        let (messages, wrong) = messages(text.as_bytes());
        (messages.iter().map(|one| one.whole).collect::<Vec<_>>(), wrong)
    };
    let good = "POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    assert_eq!(read(&format!("{good}GET / HTTP/1.1\r\ncontent-length: 0\r\n\r\n")), (vec![true, true], None));
    assert_eq!(read(&good[..good.len() - 2]), (vec![false], None));
    let trailed = good.replacen("0\r\n", "0\r\nX-Sum: 1\r\n", 1);
    assert_eq!(messages(trailed.as_bytes()).0[0].trailers, [("X-Sum".to_owned(), "1".to_owned())]);
    for (from, to) in [
        ("\r\n\r\n2", "\r\ncontent-length: 2\r\n\r\n2"),
        ("chunked", "Chunked"),
        ("chunked", "gzip, chunked"),
        ("2\r\n", "02\r\n"),
        ("2\r\n", "2;x\r\n"),
        ("2\r\n", "2\n"),
        ("ab\r\n", "abXX"),
        ("0\r\n", "0\r\nx trailer\r\n"),
        ("0\r\n", "0\r\nx : trailer\r\n"),
        (": ", " : "),
        (": ", ":  "),
        ("/x ", "/x  "),
        ("HTTP/1.1\r", "HTTP/1.1"),
        ("POST", "\r\nPOST"),
        ("x HTTP/1.1", "x\r HTTP/1.1"),
        ("POST /x", "POST x"),
    ] {
        let (messages, wrong) = read(&good.replacen(from, to, 1));
        assert!(messages.is_empty() && wrong.is_some(), "{to:?} for {from:?}");
    }
}
