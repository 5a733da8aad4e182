//! The proxy does what it is told: before an echo, and before a real PostgreSQL.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};

use super::{Cut, Gate, Link, Moment, Protocol, Proxy, Side, Target, Trap};
use crate::postgres_server::fresh_database;

/// Long enough for anything on this machine to arrive, short enough to wait for nothing.
const A_MOMENT: Duration = Duration::from_millis(200);

/// A server that returns what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            std::thread::spawn(move || {
                let mut read = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut read) {
                    if stream.write_all(&read[..length]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn before_echo() -> Proxy {
    Proxy::start(Target::Tcp(echo()), Protocol::Plain)
}

fn client(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    stream
}

/// What comes back for a word; `Err` tells how it does not.
fn say(stream: &mut TcpStream, word: &str) -> Result<String, ErrorKind> {
    stream.write_all(word.as_bytes()).map_err(|error| error.kind())?;
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).map_err(|error| error.kind())?;
    Ok(String::from_utf8(answer).expect("text"))
}

#[test]
fn connections_are_cut_and_refused_and_led_elsewhere() {
    let proxy = before_echo();
    let (mut first, mut second) = (client(&proxy), client(&proxy));
    for stream in [&mut first, &mut second] {
        assert_eq!(say(stream, "hello").as_deref(), Ok("hello"));
    }
    assert_eq!((proxy.open(), proxy.cut_all(Cut::Reset), proxy.open(), proxy.begun()), (2, 2, 0, 2));
    assert_eq!(say(&mut first, "again"), Err(ErrorKind::ConnectionReset));

    let mut third = client(&proxy);
    assert_eq!(say(&mut third, "hello").as_deref(), Ok("hello"));
    proxy.gate(Gate::Refuse);
    let refused = TcpStream::connect(proxy.address()).map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
    assert_eq!(say(&mut third, "still").as_deref(), Ok("still"), "open connections go on");
    proxy.gate(Gate::Open);
    assert_eq!(say(&mut client(&proxy), "hello").as_deref(), Ok("hello"));
    assert_eq!(proxy.cut_all(Cut::Close), proxy.open() + 2);
    assert_eq!(third.read(&mut [0]).expect("an orderly end"), 0);

    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    proxy.lead_to(Target::Tcp(nobody));
    assert!(say(&mut client(&proxy), "hello").is_err());
    proxy.lead_to(Target::Tcp(echo()));
    assert_eq!(say(&mut client(&proxy), "hello").as_deref(), Ok("hello"));
}

#[test]
fn what_a_black_hole_swallows_arrives_when_it_ends() {
    let proxy = before_echo();
    let mut open = client(&proxy);
    assert_eq!(say(&mut open, "hello").as_deref(), Ok("hello"));
    proxy.gate(Gate::BlackHole);
    let mut late = client(&proxy);
    for stream in [&mut open, &mut late] {
        stream.set_read_timeout(Some(A_MOMENT)).expect("a timeout");
        assert_eq!(say(stream, "hello"), Err(ErrorKind::WouldBlock));
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    }
    proxy.gate(Gate::Open);
    for stream in [&mut open, &mut late] {
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"hello");
    }
}

#[test]
fn a_slow_way_is_slow() {
    let proxy = before_echo();
    let mut stream = client(&proxy);
    proxy.link(Link { delay: (A_MOMENT, A_MOMENT), ..Link::default() });
    let started = Instant::now();
    assert_eq!(say(&mut stream, "hello").as_deref(), Ok("hello"));
    assert!(started.elapsed() >= 2 * A_MOMENT, "there and back in {:?}", started.elapsed());

    proxy.link(Link { bytes_per_second: Some(10_000), ..Link::default() });
    let started = Instant::now();
    let word = "x".repeat(4_000);
    assert_eq!(say(&mut stream, &word).as_deref(), Ok(word.as_str()));
    assert!(started.elapsed() >= A_MOMENT, "4,000 bytes in {:?}", started.elapsed());
}

#[test]
fn a_trap_springs_once_at_its_message() {
    let proxy = before_echo();
    let before = proxy.set(Trap::at(Side::Client, Moment::Before).when(|message| message.says("x")).nth(2));
    let mut stream = client(&proxy);
    assert_eq!(say(&mut stream, "x").as_deref(), Ok("x"));
    assert!(!before.yet());
    assert_eq!(say(&mut stream, "x"), Err(ErrorKind::ConnectionReset));
    assert!(before.yet());
    assert_eq!(say(&mut client(&proxy), "x").as_deref(), Ok("x"));

    let after = proxy.set(Trap::at(Side::Server, Moment::After));
    let mut stream = client(&proxy);
    assert_eq!(say(&mut stream, "last").as_deref(), Ok("last"));
    assert_eq!(stream.read(&mut [0]).expect("an orderly end"), 0);
    assert!(after.yet());

    let hung = proxy.set(Trap::at(Side::Server, Moment::Before).by(Cut::Hang));
    let mut stream = client(&proxy);
    stream.set_read_timeout(Some(A_MOMENT)).expect("a timeout");
    assert_eq!(say(&mut stream, "hello"), Err(ErrorKind::WouldBlock));
    assert!(hung.yet());
    assert_eq!(proxy.cut_all(Cut::Reset), proxy.open() + 1);

    proxy.set(Trap::at(Side::Client, Moment::Before));
    proxy.clear();
    assert_eq!(say(&mut client(&proxy), "hello").as_deref(), Ok("hello"));
}

/// Before, within, after and long before a commit arrives: whether it happened is what the moment says.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_happens_or_does_not_as_the_moment_says() {
    let Some(url) = fresh_database() else { return };
    let (proxy, through) = Proxy::before_database(&url);
    let mut direct = PgConnection::connect(&url).await.expect("a connection");
    sqlx::raw_sql("CREATE TABLE t (moment int)").execute(&mut direct).await.expect("a table");

    let late = Moment::Late(A_MOMENT);
    let moments = [
        (Side::Client, Moment::Before, false),
        (Side::Client, Moment::Within, false),
        (Side::Client, Moment::After, true),
        (Side::Client, late, true),
        (Side::Server, Moment::Before, true),
        (Side::Server, Moment::Within, true),
    ];
    for (number, (side, moment, happens)) in (0_i32..).zip(moments) {
        let mut connection = PgConnection::connect(&through).await.expect("a connection");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("BEGIN; INSERT INTO t VALUES ({number})")))
            .execute(&mut connection)
            .await
            .expect("begun");
        let sprung = proxy.set(Trap::at(side, moment).when(|message| message.says("COMMIT")));
        let begun = Instant::now();
        let answer = sqlx::raw_sql("COMMIT").execute(&mut connection).await;
        assert!(answer.is_err() && sprung.yet(), "{side:?} {moment:?}: {answer:?}");
        let mut there = false;
        // What happens does so in its own time; what does not is waited for in vain a little.
        while !there && begun.elapsed() < (if happens { 100 } else { 1 }) * A_MOMENT {
            let count = sqlx::query_scalar("SELECT count(*) FROM t WHERE moment = $1").bind(number);
            let count: i64 = count.fetch_one(&mut direct).await.expect("a count");
            there = count == 1;
            assert!(moment != late || !there || begun.elapsed() >= A_MOMENT, "it arrived too early");
        }
        assert_eq!(there, happens, "{side:?} {moment:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_messages_of_a_conversation_are_written_down() {
    let Some(url) = fresh_database() else { return };
    let (proxy, through) = Proxy::before_database(&url);
    proxy.record();
    let mut connection = PgConnection::connect(&through).await.expect("a connection");
    sqlx::raw_sql("SELECT 42").execute(&mut connection).await.expect("an answer");
    let recorded = proxy.recorded();
    let query = recorded.iter().find(|seen| seen.kind == Some(b'Q')).expect("a query");
    assert_eq!((query.side, query.connection), (Side::Client, 1));
    assert!(query.text.contains("SELECT 42"), "{query:?}");
    let answers: Vec<u8> = recorded
        .iter()
        .skip_while(|seen| *seen != query)
        .filter(|seen| seen.side == Side::Server)
        .filter_map(|seen| seen.kind)
        .collect();
    assert_eq!(answers, *b"TDCZ");
    assert!(proxy.recorded().is_empty());
}
