//! Signature algorithms (RFC 7518 §3.1, RFC 8037), verified by *ring*.
//!
//! Symmetric ones and `none` do not exist here: there is no value for them, so no path can let
//! them through.

use std::fmt;
use std::str::FromStr;

use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey,
};

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// With SHA-384.
    Rs384,
    /// With SHA-512.
    Rs512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// With SHA-384.
    Ps384,
    /// With SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

/// The key that a signature is verified with.
#[derive(Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// A point of P-256, uncompressed.
    P256(Vec<u8>),
    /// A point of P-384, uncompressed.
    P384(Vec<u8>),
    /// 32 bytes.
    Ed25519(Vec<u8>),
}

/// A name that is no algorithm, or not one that can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an algorithm that is taken: use RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA"
)]
pub struct UnknownAlgorithm(pub String);

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The name in a token's header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether a key is of the kind that this algorithm takes.
    #[must_use]
    pub const fn fits(self, key: &PublicKey) -> bool {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => {
                matches!(key, PublicKey::Rsa { .. })
            }
            Self::Es256 => matches!(key, PublicKey::P256(_)),
            Self::Es384 => matches!(key, PublicKey::P384(_)),
            Self::EdDsa => matches!(key, PublicKey::Ed25519(_)),
        }
    }

    /// Whether `signature` is one of `message` under `key`; never, if the key is of another kind.
    #[must_use]
    pub fn verifies(self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let rsa = |parameters: &'static RsaParameters| match key {
            PublicKey::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            PublicKey::P256(_) | PublicKey::P384(_) | PublicKey::Ed25519(_) => false,
        };
        match self {
            Self::Rs256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => rsa(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => rsa(&RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => rsa(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => rsa(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => rsa(&RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::EdDsa => match (self, key) {
                (Self::Es256, PublicKey::P256(point)) => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
                }
                (Self::Es384, PublicKey::P384(point)) => {
                    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature).is_ok()
                }
                (Self::EdDsa, PublicKey::Ed25519(bytes)) => {
                    UnparsedPublicKey::new(&ED25519, bytes).verify(message, signature).is_ok()
                }
                _ => false,
            },
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Names are compared as RFC 7515 §4.1.1 says: byte by byte.
    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.as_str() == text)
            .ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    };
    use rustls_pki_types::PrivatePkcs8KeyDer;
    use rustls_pki_types::pem::PemObject as _;

    const MESSAGE: &[u8] = b"signed";
    const RSA: &[u8] =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/transport/keys/rsa-pkcs8.key"));

    #[test]
    fn names_are_read_as_they_are_written() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.as_str().parse(), Ok(algorithm));
        }
        for wrong in ["none", "None", "HS256", "HS384", "HS512", "rs256", "ES256K", "ES512", "", "RS256 "] {
            assert_eq!(wrong.parse::<Algorithm>(), Err(UnknownAlgorithm(wrong.into())));
        }
    }

    /// A key for each algorithm, and its signature of the message.
    fn signed() -> Vec<(Algorithm, PublicKey, Vec<u8>)> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let der = PrivatePkcs8KeyDer::from_pem_slice(RSA).expect("PEM");
            let pair = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("a key");
            let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(encoding, &random, MESSAGE, &mut signature).expect("signed");
            (PublicKey::Rsa { n: public.n, e: public.e }, signature)
        };
        let ec = |algorithm: &'static EcdsaSigningAlgorithm| {
            let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).expect("a key");
            let signature = pair.sign(&random, MESSAGE).expect("signed").as_ref().to_vec();
            (pair.public_key().as_ref().to_vec(), signature)
        };
        let ed = {
            let der = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
            let pair = Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a key");
            (PublicKey::Ed25519(pair.public_key().as_ref().to_vec()), pair.sign(MESSAGE).as_ref().to_vec())
        };
        let (p256, es256) = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
        let (p384, es384) = ec(&ECDSA_P384_SHA384_FIXED_SIGNING);
        let pairs = [
            rsa(&RSA_PKCS1_SHA256),
            rsa(&RSA_PKCS1_SHA384),
            rsa(&RSA_PKCS1_SHA512),
            rsa(&RSA_PSS_SHA256),
            rsa(&RSA_PSS_SHA384),
            rsa(&RSA_PSS_SHA512),
            (PublicKey::P256(p256), es256),
            (PublicKey::P384(p384), es384),
            ed,
        ];
        Algorithm::ALL
            .into_iter()
            .zip(pairs)
            .map(|(algorithm, (key, signature))| (algorithm, key, signature))
            .collect()
    }

    /// Each signature holds under its own algorithm and key, and under nothing else.
    #[test]
    fn no_algorithm_stands_for_another() {
        let signed = signed();
        assert_eq!(signed.len(), 9);
        for (at, (algorithm, key, signature)) in signed.iter().enumerate() {
            assert!(algorithm.verifies(key, MESSAGE, signature), "{algorithm}");
            assert!(algorithm.fits(key));
            assert!(!algorithm.verifies(key, b"Signed", signature), "{algorithm}");
            assert!(!algorithm.verifies(key, MESSAGE, b""), "{algorithm}");
            for byte in [0, signature.len() / 2, signature.len() - 1] {
                let mut bent = signature.clone();
                bent[byte] ^= 1;
                assert!(!algorithm.verifies(key, MESSAGE, &bent), "{algorithm} with byte {byte} bent");
            }
            for (other_at, (other, other_key, _)) in signed.iter().enumerate() {
                if at != other_at {
                    assert!(!other.verifies(key, MESSAGE, signature), "{algorithm} as {other}");
                    assert!(!other.verifies(other_key, MESSAGE, signature), "{algorithm} as {other}");
                }
            }
        }
    }

    /// The examples of RFC 7515 appendices A.2 and A.3, and of RFC 8037 appendix A.4.
    #[test]
    fn published_examples_hold() {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url");
        let check = |algorithm: Algorithm, key: PublicKey, token: &str| {
            let (signed, signature) = token.rsplit_once('.').expect("a token");
            assert!(algorithm.verifies(&key, signed.as_bytes(), &bytes(signature)), "{algorithm}");
        };
        let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
        check(
            Algorithm::Rs256,
            PublicKey::Rsa { n: bytes(n), e: bytes("AQAB") },
            "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        );
        let point = [
            &[4][..],
            &bytes("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
            &bytes("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
        ];
        check(
            Algorithm::Es256,
            PublicKey::P256(point.concat()),
            "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        );
        check(
            Algorithm::EdDsa,
            PublicKey::Ed25519(bytes("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        );
    }
}
