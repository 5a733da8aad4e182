//! A connection to a server: its address, the token on every call, the deadline.

use std::net::IpAddr;
use std::sync::Once;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::body::Body;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use tonic_health::pb::health_client::HealthClient;
use tower::util::MapResponse;

use super::dial::{Dialer, Explained, Seen};
use super::exit::Failure;
use super::output::remark;
use super::settings::{DEFAULT_ENDPOINT, Settings};
use super::transport;
use crate::proto::key_service_client::KeyServiceClient;
use crate::proto::permission_service_client::PermissionServiceClient;
use crate::proto::schema_service_client::SchemaServiceClient;
use crate::proto::store_service_client::StoreServiceClient;
use crate::proto::tuple_service_client::TupleServiceClient;
use crate::server::{Inside, STALENESS};

/// Largest message taken from a server, in bytes: answers are the server's to bound.
const MAX_MESSAGE_BYTES: usize = 256 << 20;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel that presents the token, and warns of answers that may be old.
pub type Service = InterceptedService<MapResponse<Explained, fn(Answer) -> Answer>, Bearer>;

type Answer = http::Response<Body>;

fn service(channel: Explained, bearer: Bearer) -> Service {
    InterceptedService::new(MapResponse::new(channel, warn_of_age as fn(Answer) -> Answer), bearer)
}

/// Says once what the server says with each answer.
fn warn_of_age(answer: Answer) -> Answer {
    static WARNED: Once = Once::new();
    let age = answer.headers().get(STALENESS).and_then(|age| age.to_str().ok()?.parse().ok());
    if let Some(age) = age.map(Duration::from_millis) {
        let seconds = age.as_secs_f64();
        WARNED.call_once(|| {
            remark(format_args!(
                "warning: the server has not reached its database for {seconds:.1} s; answers may be as old"
            ));
        });
    }
    answer
}

/// Adds the token to every call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A connection to the server of the settings.
#[derive(Clone)]
pub struct Connection {
    service: Service,
    /// The store that requests name.
    pub store: String,
    timeout: Duration,
}

impl Connection {
    /// Connects, or says why not.
    pub async fn open(settings: &Settings) -> Result<Self, Failure> {
        let (endpoint, dialer) = endpoint(settings)?;
        let token = match &settings.token {
            None => None,
            Some(token) => {
                let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose()))
                    .map_err(|_| Failure::bad_input("the token holds characters that cannot be sent"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let seen = dialer.seen();
        let connector = tower::service_fn(move |_| {
            let dialer = dialer.clone();
            async move { dialer.dial().await.map(TokioIo::new) }
        });
        let channel = endpoint.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| transport::unreachable_server(&settings.endpoint, &error))?;
        Ok(Self {
            service: service(Explained::new(channel, seen), Bearer(token)),
            store: settings.store.clone(),
            timeout: settings.timeout,
        })
    }

    /// Connects to the server that runs in this process.
    pub async fn inside(inside: &Inside, settings: &Settings) -> Result<Self, Failure> {
        let inside = inside.clone();
        let connector = tower::service_fn(move |_| {
            let inside = inside.clone();
            async move { inside.connect().await.map(TokioIo::new) }
        });
        // The address is shown to nobody and leads nowhere.
        let channel = Endpoint::from_static("http://inside").connect_with_connector(connector).await;
        let channel = channel.map_err(|error| transport::unreachable_server("this process", &error))?;
        Ok(Self {
            service: service(Explained::new(channel, Seen::default()), Bearer(None)),
            store: settings.store.clone(),
            timeout: settings.timeout,
        })
    }

    /// A request with the deadline, for a call that answers once.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// Checks, expansions and lists.
    pub fn permissions(&self) -> PermissionServiceClient<Service> {
        PermissionServiceClient::new(self.service.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Tuples.
    pub fn tuples(&self) -> TupleServiceClient<Service> {
        TupleServiceClient::new(self.service.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Schemas.
    pub fn schemas(&self) -> SchemaServiceClient<Service> {
        SchemaServiceClient::new(self.service.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// API keys.
    pub fn keys(&self) -> KeyServiceClient<Service> {
        KeyServiceClient::new(self.service.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Whether the server serves.
    pub fn health(&self) -> HealthClient<Service> {
        HealthClient::new(self.service.clone())
    }

    /// Stores.
    pub fn stores(&self) -> StoreServiceClient<Service> {
        StoreServiceClient::new(self.service.clone())
    }
}

/// The address as the transport takes it, and what reaches it: with TLS where it begins with
/// `https://`.
fn endpoint(settings: &Settings) -> Result<(Endpoint, Dialer), Failure> {
    let text = &settings.endpoint;
    let wrong = || {
        Failure::bad_input(format!("`{text}` is not the address of a server"))
            .advise(format!("write it like {DEFAULT_ENDPOINT} or https://relata.example.com:8081"))
    };
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let authority = uri.authority().filter(|authority| !authority.host().is_empty()).ok_or_else(wrong)?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16();
    let dialer = match uri.scheme_str() {
        Some("http") => {
            guard_token(settings, host)?;
            Dialer::plain(host, port.unwrap_or(80))
        }
        Some("https") => {
            Dialer::tls(host, port.unwrap_or(443), settings.tls.config()?, settings.tls.name(host)?)
        }
        Some(_) | None => return Err(wrong()),
    };
    // The dialer sees to TLS; the transport must not do so once more.
    let plain = Endpoint::from_shared(format!("http://{authority}")).map_err(|_| wrong())?;
    let endpoint = plain
        .origin(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .user_agent(concat!("relata-cli/", env!("CARGO_PKG_VERSION")))
        .map_err(|_| wrong())?;
    Ok((endpoint, dialer))
}

/// Refuses to send a token where others can read it on its way.
fn guard_token(settings: &Settings, host: &str) -> Result<(), Failure> {
    if settings.token.is_none() || settings.tls.insecure_token || is_loopback(host) {
        return Ok(());
    }
    Err(Failure::usage(format!("the token would go to {} in plain text", settings.endpoint)).advise(
        "use https://, or allow it with --insecure-token where the network itself is guarded, as in a mesh",
    ))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tls::ClientTls;

    /// Any will do; not every machine has some of its own.
    const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/transport/keys/ec-sec1.pem");

    #[test]
    fn a_token_leaves_the_machine_encrypted_only() {
        let check = |endpoint: &str, allowed: bool, expected: bool| {
            let settings = Settings {
                endpoint: endpoint.to_owned(),
                token: Some("secret-0123456789".into()),
                tls: ClientTls {
                    insecure_token: allowed,
                    authorities: Some(AUTHORITY.into()),
                    ..ClientTls::default()
                },
                store: String::new(),
                timeout: Duration::from_secs(1),
            };
            assert_eq!(super::endpoint(&settings).is_ok(), expected, "{endpoint}");
            assert!(super::endpoint(&Settings { token: None, ..settings }).is_ok(), "{endpoint}");
        };
        for here in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "http://127.8.8.8:1"] {
            check(here, false, true);
        }
        for there in ["http://relata:1", "http://10.0.0.1:1", "http://localhost.example:1", "http://[::2]:1"]
        {
            check(there, false, false);
            check(there, true, true);
        }
        check("https://relata:1", false, true);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in ["", "relata:8081", "ftp://relata", "http://", "grpc://relata:8081", "http://a b"] {
            let settings = Settings {
                endpoint: wrong.to_owned(),
                token: None,
                tls: ClientTls::default(),
                store: String::new(),
                timeout: Duration::from_secs(1),
            };
            assert!(endpoint(&settings).is_err(), "{wrong}");
        }
    }
}
