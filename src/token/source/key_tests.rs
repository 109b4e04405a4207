//! Every kind of key in every form signs what its public key verifies.
//!
//! The keys were made for these tests and open nothing.

use jsonwebtoken::{Algorithm, DecodingKey};

use super::*;

const RSA_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIIEugIBADANBgkqhkiG9w0BAQEFAASCBKQwggSgAgEAAoIBAQDC3XK45SVs3gE2\n\
O+wSG1UrMSLU9YVv/NWBBhgKLi9sfuSaK6s2lZg4FhNiguC+W0H265QBNWA3l7GJ\n\
diNBOtWYG2NU1Huj+Eo2aA2SzefToPQBFUEftwsrNLbwX6W9qAY14x+6y5NSm0wR\n\
QbNO+a6G+B4UuPzdSz9iVUfoO/cx6Rt9yHcwbS3qx9Un+pHBz4f0fZt2uJ8pyWsi\n\
LLwvWnTOk0lXQzm7qUqho1JdU7/Pvsmth4WGqWyujw0wJxn6MfgeaxdDofhzopsL\n\
ewvHRJTewtF2aMlQpr1rn8dturHTR0ICF8trhd8O8nX9lUCFhoIsuTwEsNnnQPre\n\
GTS7ldozAgMBAAECgf8eEQ0iejjME3UcaSKDqLP7dhlpwnhUTy6iOc57w6SNmQas\n\
wxAn2+0gukdDa+5BcNM8xhyQEyxFZ6J9Ez1dUzahwZgR/rcVFbpdqrBtdlfOz4bW\n\
o/Doc9XFVNzlOdzY5pQOvHyo1cBlfpC+GOURynSjXqVFjUV236VoBsCRlK8PhCLT\n\
sccLSu3qctwaeR+McQjM0c3u0ZJPAmbRsuSKUE1sJ2G4xSQTLSFrSrGD1xFW2qBg\n\
z3yZxw+3NJ8tgllDxd7bvqJqoGY8n5u17MsydhFVvgDqPoXqSrP4fZQsK7Ou5bJE\n\
dsq2Z+CEbaFjuBLz6x//lhjyLJw7BNLdFL+Pxf0CgYEA+yGDcrAQYnMBUFSsvuuC\n\
6qlvHZ1LyQ+GZMRADifcI5czsgBo1YJK0nQugHUlF/b/fBZYBWuBeFQKUj5+OUhJ\n\
a5o/6UCasW4qVW/8Tceg2EHVE/pYdfK/ObGkjC+T8LO4NrbErpxbGSdIZ+B3mLjW\n\
qmdP1xLLH2fquFe6XylyEg8CgYEAxqSoy93h09aKZ1LEQN+Z2UwA2jAfCSA38Mtz\n\
aG3aEh27mCVC+krBl/bfBwHjlntHoFbIrgx7KD7dRwq8JjX7HXzw5a0Vbsr+Iwl0\n\
/gR35NICOthus4x4kjpY4rExSivg1mD3/oAdOw/P+9oKctZ1Am/J/QoPfYt2UD+y\n\
XL9dyZ0CgYAFe8LaAzwoWiiCL4ciGBRguVhixid8eWlO0/YuGPK2mDuZvGaNmu21\n\
ULIfPe+UaWFEvVwoqiNGlFcxWon5CDoKLnEMz8tQ6n3kJbDVpfE+J5nWeNXrpWRF\n\
hzp3kSZi0BnKoA0FXwaiMvhixET4Qbj2OZFFufRTeDpo0gmQwF/sQwKBgGh1KCpk\n\
mJ+MPyXMWVV//+hL1lrmWTu0TJZ8dkjhE37ZUc/VMF5sN1eRQ4Ds1mBIncbMPCWC\n\
fLUSMcxs8bnqQw4jqI4usYmch32nOHVnpiCW6wNE0xnp8XF760fyQ+gsIMS7I04a\n\
0sQ/MXDQHRR8f/VzEbXVt4Wec+4JQOMS4t/lAoGAWuJDdE3lWKNWsEpfm1K11eD4\n\
nwjTG+HVaqXBFSh5OTa+DdGRfeKcsm/LVM/xXjtCXGiAuK8Z99KPFEY/NbLcA+oP\n\
SY5ZeGzjz4b6Hu0X+TC2wMLnPDi22jfYvjFHGGSm13Z7+ObFfREnTKMMcOCwau1f\n\
biGINRb1zVlS049av5k=\n\
-----END PRIVATE KEY-----\n";

const RSA_PKCS1: &str = "\
-----BEGIN RSA PRIVATE KEY-----\n\
MIIEoAIBAAKCAQEAwt1yuOUlbN4BNjvsEhtVKzEi1PWFb/zVgQYYCi4vbH7kmiur\n\
NpWYOBYTYoLgvltB9uuUATVgN5exiXYjQTrVmBtjVNR7o/hKNmgNks3n06D0ARVB\n\
H7cLKzS28F+lvagGNeMfusuTUptMEUGzTvmuhvgeFLj83Us/YlVH6Dv3Mekbfch3\n\
MG0t6sfVJ/qRwc+H9H2bdrifKclrIiy8L1p0zpNJV0M5u6lKoaNSXVO/z77JrYeF\n\
hqlsro8NMCcZ+jH4HmsXQ6H4c6KbC3sLx0SU3sLRdmjJUKa9a5/Hbbqx00dCAhfL\n\
a4XfDvJ1/ZVAhYaCLLk8BLDZ50D63hk0u5XaMwIDAQABAoH/HhENIno4zBN1HGki\n\
g6iz+3YZacJ4VE8uojnOe8OkjZkGrMMQJ9vtILpHQ2vuQXDTPMYckBMsRWeifRM9\n\
XVM2ocGYEf63FRW6XaqwbXZXzs+G1qPw6HPVxVTc5Tnc2OaUDrx8qNXAZX6Qvhjl\n\
Ecp0o16lRY1Fdt+laAbAkZSvD4Qi07HHC0rt6nLcGnkfjHEIzNHN7tGSTwJm0bLk\n\
ilBNbCdhuMUkEy0ha0qxg9cRVtqgYM98mccPtzSfLYJZQ8Xe276iaqBmPJ+btezL\n\
MnYRVb4A6j6F6kqz+H2ULCuzruWyRHbKtmfghG2hY7gS8+sf/5YY8iycOwTS3RS/\n\
j8X9AoGBAPshg3KwEGJzAVBUrL7rguqpbx2dS8kPhmTEQA4n3COXM7IAaNWCStJ0\n\
LoB1JRf2/3wWWAVrgXhUClI+fjlISWuaP+lAmrFuKlVv/E3HoNhB1RP6WHXyvzmx\n\
pIwvk/CzuDa2xK6cWxknSGfgd5i41qpnT9cSyx9n6rhXul8pchIPAoGBAMakqMvd\n\
4dPWimdSxEDfmdlMANowHwkgN/DLc2ht2hIdu5glQvpKwZf23wcB45Z7R6BWyK4M\n\
eyg+3UcKvCY1+x188OWtFW7K/iMJdP4Ed+TSAjrYbrOMeJI6WOKxMUor4NZg9/6A\n\
HTsPz/vaCnLWdQJvyf0KD32LdlA/sly/XcmdAoGABXvC2gM8KFoogi+HIhgUYLlY\n\
YsYnfHlpTtP2Lhjytpg7mbxmjZrttVCyHz3vlGlhRL1cKKojRpRXMVqJ+Qg6Ci5x\n\
DM/LUOp95CWw1aXxPieZ1njV66VkRYc6d5EmYtAZyqANBV8GojL4YsRE+EG49jmR\n\
Rbn0U3g6aNIJkMBf7EMCgYBodSgqZJifjD8lzFlVf//oS9Za5lk7tEyWfHZI4RN+\n\
2VHP1TBebDdXkUOA7NZgSJ3GzDwlgny1EjHMbPG56kMOI6iOLrGJnId9pzh1Z6Yg\n\
lusDRNMZ6fFxe+tH8kPoLCDEuyNOGtLEPzFw0B0UfH/1cxG11beFnnPuCUDjEuLf\n\
5QKBgFriQ3RN5VijVrBKX5tStdXg+J8I0xvh1WqlwRUoeTk2vg3RkX3inLJvy1TP\n\
8V47QlxogLivGffSjxRGPzWy3APqD0mOWXhs48+G+h7tF/kwtsDC5zw4tto32L4x\n\
Rxhkptd2e/jmxX0RJ0yjDHDgsGrtX24hiDUW9c1ZUtOPWr+Z\n\
-----END RSA PRIVATE KEY-----\n";

const RSA_JWK: &str = r#"{"kty":"RSA","n":"wt1yuOUlbN4BNjvsEhtVKzEi1PWFb_zVgQYYCi4vbH7kmiurNpWYOBYTYoLgvltB9uuUATVgN5exiXYjQTrVmBtjVNR7o_hKNmgNks3n06D0ARVBH7cLKzS28F-lvagGNeMfusuTUptMEUGzTvmuhvgeFLj83Us_YlVH6Dv3Mekbfch3MG0t6sfVJ_qRwc-H9H2bdrifKclrIiy8L1p0zpNJV0M5u6lKoaNSXVO_z77JrYeFhqlsro8NMCcZ-jH4HmsXQ6H4c6KbC3sLx0SU3sLRdmjJUKa9a5_Hbbqx00dCAhfLa4XfDvJ1_ZVAhYaCLLk8BLDZ50D63hk0u5XaMw","e":"AQAB","d":"HhENIno4zBN1HGkig6iz-3YZacJ4VE8uojnOe8OkjZkGrMMQJ9vtILpHQ2vuQXDTPMYckBMsRWeifRM9XVM2ocGYEf63FRW6XaqwbXZXzs-G1qPw6HPVxVTc5Tnc2OaUDrx8qNXAZX6QvhjlEcp0o16lRY1Fdt-laAbAkZSvD4Qi07HHC0rt6nLcGnkfjHEIzNHN7tGSTwJm0bLkilBNbCdhuMUkEy0ha0qxg9cRVtqgYM98mccPtzSfLYJZQ8Xe276iaqBmPJ-btezLMnYRVb4A6j6F6kqz-H2ULCuzruWyRHbKtmfghG2hY7gS8-sf_5YY8iycOwTS3RS_j8X9","p":"-yGDcrAQYnMBUFSsvuuC6qlvHZ1LyQ-GZMRADifcI5czsgBo1YJK0nQugHUlF_b_fBZYBWuBeFQKUj5-OUhJa5o_6UCasW4qVW_8Tceg2EHVE_pYdfK_ObGkjC-T8LO4NrbErpxbGSdIZ-B3mLjWqmdP1xLLH2fquFe6XylyEg8","q":"xqSoy93h09aKZ1LEQN-Z2UwA2jAfCSA38MtzaG3aEh27mCVC-krBl_bfBwHjlntHoFbIrgx7KD7dRwq8JjX7HXzw5a0Vbsr-Iwl0_gR35NICOthus4x4kjpY4rExSivg1mD3_oAdOw_P-9oKctZ1Am_J_QoPfYt2UD-yXL9dyZ0","dp":"BXvC2gM8KFoogi-HIhgUYLlYYsYnfHlpTtP2Lhjytpg7mbxmjZrttVCyHz3vlGlhRL1cKKojRpRXMVqJ-Qg6Ci5xDM_LUOp95CWw1aXxPieZ1njV66VkRYc6d5EmYtAZyqANBV8GojL4YsRE-EG49jmRRbn0U3g6aNIJkMBf7EM","dq":"aHUoKmSYn4w_JcxZVX__6EvWWuZZO7RMlnx2SOETftlRz9UwXmw3V5FDgOzWYEidxsw8JYJ8tRIxzGzxuepDDiOoji6xiZyHfac4dWemIJbrA0TTGenxcXvrR_JD6CwgxLsjThrSxD8xcNAdFHx_9XMRtdW3hZ5z7glA4xLi3-U","qi":"WuJDdE3lWKNWsEpfm1K11eD4nwjTG-HVaqXBFSh5OTa-DdGRfeKcsm_LVM_xXjtCXGiAuK8Z99KPFEY_NbLcA-oPSY5ZeGzjz4b6Hu0X-TC2wMLnPDi22jfYvjFHGGSm13Z7-ObFfREnTKMMcOCwau1fbiGINRb1zVlS049av5k"}"#;

const RSA_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAwt1yuOUlbN4BNjvsEhtV\n\
KzEi1PWFb/zVgQYYCi4vbH7kmiurNpWYOBYTYoLgvltB9uuUATVgN5exiXYjQTrV\n\
mBtjVNR7o/hKNmgNks3n06D0ARVBH7cLKzS28F+lvagGNeMfusuTUptMEUGzTvmu\n\
hvgeFLj83Us/YlVH6Dv3Mekbfch3MG0t6sfVJ/qRwc+H9H2bdrifKclrIiy8L1p0\n\
zpNJV0M5u6lKoaNSXVO/z77JrYeFhqlsro8NMCcZ+jH4HmsXQ6H4c6KbC3sLx0SU\n\
3sLRdmjJUKa9a5/Hbbqx00dCAhfLa4XfDvJ1/ZVAhYaCLLk8BLDZ50D63hk0u5Xa\n\
MwIDAQAB\n\
-----END PUBLIC KEY-----\n";

const P256_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3J8irUmzE5EzBQ4h\n\
I2Dfzqy0rmbpbhKKGD1wHXg3qoehRANCAAQpDt90yeURlcYSJTGS58sanAqp9Y8A\n\
AYfnWXdqaXth9Esuai/tFUfIBrltfzsqLHVR3flDl0+J5AjrmeV3PaCr\n\
-----END PRIVATE KEY-----\n";

const P256_SEC1: &str = "\
-----BEGIN EC PRIVATE KEY-----\n\
MHcCAQEEINyfIq1JsxORMwUOISNg386stK5m6W4Sihg9cB14N6qHoAoGCCqGSM49\n\
AwEHoUQDQgAEKQ7fdMnlEZXGEiUxkufLGpwKqfWPAAGH51l3aml7YfRLLmov7RVH\n\
yAa5bX87Kix1Ud35Q5dPieQI65nldz2gqw==\n\
-----END EC PRIVATE KEY-----\n";

const P256_JWK: &str = r#"{"kty":"EC","x":"KQ7fdMnlEZXGEiUxkufLGpwKqfWPAAGH51l3aml7YfQ","y":"Sy5qL-0VR8gGuW1_OyosdVHd-UOXT4nkCOuZ5Xc9oKs","crv":"P-256","d":"3J8irUmzE5EzBQ4hI2Dfzqy0rmbpbhKKGD1wHXg3qoc"}"#;

const P256_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEKQ7fdMnlEZXGEiUxkufLGpwKqfWP\n\
AAGH51l3aml7YfRLLmov7RVHyAa5bX87Kix1Ud35Q5dPieQI65nldz2gqw==\n\
-----END PUBLIC KEY-----\n";

const P384_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDAAY2A9kVfK25S6YT3g\n\
iO7aAE1A4lDXOz6+KbBpw/8dehcpUBj6YSrJwQbRm5B/ZtihZANiAASpsNqMJ9md\n\
alW6V34dAz9u9FW3OaA+ZsqUXQVCSS+jWSj9aVgzp404xpp1SPEKMV3c44Omz2Fz\n\
hTpCA+XSB0WSWyKLsWaEZLBgigNptflrt559kRyG1Dp7AwwA2KoVT/s=\n\
-----END PRIVATE KEY-----\n";

const P384_SEC1: &str = "\
-----BEGIN EC PRIVATE KEY-----\n\
MIGkAgEBBDAAY2A9kVfK25S6YT3giO7aAE1A4lDXOz6+KbBpw/8dehcpUBj6YSrJ\n\
wQbRm5B/ZtigBwYFK4EEACKhZANiAASpsNqMJ9mdalW6V34dAz9u9FW3OaA+ZsqU\n\
XQVCSS+jWSj9aVgzp404xpp1SPEKMV3c44Omz2FzhTpCA+XSB0WSWyKLsWaEZLBg\n\
igNptflrt559kRyG1Dp7AwwA2KoVT/s=\n\
-----END EC PRIVATE KEY-----\n";

const P384_JWK: &str = r#"{"kty":"EC","x":"qbDajCfZnWpVuld-HQM_bvRVtzmgPmbKlF0FQkkvo1ko_WlYM6eNOMaadUjxCjFd","y":"3OODps9hc4U6QgPl0gdFklsii7FmhGSwYIoDabX5a7eefZEchtQ6ewMMANiqFU_7","crv":"P-384","d":"AGNgPZFXytuUumE94Iju2gBNQOJQ1zs-vimwacP_HXoXKVAY-mEqycEG0ZuQf2bY"}"#;

const P384_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEqbDajCfZnWpVuld+HQM/bvRVtzmgPmbK\n\
lF0FQkkvo1ko/WlYM6eNOMaadUjxCjFd3OODps9hc4U6QgPl0gdFklsii7FmhGSw\n\
YIoDabX5a7eefZEchtQ6ewMMANiqFU/7\n\
-----END PUBLIC KEY-----\n";

const P521_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIHuAgEAMBAGByqGSM49AgEGBSuBBAAjBIHWMIHTAgEBBEIAD8G12qQu1HAFte3V\n\
x3FLZM8MFK7UnvhSvcCaZrJd4t8jqaekicLmBAyf1sYVw9yczz7OOS01+don/Qfl\n\
ityQZCShgYkDgYYABAA/M9pia1dKiffgFLISn+5BZsY254cJMkNE4HEE2w+v6OoA\n\
Wjb0+/0mUi4opGrF/EAEGkIclW34852BYioaX/7oSwBo0VpNcXeI/052B31f8FHE\n\
wf8u1ZCkbgtbi7Yg099t6SMZfGzJLkNdDHm9bLZgnVaQM8AZUwVhRLg6PmZqc2DF\n\
ug==\n\
-----END PRIVATE KEY-----\n";

const P521_JWK: &str = r#"{"kty":"EC","x":"AD8z2mJrV0qJ9-AUshKf7kFmxjbnhwkyQ0TgcQTbD6_o6gBaNvT7_SZSLiikasX8QAQaQhyVbfjznYFiKhpf_uhL","y":"AGjRWk1xd4j_TnYHfV_wUcTB_y7VkKRuC1uLtiDT323pIxl8bMkuQ10Meb1stmCdVpAzwBlTBWFEuDo-ZmpzYMW6","crv":"P-521","d":"AA_BtdqkLtRwBbXt1cdxS2TPDBSu1J74Ur3AmmayXeLfI6mnpInC5gQMn9bGFcPcnM8-zjktNfnaJ_0H5YrckGQk"}"#;

const ED_PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MC4CAQAwBQYDK2VwBCIEIJHRaoWjXRw5zJdrawSts6IFOh7hSNjHVDIKTSZv8gGq\n\
-----END PRIVATE KEY-----\n";

const ED_JWK: &str = r#"{"crv":"Ed25519","d":"kdFqhaNdHDnMl2trBK2zogU6HuFI2MdUMgpNJm_yAao","x":"6chX5wQQJB48cu9B8mJBEbLvOKenwY-QRwCpf6a4hRo","kty":"OKP"}"#;

const ED_PUBLIC: &str = "\
-----BEGIN PUBLIC KEY-----\n\
MCowBQYDK2VwAyEA6chX5wQQJB48cu9B8mJBEbLvOKenwY+QRwCpf6a4hRo=\n\
-----END PUBLIC KEY-----\n";

fn verifies(key: &str, alg: Alg, public: &DecodingKey, algorithm: Algorithm) -> bool {
    let key = SigningKey::parse(key).unwrap();
    let signature = URL_SAFE_NO_PAD.encode(key.sign(alg, b"message").unwrap());
    jsonwebtoken::crypto::verify(&signature, b"message", public, algorithm).unwrap()
}

#[test]
fn rsa_signs_in_every_form_and_way() {
    let public = DecodingKey::from_rsa_pem(RSA_PUBLIC.as_bytes()).unwrap();
    for key in [RSA_PKCS8, RSA_PKCS1, RSA_JWK] {
        assert_eq!(SigningKey::parse(key).unwrap().default_alg(), Alg::Rs256);
        for (alg, algorithm) in [
            (Alg::Rs256, Algorithm::RS256),
            (Alg::Rs384, Algorithm::RS384),
            (Alg::Rs512, Algorithm::RS512),
            (Alg::Ps256, Algorithm::PS256),
            (Alg::Ps384, Algorithm::PS384),
            (Alg::Ps512, Algorithm::PS512),
        ] {
            assert!(verifies(key, alg, &public, algorithm), "{alg} by {}", &key[..30]);
        }
    }
}

#[test]
fn elliptic_curves_sign_each_in_its_own_way() {
    for (keys, public, alg, algorithm) in [
        ([P256_PKCS8, P256_SEC1, P256_JWK], P256_PUBLIC, Alg::Es256, Algorithm::ES256),
        ([P384_PKCS8, P384_SEC1, P384_JWK], P384_PUBLIC, Alg::Es384, Algorithm::ES384),
    ] {
        let public = DecodingKey::from_ec_pem(public.as_bytes()).unwrap();
        for key in keys {
            assert_eq!(SigningKey::parse(key).unwrap().default_alg(), alg);
            assert!(verifies(key, alg, &public, algorithm), "{alg} by {}", &key[..30]);
        }
    }
    for key in [P521_PKCS8, P521_JWK] {
        let key = SigningKey::parse(key).unwrap();
        assert_eq!(key.default_alg(), Alg::Es512);
        assert_eq!(key.sign(Alg::Es512, b"message").unwrap().len(), 132, "RFC 7518, 3.4");
    }
}

#[test]
fn ed25519_signs() {
    let public = DecodingKey::from_ed_pem(ED_PUBLIC.as_bytes()).unwrap();
    for key in [ED_PKCS8, ED_JWK] {
        assert_eq!(SigningKey::parse(key).unwrap().default_alg(), Alg::EdDsa);
        assert!(verifies(key, Alg::EdDsa, &public, Algorithm::EdDSA));
    }
}

#[test]
fn no_key_is_used_as_if_it_were_of_another_kind() {
    let hmac = || SigningKey::Hmac(Zeroizing::new(b"secret".to_vec()));
    for alg in Alg::ALL {
        let able: Vec<bool> = [
            hmac(),
            SigningKey::parse(RSA_PKCS8).unwrap(),
            SigningKey::parse(P256_PKCS8).unwrap(),
            SigningKey::parse(ED_PKCS8).unwrap(),
        ]
        .iter()
        .map(|key| key.sign(alg, b"message").is_ok())
        .collect();
        let expected = [
            alg.as_str().starts_with("HS"),
            alg.as_str().starts_with("RS") || alg.as_str().starts_with("PS"),
            alg == Alg::Es256,
            alg == Alg::EdDsa,
        ];
        assert_eq!(able, expected, "{alg}");
    }
    assert!(verifies_hmac());
}

fn verifies_hmac() -> bool {
    let signature = SigningKey::Hmac(Zeroizing::new(b"secret".to_vec())).sign(Alg::Hs256, b"message").unwrap();
    let public = DecodingKey::from_secret(b"secret");
    jsonwebtoken::crypto::verify(&URL_SAFE_NO_PAD.encode(signature), b"message", &public, Algorithm::HS256).unwrap()
}

#[test]
fn what_is_no_private_key_is_told_without_showing_it() {
    let public_jwk = P256_JWK.replace("\"d\"", "\"no\"");
    for (text, error) in [
        ("", KeyError::NotAKey),
        ("canary", KeyError::NotAKey),
        (RSA_PUBLIC, KeyError::NotAKey),
        ("{\"kty\":5}", KeyError::NotAKey),
        ("{\"kty\":\"oct\",\"k\":\"canary\"}", KeyError::Kind),
        (&public_jwk, KeyError::Kind),
        (&P256_JWK.replace("P-256", "P-384"), KeyError::Kind),
    ] {
        let told = SigningKey::parse(text).err();
        assert_eq!(told, Some(error), "{text}");
        assert!(!error.to_string().contains("canary"));
    }
}

#[test]
fn a_jwk_says_its_name_and_its_algorithm_and_a_pem_file_says_nothing() {
    let said = OwnWords::of(&RSA_JWK.replacen('{', "{\"kid\":\"k1\",\"alg\":\"PS256\",", 1));
    assert_eq!((said.kid.as_deref(), said.alg()), (Some("k1"), Some(Alg::Ps256)));
    assert_eq!(OwnWords::of("{\"alg\":\"RSA-OAEP\"}").alg(), None);
    assert_eq!(OwnWords::of(RSA_PKCS8), OwnWords::default());
}
