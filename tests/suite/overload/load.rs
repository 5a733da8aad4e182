//! Questions at a rate, whatever becomes of them.
//!
//! A client that waits for an answer before it asks again asks less the slower it is answered, and
//! never sees an overload. Here questions come when they are due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::world::{FAR, NEAR, list, short_check, touch};
use crate::grpc::reason;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A list through all groups.
    LongList,
    /// A list that ends in its first slice.
    ShortList,
    /// A Check of one tuple.
    Check,
    /// One tuple.
    Write,
    /// gRPC health.
    Health,
}

/// Questions of one kind about one store.
#[derive(Debug, Clone)]
pub struct Stream {
    pub store: &'static str,
    pub kind: Kind,
    pub per_second: f64,
    pub deadline: Duration,
}

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was answered.
    Answered,
    /// It was refused at once: there is too much to do.
    Refused,
    /// It took more than the work that one question may cost.
    Exhausted,
    /// It was not answered in time.
    Late,
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub store: &'static str,
    pub kind: Kind,
    pub took: Duration,
    pub end: End,
    /// Since the load began.
    pub ended: Duration,
}

/// Asks for so long, and returns how every question ended.
pub async fn drive(channels: &[Channel], streams: &[Stream], length: Duration) -> Vec<Sample> {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let channels: Arc<[Channel]> = channels.into();
    let begun = Instant::now();
    let clocks = streams.iter().cloned().map(|stream| {
        let (ended, channels) = (ended.clone(), Arc::clone(&channels));
        tokio::spawn(async move {
            let mut asked = 0_u32;
            while begun.elapsed() < length {
                // What is due: a clock that woke late makes up for it.
                while f64::from(asked) < begun.elapsed().as_secs_f64() * stream.per_second {
                    let channel = channels[asked as usize % channels.len()].clone();
                    let (ended, stream, number) = (ended.clone(), stream.clone(), asked);
                    tokio::spawn(async move {
                        let sample = ask(channel, &stream, number).await;
                        let _ = ended.send(Sample { ended: begun.elapsed(), ..sample });
                    });
                    asked += 1;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    });
    for clock in clocks.collect::<Vec<_>>() {
        clock.await.expect("a clock");
    }
    drop(ended);
    let mut samples = Vec::new();
    while let Some(sample) = ends.recv().await {
        samples.push(sample);
    }
    samples
}

/// Asks one question, outside a load.
pub async fn ask(channel: Channel, stream: &Stream, number: u32) -> Sample {
    let begun = Instant::now();
    // The library's own clock gives up at the deadline too, and the sample is late.
    let outcome = sent(channel, stream, number).await;
    let took = begun.elapsed();
    let end = match outcome {
        Ok(()) if took <= stream.deadline => End::Answered,
        Ok(()) => End::Late,
        Err(status) => match (status.code(), reason(&status).as_str()) {
            (Code::ResourceExhausted, "OVERLOADED" | "QUEUE_FULL") => End::Refused,
            (Code::ResourceExhausted, "LIMIT_EXCEEDED") => End::Exhausted,
            (Code::DeadlineExceeded | Code::Cancelled, _) => End::Late,
            _ => panic!("{stream:?}: {status:?}"),
        },
    };
    Sample { store: stream.store, kind: stream.kind, took, end, ended: took }
}

fn sent(channel: Channel, stream: &Stream, number: u32) -> BoxFuture<'static, Result<(), Status>> {
    fn within<T>(message: T, deadline: Duration) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        request
    }
    let (store, deadline) = (stream.store, stream.deadline);
    let listed = |subject| {
        let request = within(list(store, subject), deadline);
        let mut client = PermissionServiceClient::new(channel.clone());
        Box::pin(async move {
            let mut list = client.list_objects(request).await?.into_inner();
            while list.message().await?.is_some() {}
            Ok(())
        })
    };
    match stream.kind {
        Kind::LongList => listed(FAR),
        Kind::ShortList => listed(NEAR),
        Kind::Check => Box::pin(async move {
            let request = within(short_check(store), deadline);
            PermissionServiceClient::new(channel).check(request).await.map(drop)
        }),
        Kind::Write => Box::pin(async move {
            let tuple = format!("doc:w{number}#viewer@user:owner");
            let request = within(touch(store, &[tuple]), deadline);
            TupleServiceClient::new(channel).write(request).await.map(drop)
        }),
        Kind::Health => Box::pin(async move {
            let request = within(HealthCheckRequest::default(), deadline);
            HealthClient::new(channel).check(request).await.map(drop)
        }),
    }
}
