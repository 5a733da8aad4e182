//! Reaches a server: TCP, TLS where it is asked for, and what went wrong on the way.
//!
//! By the time an error reaches whoever made a call, libraries have reduced it to "connection
//! closed". What TLS said is therefore remembered where it is heard.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tonic::transport::Channel;
use tower::Service;

/// How an alert of TLS begins: its kind, and the first half of every version.
const ALERT: [u8; 2] = [0x15, 3];

/// What ended a connection.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// TLS failed, here or on the other side.
    Tls(rustls::Error),
    /// The server answered plain text with TLS.
    SpeaksTls,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => error.fmt(f),
            Self::SpeaksTls => f.write_str("the server speaks TLS"),
        }
    }
}

impl Error for Trouble {}

/// The trouble that the connections of a channel met, the first one of each connection.
#[derive(Debug, Clone, Default)]
pub struct Seen(Arc<Mutex<Option<Trouble>>>);

impl Seen {
    fn put(&self, trouble: Trouble) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    fn take(&self) -> Option<Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Opens connections to one server.
#[derive(Clone)]
pub struct Dialer {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    seen: Seen,
}

impl Dialer {
    /// Reaches a server in plain text.
    pub fn plain(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, tls: None, seen: Seen::default() }
    }

    /// Reaches a server over TLS, and expects this name of it.
    pub fn tls(host: &str, port: u16, config: ClientConfig, name: ServerName<'static>) -> Self {
        let tls = Some((TlsConnector::from(Arc::new(config)), name));
        Self { tls, ..Self::plain(host, port) }
    }

    /// What its connections meet.
    pub fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// Opens a connection.
    pub async fn dial(self) -> io::Result<Link> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let wire = match self.tls {
            None => Wire::Plain(stream),
            Some((connector, name)) => Wire::Tls(Box::new(connector.connect(name, stream).await?)),
        };
        Ok(Link { wire, silent: true, seen: self.seen })
    }
}

/// An open connection.
pub struct Link {
    wire: Wire,
    /// Whether the server has said nothing yet.
    silent: bool,
    seen: Seen,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The error of TLS inside one of input and output.
pub fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = ready!(match &mut this.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        });
        match &outcome {
            Ok(()) => {
                let heard = buffer.filled().get(before..).unwrap_or_default();
                if std::mem::take(&mut this.silent) && heard.starts_with(&ALERT) {
                    this.seen.put(Trouble::SpeaksTls);
                }
            }
            Err(error) => {
                if let Some(error) = tls_error(error) {
                    this.seen.put(Trouble::Tls(error.clone()));
                }
            }
        }
        Poll::Ready(outcome)
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// A channel whose errors say what its connections met.
#[derive(Clone)]
pub struct Explained {
    channel: Channel,
    seen: Seen,
}

impl Explained {
    /// A channel over a dialer's connections.
    pub fn new(channel: Channel, seen: Seen) -> Self {
        Self { channel, seen }
    }
}

impl Service<http::Request<Body>> for Explained {
    type Response = http::Response<Body>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (answer, seen) = (self.channel.call(request), self.seen.clone());
        Box::pin(async move {
            answer.await.map_err(|error| match seen.take() {
                Some(trouble) => trouble.into(),
                None => error.into(),
            })
        })
    }
}
