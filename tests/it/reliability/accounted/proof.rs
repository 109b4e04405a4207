//! What the books say, as claims.

use super::books::Balance;
pub(super) use crate::reliability::proof::Proof;

impl Proof {
    /// That each of these requests had its own whole answer, came to the API once, and what came with it was right.
    pub(super) fn nothing_lost(&mut self, balance: &Balance) {
        self.all_served(balance);
        self.is("requests that came to the API more than once", balance.doubled, 0);
    }

    /// The same where one is sent again, for a token that was refused or by hand.
    pub(super) fn nothing_lost_though_repeated(&mut self, balance: &Balance) {
        self.all_served(balance);
        self.at_most("times that a request came to the API", balance.most_arrivals, 2);
    }

    /// That each of these requests had its own whole answer, and what came to the API with it was right.
    pub(super) fn all_served(&mut self, balance: &Balance) {
        self.asked(balance.asked);
        self.lost(balance.asked - balance.served);
        self.is("requests without a 200 of their own", balance.asked - balance.served, 0);
        self.nothing_wrong(balance);
        if balance.asked != balance.served {
            self.figure("what became of the others", format!("{balance:?}"));
        }
    }

    /// That no app took a cut answer for a whole one. It may have had a 502 instead.
    pub(super) fn every_cut_was_seen(&mut self, balance: &Balance) {
        self.asked(balance.asked);
        self.survived(balance.asked);
        self.is("cut answers that an app took for whole", balance.served + balance.mixed, 0);
        let said = balance.other.get(&502).copied().unwrap_or_default();
        self.is("what an app saw: the cut, or a 502", balance.broken + said, balance.asked);
        self.at_least("cuts that an app saw", balance.broken, 1);
        self.figure("answers of 502", said);
        self.nothing_wrong(balance);
    }

    /// That nobody had another's answer, and no request came with a credential that was not its route's, good and alone.
    pub(super) fn nothing_wrong(&mut self, balance: &Balance) {
        self.is("answers that were another request's", balance.mixed, 0);
        self.is("answers to what the API was never asked", balance.unasked, 0);
        self.is("requests that came to the API without one credential, and that one alone", balance.uncredited, 0);
        self.is("requests with another route's token", balance.foreign, 0);
        self.is("requests with an expired token", balance.expired, 0);
    }
}
