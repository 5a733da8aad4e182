//! What is said, how bad it is, and what to do about it.

/// How bad a finding is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Good to know, or not known.
    Note,
    /// It works, and may not when it matters.
    Warning,
    /// It does not work, or writes may be lost.
    Problem,
}

impl Severity {
    /// As people and programs read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What a finding is about. The words stay: scripts look for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Whether the database is reached, and how.
    Connection,
    /// The version of the database.
    Version,
    /// The version of the tables.
    Tables,
    /// Whether it takes writes.
    Role,
    /// What a commit survives.
    Durability,
    /// Standbys and what is kept for them.
    Replication,
    /// How long it takes to ask.
    Latency,
    /// How long a commit takes.
    Commit,
    /// Whether servers hear each other.
    Notifications,
    /// Clocks.
    Clock,
    /// Whether there are connections enough.
    Connections,
    /// What keeps the database from cleaning up.
    Upkeep,
    /// Room on the disk.
    Space,
    /// Stores and their sizes.
    Stores,
    /// The memory of a server.
    Memory,
    /// A running server.
    Server,
    /// What the token may do.
    Access,
}

impl Topic {
    /// As people and programs read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Version => "version",
            Self::Tables => "tables",
            Self::Role => "role",
            Self::Durability => "durability",
            Self::Replication => "replication",
            Self::Latency => "latency",
            Self::Commit => "commit",
            Self::Notifications => "notifications",
            Self::Clock => "clock",
            Self::Connections => "connections",
            Self::Upkeep => "upkeep",
            Self::Space => "space",
            Self::Stores => "stores",
            Self::Memory => "memory",
            Self::Server => "server",
            Self::Access => "access",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub topic: Topic,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// What to do about it. Whatever is a warning or worse has one.
    pub remedy: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(topic: Topic, what: impl Into<String>) -> Self {
        Self { topic, severity: Severity::Ok, what: what.into(), remedy: None }
    }

    /// Good to know, or not known.
    pub fn note(topic: Topic, what: impl Into<String>) -> Self {
        Self { topic, severity: Severity::Note, what: what.into(), remedy: None }
    }

    /// It works, and may not when it matters.
    pub fn warning(topic: Topic, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { topic, severity: Severity::Warning, what: what.into(), remedy: Some(remedy.into()) }
    }

    /// It does not work, or writes may be lost.
    pub fn problem(topic: Topic, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { topic, severity: Severity::Problem, what: what.into(), remedy: Some(remedy.into()) }
    }

    /// Adds what could be done, although nothing need be.
    #[must_use]
    pub fn advise(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }
}
