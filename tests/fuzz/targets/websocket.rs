//! A request's head, and the header lines of an answer → whether both mean a WebSocket.

#![no_main]

use bearerd::wire::headers::{strip_request, strip_response};
use bearerd::wire::websocket::Handshake;
use http::{HeaderMap, Response, StatusCode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let (request, answer) = bytes.split_at(end);
    let Some(mut head) = bearerd_fuzz::head(request) else { return };
    let Some(handshake) = Handshake::of(&head) else { return };
    // What is sent on asks for the same.
    strip_request(&mut head.headers);
    handshake.ask(&mut head.headers);
    assert_eq!(Handshake::of(&head).as_ref(), Some(&handshake), "{:?}", head.headers);
    let sent = &head.headers;

    // A server that agrees and chooses nothing is one that agrees.
    let mut plain = answer_with(HeaderMap::new());
    handshake.agree(plain.headers_mut());
    assert_eq!(handshake.check(sent, &plain), Ok(()));

    let (headers, _) = bearerd_fuzz::fields(answer);
    let mut answer = answer_with(headers);
    match handshake.check(sent, &answer) {
        Ok(()) => {
            assert_eq!(answer.headers().get("sec-websocket-accept"), plain.headers().get("sec-websocket-accept"));
            for chosen in answer.headers().get_all("sec-websocket-protocol") {
                let mut offered = sent.get_all("sec-websocket-protocol").iter();
                let chosen = String::from_utf8_lossy(chosen.as_bytes()).trim_matches([',', ' ', '\t']).to_owned();
                assert!(
                    chosen.is_empty() || offered.any(|line| String::from_utf8_lossy(line.as_bytes()).contains(&chosen)),
                    "{chosen}"
                );
            }
            // What the app gets says so, too.
            strip_response(answer.headers_mut());
            handshake.agree(answer.headers_mut());
            assert_eq!(handshake.check(sent, &answer), Ok(()), "{:?}", answer.headers());
        }
        Err(why) => bearerd_fuzz::assert_tellable(why, 200),
    }
});

fn answer_with(headers: HeaderMap) -> Response<()> {
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    answer
}
