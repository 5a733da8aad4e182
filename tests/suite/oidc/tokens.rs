//! Which tokens let somebody in: good ones, and nothing that only looks like one.

use serde_json::{Value, json};

use super::issuer::{Issuer, Key, base64url, now};
use super::{Guarded, entry, settings, unauthenticated};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_token_lets_in_whatever_its_key() {
    for key in [Key::ed25519(), Key::p256(), Key::rsa()] {
        let issuer = Issuer::start(key).await;
        let guarded = Guarded::start(&settings(&issuer, "")).await;
        guarded.ask(&issuer.token("ann")).await.expect("let in");
        let several = issuer.token_with(|claims| claims["aud"] = json!(["other", super::AUDIENCE]));
        guarded.ask(&several).await.expect("let in");
        let unnamed = issuer.key.token(&json!({"alg": issuer.key.algorithm()}), &issuer.claims("ann"));
        guarded.ask(&unnamed).await.expect("there is only one key it can mean");
        guarded.stop().await;
    }
}

/// What each claim is held against. After each refusal a good token shows that the server is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_token_claims_is_held_against_the_settings() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let guarded = Guarded::start(&settings(&issuer, "leeway_seconds: 30")).await;
    let without = |member: &'static str| {
        issuer.token_with(|claims| {
            claims.as_object_mut().expect("an object").remove(member);
        })
    };
    let with = |member: &str, value: Value| issuer.token_with(|claims| claims[member] = value);
    let cases = [
        (with("aud", json!("other")), "another audience"),
        (with("aud", json!([])), "another audience"),
        (without("aud"), "another audience"),
        (with("exp", json!(now() - 60)), "expired"),
        (without("exp"), "when it expires"),
        (with("nbf", json!(now() + 120)), "not valid yet"),
        (with("iat", json!(now() + 120)), "in the future"),
        (without("sub"), "no subject"),
        (with("sub", json!("")), "no subject"),
        // Whoever cannot sign for the issuer is told nothing.
        (with("iss", json!("https://other.example")), "not known to this server"),
        (with("iss", json!(format!("{}/", issuer.url))), "not known to this server"),
        (without("iss"), "not known to this server"),
        (with("iss", json!([issuer.url])), "not known to this server"),
    ];
    for (token, expected) in cases {
        let message = unauthenticated(guarded.ask(&token).await, expected);
        assert!(message.contains(expected), "`{expected}` is not in `{message}`");
        guarded.ask(&issuer.token("ann")).await.expect("a good token is still taken");
    }
    // Within the leeway.
    guarded.ask(&with("exp", json!(now() - 5))).await.expect("let in");
    guarded.stop().await;
}

/// The ways in which such tokens are forged (RFC 8725 §2).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_token_lets_nobody_in() {
    let issuer = Issuer::start(Key::rsa()).await;
    let guarded = Guarded::start(&settings(&issuer, "")).await;
    let (good, claims) = (issuer.token("ann"), issuer.claims("mallory"));
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>().try_into().expect("three parts");
    let forged = base64url(claims.to_string());
    let unsigned =
        |header: Value, signature: &str| format!("{}.{forged}.{signature}", base64url(header.to_string()));

    // The public key of the issuer as the secret of a symmetric algorithm, in each form of it.
    let published = issuer.key.public("first");
    let modulus = base64::Engine::decode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        published["n"].as_str().expect("a modulus"),
    );
    let secrets = [
        modulus.expect("base64url"),
        published.to_string().into_bytes(),
        published["n"].to_string().into_bytes(),
    ];
    let symmetric = secrets.map(|secret| {
        let header = json!({"alg": "HS256", "kid": "first", "typ": "JWT"});
        let signed = format!("{}.{forged}", base64url(header.to_string()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
        format!("{signed}.{}", base64url(ring::hmac::sign(&key, signed.as_bytes())))
    });

    let own = Key::ed25519();
    let own_public = own.public("first");
    let mut bent = good.clone().into_bytes();
    let at = bent.len() - 10;
    bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
    let mut forgeries = vec![
        ("without a signature", unsigned(json!({"alg": "none"}), "")),
        (
            "with the algorithm none and a signature",
            unsigned(json!({"alg": "none", "kid": "first"}), signature),
        ),
        ("with the algorithm nOnE", unsigned(json!({"alg": "nOnE", "kid": "first"}), signature)),
        ("with another's signature", format!("{header}.{forged}.{signature}")),
        ("with an empty signature", format!("{header}.{payload}.")),
        ("with a bent signature", String::from_utf8(bent).expect("ASCII")),
        ("of a key of the forger's own", own.token(&json!({"alg": "EdDSA", "kid": "first"}), &claims)),
        (
            "that brings its own key along",
            own.token(&json!({"alg": "EdDSA", "kid": "first", "jwk": own_public}), &claims),
        ),
        (
            "that says where its key is",
            own.token(&json!({"alg": "EdDSA", "kid": "first", "jku": "https://evil.example/keys"}), &claims),
        ),
        (
            "by an algorithm that the key is not for",
            issuer.key.token(&json!({"alg": "PS256", "kid": "first"}), &claims),
        ),
        (
            "with a header extension",
            issuer.key.token(&json!({"alg": "RS256", "kid": "first", "crit": ["x"]}), &claims),
        ),
        (
            "that announces a logout",
            issuer.key.token(&json!({"alg": "RS256", "kid": "first", "typ": "logout+jwt"}), &claims),
        ),
        ("in four parts", format!("{good}.{signature}")),
        ("in two parts", format!("{header}.{payload}")),
        ("with spaces", good.replacen('.', " .", 1)),
        ("with padding", format!("{good}=")),
        ("as long as a header may be", format!("{header}.{}.{signature}", "e".repeat(7_000))),
        ("longer than any", format!("{header}.{}.{signature}", "e".repeat(9_000))),
    ];
    forgeries.extend(symmetric.map(|token| ("signed with the public key as a secret", token)));
    for (what, token) in forgeries {
        let message = unauthenticated(guarded.ask(&token).await, what);
        assert!(message.contains("not known to this server"), "a token {what}: {message}");
    }
    guarded.ask(&good).await.expect("the good token is still taken");
    guarded.stop().await;
}

/// Each of two issuers speaks for itself only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_does_not_sign_for_another() {
    let (first, second) = (Issuer::start(Key::ed25519()).await, Issuer::start(Key::ed25519()).await);
    let guarded = Guarded::start(&format!("issuers:\n{}{}", entry(&first, ""), entry(&second, ""))).await;
    guarded.ask(&first.token("ann")).await.expect("let in");
    guarded.ask(&second.token("ann")).await.expect("let in");
    let mixed = second.key.token(&first.header(), &first.claims("ann"));
    unauthenticated(guarded.ask(&mixed).await, "the claims of one and the key of the other");
    let mixed = first.key.token(&second.header(), &second.claims("ann"));
    unauthenticated(guarded.ask(&mixed).await, "the claims of one and the key of the other");
    guarded.stop().await;
}

/// An algorithm that the settings leave out is not taken, though the key could do it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn algorithms_can_be_narrowed() {
    let issuer = Issuer::start(Key::p256()).await;
    let guarded = Guarded::start(&settings(&issuer, "algorithms: [EdDSA, RS256]")).await;
    unauthenticated(guarded.ask(&issuer.token("ann")).await, "ES256");
    guarded.stop().await;
    let guarded = Guarded::start(&settings(&issuer, "algorithms: [ES256]")).await;
    guarded.ask(&issuer.token("ann")).await.expect("let in");
    guarded.stop().await;
}

/// A token is refused from its end on, though it was taken a moment before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_was_taken_ends_all_the_same() {
    let issuer = Issuer::start(Key::ed25519()).await;
    let guarded = Guarded::start(&settings(&issuer, "leeway_seconds: 0")).await;
    let brief = issuer.token_with(|claims| claims["exp"] = json!(now() + 3));
    guarded.ask(&brief).await.expect("let in");
    guarded.becomes(&brief, tonic::Code::Unauthenticated).await;
    assert!(now() >= issuer_end(&brief), "not before its end");
    guarded.stop().await;
}

fn issuer_end(token: &str) -> u64 {
    let payload = token.split('.').nth(1).expect("a part");
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload)
        .expect("base64url");
    serde_json::from_slice::<Value>(&bytes).expect("JSON")["exp"].as_u64().expect("a number")
}
