//! A connection to a server: its address, the token on every call, the deadline.

use std::error::Error as _;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::exit::{Exit, Failure};
use super::settings::{DEFAULT_ENDPOINT, Settings};
use crate::proto::permission_service_client::PermissionServiceClient;
use crate::proto::schema_service_client::SchemaServiceClient;
use crate::proto::store_service_client::StoreServiceClient;
use crate::proto::tuple_service_client::TupleServiceClient;

/// Largest message taken from a server, in bytes: answers are the server's to bound.
const MAX_MESSAGE_BYTES: usize = 256 << 20;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel that presents the token.
pub type Service = InterceptedService<Channel, Bearer>;

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
        let endpoint = endpoint(&settings.endpoint)?;
        let token = match &settings.token {
            None => None,
            Some(token) => {
                let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose()))
                    .map_err(|_| Failure::bad_input("the token holds characters that cannot be sent"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let channel =
            endpoint.connect().await.map_err(|error| unreachable_server(&settings.endpoint, &error))?;
        Ok(Self {
            service: InterceptedService::new(channel, Bearer(token)),
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

    /// Stores.
    pub fn stores(&self) -> StoreServiceClient<Service> {
        StoreServiceClient::new(self.service.clone())
    }
}

fn endpoint(text: &str) -> Result<Endpoint, Failure> {
    if text.starts_with("https://") {
        return Err(Failure::bad_input(format!("`{text}`: this build speaks plain HTTP/2 only")).advise(
            "connect to a proxy on this machine that ends TLS, and name it with --endpoint http://…",
        ));
    }
    let advice = format!("write it like {DEFAULT_ENDPOINT}");
    if !text.starts_with("http://") {
        return Err(Failure::bad_input(format!("`{text}` is not the address of a server")).advise(advice));
    }
    let endpoint = Endpoint::from_shared(text.to_owned())
        .map_err(|_| Failure::bad_input(format!("`{text}` is not the address of a server")).advise(advice))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_adaptive_window(true)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .user_agent(concat!("relata-cli/", env!("CARGO_PKG_VERSION")))
        .unwrap_or_else(|_| Endpoint::from_static(DEFAULT_ENDPOINT)))
}

fn unreachable_server(endpoint: &str, error: &tonic::transport::Error) -> Failure {
    // The outer errors say that connecting failed; the innermost says why.
    let mut cause = error.source();
    let mut why = String::new();
    while let Some(inner) = cause {
        why = inner.to_string();
        cause = inner.source();
    }
    Failure::new(Exit::Unavailable, format!("no server answers at {endpoint}: {why}"))
        .advise("start one with `relata serve`, or name another with --endpoint")
}
