//! Asks a running server how it is, as a client sees it.

use std::time::{Duration, Instant};

use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use super::Section;
use crate::cli::connect::Connection;
use crate::cli::exit::Failure;
use crate::cli::settings::Settings;
use crate::datastore::survey::Samples;
use crate::doctor::{self, Finding, Topic};
use crate::proto;
use crate::proto::permission_service_server::SERVICE_NAME as PERMISSION;

/// Round trips timed.
const ROUND_TRIPS: usize = 20;
/// Across one network, a round trip is shorter.
const SLOW_ROUND_TRIP: Duration = Duration::from_millis(20);

pub(super) async fn look_over(settings: &Settings) -> Section {
    let title = format!("server ({})", settings.endpoint);
    let begun = Instant::now();
    let connection = match Connection::open(settings).await {
        Ok(connection) => connection,
        Err(failure) => return Section { title, findings: vec![unreachable(&failure)] },
    };
    let connected = begun.elapsed();
    let mut findings = vec![health(&connection, connected).await];
    findings.extend(latency(&connection).await);
    findings.push(access(&connection).await);
    Section { title, findings }
}

fn unreachable(failure: &Failure) -> Finding {
    let remedy = failure.advice().unwrap_or("check that the server runs, and the address in --endpoint");
    Finding::problem(Topic::Server, failure.what(), remedy)
}

/// Whether it serves: as a whole, and questions.
async fn health(connection: &Connection, connected: Duration) -> Finding {
    let whole = match ask(connection, "").await {
        Ok(status) => status,
        Err(status) => return unreachable(&Failure::from(status)),
    };
    let took = format!("connected in {:.1} ms", connected.as_secs_f64() * 1e3);
    if whole == ServingStatus::Serving {
        return Finding::ok(Topic::Server, format!("it serves, {took}"));
    }
    let remedy = "its log and http://SERVER:8082/readyz name the reasons: the database, stores that are being loaded, a clock";
    if ask(connection, PERMISSION).await.is_ok_and(|status| status == ServingStatus::Serving) {
        let what = format!("it says NOT_SERVING and still answers questions, which may be stale; {took}");
        return Finding::problem(Topic::Server, what, remedy);
    }
    Finding::problem(Topic::Server, format!("it says NOT_SERVING; {took}"), remedy)
}

async fn ask(connection: &Connection, service: &str) -> Result<ServingStatus, Status> {
    let request = connection.request(HealthCheckRequest { service: service.to_owned() });
    Ok(connection.health().check(request).await?.into_inner().status())
}

async fn latency(connection: &Connection) -> Option<Finding> {
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let begun = Instant::now();
        ask(connection, "").await.ok()?;
        times.push(begun.elapsed());
    }
    let round_trips = Samples::of(times)?;
    let what = format!("a round trip takes {}", doctor::samples(&round_trips));
    Some(if round_trips.median() > SLOW_ROUND_TRIP {
        Finding::warning(
            Topic::Latency,
            what,
            "every question waits as long: run a server nearer to its callers",
        )
    } else {
        Finding::ok(Topic::Latency, what)
    })
}

/// What the token may do, and whether the server's database answers: a store is looked up there.
async fn access(connection: &Connection) -> Finding {
    let store = connection.store.clone();
    let name = if store.is_empty() { "default".to_owned() } else { store.clone() };
    let begun = Instant::now();
    let request = connection.request(proto::GetStoreRequest { store });
    let Err(status) = connection.stores().get_store(request).await else {
        let took = begun.elapsed().as_secs_f64() * 1e3;
        return Finding::ok(
            Topic::Access,
            format!("this caller may read store `{name}`; the server's database answered in {took:.1} ms"),
        );
    };
    let code = status.code();
    let failure = Failure::from(status);
    let what = format!("store `{name}` cannot be read: {}", failure.what());
    let remedy = failure.advice().unwrap_or("the log of the server says more").to_owned();
    #[expect(clippy::wildcard_enum_match_arm, reason = "codes of another crate, of which two mean less")]
    match code {
        // Whoever may do less than read this store may still do what it is for.
        Code::PermissionDenied => Finding::note(Topic::Access, what).advise(remedy),
        Code::NotFound => Finding::warning(Topic::Access, what, remedy),
        _ => Finding::problem(Topic::Access, what, remedy),
    }
}
