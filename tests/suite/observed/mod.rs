//! What a server shows of itself: metrics and probes.

mod documented;
pub mod exposition;
mod growth;
mod listener;
mod scrape;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub use exposition::Exposition;

/// No answer of a test takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer of the operations listener.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    pub body: String,
}

/// Sends bytes and reads the answer until the listener hangs up.
pub async fn send(address: SocketAddr, bytes: &[u8]) -> Page {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("an open port");
        stream.write_all(bytes).await.expect("sent");
        let mut answer = Vec::new();
        // An answer may be followed by a reset: the listener does not read what it refuses.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("text")
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Page { status, head: head.to_owned(), body: body.to_owned() }
}

pub async fn get(address: SocketAddr, path: &str) -> Page {
    send(address, format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await
}

/// All metrics, read strictly.
pub async fn scrape(address: SocketAddr) -> Exposition {
    let page = get(address, "/metrics").await;
    assert_eq!(page.status, 200, "{}", page.head);
    assert!(
        page.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{}",
        page.head
    );
    Exposition::parse(&page.body).unwrap_or_else(|mistake| panic!("{mistake}\n{}", page.body))
}

/// Scrapes until something holds.
pub async fn scrape_until(
    address: SocketAddr,
    what: &str,
    holds: impl Fn(&Exposition) -> bool,
) -> Exposition {
    let begun = std::time::Instant::now();
    loop {
        let exposition = scrape(address).await;
        if holds(&exposition) {
            return exposition;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} does not come: {exposition:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
