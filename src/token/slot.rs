//! The published token: written by one driver, read by every request.
//!
//! `Reader::bearer` is the only door through which a token leaves this room. It checks the deadline itself and trusts no
//! writer to withdraw in time. A reader can wait, and it can nudge ("generation 7 was refused"); it can ask for nothing.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::HeaderValue;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::machine::{Cause, Generation, Input, Memory};
use super::policy::Refresh;
use crate::clock::{Deadline, Now};
use crate::observe::{TokenOutcome, TokenState};
use crate::secret::{Fingerprint, Secret};

/// What one name's token is right now.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) token: Option<Arc<Token>>,
    /// The driver knew, when it wrote this, that the token is not to be used any more.
    pub(super) is_over: bool,
    /// A token request is under way.
    pub(super) airborne: bool,
    /// When the next one is due, on the clock since boot.
    pub(super) next_ask: Option<Duration>,
    pub(super) cause: Option<Cause>,
    pub(super) failures: u32,
    pub(super) credential: usize,
    pub(super) last_error: Option<Arc<LastError>>,
    /// By credential: its last rejection, if none of its tokens was granted since.
    pub(super) rejected: Vec<Option<Arc<LastError>>>,
    /// The nudges that the driver had heard when it wrote this.
    pub(super) heard: Heard,
    pub(super) granted: Option<Granted>,
    /// Newest first.
    pub(super) answers: Arc<VecDeque<Answer>>,
    pub(super) bought: Bought,
    /// Of the credential in use.
    pub(super) budget_left: Option<u32>,
    /// What another driver of this token must know, and as of when on the clock since boot.
    pub(super) memory: (Duration, Memory),
}

/// The dates of the held token: its life as a calendar has it.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// Its life counts from then.
    pub asked: SystemTime,
    /// As the provider says.
    pub life: Duration,
    /// When its renewal is planned.
    pub renewal: SystemTime,
}

/// How one token request ended.
#[derive(Clone, Debug)]
pub struct Answer {
    pub at: SystemTime,
    pub outcome: TokenOutcome,
    pub credential: Arc<str>,
    pub took: Duration,
    /// Why there is no token, in our own words.
    pub what: Option<String>,
    /// Of the token that came.
    pub fingerprint: Option<Fingerprint>,
}

/// Tokens granted in one UTC day: providers bill by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bought {
    /// Since 1970.
    day: u64,
    many: u64,
}

impl Bought {
    pub(super) fn count(&mut self, wall: SystemTime) {
        *self = Self { day: day(wall), many: self.on(wall) + 1 };
    }

    /// How many on the day that it is now.
    pub(super) fn on(self, wall: SystemTime) -> u64 {
        if self.day == day(wall) { self.many } else { 0 }
    }
}

fn day(wall: SystemTime) -> u64 {
    wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() / (24 * 60 * 60)
}

/// A token request that failed.
#[derive(Debug)]
pub(super) struct LastError {
    pub(super) at: SystemTime,
    pub(super) what: String,
}

/// A token as it is sent.
pub(super) struct Token {
    pub(super) generation: Generation,
    pub(super) until: Deadline,
    pub(super) renew_at: Duration,
    pub(super) fingerprint: Fingerprint,
    /// The credential that it was granted to.
    pub(super) credential: usize,
    /// The token itself, so that a grant of the same one is noticed.
    pub(super) secret: Secret<String>,
    /// One header value for each scheme that the slot knew, built once and marked sensitive.
    headers: Vec<HeaderValue>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.fingerprint)
    }
}

/// How far a driver has listened to nudges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    wanted: u64,
    refused: u64,
}

/// Where one name's token is published, and where nudges are left. Everything in it is bounded by construction: a
/// thousand refusals of one generation are one number.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: Arc<str>,
    wait: Duration,
    track_use: bool,
    /// What stands before the token, one for each way that routes inject it, or did before a reload.
    schemes: Mutex<Vec<Arc<str>>>,
    /// What logs call its credentials.
    credentials: Vec<Arc<str>>,
    current: ArcSwap<Snapshot>,
    changed: watch::Sender<()>,
    used: AtomicBool,
    nudges: Nudges,
    /// How many requests had to wait for a token request.
    waits: AtomicU64,
    in_force: AtomicBool,
}

#[derive(Debug, Default)]
struct Nudges {
    wanted: AtomicU64,
    refused: AtomicU64,
    cured: AtomicU64,
    bell: Notify,
}

impl Slot {
    pub(super) fn new(name: Arc<str>, wait: Duration, refresh: &Refresh, credentials: Vec<Arc<str>>) -> Self {
        Self {
            name,
            wait,
            track_use: !refresh.when_idle,
            schemes: Mutex::default(),
            credentials,
            current: ArcSwap::default(),
            changed: watch::Sender::new(()),
            used: AtomicBool::new(false),
            nudges: Nudges::default(),
            waits: AtomicU64::new(0),
            in_force: AtomicBool::new(true),
        }
    }

    /// Whether requests may need it; not while a plan waits that has it.
    pub(super) fn is_in_force(&self) -> bool {
        self.in_force.load(Ordering::Relaxed)
    }

    pub(super) fn put_in_force(&self, is_in_force: bool) {
        self.in_force.store(is_in_force, Ordering::Relaxed);
    }

    /// Builds a token's header values. `None` if a scheme and the token make no header value.
    pub(super) fn token(
        &self,
        generation: Generation,
        until: Deadline,
        renew_at: Duration,
        credential: usize,
        secret: Secret<String>,
    ) -> Option<Token> {
        let schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        let headers = schemes.iter().map(|scheme| header(scheme, &secret)).collect::<Option<_>>()?;
        drop(schemes);
        Some(Token { generation, until, renew_at, fingerprint: secret.fingerprint(), credential, secret, headers })
    }

    /// The place of a scheme's header in tokens that come from now on.
    fn learn(&self, scheme: &str) -> (usize, Arc<str>) {
        let mut schemes = self.schemes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = schemes.iter().position(|known| **known == *scheme);
        let place = known.unwrap_or_else(|| {
            schemes.push(scheme.into());
            schemes.len() - 1
        });
        (place, Arc::clone(&schemes[place]))
    }

    /// Waits until there has been a token.
    pub(super) async fn held(&self) {
        let mut changed = self.changed.subscribe();
        while self.current.load().token.is_none() {
            // The other end is this slot's own.
            let _ = changed.changed().await;
        }
    }

    pub(super) fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.current.store(Arc::new(snapshot));
        self.changed.send_replace(());
    }

    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Whether a reader took the token since the last call.
    pub(super) fn take_used(&self) -> bool {
        !self.track_use || self.used.swap(false, Ordering::Relaxed)
    }

    /// Waits for nudges.
    pub(super) async fn nudged(&self) {
        self.nudges.bell.notified().await;
    }

    /// What readers had to say since `ear` last listened.
    pub(super) fn listen(&self, ear: &mut Ear) -> impl Iterator<Item = Input> + use<> {
        let wanted = self.nudges.wanted.load(Ordering::Acquire);
        let refused = self.nudges.refused.load(Ordering::Acquire);
        let cured = self.nudges.cured.load(Ordering::Acquire);
        let refusal = (refused > ear.heard.refused).then_some(Input::Refused(Generation(refused)));
        let cure = (cured > ear.cured).then_some(Input::Cured(Generation(cured)));
        let want = (wanted > ear.heard.wanted).then_some(Input::Wanted);
        *ear = Ear { heard: Heard { wanted, refused }, cured };
        [refusal, cure, want].into_iter().flatten()
    }
}

/// Which nudges the driver has heard.
#[derive(Debug, Default)]
pub(super) struct Ear {
    pub(super) heard: Heard,
    cured: u64,
}

impl Snapshot {
    fn usable(&self, now: Now) -> Option<&Token> {
        self.token.as_deref().filter(|token| !token.until.passed(now))
    }

    /// Whether the token was good when this was written, and nobody has told the driver that it no longer is: a clock
    /// that jumped, a machine that slept.
    fn is_outdated(&self, now: Now) -> bool {
        self.failures == 0 && self.token.is_some() && !self.is_over && self.usable(now).is_none()
    }

    /// Whether a token request is about to be made, and not for want of a better answer to the last one: it is held
    /// back only by the shortest distance between two. Then it is worth waiting for.
    fn asks_soon(&self, now: Now) -> bool {
        const SOON: Duration = Duration::from_secs(1);
        self.failures == 0 && self.next_ask.is_none_or(|next| next <= now.mono + SOON)
    }

    pub(super) fn state(&self, now: Now) -> TokenState {
        /// A renewal takes a moment; it is overdue after this.
        const OVERDUE: Duration = Duration::from_secs(2);
        match &self.token {
            None => TokenState::None,
            Some(token) if token.until.passed(now) => TokenState::Expired,
            Some(token) if self.failures > 0 || now.mono > token.renew_at + OVERDUE => TokenState::Stale,
            Some(_) => TokenState::Fresh,
        }
    }
}

/// A header value, marked sensitive; `None` if they make none.
fn header(scheme: &str, token: &Secret<String>) -> Option<HeaderValue> {
    let text = match scheme {
        "" => Secret::new(token.expose().clone()),
        scheme => Secret::new(format!("{scheme} {}", token.expose())),
    };
    let mut value = HeaderValue::from_str(text.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A driver that runs until nobody has need of it.
#[derive(Debug, Default)]
pub(super) struct Driven(OnceLock<AbortHandle>);

impl Driven {
    pub(super) fn is_running(&self) -> bool {
        self.0.get().is_some()
    }

    pub(super) fn runs(&self, driver: AbortHandle) {
        // There is one; see `is_running`.
        let _ = self.0.set(driver);
    }

    pub(super) fn end(&self) {
        if let Some(driver) = self.0.get() {
            driver.abort();
        }
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.end();
    }
}

/// A handle that can read one name's token for one way of injecting it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    slot: Arc<Slot>,
    /// Where the header of its scheme is.
    place: usize,
    scheme: Arc<str>,
    /// Whoever waits for a token keeps up who asks for it; whoever only could does not.
    driven: Weak<Driven>,
}

/// A header value with a token in it that was not past its margin when this was made. Carries its token's name.
///
/// Made only by [`Reader::bearer`].
pub struct Bearer {
    value: HeaderValue,
    identity: Identity,
}

/// Which token it is: for telling, and of no use to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub generation: Generation,
    pub fingerprint: Fingerprint,
    credential: usize,
}

impl Bearer {
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Gives up the proof for the value that is sent.
    pub fn into_header(self) -> HeaderValue {
        self.value
    }
}

/// There is no token that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoToken {
    pub token: Arc<str>,
    /// When it is worth coming back, at least a second.
    pub retry_after: Duration,
}

impl Reader {
    pub(super) fn new(slot: Arc<Slot>, scheme: &str, driven: Weak<Driven>) -> Self {
        let (place, scheme) = slot.learn(scheme);
        Self { slot, place, scheme, driven }
    }

    /// Whether the two put the same on a request, always.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.slot, &other.slot) && self.place == other.place
    }

    /// The token, if it may be used now. Never waits.
    ///
    /// # Errors
    /// There is none, or it is past its margin.
    pub fn bearer(&self, now: Now) -> Result<Bearer, NoToken> {
        let snapshot = self.slot.current.load();
        let Some(token) = snapshot.usable(now) else { return Err(self.no_token(&snapshot, now)) };
        if self.slot.track_use && !self.slot.used.load(Ordering::Relaxed) {
            self.slot.used.store(true, Ordering::Relaxed);
        }
        let Token { generation, fingerprint, credential, .. } = *token;
        let identity = Identity { generation, fingerprint, credential };
        let made = token.headers.get(self.place).cloned();
        // A scheme that came with a reload has its header made with the next token.
        let value = made.or_else(|| header(&self.scheme, &token.secret));
        let value = value.ok_or_else(|| self.no_token(&snapshot, now))?;
        Ok(Bearer { value, identity })
    }

    /// What logs call the credential that this token was granted to.
    pub fn credential(&self, identity: Identity) -> Option<&Arc<str>> {
        self.slot.credentials.get(identity.credential)
    }

    /// Waits until there is a token to use: as long as a token request is under way, and no longer than `wait`. Yields when
    /// it was found good, for [`Reader::bearer`]: by another look at a date that somebody sets it might not be.
    ///
    /// # Errors
    /// The request for it failed, or none is due yet.
    pub async fn ready(&self, clock: fn() -> Now) -> Result<Now, NoToken> {
        let wanted = {
            let snapshot = self.slot.current.load();
            let now = clock();
            if snapshot.usable(now).is_some() {
                return Ok(now);
            }
            // Between a failure and the next try there is nothing to wait for, and nobody to tell.
            if !snapshot.airborne && !snapshot.asks_soon(now) && !snapshot.is_outdated(now) {
                return Err(self.no_token(&snapshot, now));
            }
            Cell::new(self.want())
        };
        let there = self.wait_for(move |snapshot| {
            let now = clock();
            if snapshot.usable(now).is_some() {
                return Some(Some(now));
            }
            if snapshot.heard.wanted < wanted.get() || snapshot.airborne || snapshot.asks_soon(now) {
                return None;
            }
            // The date was set between the driver's look at it and this one. Told again, the driver sees it as well.
            if snapshot.is_outdated(now) {
                wanted.set(self.want());
                return None;
            }
            Some(None)
        });
        there.await.ok_or_else(|| self.no_token(&self.slot.current.load(), clock()))
    }

    /// Says that there is nothing to use; yields how often that has been said.
    fn want(&self) -> u64 {
        let wanted = self.slot.nudges.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        self.slot.nudges.bell.notify_one();
        wanted
    }

    /// Says that the upstream did not take the token of this generation.
    pub fn refused(&self, generation: Generation) {
        self.slot.nudges.refused.fetch_max(generation.0, Ordering::AcqRel);
        self.slot.nudges.bell.notify_one();
    }

    /// Waits for a newer token than one that was refused: as long as a token request is under way, and no longer than
    /// `wait`. `false` if there is none to be had now.
    pub async fn newer_than(&self, generation: Generation, clock: fn() -> Now) -> bool {
        self.wait_for(|snapshot| {
            if snapshot.usable(clock()).is_some_and(|token| token.generation > generation) {
                return Some(Some(()));
            }
            let heard = snapshot.heard.refused >= generation.0;
            (heard && !snapshot.airborne && !snapshot.asks_soon(clock())).then_some(None)
        })
        .await
        .is_some()
    }

    /// Says that a request which was refused with an older token was taken with this one.
    pub fn cured(&self, generation: Generation) {
        self.slot.nudges.cured.fetch_max(generation.0, Ordering::AcqRel);
        self.slot.nudges.bell.notify_one();
    }

    pub fn name(&self) -> &Arc<str> {
        &self.slot.name
    }

    /// Waits until there is a verdict, no longer than `wait`; then it is `None`. Where `wait` is zero it is so at once.
    fn wait_for<T>(&self, verdict: impl Fn(&Snapshot) -> Option<Option<T>>) -> impl Future<Output = Option<T>> {
        let mut changed = self.slot.changed.subscribe();
        let driven = self.driven.upgrade();
        // Of a token that a reload took away nothing comes any more; what is there already is there.
        let wait = if driven.is_some() { self.slot.wait } else { Duration::ZERO };
        let verdict = async move {
            let mut waits = false;
            loop {
                // Marked as seen before the look, so that no change slips in between.
                changed.borrow_and_update();
                if let Some(verdict) = verdict(&self.slot.current.load()) {
                    return verdict;
                }
                // Not even the tick that a timer of zero takes: for whoever waits, others begin things.
                if wait.is_zero() {
                    return None;
                }
                if !std::mem::replace(&mut waits, true) {
                    self.slot.waits.fetch_add(1, Ordering::Relaxed);
                }
                if changed.changed().await.is_err() {
                    return None;
                }
            }
        };
        async move {
            let there = tokio::time::timeout(wait, verdict).await.unwrap_or_default();
            drop(driven);
            there
        }
    }

    fn no_token(&self, snapshot: &Snapshot, now: Now) -> NoToken {
        let next = snapshot.next_ask.map_or(Duration::ZERO, |next| next.saturating_sub(now.mono));
        NoToken { token: Arc::clone(&self.slot.name), retry_after: next.max(Duration::from_secs(1)) }
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bearer(generation {})", self.identity.generation.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch() -> Now {
        Now { mono: Duration::from_secs(1_000), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000) }
    }

    fn slot() -> Arc<Slot> {
        let credentials = vec!["app".into()];
        Arc::new(Slot::new("orders".into(), Duration::from_secs(10), &Refresh::default(), credentials))
    }

    fn reader(slot: &Arc<Slot>, scheme: &str) -> Reader {
        Reader::new(Arc::clone(slot), scheme, Weak::new())
    }

    fn publish(slot: &Slot, life: Duration) {
        let secret = Secret::new("canary".to_owned());
        let token = slot.token(Generation(1), epoch().plus(life), Duration::MAX, 0, secret).unwrap();
        slot.publish(Snapshot { token: Some(Arc::new(token)), ..Snapshot::default() });
    }

    #[test]
    fn a_reader_checks_the_deadline_itself() {
        let slot = slot();
        let reader = reader(&slot, "Bearer");
        assert!(reader.bearer(epoch()).is_err());
        publish(&slot, Duration::from_secs(60));
        assert_eq!(reader.bearer(epoch()).unwrap().into_header(), "Bearer canary");
        assert!(reader.bearer(epoch() + Duration::from_secs(60)).is_err());
        let restored = Now { wall: epoch().wall + Duration::from_secs(60), ..epoch() };
        assert!(reader.bearer(restored).is_err(), "a snapshot of the machine was restored");
    }

    #[test]
    fn each_scheme_has_its_header_and_none_prints() {
        let slot = slot();
        let [bearer, bare] = ["Bearer", ""].map(|scheme| reader(&slot, scheme));
        publish(&slot, Duration::from_secs(60));
        assert_eq!(bearer.bearer(epoch()).unwrap().into_header(), "Bearer canary");
        let bare = bare.bearer(epoch()).unwrap();
        let printed = format!("{bare:?} {:?}", slot.current());
        let header = bare.into_header();
        assert_eq!(header, "canary");
        assert!(header.is_sensitive());
        assert!(!format!("{printed} {header:?}").contains("canary"), "{printed}");
        // It comes with a reload, while the token is held.
        let late = reader(&slot, "Token").bearer(epoch()).unwrap().into_header();
        assert!(late == "Token canary" && late.is_sensitive());
        assert!(reader(&slot, "Token").is_same(&reader(&slot, "Token")));
        assert!(!reader(&slot, "Token").is_same(&bearer));
    }

    /// A virtual machine that was restored had its requests fail at once, for as long as the driver slept.
    #[tokio::test(start_paused = true)]
    async fn a_token_that_a_jump_of_the_clock_ended_is_asked_for_and_waited_for() {
        fn restored() -> Now {
            Now { wall: epoch().wall + Duration::from_secs(100_000), mono: epoch().mono + Duration::from_secs(1) }
        }
        let slot = slot();
        let renew_at = epoch().mono + Duration::from_secs(2_700);
        let secret = Secret::new("canary".to_owned());
        let token = slot.token(Generation(1), epoch().plus(Duration::from_secs(3_600)), renew_at, 0, secret).unwrap();
        slot.publish(Snapshot { token: Some(Arc::new(token)), next_ask: Some(renew_at), ..Snapshot::default() });
        let driven = Arc::default();
        let reader = Reader::new(Arc::clone(&slot), "Bearer", Arc::downgrade(&driven));
        let driver = async {
            slot.nudged().await;
            let mut ear = Ear::default();
            assert_eq!(slot.listen(&mut ear).collect::<Vec<_>>(), [Input::Wanted]);
            let secret = Secret::new("fresh".to_owned());
            let token = slot.token(Generation(2), restored().plus(Duration::from_secs(60)), Duration::MAX, 0, secret);
            slot.publish(Snapshot { token: token.map(Arc::new), heard: ear.heard, ..Snapshot::default() });
        };
        let (ready, ()) = tokio::join!(reader.ready(restored), driver);
        assert_eq!(ready, Ok(restored()));
    }

    /// The date was set in the moment between a grant and those who waited for it. All of them got 503, and one request
    /// later a token was asked for.
    #[tokio::test(start_paused = true)]
    async fn a_date_that_is_set_behind_the_drivers_look_at_it_is_told_to_it() {
        fn set() -> Now {
            Now { wall: epoch().wall + Duration::from_secs(100_000), ..epoch() }
        }
        let slot = slot();
        let driven = Arc::default();
        let reader = Reader::new(Arc::clone(&slot), "Bearer", Arc::downgrade(&driven));
        let granted = |generation, now: Now, is_over, heard| {
            let renew_at = now.mono + Duration::from_secs(2_700);
            let until = now.plus(Duration::from_secs(3_600));
            let token = slot.token(Generation(generation), until, renew_at, 0, Secret::new("canary".to_owned()));
            let token = token.map(Arc::new);
            slot.publish(Snapshot { token, is_over, heard, next_ask: Some(renew_at), ..Snapshot::default() });
        };
        slot.publish(Snapshot { airborne: true, ..Snapshot::default() });
        let driver = async {
            let mut ear = Ear::default();
            for (generation, now) in [(1, epoch()), (2, set())] {
                slot.nudged().await;
                assert_eq!(slot.listen(&mut ear).collect::<Vec<_>>(), [Input::Wanted]);
                granted(generation, now, false, ear.heard);
            }
            ear.heard
        };
        let both = async { tokio::join!(reader.ready(set), driver) };
        let (ready, heard) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
        assert_eq!(ready, Ok(set()));
        // What the driver knows needs no telling: it has a reason for holding a request back.
        granted(3, epoch(), true, heard);
        assert!(reader.ready(set).await.is_err());
        assert_eq!(slot.nudges.wanted.load(Ordering::Relaxed), heard.wanted);
    }

    /// Between the end of the wait and the putting on of the token.
    #[tokio::test(start_paused = true)]
    async fn a_date_that_is_set_behind_the_look_of_who_waited_costs_it_nothing() {
        thread_local!(static LOOKS: Cell<u32> = const { Cell::new(0) });
        fn set_at_the_second_look() -> Now {
            let later = Duration::from_secs(100_000) * LOOKS.replace(1);
            Now { wall: epoch().wall + later, ..epoch() }
        }
        let slot = slot();
        let driven = Arc::default();
        let reader = Reader::new(Arc::clone(&slot), "Bearer", Arc::downgrade(&driven));
        publish(&slot, Duration::from_secs(60));
        let good_at = reader.ready(set_at_the_second_look).await.unwrap();
        assert!(reader.bearer(set_at_the_second_look()).is_err() && reader.bearer(good_at).is_ok());
    }

    /// The request that waited for the rest of a body, or for a place, while a reload took its token away.
    #[tokio::test(start_paused = true)]
    async fn a_token_that_nobody_asks_for_any_more_is_not_waited_for() {
        let slot = slot();
        let driven = Arc::default();
        let reader = Reader::new(Arc::clone(&slot), "Bearer", Arc::downgrade(&driven));
        slot.publish(Snapshot { airborne: true, ..Snapshot::default() });
        let begun = tokio::time::Instant::now();
        drop(driven);
        assert!(!reader.newer_than(Generation(1), epoch).await);
        assert!(reader.ready(epoch).await.is_err());
        assert!(begun.elapsed() < Duration::from_millis(10), "{:?}", begun.elapsed());
        publish(&slot, Duration::from_secs(60));
        assert!(reader.newer_than(Generation(0), epoch).await && reader.ready(epoch).await.is_ok());
    }
}
