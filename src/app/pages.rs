//! Brings connections to the admin pages: what `inbound` lets in, `admin` answers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::admin::{Admin, Pages};
use crate::bug;
use crate::inbound::{Door, Listener};
use crate::life::{RESTART, contained};
use crate::observe::event::Event;

/// For the TLS handshake, and then for one request, its answer and the end: what takes longer is nobody's probe, and
/// would keep others' out.
const WHOLE: Duration = Duration::from_secs(10);

/// When descriptors run out, accepting again at once would spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is dropped; it goes on through a drain, so that the end can be watched. Probes and scrapers need a
/// handful of connections; whoever opens more than `most` waits.
pub(super) async fn serve(admin: Arc<Admin>, door: Arc<Door>, listener: Listener, pages: Pages, most: usize) {
    let places = Arc::new(Semaphore::new(most));
    while contained(pin!(accept(&admin, &door, &listener, pages, &places))).await.is_none() {
        admin.observer.tell(&Event::TaskPanicked { task: "the admin pages' acceptor" });
        tokio::time::sleep(RESTART).await;
    }
}

async fn accept(admin: &Arc<Admin>, door: &Arc<Door>, listener: &Listener, pages: Pages, places: &Arc<Semaphore>) {
    loop {
        let Ok(place) = Arc::clone(places).acquire_owned().await else { return };
        bug::at("pages");
        match listener.accept().await {
            Ok(socket) => {
                let (admin, door) = (Arc::clone(admin), Arc::clone(door));
                tokio::spawn(async move {
                    if let Some((stream, arrival)) = door.open(socket, WHOLE, &admin.observer).await {
                        // Whether it was in time is the client's business.
                        let _ = tokio::time::timeout(WHOLE, admin.connection(stream, &arrival, pages)).await;
                    }
                    drop(place);
                });
            }
            Err(error) => {
                door.not_accepted(&error, &admin.observer);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
