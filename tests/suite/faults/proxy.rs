//! A TCP proxy that breaks what passes through it, when told to.
//!
//! It listens on a loopback port of its own and leads every connection to a target: a TCP port,
//! or a socket of PostgreSQL. It works on a thread of its own, so that it is used alike from
//! blocking and from asynchronous tests, and a busy test does not slow it down. What it is told is
//! in force when the method returns. Dropping it ends its connections and closes its port.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::watch;

use super::trap::{Cut, Moment, Sprung, Trap};
use super::wire::{Framing, Message, Side};

/// How long anything that the proxy waits for may take: it is on this machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where connections lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What is understood of what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing: a message is what one read returns. Good for gRPC.
    Plain,
    /// PostgreSQL's messages, unencrypted.
    Postgres,
}

/// Whether anything passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Everything does.
    Open,
    /// Open connections go on, new ones are refused as if nobody listened.
    Refuse,
    /// Connections are accepted and stay open, and nothing is delivered, as in a network that is
    /// parted. When the gate opens, what was held back is delivered.
    BlackHole,
}

/// How slow the way is, for each direction of each connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Each message arrives so much later, at least and at most; in between by the seed.
    pub delay: (Duration, Duration),
    /// At most so many bytes a second pass.
    pub bytes_per_second: Option<u32>,
    /// Makes the delays of a connection repeat.
    pub seed: u64,
}

/// A message that has passed, or at which a trap sprang.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub connection: u64,
    pub side: Side,
    /// Counted from 1 on each side of a connection.
    pub index: u64,
    pub kind: Option<u8>,
    /// What can be read of its beginning.
    pub text: String,
}

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    protocol: Protocol,
    orders: watch::Sender<Orders>,
    traps: Mutex<Vec<Trap>>,
    seen: Mutex<Option<Vec<Seen>>>,
    begun: AtomicU64,
    open: Mutex<BTreeSet<u64>>,
    listening: AtomicBool,
}

#[derive(Debug, Clone)]
struct Orders {
    target: Target,
    gate: Gate,
    link: Link,
    /// Connections up to this one are over.
    cut_through: u64,
    cut: Cut,
    stop: bool,
}

impl Proxy {
    /// A proxy before a target, with its gate open.
    pub fn start(target: Target, protocol: Protocol) -> Self {
        let orders = Orders {
            target,
            gate: Gate::Open,
            link: Link::default(),
            cut_through: 0,
            cut: Cut::Reset,
            stop: false,
        };
        let shared = Arc::new(Shared {
            protocol,
            orders: watch::Sender::new(orders),
            traps: Mutex::default(),
            seen: Mutex::default(),
            begun: AtomicU64::new(0),
            open: Mutex::default(),
            listening: AtomicBool::new(false),
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        // Bound for as long as the proxy lives and never listening: it keeps the port while
        // connections are refused.
        let place = {
            let _guard = runtime.enter();
            bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        };
        let address = place.local_addr().expect("an address");
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                let _place = place;
                runtime.block_on(listen(&shared, address));
            }
        });
        let proxy = Self { address, shared, thread: Some(thread) };
        proxy.until("the proxy listens", |shared| shared.listening.load(Ordering::SeqCst));
        proxy
    }

    /// A proxy before the database of a URL, and the URL that leads through it.
    pub fn before_database(url: &str) -> (Self, String) {
        let rest = url.strip_prefix("postgres://").expect("a URL of PostgreSQL");
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').expect("a database");
        let parameters: HashMap<&str, &str> =
            parameters.split('&').filter_map(|parameter| parameter.split_once('=')).collect();
        let (user, target) = if let Some(directory) = parameters.get("host") {
            let port = parameters.get("port").copied().unwrap_or("5432");
            let socket = PathBuf::from(directory).join(format!(".s.PGSQL.{port}"));
            (parameters.get("user").copied().unwrap_or("postgres"), Target::Unix(socket))
        } else {
            let (user, host) = authority.split_once('@').unwrap_or(("postgres", authority));
            (user, Target::Tcp(host.parse().expect("an address and a port")))
        };
        let proxy = Self::start(target, Protocol::Postgres);
        let url = format!("postgres://{user}@{}/{database}?sslmode=disable", proxy.address);
        (proxy, url)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New connections lead elsewhere; those that are open stay. For a failover.
    pub fn lead_to(&self, target: Target) {
        self.shared.orders.send_modify(|orders| orders.target = target);
    }

    /// Opens or closes the way.
    pub fn gate(&self, gate: Gate) {
        self.shared.orders.send_modify(|orders| orders.gate = gate);
        let listens = gate != Gate::Refuse;
        self.until("the gate moves", |shared| shared.listening.load(Ordering::SeqCst) == listens);
    }

    /// Makes the way slow.
    pub fn link(&self, link: Link) {
        self.shared.orders.send_modify(|orders| orders.link = link);
    }

    /// Ends every open connection on both sides; how many there were.
    pub fn cut_all(&self, cut: Cut) -> usize {
        let through = self.shared.begun.load(Ordering::SeqCst);
        let many = self.open();
        self.shared.orders.send_modify(|orders| {
            orders.cut_through = through;
            orders.cut = cut;
        });
        if cut != Cut::Hang {
            self.until("connections end", |shared| {
                shared.open.lock().expect("a lock").first().is_none_or(|first| *first > through)
            });
        }
        many
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.lock().expect("a lock").len()
    }

    /// Connections there have been.
    pub fn begun(&self) -> u64 {
        self.shared.begun.load(Ordering::SeqCst)
    }

    /// Sets a trap. Of several, the one set first springs first.
    pub fn set(&self, trap: Trap) -> Sprung {
        let sprung = trap.sprung();
        self.shared.traps.lock().expect("a lock").push(trap);
        sprung
    }

    /// Removes all traps.
    pub fn clear(&self) {
        self.shared.traps.lock().expect("a lock").clear();
    }

    /// Writes down every message from now on.
    pub fn record(&self) {
        *self.shared.seen.lock().expect("a lock") = Some(Vec::new());
    }

    /// What was written down; it ends there.
    pub fn recorded(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("a lock").take().unwrap_or_default()
    }

    fn until(&self, what: &str, condition: impl Fn(&Shared) -> bool) {
        let started = Instant::now();
        while !condition(&self.shared) {
            assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.orders.send_modify(|orders| orders.stop = true);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the proxy panicked");
        }
    }
}

/// A socket on a port that may be shared with others of this process.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseport(true).expect("a shared port");
    socket.bind(address).expect("a port");
    socket
}

/// Accepts connections while the gate lets them. Its end ends them, with their runtime.
async fn listen(shared: &Arc<Shared>, address: SocketAddr) {
    let mut orders = shared.orders.subscribe();
    let mut listener: Option<TcpListener> = None;
    loop {
        let (gate, stop) = {
            let orders = orders.borrow_and_update();
            (orders.gate, orders.stop)
        };
        if stop {
            return;
        }
        if gate == Gate::Refuse {
            listener = None;
        } else if listener.is_none() {
            listener = Some(bind(address).listen(1024).expect("to listen"));
        }
        shared.listening.store(listener.is_some(), Ordering::SeqCst);
        let accepting = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = orders.changed() => changed.expect("orders"),
            accepted = accepting => if let Ok((client, _)) = accepted {
                let number = shared.begun.fetch_add(1, Ordering::SeqCst) + 1;
                shared.open.lock().expect("a lock").insert(number);
                let shared = shared.clone();
                tokio::spawn(async move {
                    carry(&shared, client, number).await;
                    shared.open.lock().expect("a lock").remove(&number);
                });
            },
        }
    }
}

/// Why a connection is over, other than by its own end.
#[derive(Debug)]
struct Broken {
    cut: Cut,
    moment: Moment,
    side: Side,
    /// A message of the client that is still on its way.
    late: Option<Vec<u8>>,
}

impl Broken {
    fn lost() -> Self {
        Self { cut: Cut::Reset, moment: Moment::Before, side: Side::Client, late: None }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn connect(target: &Target) -> io::Result<Box<dyn Stream>> {
    Ok(match target {
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
        Target::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

/// One connection, from its beginning to its end.
async fn carry(shared: &Shared, mut client: TcpStream, number: u64) {
    let _ = client.set_nodelay(true);
    let mut orders = shared.orders.subscribe();
    let ordered = async {
        let orders = orders.wait_for(|orders| orders.cut_through >= number).await.expect("orders");
        Broken { cut: orders.cut, ..Broken::lost() }
    };
    let mut server = None;
    let carried = async {
        shared.passable().await;
        let target = shared.orders.borrow().target.clone();
        let server = server.insert(connect(&target).await.map_err(|_| Broken::lost())?);
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = tokio::io::split(server);
        let (asked, answered) = match shared.protocol {
            Protocol::Plain => Framing::plain(),
            Protocol::Postgres => Framing::postgres(),
        };
        let way = |side| Way { shared, connection: number, side, passed: 0 };
        tokio::try_join!(
            way(Side::Client).pump(asked, from_client, to_server),
            way(Side::Server).pump(answered, from_server, to_client),
        )
    };
    let broken = tokio::select! {
        biased;
        broken = ordered => broken,
        ended = carried => match ended {
            Ok(_) => return,
            Err(broken) => broken,
        },
    };
    part(shared, number, client, server, broken).await;
}

/// Ends a connection that is broken, in the way that was asked for.
async fn part(
    shared: &Shared,
    number: u64,
    client: TcpStream,
    server: Option<Box<dyn Stream>>,
    broken: Broken,
) {
    if broken.cut == Cut::Hang {
        let mut orders = shared.orders.subscribe();
        let over = |orders: &Orders| orders.cut_through >= number && orders.cut != Cut::Hang;
        orders.wait_for(over).await.expect("orders");
        return;
    }
    let delivered = broken.side == Side::Server && broken.moment != Moment::Before;
    // A reset may overtake what was delivered; then the end is orderly.
    if broken.cut == Cut::Reset && !delivered {
        let _ = client.set_zero_linger();
    }
    drop(client);
    let Some(mut server) = server else { return };
    if let (Moment::Late(delay), Some(message)) = (broken.moment, broken.late) {
        tokio::time::sleep(delay).await;
        let _ = server.write_all(&message).await;
    }
    // What was sent is read and acted on; what is answered goes nowhere.
    let _ = server.shutdown().await;
    let mut nowhere = tokio::io::sink();
    let drained = tokio::io::copy(&mut server, &mut nowhere);
    let _ = tokio::time::timeout(PATIENCE, drained).await;
}

/// One direction of a connection.
struct Way<'s> {
    shared: &'s Shared,
    connection: u64,
    side: Side,
    passed: u64,
}

impl Way<'_> {
    async fn pump(
        mut self,
        mut framing: Framing,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> Result<(), Broken> {
        let mut random = StdRng::seed_from_u64(self.shared.orders.borrow().link.seed ^ self.connection);
        let (mut received, mut read) = (Vec::new(), vec![0; 1 << 16]);
        loop {
            while let Some((length, kind)) = framing.first(&received) {
                let message: Vec<u8> = received.drain(..length).collect();
                self.shared.passable().await;
                self.deliver(kind, message, &mut to, &mut random).await?;
            }
            match from.read(&mut read).await {
                Ok(0) => {
                    let _ = to.shutdown().await;
                    return Ok(());
                }
                Ok(length) => received.extend_from_slice(&read[..length]),
                Err(_) => return Err(Broken::lost()),
            }
        }
    }

    /// Delivers one message, or springs a trap.
    async fn deliver(
        &mut self,
        kind: Option<u8>,
        message: Vec<u8>,
        to: &mut (impl AsyncWrite + Unpin),
        random: &mut StdRng,
    ) -> Result<(), Broken> {
        self.passed += 1;
        let seen = Message {
            connection: self.connection,
            side: self.side,
            index: self.passed,
            kind,
            bytes: &message,
        };
        let sprung = self.shared.judge(&seen);
        let (now, late) = match sprung.map(|(moment, _)| moment) {
            None | Some(Moment::After) => (message.len(), None),
            Some(Moment::Within) => (message.len() / 2, None),
            Some(Moment::Before) => (0, None),
            Some(Moment::Late(_)) => (0, (self.side == Side::Client).then(|| message.clone())),
        };
        let link = self.shared.orders.borrow().link.clone();
        send(&message[..now], to, &link, random).await.map_err(|_| Broken::lost())?;
        match sprung {
            None => Ok(()),
            Some((moment, cut)) => Err(Broken { cut, moment, side: self.side, late }),
        }
    }
}

async fn send(
    bytes: &[u8],
    to: &mut (impl AsyncWrite + Unpin),
    link: &Link,
    random: &mut StdRng,
) -> io::Result<()> {
    /// How often a throttled way delivers.
    const BEATS_PER_SECOND: u32 = 50;
    let (least, most) = link.delay;
    if !most.is_zero() {
        tokio::time::sleep(random.random_range(least..=most.max(least))).await;
    }
    match link.bytes_per_second {
        None => to.write_all(bytes).await?,
        Some(rate) => {
            let piece = (rate / BEATS_PER_SECOND).max(1);
            for bytes in bytes.chunks(piece as usize) {
                to.write_all(bytes).await?;
                to.flush().await?;
                tokio::time::sleep(Duration::from_secs(1) * piece / rate.max(1)).await;
            }
        }
    }
    to.flush().await
}

impl Shared {
    /// Waits while everything is swallowed.
    async fn passable(&self) {
        let mut orders = self.orders.subscribe();
        orders.wait_for(|orders| orders.gate != Gate::BlackHole).await.expect("orders");
    }

    /// Writes a message down; how it breaks the connection, if it does.
    fn judge(&self, message: &Message<'_>) -> Option<(Moment, Cut)> {
        if let Some(seen) = &mut *self.seen.lock().expect("a lock") {
            let start = &message.bytes[..message.bytes.len().min(80)];
            seen.push(Seen {
                connection: message.connection,
                side: message.side,
                index: message.index,
                kind: message.kind,
                text: start.iter().map(|byte| char::from(*byte)).filter(|c| !c.is_control()).collect(),
            });
        }
        let mut traps = self.traps.lock().expect("a lock");
        let index = traps.iter_mut().position(|trap| trap.springs(message))?;
        let trap = traps.remove(index);
        Some((trap.moment, trap.cut))
    }
}
