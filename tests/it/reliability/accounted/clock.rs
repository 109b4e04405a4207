//! R14b: a wall clock that is set, by hours and days, while the process runs.

use std::path::PathBuf;
use std::time::Duration;

use bearerd::demo::answer::Answer;

use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::support::{PATIENCE, lasting};

/// As libfaketime is told them: each further from the truth, or back to it.
const STEPS: [&str; 8] = ["+1h", "+0", "-1h", "+0", "+1d", "-1d", "+1d", "+0"];

const SHORT: Duration = Duration::from_secs(2);

/// libfaketime, which stands between a program and its C library's clocks. The clock since boot is asked of the kernel, as
/// it is on a machine whose date is set: that leaves it alone.
fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut places = folders.flat_map(|folder| [folder.join("faketime"), folder]);
    places.find_map(|place| Some(place.join("libfaketimeMT.so.1")).filter(|file| file.exists()))
}

#[tokio::test]
async fn a_date_that_is_set_costs_a_renewal_at_the_most() {
    let mut proof = Proof::new("R14b", "a wall clock that steps by an hour and by a day, ahead and back");
    let Some(library) = library() else {
        return Proof::skipped("R14b", "there is no libfaketime");
    };
    let rounds = lasting(1, 1, 30);
    let world = World::new(1, Duration::from_secs(3_600)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    // Each step is far enough from the one before.
    let lines = Lines { token: "refresh: {min_interval: 100ms}", ..Lines::default() };
    world.configure(&format!("http://{}", api.address), lines);
    world.folder.write("date", "+0");
    let date = world.folder.path("date");
    let bearerd = world.start_by(|mut command| {
        command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", &date).env("FAKETIME_NO_CACHE", "1");
        // By either of its names.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        command
    });
    let bearerd = bearerd.await.ready().await;
    let apps = Load::new(bearerd.address(), &world.names).start(&world.books);
    let (mut most, mut sum) = (0, 0);
    for _ in 0..rounds {
        for step in STEPS {
            let before = world.provider.count();
            world.folder.replace("date", step);
            // Some hundred requests look at it.
            tokio::time::sleep(Duration::from_millis(200)).await;
            most = most.max(world.provider.count() - before);
            sum += world.provider.count() - before;
        }
    }
    proof.at_most("token requests for one step, with tokens of an hour", most, 2);
    // Whether a token has ended of whose end the date is ahead, nobody can know: it is renewed. Going back ends none.
    proof.at_least("token requests for the first steps ahead, by an hour and by a day", sum, 2);

    world.provider.set_life(SHORT);
    let granted = world.provider.count();
    world.folder.replace("date", "+2d");
    world.provider.wait_for(granted + 1, PATIENCE).await.unwrap();
    for _ in 0..rounds {
        for step in STEPS {
            world.folder.replace("date", step);
            tokio::time::sleep(SHORT.mul_f64(0.05 + 0.1 * fastrand::f64())).await;
        }
        // By a date that was set back a token has long to live. The next one comes behind its end.
        world.folder.replace("date", "-1d");
        let count = world.provider.count();
        world.provider.script().push(Answer::Serve.after(SHORT));
        world.provider.wait_for(count + 2, PATIENCE).await.unwrap();
    }
    apps.stop().await;
    let failed = bearerd.token_requests(|outcome| outcome != "granted").await;
    proof.nothing_lost(&world.books.balance());
    proof.is("token requests that failed", failed, 0);
    proof.figure("tokens of two seconds in as many steps", world.provider.count() - granted);
    proof.renewed(world.renewals());
    proof.survived(2 * rounds * (STEPS.len() as u64 + 1));
    bearerd.end().await;
    proof.end();
}
