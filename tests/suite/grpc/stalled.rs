//! Readers who do not read, on a connection of their own whose window is full soon.

use std::time::Duration;

use futures::TryStreamExt as _;
use relata::proto;
use relata::proto::permission_service_client::PermissionServiceClient;
use relata::proto::tuple_service_client::TupleServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use super::{Running, refused};
use crate::observed::{scrape, scrape_until};

/// Documents of the store, with names so long that their list is larger than all buffers on the way.
const DOCUMENTS: usize = 6_000;
const GRAPH: &[(&str, &str)] = &[("class", "graph")];

fn document(number: usize) -> String {
    format!("doc:{number:05}-{}", "x".repeat(200))
}

fn viewed_by_ann() -> proto::ListObjectsRequest {
    proto::ListObjectsRequest {
        store: "crowd".to_owned(),
        object_type: "doc".to_owned(),
        relation: "viewer".to_owned(),
        subject: "user:ann".to_owned(),
        ..Default::default()
    }
}

/// A server whose lists take many slices and may be so old, with a store that is worth reading.
async fn serving(age: Duration) -> Running {
    let server = Running::sqlite(|config| {
        config.snapshot_age = age;
        config.slice = 50;
    })
    .await;
    let store = "crowd".to_owned();
    server.stores().create_store(proto::CreateStoreRequest { name: store.clone() }).await.expect("a store");
    let text = super::SCHEMA.to_owned();
    let schema = proto::WriteSchemaRequest { store: store.clone(), text, ..Default::default() };
    server.schemas().write_schema(schema).await.expect("a schema");
    let tuples: Vec<String> =
        (0..DOCUMENTS).map(|number| format!("{}#granted@user:ann", document(number))).collect();
    for some in tuples.chunks(1_000) {
        let updates = some.iter().map(|text| super::update(proto::update::Operation::Touch, text)).collect();
        let request = proto::WriteRequest { store: store.clone(), updates, ..Default::default() };
        server.tuples().write(request).await.expect("written");
    }
    server
}

/// A connection that takes 64 KiB before it has to be read from.
async fn narrow(server: &Running) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let endpoint = endpoint.initial_connection_window_size(65_535).initial_stream_window_size(65_535);
    endpoint.connect().await.expect("the port is open")
}

async fn opened(
    server: &Running,
    request: proto::ListObjectsRequest,
) -> Streaming<proto::ListObjectsResponse> {
    let mut request = Request::new(request);
    // What a client allows does not let it hold anything for longer.
    request.set_timeout(Duration::from_hours(1));
    let mut permissions = PermissionServiceClient::new(narrow(server).await);
    permissions.list_objects(request).await.expect("a list").into_inner()
}

/// Reads to the end, which is an error.
async fn read_on(mut list: Streaming<proto::ListObjectsResponse>) -> (Vec<String>, Status) {
    let mut read = Vec::new();
    loop {
        match list.message().await {
            Ok(Some(message)) => {
                assert!(message.cursor.is_empty());
                read.extend(message.objects.into_iter().map(|listed| listed.object));
            }
            Ok(None) => panic!("{} documents, and nothing is said of the rest", read.len()),
            Err(status) => return (read, status),
        }
    }
}

/// What is in memory of the store besides what belongs to the others.
async fn drop_the_store(server: &Running) -> f64 {
    let before = scrape(server.operations).await.value("relata_memory_bytes", GRAPH);
    let request = proto::DeleteStoreRequest { store: "crowd".to_owned() };
    server.stores().delete_store(request).await.expect("deleted");
    before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_holds_the_graph_it_reads_until_it_leaves() {
    let server = serving(Duration::from_hours(1)).await;
    let list = opened(&server, viewed_by_ann()).await;
    let before = drop_the_store(&server).await;
    let resident = [("relata_memory_stores_resident", 1.0)];
    let told = scrape_until(server.operations, "the end of the store", |page| {
        resident.iter().all(|(name, value)| page.find(name, &[]) == Some(*value))
    })
    .await;
    let held = told.value("relata_memory_bytes", GRAPH);
    assert!(held > before / 2.0, "{held} bytes of {before} are held for the reader");
    drop(list);
    scrape_until(server.operations, "the graph's end", |page| {
        page.value("relata_memory_bytes", GRAPH) < before / 10.0
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_never_reads_holds_a_graph_no_longer_than_its_age() {
    let server = serving(Duration::from_millis(300)).await;
    let list = opened(&server, viewed_by_ann()).await;
    let before = drop_the_store(&server).await;
    // Nothing is read meanwhile.
    scrape_until(server.operations, "the graph's end", |page| {
        page.value("relata_memory_bytes", GRAPH) < before / 10.0
            && page.find("relata_memory_graphs_retired", &[]) == Some(0.0)
    })
    .await;
    let (read, status) = read_on(list).await;
    assert!(read.len() < DOCUMENTS, "{}", read.len());
    refused::<()>(Err(status), Code::Aborted, "STREAM_TOO_OLD", "");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_took_too_long_goes_on_in_pages_of_the_same_revision() {
    let age = Duration::from_millis(500);
    let server = serving(age).await;
    let stalled = opened(&server, viewed_by_ann()).await;
    let in_pages = opened(&server, proto::ListObjectsRequest { page_size: 5_000, ..viewed_by_ann() }).await;
    // Until both have been let go: the fuel of a list is recorded when it is dropped, and what is
    // told waits for the reader.
    let searches = [("search", "list_objects")];
    scrape_until(server.operations, "the end of both", |page| {
        page.find("relata_search_fuel_count", &searches) == Some(2.0)
    })
    .await;
    let gone = super::update(proto::update::Operation::Delete, &format!("{}#granted@user:ann", document(17)));
    let request =
        proto::WriteRequest { store: "crowd".to_owned(), updates: vec![gone], ..Default::default() };
    server.tuples().write(request).await.expect("written");
    tokio::time::sleep(age * 3).await;

    for list in [stalled, in_pages] {
        let (read, status) = read_on(list).await;
        assert!(read.len() < DOCUMENTS, "{}", read.len());
        let status = refused::<()>(Err(status), Code::Aborted, "STREAM_TOO_OLD", "");
        let details = status.get_error_details();
        let mut cursor = details.error_info().expect("a reason").metadata["cursor"].clone();
        let mut whole = Vec::new();
        while !cursor.is_empty() {
            let request = proto::ListObjectsRequest { cursor, page_size: 2_500, ..viewed_by_ann() };
            let page = server.permissions().list_objects(request).await.expect("a page").into_inner();
            let messages: Vec<_> = page.try_collect().await.expect("the whole page");
            cursor = messages.last().expect("a message").cursor.clone();
            whole
                .extend(messages.into_iter().flat_map(|message| message.objects).map(|listed| listed.object));
        }
        let expected: Vec<String> = (0..DOCUMENTS).map(document).collect();
        assert_eq!(whole, expected, "as it was when the list was begun");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_the_record_who_stalls_is_told_and_one_who_reads_is_not() {
    let server = serving(Duration::from_millis(300)).await;
    let request = || {
        let request = proto::ReadRequest { store: "crowd".to_owned(), ..Default::default() };
        let mut request = Request::new(request);
        request.set_timeout(Duration::from_hours(1));
        request
    };
    let mut tuples = TupleServiceClient::new(narrow(&server).await);
    let mut stalled = tuples.read(request()).await.expect("a stream").into_inner();
    // The other stream reads with the window of a connection of its own, and all the time.
    let read: Vec<_> = server
        .tuples()
        .read(request())
        .await
        .expect("a stream")
        .into_inner()
        .try_collect()
        .await
        .expect("all");
    assert_eq!(read.iter().map(|message| message.tuples.len()).sum::<usize>(), DOCUMENTS);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let status = loop {
        match stalled.message().await {
            Ok(message) => assert!(message.is_some(), "it ends as if it were whole"),
            Err(status) => break status,
        }
    };
    refused::<()>(Err(status), Code::Aborted, "STREAM_TOO_OLD", "");
    server.stop().await;
}

/// Lists that are read to their end and lists that are left in the middle give everything back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_lists_leave_nothing_behind() {
    const LISTS: usize = 2_000;
    const AT_ONCE: usize = 20;
    let server = Running::sqlite(|config| config.slice = 50).await;
    server.with_schema().await;
    let tuples: Vec<String> = (0..200).map(|number| format!("doc:{number}#granted@user:ann")).collect();
    server.touch(&tuples.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let request = || proto::ListObjectsRequest { store: String::new(), ..viewed_by_ann() };
    let list = async |number: usize| {
        let mut list = loop {
            match server.permissions().list_objects(request()).await {
                Ok(list) => break list.into_inner(),
                // Those that were left are still on their way out.
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}"),
            }
        };
        if number.is_multiple_of(2) {
            let read: Vec<_> = list.try_collect().await.expect("all of it");
            assert_eq!(read.iter().map(|message| message.objects.len()).sum::<usize>(), 200);
        } else if number % 4 == 1 {
            list.message().await.expect("a message").expect("not over");
        }
    };
    for begun in (0..LISTS).step_by(AT_ONCE) {
        futures::future::join_all((begun..begun + AT_ONCE).map(list)).await;
    }
    let held = ["calls", "streams", "bytes"];
    scrape_until(server.operations, "nothing is held", |page| {
        held.iter().all(|resource| page.find("relata_admission_held", &[("resource", resource)]) == Some(0.0))
            && page.find("relata_search_seats_taken", &[]) == Some(0.0)
            && page.find("relata_search_seats_wanted", &[]) == Some(0.0)
            && page.find("relata_memory_graphs_retired", &[]) == Some(0.0)
    })
    .await;
    let page = scrape(server.operations).await;
    let told = page.value("relata_search_fuel_count", &[("search", "list_objects")]);
    assert!(told >= 1_000.0, "{told} lists were made");
    server.stop().await;
}
