//! An exchange through bearerd is the one that the app would have had with the API itself, but for a written list of
//! differences.
//!
//! Exchanges are made up, lawful ones of every shape. Each is made twice, directly and through bearerd, with the same
//! API. What the API saw and what the app got are laid side by side; what is on the list is taken from both in the way
//! that the list says, and then nothing may be left.

mod differences;
mod exchange;
mod http1;
mod sight;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::differences::{Circumstances, DIFFERENCES};
use self::exchange::Exchange;
use self::sight::{Message, Sight};
use super::Stage;
use super::wire::Api;
use crate::support::{report, scaled, seed};

/// What the API says next, and what it has seen.
#[derive(Default)]
struct Desk {
    next: Mutex<Option<Arc<Exchange>>>,
    seen: Mutex<Vec<Message>>,
}

#[tokio::test]
async fn nothing_differs_but_what_the_list_says() {
    let (seed, wanted, begun) = (seed(), scaled(1_200, 20_000), Instant::now());
    let desk = Arc::new(Desk::default());
    let at = Arc::clone(&desk);
    let mut api = Api::start(move |wire| http1::serve(wire, Arc::clone(&at))).await;
    let (address, authority) = (api.address, api.address.to_string());
    // A 401 is an answer like others here: what becomes of one that is about our token is for other tests.
    let rest = format!("routes:\n  - {{name: api, token: app, upstream: 'http://{authority}', renew_on: off}}\n");
    let stage = Stage::new(Duration::from_secs(3_600), &["app".to_owned()], "", &rest).await;
    let token = stage.provider.calls()[0].token.clone().unwrap();
    let credential = format!("Bearer {}", token.expose());

    let made = async {
        let mut direct = http1::App::of(address);
        let mut through = http1::App::of(stage.proxy.address);
        let mut occurred = [0_u64; DIFFERENCES.len()];
        for number in 0..wanted {
            let exchange = Arc::new(Exchange::any(&mut Rng::with_seed(seed.wrapping_add(number)), &authority));
            let circumstances =
                Circumstances { credential: &credential, authority: &authority, absolute: exchange.is_absolute };
            let mut with_api = look(&desk, &exchange, &mut direct, false).await;
            let mut with_us = look(&desk, &exchange, &mut through, exchange.is_absolute).await;
            for (times, difference) in occurred.iter_mut().zip(&DIFFERENCES) {
                *times += u64::from((difference.even_out)(&mut with_api, &mut with_us, &circumstances));
            }
            let left = with_api.unlike(&with_us);
            assert!(
                left.is_empty(),
                "SEED={} gives this exchange first:
{exchange}
of which this is not on the list:
{left}",
                seed.wrapping_add(number),
            );
        }
        occurred
    };
    let occurred = tokio::select! {
        biased;
        never = api.lives() => never,
        occurred = made => occurred,
    };
    for (times, difference) in occurred.iter().zip(&DIFFERENCES) {
        assert!(*times > 0, "\"{}\" is on the list and never occurs", difference.what);
    }
    report(&format!(
        "transparency: {wanted} exchanges, each made twice and alike but for the {} differences of the list, each of \
         which occurred {} times at least; {:.1} s",
        DIFFERENCES.len(),
        occurred.iter().min().unwrap(),
        begun.elapsed().as_secs_f64()
    ));
}

/// Makes the exchange once.
async fn look(desk: &Desk, exchange: &Arc<Exchange>, app: &mut http1::App, absolute: bool) -> Sight {
    *desk.next.lock().unwrap() = Some(Arc::clone(exchange));
    let (interim, answer) = app.ask(exchange, absolute).await;
    let mut seen = std::mem::take(&mut *desk.seen.lock().unwrap());
    assert_eq!(seen.len(), 1, "the API saw {seen:#?} of {exchange}, and the app got {answer:#?}");
    Sight { request: seen.remove(0), interim, answer }
}
