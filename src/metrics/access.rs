//! Who was let in, and whether the keys to it are in order.

use super::declare::{Counter, Gauge, families};
use super::label::{By, Outcome, labels};

labels! {
    /// How a caller was known.
    "credential": Credential {
        /// By nothing: the server asks for nothing, or the method needs nothing.
        Open = "open",
        /// By a token of the token file.
        Token = "token",
        /// By an API key.
        Key = "key",
        /// By an issuer's signed token.
        Oidc = "oidc",
        /// By a client certificate.
        Certificate = "certificate",
        /// Not at all; the call was refused.
        Refused = "refused",
    }
}

families! {
    /// Who was let in, and whether the keys to it are in order.
    Access in "relata_" {
        /// Connections open now, those that shake hands included.
        connections: Gauge,
        /// Connections closed as they came, because as many as are allowed were open.
        connections_refused: Counter,
        /// Connections closed because no call with a credential that is taken came over them.
        connections_of_strangers: Counter,
        /// Calls, by how their caller was known.
        authentications: By<Credential, Counter>,
        /// TLS handshakes.
        tls_handshakes: By<Outcome, Counter>,
        /// Reloads of the certificate and its key.
        tls_reloads: By<Outcome, Counter>,
        /// When the server's certificate expires, in seconds since 1970; zero without TLS.
        tls_certificate_expiry_timestamp_seconds: Gauge,
        /// Fetches of the keys of issuers.
        oidc_key_fetches: By<Outcome, Counter>,
        /// Keys of issuers held.
        oidc_keys: Gauge,
    }
}
