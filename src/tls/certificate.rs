//! What a certificate says of itself: when it holds, for which names, and who signed it.
//!
//! For people who look for what is wrong. Whether it is to be believed is rustls's to say, and must never be asked here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage};

/// When a certificate holds (RFC 5280, 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub from: SystemTime,
    pub until: SystemTime,
}

/// `None` where the certificate is none, or never holds.
///
/// webpki looks at this first and tells the bound that is overstepped, so it is asked about a moment before all
/// certificates and about one behind them.
pub fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let at = |time: u64| {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(time));
        certificate.verify_for_usage(&[], &[], &[], time, KeyUsage::server_auth(), None, None).err()
    };
    let moment = |time: UnixTime| UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    let Some(Error::CertExpired { not_after, .. }) = at(u64::MAX) else { return None };
    let from = match at(0) {
        Some(Error::CertNotValidYet { not_before, .. }) => moment(not_before)?,
        // It holds since 1970.
        Some(_) | None => UNIX_EPOCH,
    };
    Some(Validity { from, until: moment(not_after)? })
}

/// The DNS names that it is for. Others, addresses among them, are left out.
pub fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    EndEntityCert::try_from(certificate)
        .map(|certificate| certificate.valid_dns_names().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// Who signed it: the common name, or else the organisation. Whoever made the certificate chose the words.
pub fn issuer(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let [common_name, organisation] = [3, 10].map(|attribute| attribute_of(certificate.issuer(), attribute));
    common_name.or(organisation)
}

/// The last value of an attribute `2.5.4.N` in a name (RFC 5280, 4.1.2.4): a sequence of sets of pairs. The last is the
/// one that is nearest to whom it names.
fn attribute_of(name: &[u8], attribute: u8) -> Option<String> {
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let mut found = None;
    let mut sets = name;
    while let Some((_, set, rest)) = element(sets) {
        sets = rest;
        let Some((_, pair, _)) = element(set) else { continue };
        if let Some((OBJECT_IDENTIFIER, [0x55, 0x04, kind], value)) = element(pair)
            && *kind == attribute
            && let Some((_, text, _)) = element(value)
        {
            found = std::str::from_utf8(text).ok().map(str::to_owned).or(found);
        }
    }
    found
}

/// The first element of some DER: its tag, what is in it, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*tag, value, rest))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd};

    use super::*;

    fn made(edit: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["a.example".to_owned(), "*.b.example".to_owned()]).unwrap();
        edit(&mut params);
        params.self_signed(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()).unwrap().der().clone()
    }

    #[test]
    fn it_says_when_it_holds() {
        for (from, until) in
            [((1970, 1, 1), (1999, 12, 31)), ((2020, 2, 29), (2049, 12, 31)), ((2050, 1, 1), (4096, 1, 1))]
        {
            let day = |(year, month, day)| date_time_ymd(year, month, day);
            let certificate = made(|params| (params.not_before, params.not_after) = (day(from), day(until)));
            let moment = |date| UNIX_EPOCH + Duration::from_secs(u64::try_from(day(date).unix_timestamp()).unwrap());
            assert_eq!(validity(&certificate), Some(Validity { from: moment(from), until: moment(until) }));
        }
        let never = made(|params| {
            (params.not_before, params.not_after) = (date_time_ymd(2021, 1, 1), date_time_ymd(2020, 1, 1));
        });
        assert_eq!(validity(&never), None);
    }

    #[test]
    fn it_says_whose_it_is_and_who_signed_it() {
        let long = "x".repeat(300);
        let certificate = made(|params| {
            params.distinguished_name.push(DnType::OrganizationName, "An Organisation");
            params.distinguished_name.push(DnType::CommonName, long.as_str());
        });
        assert_eq!(issuer(&certificate), Some(long));
        assert_eq!(names(&certificate), ["a.example", "*.b.example"]);
        let certificate = made(|params| {
            params.distinguished_name.remove(DnType::CommonName);
            params.distinguished_name.push(DnType::OrganizationName, "An Organisation");
        });
        assert_eq!(issuer(&certificate).as_deref(), Some("An Organisation"));
    }

    #[test]
    fn what_is_none_says_nothing() {
        let whole = made(|_| {});
        for length in 0..whole.len() {
            let cut = CertificateDer::from(&whole[..length]);
            assert_eq!((validity(&cut), issuer(&cut), names(&cut)), (None, None, Vec::new()));
            // With any bit changed it is another, or none, and nothing else happens.
            for bit in 0..8 {
                let mut other = whole.to_vec();
                other[length] ^= 1 << bit;
                let other = CertificateDer::from(other);
                drop((validity(&other), issuer(&other), names(&other)));
            }
        }
        for length in 0..64 {
            assert_eq!(attribute_of(&whole[..length], 3), None);
        }
    }
}
