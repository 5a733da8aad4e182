//! The judgement of a PostgreSQL database.

use std::time::Duration;

use super::words::{count, samples, size, time};
use super::{Expectations, Finding, Topic, shared};
use crate::datastore::postgres::{
    ConnectionFacts, DurabilityFacts, Follower, PostgresSurvey, ServerFacts, SizeFacts, Slot, StandbyFacts,
};
use crate::datastore::survey::{Samples, Seen};

/// The oldest version that is supported, as `server_version_num` has it.
const OLDEST_VERSION: i64 = 140_000;
/// Each write takes four round trips.
const SLOW_ROUND_TRIP: Duration = Duration::from_millis(5);
const SLOW_COMMIT: Duration = Duration::from_millis(50);
/// Log that a standby has not replayed.
const FAR_BEHIND_BYTES: u64 = 256 << 20;
/// Log kept for a slot that nobody uses.
const MUCH_KEPT_BYTES: u64 = 1 << 30;
/// Seconds of a transaction that keeps dead rows from being removed.
const LONG_TRANSACTION: f64 = 600.0;

/// What is to be said of a database at an address.
#[must_use]
pub fn judge(address: &str, survey: &PostgresSurvey, expected: &Expectations) -> Vec<Finding> {
    let server = match &survey.server {
        Ok(server) => server,
        Err(why) => {
            let what = format!("{address} let us connect, and answers nothing: {why}");
            let remedy = "look into the log of the database, and of the pooler if there is one";
            return vec![Finding::problem(Topic::Connection, what, remedy)];
        }
    };
    let mut findings = vec![connection(address, survey.connect, server), version(server)];
    findings.extend(encoding(server));
    findings.push(shared::tables(&survey.tables));
    findings.extend(forbidden(&survey.forbidden));
    findings.push(role(server, survey.standby.as_ref()));
    findings.extend(durability(&survey.durability));
    findings.extend(replication(server, survey));
    findings.extend(survey.round_trips.as_ref().map(latency));
    findings.push(commit(&survey.commits));
    findings.push(notifications(&survey.notifications));
    findings.extend(survey.clock.map(|clock| shared::clock(clock, expected)));
    findings.extend(shared::newest(&survey.newest_ahead, "the database's clock"));
    findings.push(connections(&survey.connections, expected));
    findings.extend(oldest(&survey.oldest_transaction));
    findings.push(space(&survey.sizes));
    let counted =
        survey.stores.as_ref().ok().and_then(|stores| stores.iter().map(|store| store.tuples).sum());
    let estimated = survey.sizes.as_ref().ok().and_then(estimate);
    let bytes = survey.sizes.as_ref().map_or(0, |sizes| sizes.tables_bytes.unsigned_abs());
    let tuples: Option<u64> = counted.or(estimated);
    findings.push(shared::stores(&survey.stores, tuples, counted.is_none(), bytes));
    findings.push(shared::memory(tuples, expected));
    findings
}

fn connection(address: &str, took: Duration, server: &ServerFacts) -> Finding {
    let took = time(took);
    if server.encrypted || server.local {
        let how = if server.encrypted { "with TLS" } else { "on this machine" };
        return Finding::ok(Topic::Connection, format!("{address}, {how}, connected in {took}"));
    }
    let what = format!("{address}, in plain text over the network, connected in {took}");
    Finding::warning(Topic::Connection, what, "add sslmode=verify-full to the URL, and TLS to the database")
}

fn version(server: &ServerFacts) -> Finding {
    let what = format!("PostgreSQL {}", server.version);
    if server.version_number < OLDEST_VERSION {
        let what = format!("{what}: older than the oldest supported one, 14");
        return Finding::problem(Topic::Version, what, "upgrade PostgreSQL to 14 or later");
    }
    Finding::ok(Topic::Version, what)
}

fn encoding(server: &ServerFacts) -> Option<Finding> {
    (server.encoding != "UTF8").then(|| {
        let what = format!("the database is encoded in {}: ids beyond it are refused", server.encoding);
        let remedy = "make a database with ENCODING 'UTF8', and restore into it";
        Finding::problem(Topic::Version, what, remedy)
    })
}

fn forbidden(seen: &Seen<Option<String>>) -> Option<Finding> {
    let tables = seen.as_ref().ok()?.as_ref()?;
    let what = format!("the role may not read and write these tables: {tables}");
    let remedy = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA relata TO the role";
    Some(Finding::problem(Topic::Tables, what, remedy))
}

fn role(server: &ServerFacts, standby: Option<&Seen<StandbyFacts>>) -> Finding {
    if server.in_recovery {
        let how = match standby {
            Some(Ok(StandbyFacts { behind, receiving })) => {
                let behind = behind.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
                let behind = behind
                    .map_or(String::new(), |behind| format!(", its newest commit {} ago", time(behind)));
                let receiving = if *receiving { "it receives changes" } else { "it receives nothing" };
                format!(" ({receiving}{behind})")
            }
            Some(Err(_)) | None => String::new(),
        };
        let what = format!("it is a replica{how}: servers need the primary, for reading too");
        let remedy = "name the primary in --datastore, or promote this one after a failover (docs/operations/postgresql-failover.md)";
        return Finding::problem(Topic::Role, what, remedy);
    }
    if server.read_only {
        let what = "it is a primary, and transactions of this role are read-only";
        let remedy = "ALTER ROLE or ALTER DATABASE … RESET default_transaction_read_only";
        return Finding::problem(Topic::Role, what, remedy);
    }
    Finding::ok(Topic::Role, "it is a primary and takes writes")
}

fn durability(seen: &Seen<DurabilityFacts>) -> Vec<Finding> {
    let facts = match seen {
        Ok(facts) => facts,
        Err(why) => return vec![shared::unseen(Topic::Durability, "what a commit survives", why)],
    };
    let mut findings = Vec::new();
    if !facts.fsync {
        let what = "fsync is off: a crash of the machine destroys the database";
        let remedy = "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();";
        findings.push(Finding::problem(Topic::Durability, what, remedy));
    }
    if !facts.full_page_writes {
        let what = "full_page_writes is off: a crash of the machine may leave pages half written";
        let remedy = "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();";
        findings.push(Finding::problem(Topic::Durability, what, remedy));
    }
    match facts.synchronous_commit.as_str() {
        "off" => {
            let what = "synchronous_commit is off: a crash loses writes that were acknowledged, revocations included";
            let remedy = "set synchronous_commit = on, for the server, the database or the role";
            findings.push(Finding::problem(Topic::Durability, what, remedy));
        }
        "local" if !facts.synchronous_standby_names.is_empty() => {
            let what = "synchronous_commit is local: standbys are named, and not waited for";
            let remedy = "set synchronous_commit = on, for the server, the database or the role";
            findings.push(Finding::warning(Topic::Durability, what, remedy));
        }
        setting if findings.is_empty() => {
            let what = format!("fsync and full_page_writes are on, synchronous_commit is {setting}");
            findings.push(Finding::ok(Topic::Durability, what));
        }
        _ => {}
    }
    if !facts.autovacuum {
        let what = "autovacuum is off: dead rows are never removed, and every read becomes slower";
        let remedy = "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf();";
        findings.push(Finding::warning(Topic::Upkeep, what, remedy));
    }
    findings
}

fn replication(server: &ServerFacts, survey: &PostgresSurvey) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !server.in_recovery {
        findings.push(match (&survey.followers, &survey.durability) {
            (Err(why), _) => shared::unseen(Topic::Replication, "which replicas follow", why),
            (Ok(followers), facts) => {
                let names = facts.as_ref().map_or("", |facts| facts.synchronous_standby_names.as_str());
                followed(followers, names)
            }
        });
    }
    findings.extend(survey.slots.iter().flatten().filter_map(slot));
    findings
}

fn followed(followers: &[Follower], waited_for: &str) -> Finding {
    if followers.is_empty() {
        if !waited_for.is_empty() {
            let what = format!(
                "synchronous_standby_names is `{waited_for}`, and no standby is there: commits wait for ever"
            );
            let remedy = "start the standby, or take it out of synchronous_standby_names";
            return Finding::problem(Topic::Replication, what, remedy);
        }
        return Finding::note(Topic::Replication, "no replica: what this server loses is lost")
            .advise("add a replica, or archive the log so that a backup can be brought up to date");
    }
    let told: Vec<String> = followers.iter().map(one).collect();
    let what = told.join("; ");
    let far = followers
        .iter()
        .find(|follower| follower.behind_bytes.is_some_and(|bytes| bytes.unsigned_abs() > FAR_BEHIND_BYTES));
    if let Some(far) = far {
        let what = format!("{what}. `{}` is far behind", far.name);
        let remedy = "see whether it replays slowly or the network is narrow; a failover to it loses as much unless it is waited for";
        return Finding::warning(Topic::Replication, what, remedy);
    }
    // A role without pg_monitor is not told.
    if followers.iter().all(|follower| follower.sync_state.is_none()) {
        let number = u64::try_from(followers.len()).unwrap_or(u64::MAX);
        let what = format!("{}, whose state this role may not see", count(number, "replica"));
        return Finding::note(Topic::Replication, what)
            .advise("GRANT pg_monitor TO the role, or ask with another one");
    }
    let waited =
        followers.iter().any(|follower| matches!(follower.sync_state.as_deref(), Some("sync" | "quorum")));
    if waited { Finding::ok(Topic::Replication, what) } else { not_waited(&what) }
}

fn not_waited(what: &str) -> Finding {
    let what = format!("{what}. No commit waits for a replica: a failover loses what it had not received");
    let remedy = "name at least two in synchronous_standby_names, such as `ANY 1 (a, b)`, or accept it knowingly (docs/operations/postgresql-failover.md)";
    Finding::warning(Topic::Replication, what, remedy)
}

fn one(follower: &Follower) -> String {
    let state = follower.state.as_deref().unwrap_or("state unknown");
    let sync = follower.sync_state.as_deref().map_or(String::new(), |sync| format!(", {sync}"));
    let behind = follower
        .behind_bytes
        .map_or(String::new(), |bytes| format!(", {} behind", size(bytes.unsigned_abs())));
    format!("replica `{}` {state}{sync}{behind}", follower.name)
}

fn slot(slot: &Slot) -> Option<Finding> {
    let kept = slot.kept_bytes?.unsigned_abs();
    (!slot.active && kept > MUCH_KEPT_BYTES).then(|| {
        let what = format!(
            "the replication slot `{}` is used by nobody and keeps {} of log: it fills the disk",
            slot.name,
            size(kept)
        );
        let remedy =
            format!("connect its replica again, or SELECT pg_drop_replication_slot('{}')", slot.name);
        Finding::warning(Topic::Space, what, remedy)
    })
}

fn latency(round_trips: &Samples) -> Finding {
    let what = format!("a round trip takes {}", samples(round_trips));
    if round_trips.median() > SLOW_ROUND_TRIP {
        let remedy = "each write takes four round trips: run servers near the primary";
        return Finding::warning(Topic::Latency, what, remedy);
    }
    Finding::ok(Topic::Latency, what)
}

fn commit(seen: &Seen<Samples>) -> Finding {
    match seen {
        Ok(commits) => {
            let what = format!("a commit takes {}", samples(commits));
            if commits.median() > SLOW_COMMIT {
                let remedy =
                    "it waits for the disk, and for the standbys if they are synchronous: see which is slow";
                return Finding::warning(Topic::Commit, what, remedy);
            }
            Finding::ok(Topic::Commit, what)
        }
        Err(why) if why.starts_with("no answer") => {
            let what = format!("a commit does not end: {why}");
            let remedy = "most likely it waits for a standby that is not there: start it, or take it out of synchronous_standby_names";
            Finding::problem(Topic::Commit, what, remedy)
        }
        Err(why) => shared::unseen(Topic::Commit, "how long a commit takes", why),
    }
}

fn notifications(seen: &Seen<Option<Duration>>) -> Finding {
    match seen {
        Ok(Some(took)) => Finding::ok(Topic::Notifications, format!("one arrived after {}", time(*took))),
        Ok(None) => {
            let what = "none arrives: a pooler in transaction mode swallows them. Servers poll instead, and see each other's writes up to 150 ms later";
            let remedy = "lead past the pooler with --direct-datastore";
            Finding::warning(Topic::Notifications, what, remedy)
        }
        Err(why) => shared::unseen(Topic::Notifications, "whether they arrive", why),
    }
}

fn connections(seen: &Seen<ConnectionFacts>, expected: &Expectations) -> Finding {
    let ConnectionFacts { most, open } = match seen {
        Ok(facts) => facts,
        Err(why) => return shared::unseen(Topic::Connections, "how many there may be", why),
    };
    let needed = i64::from(expected.connections);
    let free = most.saturating_sub(*open);
    let what = format!("{open} of {most} are open; a server opens up to {needed}");
    if *most < needed {
        let remedy = "raise max_connections, or the limit of the role or the database";
        return Finding::problem(Topic::Connections, format!("{what}, more than there may be"), remedy);
    }
    if free < needed {
        let what = format!("{what}: one that starts now may find none");
        let remedy = "raise max_connections, or put a pooler in session mode in between";
        return Finding::warning(Topic::Connections, what, remedy);
    }
    let room = count((free / needed.max(1)).unsigned_abs(), "more server");
    Finding::ok(Topic::Connections, format!("{what}, so there is room for {room}"))
}

fn oldest(seen: &Seen<Option<f64>>) -> Option<Finding> {
    let seconds = (*seen.as_ref().ok()?)?;
    (seconds > LONG_TRANSACTION).then(|| {
        let what = format!(
            "a transaction has been open for {}: dead rows pile up until it ends",
            time(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
        );
        let remedy =
            "find it in pg_stat_activity (ORDER BY xact_start), and end it with pg_terminate_backend(pid)";
        Finding::warning(Topic::Upkeep, what, remedy)
    })
}

/// PostgreSQL does not say how much room its disk has left.
fn space(seen: &Seen<SizeFacts>) -> Finding {
    let takes = match seen {
        Ok(sizes) => format!("the database takes {}", size(sizes.database_bytes.unsigned_abs())),
        Err(_) => "the database's size is not known".to_owned(),
    };
    Finding::note(Topic::Space, format!("{takes}; PostgreSQL does not say how much room is left"))
        .advise("watch the disks of the database's machine: data, log and archive")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate, and not negative")]
fn estimate(sizes: &SizeFacts) -> Option<u64> {
    (sizes.tuples_estimate >= 0.0).then_some(sizes.tuples_estimate as u64)
}
