//! What an answer, or the lack of one, means for the request: relay it, send it again, or have the token renewed first.
//!
//! Pure. The two rules that must not bend: a request that may have been taken is sent again only if its method is
//! idempotent, and no request is sent again unless all of its body is there. One that was not taken, by the server's own
//! word (RFC 9113, 8.7), goes again whatever its method.

use http::header::{self, HeaderMap};
use http::{Method, Response, StatusCode};

use crate::outbound::SendError;
use crate::rules::settings::RenewOn;
use crate::token::Generation;
use crate::wire::challenge::{Item, items};
use crate::wire::fault::Fault;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The app gets this outcome.
    Relay,
    /// Send it again over a fresh connection.
    Retry,
    /// The upstream did not take the token of this generation.
    Renew(Generation),
    /// The app gets this outcome; and the upstream took with this generation what it had refused before.
    Cured(Generation),
}

/// Where the request stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    /// All of the body can be sent again.
    pub(super) repeatable: bool,
    /// How often it was sent again over a fresh connection already.
    pub(super) retried: u8,
    /// It was refused once, with a token of this generation.
    pub(super) refused: Option<Generation>,
    pub(super) told: Told,
}

/// Where the word on a token stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// In the status of HTTP.
    ByStatus,
    /// A call of gRPC has ended, and says that the token was at fault.
    Unauthenticated,
    /// A call of gRPC goes on: its end will tell.
    Later,
}

/// How often a request that was not taken goes again. A server that ends its connections after so many requests (nginx
/// does) may do so to the same one several times in a row, when many are sent at once: each time about half of them get
/// through. And a server that refuses everything is not asked for ever.
const MOST_UNTAKEN: u8 = 8;

/// The same where the server says that it has too much to do. Each time costs it a connection besides, which is no help.
const MOST_BUSY: u8 = 2;

/// `carried` is the generation of the token that was on it, if the route renews on refusals.
pub(super) fn judge<B, L>(
    outcome: &Result<(Response<B>, L), SendError>,
    method: &Method,
    carried: Option<(&RenewOn, Generation)>,
    situation: Situation,
) -> Verdict {
    match outcome {
        Ok((response, _)) => match (carried, situation.refused) {
            (Some((renew_on, generation)), before)
                if situation.told == Told::Unauthenticated
                    || is_refusal(response.status(), response.headers(), renew_on) =>
            {
                // Once is enough: a fresh token that is refused as well is told, and not waited for.
                if before.is_none_or(|before| generation > before) {
                    Verdict::Renew(generation)
                } else {
                    Verdict::Relay
                }
            }
            (Some((_, generation)), Some(_)) if situation.told != Told::Later => Verdict::Cured(generation),
            (_, _) => Verdict::Relay,
        },
        Err(SendError::Broken { reused: true, .. })
            if is_idempotent(method) && situation.repeatable && situation.retried == 0 =>
        {
            Verdict::Retry
        }
        Err(SendError::Untaken(fault)) if situation.repeatable && situation.retried < most_untaken(*fault) => {
            Verdict::Retry
        }
        Err(
            SendError::Broken { .. } | SendError::Untaken(_) | SendError::Dial(_) | SendError::Timeout | SendError::App,
        ) => Verdict::Relay,
    }
}

fn most_untaken(fault: Fault) -> u8 {
    if fault == Fault::Busy { MOST_BUSY } else { MOST_UNTAKEN }
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// Whether the answer says that the token is at fault: one of the configured statuses, unless its challenges are all
/// Basic (RFC 7617: another credential is wanted) or speak of `insufficient_scope` (RFC 6750, 3.1: the same token
/// again would be no better).
fn is_refusal(status: StatusCode, headers: &HeaderMap, renew_on: &RenewOn) -> bool {
    if !renew_on.statuses.contains(&status) {
        return false;
    }
    let (mut basic, mut other) = (false, false);
    for line in headers.get_all(header::WWW_AUTHENTICATE) {
        // A description in some other encoding does not hide the rest.
        for item in items(&String::from_utf8_lossy(line.as_bytes())) {
            match item {
                Item::Scheme(scheme) if scheme.eq_ignore_ascii_case("basic") => basic = true,
                Item::Scheme(_) => other = true,
                parameter if says_insufficient_scope(&parameter) => return false,
                Item::Parameter(..) => {}
            }
        }
    }
    other || !basic
}

/// Whether the answer says that the token is good and not good for this (RFC 6750, 3.1).
pub(super) fn is_insufficient_scope(headers: &HeaderMap) -> bool {
    headers.get_all(header::WWW_AUTHENTICATE).iter().any(|line| {
        let line = String::from_utf8_lossy(line.as_bytes());
        items(&line).iter().any(says_insufficient_scope)
    })
}

fn says_insufficient_scope(item: &Item<'_>) -> bool {
    matches!(item, Item::Parameter(name, value)
        if name.eq_ignore_ascii_case("error") && value.eq_ignore_ascii_case("insufficient_scope"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANEW: Situation = Situation { repeatable: true, retried: 0, refused: None, told: Told::ByStatus };

    fn renew_on() -> RenewOn {
        RenewOn { statuses: vec![StatusCode::UNAUTHORIZED], replay_limit: 1024 }
    }

    fn answer(status: u16, challenges: &[&str]) -> Result<(Response<()>, ()), SendError> {
        let mut builder = Response::builder().status(status);
        for challenge in challenges {
            builder = builder.header(header::WWW_AUTHENTICATE, *challenge);
        }
        Ok((builder.body(()).unwrap(), ()))
    }

    fn verdict(status: u16, challenges: &[&str]) -> Verdict {
        judge(&answer(status, challenges), &Method::GET, Some((&renew_on(), Generation(7))), ANEW)
    }

    #[test]
    fn a_401_refuses_the_token_unless_it_asks_for_something_else() {
        for challenges in [
            &[][..],
            &["Bearer"],
            &["Bearer realm=\"a, Basic b\""],
            &["Bearer error=\"invalid_token\", error_description=\"expired\""],
            &["Basic realm=\"x\"", "Bearer realm=\"x\""],
            &["Basic realm=\"x\", Bearer error=invalid_token"],
            &["DPoP algs=\"ES256\""],
            &[""],
            &["Basic realm=x, Bearer error_description=\"expir\u{e9}\""],
        ] {
            assert_eq!(verdict(401, challenges), Verdict::Renew(Generation(7)), "{challenges:?}");
        }
        for challenges in [
            &["Basic realm=\"x\""][..],
            &["basic"],
            &["Bearer error=\"insufficient_scope\", scope=\"a b\""],
            &["Bearer scope=\"a, b\" , error = \"insufficient_scope\""],
            &["Bearer error=\"insufficient_scope\", error_description=\"\u{e9}\""],
            &["Bearer realm=\"say \\\"x, y\\\"\",error=insufficient_scope"],
        ] {
            assert_eq!(verdict(401, challenges), Verdict::Relay, "{challenges:?}");
        }
        assert_eq!(verdict(403, &[]), Verdict::Relay);
        assert_eq!(verdict(200, &["Bearer"]), Verdict::Relay);
    }

    #[test]
    fn a_request_without_our_bearer_is_never_a_refusal() {
        assert_eq!(judge(&answer(401, &[]), &Method::GET, None, ANEW), Verdict::Relay);
    }

    #[test]
    fn a_request_is_refused_once_and_what_came_after_is_told() {
        let renew_on = renew_on();
        let again = Situation { refused: Some(Generation(7)), ..ANEW };
        let carried = Some((&renew_on, Generation(8)));
        assert_eq!(judge(&answer(200, &[]), &Method::GET, carried, again), Verdict::Cured(Generation(8)));
        assert_eq!(judge(&answer(403, &[]), &Method::GET, carried, again), Verdict::Cured(Generation(8)));
        let same = Some((&renew_on, Generation(7)));
        assert_eq!(judge(&answer(401, &[]), &Method::GET, same, again), Verdict::Relay);
    }

    #[test]
    fn a_call_of_grpc_is_refused_by_its_own_status_and_cured_only_by_its_end() {
        let renew_on = renew_on();
        let carried = Some((&renew_on, Generation(8)));
        let verdict =
            |told, refused| judge(&answer(200, &[]), &Method::POST, carried, Situation { told, refused, ..ANEW });
        assert_eq!(verdict(Told::Unauthenticated, None), Verdict::Renew(Generation(8)));
        assert_eq!(verdict(Told::Unauthenticated, Some(Generation(7))), Verdict::Renew(Generation(8)));
        assert_eq!(verdict(Told::Unauthenticated, Some(Generation(8))), Verdict::Relay);
        assert_eq!(verdict(Told::Later, Some(Generation(7))), Verdict::Relay);
        assert_eq!(verdict(Told::ByStatus, Some(Generation(7))), Verdict::Cured(Generation(8)));
        let unused = judge(&answer(200, &[]), &Method::POST, None, Situation { told: Told::Unauthenticated, ..ANEW });
        assert_eq!(unused, Verdict::Relay);
    }

    #[test]
    fn what_may_have_been_taken_is_sent_again_only_if_that_is_safe() {
        let broken = |reused| Err::<(Response<()>, ()), _>(SendError::Broken { fault: Fault::Reset, reused });
        let verdict = |reused, method: &Method, situation| judge(&broken(reused), method, None, situation);
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
            assert_eq!(verdict(true, &method, ANEW), Verdict::Retry, "{method}");
            assert_eq!(verdict(false, &method, ANEW), Verdict::Relay, "{method}: a fresh connection is no accident");
            assert_eq!(verdict(true, &method, Situation { repeatable: false, ..ANEW }), Verdict::Relay, "{method}");
            assert_eq!(verdict(true, &method, Situation { retried: 1, ..ANEW }), Verdict::Relay, "{method}");
        }
        for method in [Method::POST, Method::PATCH, Method::from_bytes(b"PURGE").unwrap()] {
            assert_eq!(verdict(true, &method, ANEW), Verdict::Relay, "{method}");
        }
    }

    #[test]
    fn what_was_not_taken_goes_again_whatever_its_method_but_not_for_ever() {
        for (fault, most) in [(Fault::Reset, MOST_UNTAKEN), (Fault::Busy, MOST_BUSY)] {
            let untaken = Err::<(Response<()>, ()), _>(SendError::Untaken(fault));
            for method in [Method::GET, Method::POST, Method::PATCH] {
                let verdict = |situation| judge(&untaken, &method, None, situation);
                assert_eq!(verdict(ANEW), Verdict::Retry, "{method}");
                assert_eq!(verdict(Situation { retried: most - 1, ..ANEW }), Verdict::Retry, "{method}");
                assert_eq!(verdict(Situation { retried: most, ..ANEW }), Verdict::Relay, "{method}");
                assert_eq!(
                    verdict(Situation { repeatable: false, ..ANEW }),
                    Verdict::Relay,
                    "{method}: part of it is gone"
                );
            }
        }
    }
}
