//! R3, R4: a provider that is down, or wants to be left alone.

use std::time::{Duration, Instant, SystemTime};

use bearerd::demo::answer::Answer;

use super::load::{Load, quantile};
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::support::{PATIENCE, lasting};

#[tokio::test]
async fn an_outage_that_a_renewal_meets_is_seen_by_nobody() {
    let mut proof = Proof::new("R3", "a provider that is away when the token is to be renewed");
    // A renewal is tried again within a second, which is to be well before the token's end.
    let (life, outages) = (Duration::from_secs(12), lasting(1, 1, 60));
    let world = World::new(1, life).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(&format!("http://{}", api.address), Lines::default());
    let bearerd = world.start_ready().await;
    let apps = Load::new(bearerd.address(), &world.names).start(&world.books);
    let failed = async || bearerd.token_requests(|outcome| outcome != "granted").await;
    for _ in 0..outages {
        tokio::time::sleep(life / 2).await;
        let before = failed().await;
        world.provider.stop().await;
        while failed().await == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let granted = world.provider.count();
        world.provider.restart().await.unwrap();
        world.provider.wait_for(granted + 1, life + PATIENCE).await.unwrap();
    }
    let samples = apps.stop().await;
    proof.nothing_lost(&world.books.balance());
    proof.renewed(world.renewals());
    let failed = failed().await;
    proof.at_least("token requests that failed, of which nobody else knows", failed, outages);
    proof.survived(outages);
    proof.took("p99 meanwhile", quantile(&samples, 990));
    bearerd.end().await;
    proof.end();
}

/// Ten minutes of an hour, to scale, and at the worst moment. With a short life there was no try between the provider's return
/// and the token's end.
#[tokio::test]
async fn an_outage_of_a_sixth_of_a_tokens_life_is_seen_by_nobody() {
    let mut proof = Proof::new("R3c", "an outage of a sixth of a token's life, when it is to be renewed");
    let (life, outages) = (Duration::from_secs(lasting(18, 18, 60)), lasting(1, 1, 10));
    let world = World::new(1, life).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(&format!("http://{}", api.address), Lines::default());
    let bearerd = world.start_ready().await;
    let apps = Load::new(bearerd.address(), &world.names).start(&world.books);
    for _ in 0..outages {
        let granted = world.provider.count();
        tokio::time::sleep(life * 6 / 10).await;
        world.provider.stop().await;
        tokio::time::sleep(life / 6).await;
        world.provider.restart().await.unwrap();
        world.provider.wait_for(granted + 1, life + PATIENCE).await.unwrap();
    }
    apps.stop().await;
    proof.nothing_lost(&world.books.balance());
    proof.renewed(world.renewals());
    let failed = bearerd.token_requests(|outcome| outcome != "granted").await;
    proof.at_least("token requests that failed, of which nobody else knows", failed, outages);
    proof.survived(outages);
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn an_outage_beyond_a_tokens_end_fails_closed_and_ends_by_itself() {
    let mut proof = Proof::new("R3b", "an outage beyond the end of the token");
    let (life, outage) = (Duration::from_secs(2), Duration::from_secs(lasting(4, 12, 600)));
    let world = World::new(1, life).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(&format!("http://{}", api.address), Lines { token: "wait: 0s", ..Lines::default() });
    let bearerd = world.start_ready().await;
    world.provider.script().always(Answer::status(503));
    let before = world.provider.count();
    let begun = Instant::now();
    // Until the token has ended nobody is told.
    bearerd.until_tokens_are("expired", &world.names).await;
    let load = Load {
        connections: 8,
        pace: Duration::from_millis(lasting(20, 20, 200)),
        ..Load::new(bearerd.address(), &world.names)
    };
    let apps = load.clone().start(&world.books);
    tokio::time::sleep(outage.saturating_sub(begun.elapsed())).await;
    let samples = apps.stop().await;
    let attempts = world.provider.count() - before;
    let balance = world.books.balance();
    proof.asked(balance.asked);
    proof.is("answers that were no 503", balance.asked - balance.other.get(&503).copied().unwrap_or_default(), 0);
    proof.is("requests that came to the API", balance.most_arrivals, 0);
    // 1 s, 2 s, 4 s and so on up to 30 s, less by chance: in ten minutes some 30.
    proof.at_most("token requests meanwhile", attempts, lasting(8, 14, 40));
    proof.within("p99 of a 503", quantile(&samples, 990), Duration::from_millis(5));
    proof.survived(1);

    world.provider.script().clear();
    let back = Instant::now();
    let calls = world.provider.count();
    world.provider.wait_for(calls + 1, Duration::from_secs(31) + PATIENCE).await.unwrap();
    let asked = "from its return until it was asked again, with up to 30 s between attempts";
    proof.within(asked, back.elapsed(), Duration::from_secs(31));
    bearerd.until_tokens_are("fresh", &world.names).await;
    let served = world.books.balance().served;
    load.once(&world.books).await;
    proof.is("requests behind its return that were served", world.books.balance().served - served, 8);
    bearerd.end().await;
    proof.end();
}

#[tokio::test]
async fn who_wants_to_be_left_alone_is_and_no_other_token_waits_for_it() {
    let mut proof = Proof::new("R4", "429 with Retry-After, as seconds and as a date");
    // Failures in a row are further and further apart, up to half a minute.
    let (seconds, rounds) = (2, lasting(1, 1, 5));
    let world = World::new(2, Duration::from_secs(2)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    world.configure(
        &format!("http://{}", api.address),
        Lines { token: "required: false\nwait: 0s", ..Lines::default() },
    );
    let as_date = std::sync::atomic::AtomicUsize::new(0);
    world.provider.script().when(move |head| {
        // t0, by Basic: its token alone is refused.
        let credentials = head.headers.get("authorization")?.to_str().ok()?;
        if !credentials.starts_with("Basic dDA6") {
            return None;
        }
        let when = if as_date.fetch_add(1, std::sync::atomic::Ordering::Relaxed).is_multiple_of(2) {
            seconds.to_string()
        } else {
            // A date has no fractions: one that is a second later at the least.
            httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds + 1))
        };
        Some(Answer::status(429).header("retry-after", &when).into())
    });
    let bearerd = world.start().await;
    let load =
        Load { routes: std::sync::Arc::new(vec!["t1".to_owned()]), ..Load::new(bearerd.address(), &world.names) };
    until_calls_of(&world, "t1", 1).await;
    bearerd.until_tokens_are("fresh", &world.names[1..]).await;
    let apps = load.start(&world.books);
    until_calls_of(&world, "t0", 1 + 2 * rounds).await;
    let _ = apps.stop().await;
    let mut last: Option<Instant> = None;
    let mut early = 0;
    let mut longest = Duration::ZERO;
    let calls = world.provider.calls();
    for call in calls.iter().filter(|call| call.client_id.as_deref() == Some("t0")) {
        if let Some(last) = last {
            early += u64::from(call.at - last < Duration::from_secs(seconds));
            longest = longest.max(call.at - last);
        }
        last = Some(call.at);
    }
    proof.nothing_lost(&world.books.balance());
    proof.is("token requests before the time", early, 0);
    proof.took("the longest time between two, with 2 s or up to 3 s to wait", longest);
    proof.survived(1 + 2 * rounds as u64);
    bearerd.end().await;
    proof.end();
}

async fn until_calls_of(world: &World, client: &str, wanted: usize) {
    let mut known = 0;
    loop {
        let calls = world.provider.wait_for(known + 1, PATIENCE).await.unwrap();
        known = calls.len();
        if calls.iter().filter(|call| call.client_id.as_deref() == Some(client)).count() >= wanted {
            return;
        }
    }
}
