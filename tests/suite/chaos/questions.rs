//! Questions on the wire and back.

use std::time::Duration;

use relata::proto;
use relata::proto::consistency::Requirement;
use relata::proto::tuple_service_client::TupleServiceClient;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::client::{Answered, bounded, permissions, timed};
use crate::grpc::consistency;
use crate::history::fact::{Fact, Relation, Subject};
use crate::history::operation::{Filter, Freshness, Given, Question};

/// Asks a server. A stream that breaks off is no answer.
pub async fn ask(
    channel: Channel,
    patience: Duration,
    question: &Question,
    freshness: Freshness,
    zookie: &str,
) -> Result<Answered, Status> {
    let wish = consistency(match freshness {
        Freshness::Newest => Requirement::MinimizeLatency(()),
        Freshness::AtLeast(_) => Requirement::AtLeast(zookie.to_owned()),
        Freshness::Exact(_) => Requirement::Exact(zookie.to_owned()),
        Freshness::Full => Requirement::Full(()),
    });
    match question {
        Question::Check(fact) => {
            let (object, relation, subject) = parts(*fact);
            let request =
                proto::CheckRequest { object, relation, subject, consistency: wish, ..Default::default() };
            let answer = bounded(patience, permissions(channel).check(timed(request, patience))).await?;
            let verdict = verdict(answer.verdict());
            Ok((answer.zookie, verdict.map(Given::Verdict)))
        }
        Question::Batch(facts) => {
            let items = facts.iter().map(|fact| {
                let (object, relation, subject) = parts(*fact);
                proto::BatchCheckItem { object, relation, subject }
            });
            let request =
                proto::BatchCheckRequest { items: items.collect(), consistency: wish, ..Default::default() };
            let answer =
                bounded(patience, permissions(channel).batch_check(timed(request, patience))).await?;
            let verdicts = answer.results.iter().map(|result| verdict(result.verdict()));
            Ok((answer.zookie, verdicts.collect::<Result<_, _>>().map(Given::Verdicts)))
        }
        Question::Objects(relation, user) => {
            let request = proto::ListObjectsRequest {
                subject: Subject::User(*user).to_string(),
                relation: relation.name().to_owned(),
                object_type: relation.object_type().to_owned(),
                consistency: wish,
                ..Default::default()
            };
            let stream =
                bounded(patience, permissions(channel).list_objects(timed(request, patience))).await?;
            let (zookie, objects) = gathered(patience, stream, |part| (part.zookie, part.objects)).await?;
            let numbers = objects.iter().map(|listed| relation.number(&listed.object));
            Ok((zookie, numbered(numbers.collect())))
        }
        Question::Users(relation, object) => {
            let request = proto::ListSubjectsRequest {
                object: relation.object(*object),
                relation: relation.name().to_owned(),
                subject_type: "user".to_owned(),
                consistency: wish,
                ..Default::default()
            };
            let stream =
                bounded(patience, permissions(channel).list_subjects(timed(request, patience))).await?;
            let (zookie, subjects) = gathered(patience, stream, |part| (part.zookie, part.subjects)).await?;
            let numbers = subjects.iter().map(|listed| match Subject::parse(&listed.subject)? {
                Subject::User(number) => Some(number),
                Subject::Members(_) | Subject::Folder(_) => None,
            });
            Ok((zookie, numbered(numbers.collect())))
        }
        Question::Read(filter) => {
            // An empty zookie asks for everything acknowledged.
            let at_least = match freshness {
                Freshness::AtLeast(_) => zookie.to_owned(),
                Freshness::Newest | Freshness::Exact(_) | Freshness::Full => String::new(),
            };
            let request = proto::ReadRequest { filter: Some(wire(*filter)), at_least, ..Default::default() };
            let mut tuples = TupleServiceClient::new(channel);
            let stream = bounded(patience, tuples.read(timed(request, patience))).await?;
            let (zookie, tuples) = gathered(patience, stream, |part| (part.zookie, part.tuples)).await?;
            let facts = tuples.iter().map(|tuple| Fact::of(&tuple.object, &tuple.relation, &tuple.subject));
            let facts: Option<Vec<Fact>> = facts.collect();
            Ok((zookie, sorted(facts).map(|facts| Given::Facts(facts.into()))))
        }
    }
}

fn parts(fact: Fact) -> (String, String, String) {
    let Fact { relation, object, subject } = fact;
    (relation.object(object), relation.name().to_owned(), subject.to_string())
}

fn verdict(verdict: proto::Verdict) -> Result<bool, String> {
    match verdict {
        proto::Verdict::Allowed => Ok(true),
        proto::Verdict::Denied => Ok(false),
        proto::Verdict::Conditional | proto::Verdict::Unspecified => Err(format!("{verdict:?} was answered")),
    }
}

/// All parts of a stream of results: they are of one revision.
async fn gathered<M, T>(
    patience: Duration,
    mut stream: Streaming<M>,
    open: impl Fn(M) -> (String, Vec<T>),
) -> Result<(String, Vec<T>), Status> {
    let gathering = async {
        let (mut zookie, mut all) = (String::new(), Vec::new());
        while let Some(message) = stream.message().await? {
            let (named, part) = open(message);
            if !zookie.is_empty() && named != zookie {
                return Err(Status::data_loss("the parts of a list are of several revisions"));
            }
            zookie = named;
            all.extend(part);
        }
        Ok((zookie, all))
    };
    let gathered = tokio::time::timeout(patience, gathering).await;
    gathered.unwrap_or_else(|_| Err(Status::deadline_exceeded("the client gave up")))
}

fn numbered(numbers: Option<Vec<u32>>) -> Result<Given, String> {
    sorted(numbers).map(|numbers| Given::Numbers(numbers.into()))
}

/// In order; nothing may be listed twice, or be unknown to the world of the run.
fn sorted<T: Ord + std::fmt::Debug>(listed: Option<Vec<T>>) -> Result<Vec<T>, String> {
    let mut listed = listed.ok_or("a list names something that is not of this world")?;
    listed.sort_unstable();
    if listed.array_windows::<2>().any(|[one, two]| one == two) {
        return Err(format!("a list names something twice: {listed:?}"));
    }
    Ok(listed)
}

fn wire(filter: Filter) -> proto::TupleFilter {
    match filter {
        Filter::Of(relation, object) => {
            let object = relation.object(object);
            let (object_type, object_id) = object.split_once(':').unwrap_or_default();
            proto::TupleFilter {
                object_type: object_type.to_owned(),
                object_id: object_id.to_owned(),
                relation: relation.name().to_owned(),
                ..Default::default()
            }
        }
        Filter::About(subject) => about(subject),
        Filter::All => proto::TupleFilter::default(),
    }
}

fn about(subject: Subject) -> proto::TupleFilter {
    let text = subject.to_string();
    let (object, relation) = text.split_once('#').unwrap_or((&text, ""));
    let (subject_type, subject_id) = object.split_once(':').unwrap_or_default();
    proto::TupleFilter {
        subject_type: subject_type.to_owned(),
        subject_id: subject_id.to_owned(),
        subject_relation: Some(relation.to_owned()),
        ..Default::default()
    }
}

/// A filter for all that is stored for a relation of an object.
pub fn condition(relation: Relation, object: u32) -> proto::TupleFilter {
    wire(Filter::Of(relation, object))
}
