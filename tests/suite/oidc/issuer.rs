//! An issuer of a test: signs tokens, and serves discovery and keys over HTTP as real ones do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub const AUDIENCE: &str = "relata-test";

/// A key that signs.
pub enum Key {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    pub fn ed25519() -> Self {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(der.as_ref()).expect("a key"))
    }

    pub fn p256() -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        Self::P256(EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).expect("a key"))
    }

    /// Always the same one: making them takes too long.
    pub fn rsa() -> Self {
        let pem = include_bytes!("../transport/keys/rsa-pkcs8.key");
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).expect("PEM");
        Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).expect("a key")))
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa(_) => "RS256",
        }
    }

    /// As a key set has it.
    pub fn public(&self, id: &str) -> Value {
        match self {
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key()), "kid": id, "use": "sig"})
            }
            Self::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y), "kid": id})
            }
            Self::Rsa(pair) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                let (n, e) = (base64url(public.n), base64url(public.e));
                json!({"kty": "RSA", "n": n, "e": e, "kid": id, "alg": "RS256", "use": "sig"})
            }
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::P256(pair) => pair.sign(&SystemRandom::new(), message).expect("signed").as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).expect("signed");
                signature
            }
        }
    }

    /// A token with this header and these claims.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = base64url(self.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// How an issuer answers.
#[derive(Clone)]
pub enum Mood {
    Good,
    /// Discovery and keys take this long.
    Slow(Duration),
    /// With this status, and `Location` for a redirect.
    Status(u16, String),
    /// The key set does not end for a while.
    Endless,
    /// Discovery says this.
    Discovery(Value),
    /// The key set is this text.
    Keys(&'static str),
}

/// A running issuer. It ends with the test.
pub struct Issuer {
    pub url: String,
    pub key: Key,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

struct State {
    url: String,
    path: String,
    keys: Mutex<Vec<Value>>,
    mood: Mutex<Mood>,
    /// How often the key set was asked for.
    asked: AtomicUsize,
}

impl Issuer {
    /// An issuer with one key, called `first`.
    pub async fn start(key: Key) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(key, any, "/realms/test").await
    }

    pub async fn start_at(key: Key, address: SocketAddr, path: &str) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.expect("a port");
        let url = format!("http://{}{path}", listener.local_addr().expect("an address"));
        let state = Arc::new(State {
            url: url.clone(),
            path: path.to_owned(),
            keys: Mutex::new(vec![key.public("first")]),
            mood: Mutex::new(Mood::Good),
            asked: AtomicUsize::new(0),
        });
        let answering = Arc::clone(&state);
        let router = Router::new().fallback(move |uri: Uri| answer(Arc::clone(&answering), uri));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        Self { url, key, state, serving }
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.state.mood.lock().expect("no panic") = mood;
    }

    pub fn publish(&self, keys: Vec<Value>) {
        *self.state.keys.lock().expect("no panic") = keys;
    }

    /// How often the key set was asked for.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }

    /// Goes away; its address can be used again.
    pub async fn stop(self) -> (Key, SocketAddr) {
        self.serving.abort();
        let _ = self.serving.await;
        let address = self.url.trim_start_matches("http://").split('/').next().expect("an address");
        (self.key, address.parse().expect("an address"))
    }

    /// Claims of a good token.
    pub fn claims(&self, subject: &str) -> Value {
        json!({
            "iss": self.url, "aud": AUDIENCE, "sub": subject,
            "exp": now() + 300, "iat": now(), "nbf": now() - 1, "groups": ["readers"],
        })
    }

    pub fn header(&self) -> Value {
        json!({"alg": self.key.algorithm(), "kid": "first", "typ": "JWT"})
    }

    /// A good token.
    pub fn token(&self, subject: &str) -> String {
        self.key.token(&self.header(), &self.claims(subject))
    }

    /// A token like a good one, except for what `adapt` does to its claims.
    pub fn token_with(&self, adapt: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims("ann");
        adapt(&mut claims);
        self.key.token(&self.header(), &claims)
    }
}

async fn answer(state: Arc<State>, uri: Uri) -> Response<Body> {
    let mood = state.mood.lock().expect("no panic").clone();
    let path = &state.path;
    let keys = match uri.path() {
        known if known == format!("{path}/.well-known/openid-configuration") => false,
        known if known == format!("{path}/keys") => true,
        _ => return respond(StatusCode::NOT_FOUND, "not here".into()),
    };
    if keys {
        state.asked.fetch_add(1, Ordering::Relaxed);
    }
    let discovery = json!({"issuer": state.url, "jwks_uri": format!("{}/keys", state.url), "other": [1, 2]});
    let published = || json!({ "keys": *state.keys.lock().expect("no panic") }).to_string();
    match (mood, keys) {
        (Mood::Slow(pause), _) => {
            tokio::time::sleep(pause).await;
            respond(StatusCode::OK, if keys { published() } else { discovery.to_string() }.into())
        }
        (Mood::Status(status, location), _) => {
            let mut response = respond(StatusCode::from_u16(status).expect("a status"), "no".into());
            response.headers_mut().insert("location", location.parse().expect("a header"));
            response
        }
        (Mood::Endless, true) => {
            let chunk = Bytes::from(vec![b' '; 64 << 10]);
            let chunks = tokio_stream::iter((0..1_000).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
            respond(StatusCode::OK, Body::from_stream(chunks))
        }
        (Mood::Discovery(text), false) => respond(StatusCode::OK, text.to_string().into()),
        (Mood::Keys(text), true) => respond(StatusCode::OK, text.into()),
        (_, true) => respond(StatusCode::OK, published().into()),
        (_, false) => respond(StatusCode::OK, discovery.to_string().into()),
    }
}

fn respond(status: StatusCode, body: Body) -> Response<Body> {
    Response::builder().status(status).body(body).expect("a response")
}
