//! An exchange through bearerd is the one that the app would have had with the API itself, but for a written list of
//! differences.
//!
//! Exchanges are made up, lawful ones of every shape. Each is made twice, directly and through bearerd, with the same
//! API. What the API saw and what the app got are laid side by side; what is on the list is taken from both in the way
//! that the list says, and then nothing may be left.

mod differences;
mod exchange;
mod http1;
mod http2;
mod sight;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;

use self::differences::{Circumstances, DIFFERENCES};
use self::exchange::{Exchange, Framing};
use self::sight::{Message, Sight};
use super::Stage;
use super::proof::Proof;
use super::wire::Api;
use crate::support::{lasting, seed};

/// What the API says next, and what it has seen.
#[derive(Default)]
struct Desk {
    next: Mutex<Option<Arc<Exchange>>>,
    seen: Mutex<Vec<Message>>,
}

/// What the app speaks, and what the API.
const COMBINATIONS: [(Http, Http); 4] =
    [(Http::One, Http::One), (Http::One, Http::Two), (Http::Two, Http::One), (Http::Two, Http::Two)];

/// What an end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http {
    One,
    Two,
}

enum App {
    One(http1::App),
    Two(http2::App),
}

impl App {
    fn of(address: SocketAddr, http: Http) -> Self {
        match http {
            Http::One => Self::One(http1::App::of(address)),
            Http::Two => Self::Two(http2::App::of(address)),
        }
    }
}

#[tokio::test]
async fn nothing_differs_but_what_the_list_says() {
    let mut proof = Proof::new("R25", "exchanges made directly and through bearerd");
    let (seed, wanted) = (seed(), lasting(300, 1_000, 50_000));
    let desk = Arc::new(Desk::default());
    let [at, also_at] = [Arc::clone(&desk), Arc::clone(&desk)];
    let mut one = Api::start(move |wire| http1::serve(wire, Arc::clone(&at))).await;
    let mut two = Api::start(move |wire| http2::serve(wire, Arc::clone(&also_at))).await;
    let addresses = [one.address, two.address];
    let made = async {
        let mut occurred = [0_u64; DIFFERENCES.len()];
        for (app, api) in COMBINATIONS {
            let times = compare(&desk, addresses, (app, api), (seed, wanted)).await;
            occurred.iter_mut().zip(times).for_each(|(sum, times)| *sum += times);
        }
        occurred
    };
    let occurred = tokio::select! {
        biased;
        never = one.lives() => never,
        never = two.lives() => never,
        occurred = made => occurred,
    };
    for (times, difference) in occurred.iter().zip(&DIFFERENCES) {
        assert!(*times > 0, "\"{}\" is on the list and never occurs", difference.what);
    }
    proof.asked(wanted * COMBINATIONS.len() as u64);
    proof.figure("exchanges with either HTTP on either side, all alike but for the list", wanted);
    proof.figure("differences on the list (docs/differences.md)", DIFFERENCES.len());
    proof.at_least("times that each of them occurs", *occurred.iter().min().unwrap(), 1);
    proof.end();
}

/// Makes so many exchanges directly, with an API that speaks what the app does, and through bearerd; yields how often
/// each difference occurred. `addresses` are those of the two APIs.
async fn compare(
    desk: &Desk,
    addresses: [SocketAddr; 2],
    (app, api): (Http, Http),
    (seed, wanted): (u64, u64),
) -> [u64; DIFFERENCES.len()] {
    let [straight, behind] = [app, api].map(|http| addresses[http as usize]);
    let authority = behind.to_string();
    let http = if api == Http::One { "" } else { "http: http2, " };
    // A 401 is an answer like others here: what becomes of one that is about our token is for other tests.
    let rest = format!("routes:\n  - {{name: api, token: app, upstream: 'http://{authority}', {http}renew_on: off}}\n");
    let stage = Stage::new(Duration::from_secs(3_600), &["app".to_owned()], "", &rest).await;
    let token = stage.provider.calls()[0].token.clone().unwrap();
    let credential = format!("Bearer {}", token.expose());
    let (mut direct, mut through) = (App::of(straight, app), App::of(stage.proxy.address, app));
    let mut occurred = [0; DIFFERENCES.len()];
    for seed in (0..wanted).map(|number| seed.wrapping_add(number)) {
        let mut exchange = Exchange::any(&mut Rng::with_seed(seed), &authority);
        if (app, api) != (Http::One, Http::One) {
            exchange = exchange.without_http1();
        }
        let exchange = Arc::new(exchange);
        let circumstances = Circumstances {
            app,
            api,
            credential: &credential,
            authority: &authority,
            absolute: exchange.is_absolute,
            has_body: !matches!(exchange.request.framing, Framing::None),
        };
        let mut with_api = look(desk, &exchange, &mut direct, false).await;
        // Whom it was asked directly is no difference, though it may be another than the one behind bearerd.
        for (name, value) in &mut with_api.request.fields {
            if name.eq_ignore_ascii_case("host") && *value == straight.to_string() {
                value.clone_from(&authority);
            }
        }
        let mut with_us = look(desk, &exchange, &mut through, exchange.is_absolute).await;
        for (times, difference) in occurred.iter_mut().zip(&DIFFERENCES) {
            *times += u64::from((difference.even_out)(&mut with_api, &mut with_us, &circumstances));
        }
        let left = with_api.unlike(&with_us);
        assert!(
            left.is_empty(),
            "SEED={seed} gives this exchange first, of an app of {app:?} and an API of {api:?}:\n{exchange}\nof which \
             this is not on the list:\n{left}",
        );
    }
    occurred
}

/// Makes the exchange once.
async fn look(desk: &Desk, exchange: &Arc<Exchange>, app: &mut App, absolute: bool) -> Sight {
    *desk.next.lock().unwrap() = Some(Arc::clone(exchange));
    let (interim, answer) = match app {
        App::One(app) => app.ask(exchange, absolute).await,
        App::Two(app) => (Vec::new(), app.ask(exchange).await),
    };
    let mut seen = std::mem::take(&mut *desk.seen.lock().unwrap());
    assert_eq!(seen.len(), 1, "the API saw {seen:#?} of {exchange}, and the app got {answer:#?}");
    Sight { request: seen.remove(0), interim, answer }
}
