//! Says in `Via` that a message came through here, and knows it again (RFC 9110, 7.6.3).
//!
//! Must never know routes: whether it is put on at all is theirs to say.

use http::HeaderValue;
use http::header::{self, HeaderMap};

/// The name by which this process stands in `Via`. Two of them in one chain are no circle, so each has its own.
#[derive(Debug)]
pub struct Via {
    pseudonym: String,
    line: HeaderValue,
}

impl Via {
    /// `random` tells this process from others.
    pub fn new(random: u32) -> Self {
        let pseudonym = format!("bearerd-{random:08x}");
        let line = HeaderValue::try_from(format!("1.1 {pseudonym}"));
        Self { line: line.unwrap_or(HeaderValue::from_static("1.1 bearerd")), pseudonym }
    }

    /// Whether a message with these headers was here before.
    pub fn has_passed(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::VIA).iter().filter_map(|line| line.to_str().ok());
        // `1.1 name (comment)`, and so on.
        let mut names = lines.flat_map(|line| line.split(',')).filter_map(|hop| hop.split_whitespace().nth(1));
        names.any(|name| name.eq_ignore_ascii_case(&self.pseudonym))
    }

    pub fn put_on(&self, headers: &mut HeaderMap) {
        headers.append(header::VIA, self.line.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_here_before_is_known_again() {
        let via = Via::new(7);
        let mut headers = HeaderMap::new();
        assert!(!via.has_passed(&headers));
        headers.insert(header::VIA, HeaderValue::from_static("1.0 fred, 1.1 bearerd-00000008, bearerd-00000007"));
        assert!(!via.has_passed(&headers), "others, and what is no name");
        via.put_on(&mut headers);
        assert!(via.has_passed(&headers));
        let folded = HeaderValue::from_static("1.0 fred,1.1  BEARERD-00000007 (sidecar) , 1.1 x");
        assert!(via.has_passed(&HeaderMap::from_iter([(header::VIA, folded)])));
    }
}
