//! A node that cannot reach its database: how long it answers, what it says of its age, and what
//! health says.

use std::time::Duration;

use relata::config::Config;
use relata::proto;
use relata::proto::Verdict;
use relata::proto::consistency::Requirement;
use relata::server::STALENESS;
use sqlx::Connection as _;
use tokio_stream::StreamExt as _;
use tonic::{Code, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Running, consistency, question, reason, refused};
use crate::faults::{Cut, Gate, Proxy};

const QUESTIONS: &str = "relata.v1.PermissionService";
const TEXT: &str = "doc:1#owner@user:ann";

/// A server whose way to the database can be closed.
async fn behind_a_proxy(adapt: impl FnOnce(&mut Config)) -> Option<(Proxy, Running)> {
    let url =
        tokio::task::spawn_blocking(crate::postgres_server::fresh_database).await.expect("a cluster")?;
    let (proxy, url) = Proxy::before_database(&url);
    let server = Running::on_url(&url, |config| {
        config.feed.max_staleness = Duration::from_millis(1_500);
        config.health_interval = Duration::from_millis(100);
        adapt(config);
    })
    .await;
    server.with_schema().await;
    server.touch(&[TEXT]).await;
    until(&server, "", ServingStatus::Serving).await;
    Some((proxy, server))
}

pub async fn status(server: &Running, service: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: service.into() };
    let answer = HealthClient::new(server.channel.clone()).check(request).await.expect("health answers");
    answer.into_inner().status()
}

pub async fn until(server: &Running, service: &str, wanted: ServingStatus) {
    let reached = tokio::time::timeout(Duration::from_secs(30), async {
        while status(server, service).await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    reached.await.unwrap_or_else(|_| panic!("{service} is never {wanted:?}"));
}

/// How old an answer says it may be.
fn age<T>(answer: &Response<T>) -> Option<Duration> {
    let age = answer.metadata().get(STALENESS)?.to_str().expect("text").parse().expect("a number");
    Some(Duration::from_millis(age))
}

async fn check(server: &Running) -> Result<Response<proto::CheckResponse>, Status> {
    server.permissions().check(question(TEXT)).await
}

/// Every kind of question: one answer, many in one, a stream.
async fn ages(server: &Running) -> Vec<Option<Duration>> {
    let mut client = server.permissions();
    let one = check(server).await.expect("an answer");
    assert_eq!(one.get_ref().verdict(), Verdict::Allowed);
    let item = proto::BatchCheckItem {
        object: "doc:1".into(),
        relation: "owner".into(),
        subject: "user:ann".into(),
    };
    let batch = proto::BatchCheckRequest { items: vec![item], ..Default::default() };
    let batch = client.batch_check(batch).await.expect("an answer");
    let list = proto::ListObjectsRequest {
        subject: "user:ann".into(),
        relation: "owner".into(),
        object_type: "doc".into(),
        ..Default::default()
    };
    let list = client.list_objects(list).await.expect("a stream");
    let expand =
        proto::ExpandRequest { object: "doc:1".into(), relation: "owner".into(), ..Default::default() };
    let expand = client.expand(expand).await.expect("an answer");
    let ages = vec![age(&one), age(&batch), age(&list), age(&expand)];
    let listed: Vec<_> = list.into_inner().collect().await;
    assert!(listed.iter().all(Result::is_ok), "{listed:?}");
    ages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_isolated_node_answers_until_the_bound_and_no_longer() {
    let Some((proxy, server)) = behind_a_proxy(|_| {}).await else { return };
    proxy.gate(Gate::BlackHole);
    assert_eq!(check(&server).await.expect("goes on").get_ref().verdict(), Verdict::Allowed);
    assert_eq!(status(&server, "").await, ServingStatus::Serving, "a short absence is none of the node");
    let refusal = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match check(&server).await {
                Ok(answer) => assert_eq!(age(&answer), None, "not older than usual"),
                Err(status) => return status,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let refusal = refusal.await.expect("refused in time");
    refused::<()>(Err(refusal), Code::Unavailable, "REPLICA_STALE", "");
    until(&server, "", ServingStatus::NotServing).await;
    assert_eq!(status(&server, QUESTIONS).await, ServingStatus::NotServing);

    proxy.gate(Gate::Open);
    until(&server, "", ServingStatus::Serving).await;
    assert_eq!(age(&check(&server).await.expect("an answer")), None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_answers_that_are_allowed_say_how_old_they_may_be() {
    let allowed = Duration::from_secs(6);
    let Some((proxy, server)) = behind_a_proxy(|config| config.allow_stale = Some(allowed)).await else {
        return;
    };
    assert_eq!(ages(&server).await, [None; 4]);
    proxy.gate(Gate::Refuse);
    proxy.cut_all(Cut::Reset);
    until(&server, "", ServingStatus::NotServing).await;
    // The node still answers questions, and only that. Health and copies count from moments of
    // their own, which a poll lies between.
    let told = tokio::time::timeout(Duration::from_secs(3), async {
        while age(&check(&server).await.expect("an answer")).is_none() {}
    });
    told.await.expect("the age is told");
    assert_eq!(status(&server, QUESTIONS).await, ServingStatus::Serving);
    for age in ages(&server).await {
        let age = age.expect("the age is told");
        assert!(age > Duration::from_millis(1_500) && age <= allowed, "{age:?}");
    }
    // Everything acknowledged is more than memory can promise now.
    let full = server
        .check(proto::CheckRequest { consistency: consistency(Requirement::Full(())), ..question(TEXT) })
        .await
        .expect_err("no database");
    assert_eq!((full.code(), reason(&full).as_str()), (Code::Unavailable, "DATABASE_UNAVAILABLE"));

    until(&server, QUESTIONS, ServingStatus::NotServing).await;
    let refusal = tokio::time::timeout(Duration::from_secs(3), async {
        loop {
            if let Err(refusal) = check(&server).await {
                return refusal;
            }
        }
    });
    let refusal = refusal.await.expect("a copy is refused once it is too old");
    refused::<()>(Err(refusal), Code::Unavailable, "REPLICA_STALE", "");
    proxy.gate(Gate::Open);
    until(&server, "", ServingStatus::Serving).await;
    assert_eq!(ages(&server).await, [None; 4]);
    server.stop().await;
}

/// The database's clock is five seconds ahead: this node would judge every expiry wrongly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_clock_is_off_is_not_ready() {
    let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database).await.expect("a cluster");
    let Some(url) = url else { return };
    let mut connection = sqlx::PgConnection::connect(&url).await.expect("a connection");
    let database: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut connection).await.expect("a name");
    let mut shift = async |seconds: u32| {
        let clock = format!(
            "CREATE SCHEMA IF NOT EXISTS shifted;
             CREATE OR REPLACE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
                 AS 'SELECT pg_catalog.clock_timestamp() + interval ''{seconds} seconds''';
             ALTER DATABASE {database} SET search_path = shifted, pg_catalog, public"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(clock)).execute(&mut connection).await.expect("shifted");
    };
    shift(5).await;
    let server = Running::on_url(&url, |config| {
        config.feed.poll_interval = Duration::from_millis(10);
        config.health_interval = Duration::from_millis(50);
    })
    .await;
    // Long enough for many judgements, of which none may say that it serves.
    let ready = tokio::time::timeout(Duration::from_secs(1), until(&server, "", ServingStatus::Serving));
    assert!(ready.await.is_err(), "it served although its clock is off");
    shift(0).await;
    until(&server, "", ServingStatus::Serving).await;
    server.stop().await;
}
