//! R7: secrets that change under load, in both of the ways in which they are put there, and one that is broken meanwhile.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use bearerd::secret::Fingerprint;

use super::load::Load;
use super::proof::Proof;
use super::upstream::{Act, upstream};
use super::world::{Lines, World};
use crate::support::{PATIENCE, SECRET, eventually, lasting};

#[tokio::test]
async fn a_secret_that_changes_under_load_fails_nobody() {
    let mut proof = Proof::new("R7", "secrets that are replaced under load, by rename and as a kubelet does it");
    let swaps = lasting(4, 10, 100);
    let world = World::new(1, Duration::from_secs(2)).await;
    let api = upstream(&world.books, None, || Act::SERVE).await;
    // As a kubelet lays it out: secret -> ..data/secret, ..data -> ..0.
    let at = |name: &str| world.folder.path(name);
    lay_out(&world, 0, SECRET);
    std::fs::remove_file(at("secret")).unwrap();
    symlink("..data/secret", at("secret")).unwrap();
    world.configure(&format!("http://{}", api.address), Lines::default());
    let bearerd = world.start_ready().await;
    let apps = Load::new(bearerd.address(), &world.names).start(&world.books);
    let mut old = SECRET.to_owned();
    let mut slowest = Duration::ZERO;
    let mut is_folder = true;
    let mut broken = 0;
    for number in 1..=swaps {
        let new = format!("{SECRET}-{number}");
        world.provider.set_secrets("t0", &[&old, &new]);
        let begun = Instant::now();
        if number % 4 == 3 {
            // Nothing, until it is told: a file that is being written.
            let told = || bearerd.log().matches("\"event\":\"secret_unreadable\"").count();
            let before = told();
            world.folder.replace("secret", "");
            eventually("it is told", || told() > before).await;
            broken += 1;
            is_folder = false;
        }
        if number % 2 == 0 && is_folder {
            lay_out(&world, number, &new);
        } else {
            world.folder.replace("secret", &new);
            is_folder = false;
        }
        used(&world, &new).await;
        slowest = slowest.max(begun.elapsed());
        world.provider.set_secrets("t0", &[&new]);
        old = new;
        if !is_folder && number % 2 == 1 {
            // Back to links, which is one more change, and of nothing but the way there.
            lay_out(&world, number, &old);
            let link = at("secret.link");
            symlink("..data/secret", &link).unwrap();
            std::fs::rename(link, at("secret")).unwrap();
            is_folder = true;
        }
    }
    apps.stop().await;
    let refused = world.provider.calls().iter().filter(|call| call.issued.is_none()).count();
    proof.nothing_lost(&world.books.balance());
    proof.is("token requests with a secret that was no longer good", refused, 0);
    proof.at_least("secrets that were broken for a while, which was told", broken, swaps / 4);
    proof.survived(swaps + broken);
    proof.renewed(world.renewals());
    proof.took("the longest time until a new secret was used, with a renewal every second and a half", slowest);
    bearerd.end().await;
    proof.end();
}

/// Puts a secret behind the kubelet's two links, by the rename of one of them.
fn lay_out(world: &World, number: u64, secret: &str) {
    let folder = format!("..{number}");
    std::fs::create_dir_all(world.folder.path(&folder)).unwrap();
    world.folder.write(&format!("{folder}/secret"), secret);
    let link = world.folder.path("..data_tmp");
    symlink(Path::new(&folder), &link).unwrap();
    std::fs::rename(link, world.folder.path("..data")).unwrap();
}

/// Waits until a token was granted for it.
async fn used(world: &World, secret: &str) {
    let wanted = Some(Fingerprint::of(secret.as_bytes()));
    let deadline = Instant::now() + PATIENCE;
    while !world.provider.calls().iter().rev().any(|call| call.secret == wanted && call.issued.is_some()) {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for the new secret to be used");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
