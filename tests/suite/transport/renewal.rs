//! A new certificate is taken while clients work, and none of them notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::authority::write;
use super::{Encrypted, PATIENCE, call, shown};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_under_load() {
    let server = Arc::new(Encrypted::start().await);
    let before = shown(&server.shake_hands(None).await.expect("a handshake"));
    let (done, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut workers = Vec::new();
    for worker in 0..4 {
        let (server, done, calls) = (Arc::clone(&server), Arc::clone(&done), Arc::clone(&calls));
        workers.push(tokio::spawn(async move {
            let mut channel = server.ask(server.trust(None)).await.expect("let in");
            while !done.load(Ordering::Relaxed) {
                // Half of them keep their connection, half open a new one for each call.
                if worker % 2 == 0 {
                    call(&channel).await.expect("answered");
                } else {
                    channel = server.ask(server.trust(None)).await.expect("let in and answered");
                }
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }

    for _ in 0..2 {
        let renewed = server.authority.server();
        assert_ne!(renewed.der, before);
        // In two steps, as files are replaced: between them the two do not belong together.
        write(server.folder.path(), "server.key", &renewed.key);
        write(server.folder.path(), "server.pem", &renewed.certificate);
        let taken = tokio::time::timeout(PATIENCE, async {
            while shown(&server.shake_hands(None).await.expect("a handshake")) != renewed.der {}
        });
        taken.await.expect("the new certificate is shown in time");
    }

    // What is broken stays out, and what is in force stays.
    let in_force = shown(&server.shake_hands(None).await.expect("a handshake"));
    let other = server.authority.server();
    write(server.folder.path(), "server.pem", &other.certificate);
    let seen = calls.load(Ordering::Relaxed);
    let quiet = tokio::time::timeout(std::time::Duration::from_secs(3), async {
        loop {
            let now = shown(&server.shake_hands(None).await.expect("a handshake"));
            assert_eq!(now, in_force, "half of a pair was taken");
        }
    });
    assert!(quiet.await.is_err(), "several looks at the files went by");
    // The other half completes it.
    write(server.folder.path(), "server.key", &other.key);
    let taken = tokio::time::timeout(PATIENCE, async {
        while shown(&server.shake_hands(None).await.expect("a handshake")) != other.der {}
    });
    taken.await.expect("the mended pair is shown in time");

    done.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.expect("no call failed");
    }
    assert!(calls.load(Ordering::Relaxed) > seen + 10, "calls went on all the time");
    Arc::into_inner(server).expect("nobody else").stop().await;
}
