//! One open connection: bytes, who is at the other end, and when it has been open too long without
//! anybody known at the other end.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::accept::Slot;
use super::admission::Account;
use super::tls::{ClientCertificate, Vouched};

/// What every HTTP/2 connection of a client begins with (RFC 9113 §3.4), in bytes.
const PREFACE_BYTES: usize = 24;

/// What the calls of one connection have shown of who is at the other end.
#[derive(Debug, Default)]
pub struct Standing {
    known: AtomicBool,
    account: Arc<Account>,
}

impl Standing {
    /// Takes note that a call came with a credential that is taken.
    pub fn vouch(&self) {
        // It is read for each call, and a write would take the line from other cores.
        if !self.is_known() {
            self.known.store(true, Ordering::Relaxed);
        }
    }

    fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// What streams that ask for no credential take up on this connection.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

/// Who is at the other end. Every request carries it as an extension.
#[derive(Debug, Clone)]
pub enum Peer {
    /// Somebody on the network.
    Network {
        /// Where the connection comes from, as the socket says; a proxy stands for its clients.
        address: Option<SocketAddr>,
        /// The certificate shown in the handshake, which holds under the authorities of this
        /// server; `None` without mTLS.
        certificate: Option<Arc<ClientCertificate>>,
        /// The same of all requests of the connection.
        standing: Arc<Standing>,
    },
    /// This process itself: see [`super::Inside`].
    Inside,
}

/// The bytes of a connection.
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Inside(DuplexStream),
}

/// An open connection, as the transport takes it.
pub struct Connection {
    transport: Transport,
    peer: Peer,
    vouched: Option<Box<Vouched>>,
    opening: Option<Opening>,
    probation: Option<Probation>,
    /// Given back when the connection closes.
    slot: Option<Slot>,
}

/// How long a connection may do without what is expected of it.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// `Config::opening_timeout`.
    pub opening: Duration,
    /// `Config::stranger_timeout`, where credentials are asked for.
    pub stranger: Option<Duration>,
}

/// Until the client has said that it speaks HTTP/2. Whoever says nothing is not kept.
struct Opening {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

/// Until a call with a credential that is taken has come. Whoever only keeps the connection busy
/// is not kept.
struct Probation {
    standing: Arc<Standing>,
    patience: Duration,
    deadline: Pin<Box<Sleep>>,
}

impl Connection {
    /// Without encryption.
    pub fn plain(stream: TcpStream, slot: Slot, patience: Patience) -> Self {
        let peer =
            Peer::Network { address: stream.peer_addr().ok(), certificate: None, standing: Arc::default() };
        Self::open(Transport::Plain(stream), peer, None, Some(slot), Some(patience))
    }

    /// After a handshake, in which the client may have shown a certificate.
    pub fn tls(
        stream: TlsStream<TcpStream>,
        vouched: Option<Vouched>,
        slot: Slot,
        patience: Patience,
    ) -> Self {
        let peer = Peer::Network {
            address: stream.get_ref().0.peer_addr().ok(),
            certificate: vouched.as_ref().map(|vouched| Arc::clone(vouched.certificate())),
            standing: Arc::default(),
        };
        let transport = Transport::Tls(Box::new(stream));
        Self::open(transport, peer, vouched.map(Box::new), Some(slot), Some(patience))
    }

    /// From this process.
    pub fn inside(stream: DuplexStream) -> Self {
        Self::open(Transport::Inside(stream), Peer::Inside, None, None, None)
    }

    fn open(
        transport: Transport,
        peer: Peer,
        vouched: Option<Box<Vouched>>,
        slot: Option<Slot>,
        patience: Option<Patience>,
    ) -> Self {
        let opening = patience.map(|patience| Opening {
            missing: PREFACE_BYTES,
            deadline: Box::pin(tokio::time::sleep(patience.opening)),
        });
        let probation = match (&peer, patience.and_then(|patience| patience.stranger)) {
            (Peer::Network { standing, .. }, Some(patience)) => Some(Probation {
                standing: Arc::clone(standing),
                patience,
                deadline: Box::pin(tokio::time::sleep(patience)),
            }),
            (Peer::Network { .. } | Peer::Inside, _) => None,
        };
        Self { transport, peer, vouched, opening, probation, slot }
    }

    /// Fails once a stranger has been connected for too long.
    fn look_at_stranger(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(probation) = &mut self.probation else { return Ok(()) };
        if probation.standing.is_known() {
            self.probation = None;
            return Ok(());
        }
        while probation.deadline.as_mut().poll(context).is_ready() {
            // Few can watch health, so they may stay; they are looked at again.
            if !probation.standing.account().has_anonymous_streams() {
                if let Some(slot) = &self.slot {
                    slot.count_stranger();
                }
                return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody known has called"));
            }
            probation.deadline.as_mut().reset(Instant::now() + probation.patience);
        }
        Ok(())
    }

    /// Whether what has just arrived may still be acted on.
    fn judge(&mut self, arrived: usize) -> io::Result<()> {
        if let Some(opening) = &mut self.opening {
            opening.missing = opening.missing.saturating_sub(arrived);
            if opening.missing == 0 {
                self.opening = None;
            }
        }
        let Some(vouched) = &mut self.vouched else { return Ok(()) };
        if vouched.holds() {
            return Ok(());
        }
        tracing::info!(client = ?vouched.certificate(), "closing: the client's certificate no longer holds");
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the client's certificate no longer holds"))
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Transport::Inside(stream) => Pin::new(stream).poll_read(context, buffer),
        };
        // Also when there is something to read: a stranger may send without end.
        this.look_at_stranger(context)?;
        if let Poll::Ready(outcome) = polled {
            return Poll::Ready(outcome.and_then(|()| this.judge(buffer.filled().len() - before)));
        }
        if let Some(opening) = &mut this.opening {
            ready!(opening.deadline.as_mut().poll(context));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client says nothing")));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Inside(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
            Transport::Inside(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Inside(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Inside(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Inside(stream) => stream.is_write_vectored(),
        }
    }
}
