//! Every request has a number, and both ends write down what became of it: the app what it got, the API what came to it.
//!
//! A request's target is `/ROUTE/NUMBER`, its answer's body the same. Must never know why something failed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bearerd::demo::api::{Verdict, Verifier};
use serde_json::Value;

use crate::reliability::wire::Head;

pub(super) struct Books {
    verifier: Verifier,
    entries: Mutex<Vec<Entry>>,
    /// Whose each token is that came so far.
    owners: Mutex<HashMap<String, Arc<str>>>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// It may not come to the API twice, whatever becomes of it.
    once: bool,
    outcome: Outcome,
    arrivals: u16,
    worst: Credential,
}

/// What the app got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Nothing so far.
    Open,
    /// A whole answer with this status, and if that is 200, with its own number.
    Answered(u16),
    /// A 200 with something else.
    Mixed,
    /// The connection ended before the answer did.
    Broken,
    /// There was nobody to connect to.
    TurnedAway,
}

/// What a request came with to the API, the better ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Credential {
    /// One line, with a token of this provider for this route that lives.
    Good,
    Expired,
    /// Another route's.
    Foreign,
    /// None, or more than one, or nothing that the provider signed.
    None,
}

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Balance {
    pub(super) asked: u64,
    /// Those with a 200 and their own number in it.
    pub(super) served: u64,
    pub(super) mixed: u64,
    pub(super) broken: u64,
    pub(super) turned_away: u64,
    /// No end is known: the app itself was stopped.
    pub(super) open: u64,
    /// Answers that were no 200, by their status.
    pub(super) other: BTreeMap<u16, u64>,
    /// The same, to what had come to the API.
    pub(super) other_came: u64,
    /// 200 to something that never came to the API.
    pub(super) unasked: u64,
    /// How many came to the API.
    pub(super) arrived: u64,
    /// How many came to the API more than once.
    pub(super) doubled: u64,
    /// Of these, those that may not.
    pub(super) doubled_once: u64,
    /// The most that one of them came.
    pub(super) most_arrivals: u16,
    pub(super) uncredited: u64,
    pub(super) foreign: u64,
    pub(super) expired: u64,
}

impl Books {
    pub(super) fn new(verifier: Verifier) -> Arc<Self> {
        Arc::new(Self { verifier, entries: Mutex::default(), owners: Mutex::default() })
    }

    /// A new request's number.
    pub(super) fn ask(&self) -> u64 {
        self.new_entry(false)
    }

    /// The same for one that may not come to the API twice, as a POST.
    pub(super) fn ask_once(&self) -> u64 {
        self.new_entry(true)
    }

    /// How many there are.
    pub(super) fn asked(&self) -> u64 {
        self.entries.lock().unwrap().len() as u64
    }

    fn new_entry(&self, once: bool) -> u64 {
        let mut entries = self.entries.lock().unwrap();
        entries.push(Entry { once, outcome: Outcome::Open, arrivals: 0, worst: Credential::Good });
        entries.len() as u64 - 1
    }

    /// The app has a whole answer.
    pub(super) fn answered(&self, number: u64, status: u16, is_own: bool) {
        self.ended(number, if status == 200 && !is_own { Outcome::Mixed } else { Outcome::Answered(status) });
    }

    pub(super) fn broken(&self, number: u64) {
        self.ended(number, Outcome::Broken);
    }

    pub(super) fn turned_away(&self, number: u64) {
        self.ended(number, Outcome::TurnedAway);
    }

    fn ended(&self, number: u64, outcome: Outcome) {
        let entry = &mut self.entries.lock().unwrap()[usize::try_from(number).unwrap()];
        assert!(entry.outcome == Outcome::Open, "two ends of {number}");
        entry.outcome = outcome;
    }

    /// A request's head has come to the API.
    pub(super) fn arrived(&self, head: &Head) -> Credential {
        let credentials: Vec<&[u8]> = head
            .fields()
            .filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization"))
            .map(|(_, value)| value)
            .collect();
        self.came(head.target(), &credentials)
    }

    /// The same of one that is no bytes.
    pub(super) fn came(&self, target: &str, credentials: &[&[u8]]) -> Credential {
        let mut words = target.split('/').skip(1);
        let (route, number) = (words.next().unwrap(), words.next().unwrap().parse::<usize>().unwrap());
        let credential = match credentials {
            [one] => self.judge(route, one),
            _ => Credential::None,
        };
        let entry = &mut self.entries.lock().unwrap()[number];
        entry.arrivals += 1;
        entry.worst = entry.worst.max(credential);
        credential
    }

    fn judge(&self, route: &str, value: &[u8]) -> Credential {
        let Some(token) = str::from_utf8(value).ok().and_then(|value| value.strip_prefix("Bearer ")) else {
            return Credential::None;
        };
        let verdict = self.verifier.verify(token, SystemTime::now());
        if !matches!(verdict, Verdict::Good | Verdict::Expired) {
            // Its claims are anybody's.
            return Credential::None;
        }
        let mut owners = self.owners.lock().unwrap();
        let owner = owners.entry(token.to_owned()).or_insert_with(|| owner(token).into());
        match verdict {
            _ if **owner != *route => Credential::Foreign,
            Verdict::Expired => Credential::Expired,
            Verdict::Good => Credential::Good,
            Verdict::Missing
            | Verdict::Malformed
            | Verdict::Doubled
            | Verdict::Forged
            | Verdict::WrongAudience
            | Verdict::Rejected => Credential::None,
        }
    }

    /// The numbers of those that came with an expired token.
    pub(super) fn expired(&self) -> Vec<u64> {
        let entries = self.entries.lock().unwrap();
        (0..)
            .zip(entries.iter())
            .filter(|(_, entry)| entry.worst == Credential::Expired)
            .map(|(number, _)| number)
            .collect()
    }

    pub(super) fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        for Entry { once, outcome, arrivals, worst } in self.entries.lock().unwrap().iter() {
            balance.asked += 1;
            match outcome {
                Outcome::Open => balance.open += 1,
                Outcome::Answered(200) => {
                    balance.served += 1;
                    balance.unasked += u64::from(*arrivals == 0);
                }
                Outcome::Answered(status) => {
                    *balance.other.entry(*status).or_default() += 1;
                    balance.other_came += u64::from(*arrivals > 0);
                }
                Outcome::Mixed => balance.mixed += 1,
                Outcome::Broken => balance.broken += 1,
                Outcome::TurnedAway => balance.turned_away += 1,
            }
            balance.arrived += u64::from(*arrivals > 0);
            balance.doubled += u64::from(*arrivals > 1);
            balance.doubled_once += u64::from(*once && *arrivals > 1);
            balance.most_arrivals = balance.most_arrivals.max(*arrivals);
            match worst {
                Credential::Good => {}
                Credential::Expired => balance.expired += 1,
                Credential::Foreign => balance.foreign += 1,
                Credential::None => balance.uncredited += 1,
            }
        }
        balance
    }
}

/// The client that a token was issued to, which its signature was checked for.
fn owner(token: &str) -> String {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["client_id"].as_str().unwrap().to_owned()
}
