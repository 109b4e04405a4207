//! DER of a peer's certificate → when it holds, whom it names and who signed it. What is cut off is none.

#![no_main]

use bearerd::tls::certificate::{issuer, names, validity};
use libfuzzer_sys::fuzz_target;
use rustls::pki_types::CertificateDer;

fuzz_target!(|der: &[u8]| {
    let certificate = CertificateDer::from(der);
    let read = (validity(&certificate).is_some(), names(&certificate), issuer(&certificate));
    for name in &read.1 {
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
    }
    let is_one = read.0 || !read.1.is_empty() || read.2.is_some();
    if let Some((_, cut)) = der.split_last().filter(|_| is_one) {
        let cut = CertificateDer::from(cut);
        assert_eq!((validity(&cut), issuer(&cut)), (None, None));
        assert!(names(&cut).is_empty());
    }
});
