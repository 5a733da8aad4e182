//! Lets askers in, a few at a time, each for a bounded time and with a bounded request.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::pages::Pages;
use crate::server::lifecycle::RunError;

/// Askers at once; more wait to be accepted.
const MAX_CONNECTIONS: usize = 32;
/// How long a request may take to arrive.
const HEADERS_WITHIN: Duration = Duration::from_secs(5);
/// How long all of it may take, the answer included. A connection carries one request.
const ALL_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of a request's line and headers.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// Lines of a request's headers.
const MAX_HEADERS: usize = 64;
/// How long accepting rests when the process has run out of something.
const REST: Duration = Duration::from_millis(100);

/// Whether anybody on the network may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exposure {
    /// Loopback addresses only: what is told has no authentication.
    #[default]
    Loopback,
    /// Any address. For networks that are guarded otherwise.
    Anywhere,
}

/// Where to ask.
#[derive(Debug)]
pub struct OperationsListener {
    listener: TcpListener,
    address: SocketAddr,
}

impl OperationsListener {
    /// Listens on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// [`RunError::OperationsExposed`] if the address is beyond loopback and may not be;
    /// [`RunError::OperationsListen`] if it cannot be listened on.
    pub fn bind(address: SocketAddr, exposure: Exposure) -> Result<Self, RunError> {
        if exposure == Exposure::Loopback && !address.ip().to_canonical().is_loopback() {
            return Err(RunError::OperationsExposed { address });
        }
        let failed = |source| RunError::OperationsListen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Answers until it is dropped.
///
/// # Errors
/// If the listener cannot be used on this runtime.
pub async fn serve(listener: OperationsListener, pages: Pages) -> io::Result<()> {
    let service = pages.router();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let address = listener.address;
    let listener = tokio::net::TcpListener::from_std(listener.listener)?;
    tracing::info!(%address, "metrics on http://{address}/metrics, probes on /livez and /readyz");
    // Ends those under way when this is dropped.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // The semaphore is never closed.
        let slot = Arc::clone(&slots).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = service.clone();
                connections.spawn(async move {
                    let _slot = slot;
                    // An asker that is slow or has gone away is nobody's concern.
                    let _ = timeout(ALL_WITHIN, answer(stream, service)).await;
                });
            }
            Err(error) => {
                tracing::warn!("the operations listener cannot accept connections: {error}");
                sleep(REST).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(stream: TcpStream, service: axum::Router) {
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS)
        .keep_alive(false);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let _ = connection.await;
}
