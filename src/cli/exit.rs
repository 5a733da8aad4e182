//! How the program ends: what each exit code means, and the one place where an error gets its
//! code and its advice.

use std::error::Error as _;
use std::fmt;
use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::transport;

/// The exit codes, those of `sysexits.h` where they say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Allowed, or done.
    Success = 0,
    /// Denied, or a test failed, or the doctor found something wrong.
    Denied = 1,
    /// The answer depends on parameters that were not given.
    Conditional = 2,
    /// The command line is not one that `relata` has.
    Usage = 64,
    /// What was given is malformed, or does not fit what the store holds.
    BadInput = 65,
    /// The server cannot be reached or cannot answer now. Retrying may help.
    Unavailable = 69,
    /// A defect, here or in the server.
    Internal = 70,
    /// The token is missing, unknown or does not reach this far.
    NotPermitted = 77,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it was asked: one line what, one line what to do.
#[derive(Debug)]
pub struct Failure {
    /// The code to end with.
    pub exit: Exit,
    what: String,
    reason: String,
    advice: Option<String>,
}

impl Failure {
    /// A failure with its code.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), reason: String::new(), advice: None }
    }

    /// What was given is not usable.
    pub fn bad_input(what: impl fmt::Display) -> Self {
        Self::new(Exit::BadInput, what.to_string())
    }

    /// The command line does not make sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Says what it was about, before the rest.
    #[must_use]
    pub fn about(mut self, subject: impl fmt::Display) -> Self {
        self.what = format!("{subject}: {}", self.what);
        self
    }

    /// What happened, in one line.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// What to do about it.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// What happened, for programs.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": self.what,
            "reason": self.reason,
            "advice": self.advice,
            "exit": self.exit as u8,
        })
    }

    /// Whether the reader of our output has gone, which is no failure of ours.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        self.exit == Exit::Success
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.what)?;
        if !self.reason.is_empty() {
            write!(f, " [{}]", self.reason)?;
        }
        match &self.advice {
            Some(advice) => write!(f, "\n  try: {advice}"),
            None => Ok(()),
        }
    }
}

impl From<io::Error> for Failure {
    /// Of an error met while writing output; reading names its file and does not come here.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Success, "");
        }
        Self::new(Exit::Internal, format!("cannot write the output: {error}"))
    }
}

/// The exit code of a gRPC code.
fn exit_of(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Success,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange => Exit::BadInput,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted => {
            Exit::Unavailable
        }
        Code::PermissionDenied | Code::Unauthenticated => Exit::NotPermitted,
        Code::Cancelled | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
            Exit::Internal
        }
    }
}

/// What to do about an answer of the server, by its machine-readable reason.
fn advice_of_reason(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "NO_SCHEMA" | "SCHEMA_MISSING" => "upload one with `relata schema write FILE`",
        "STORE_NOT_FOUND" => "`relata store list` shows the stores, `relata store create NAME` makes one",
        "KEY_NOT_FOUND" => "`relata key list` shows the keys",
        "KEY_AMBIGUOUS" => "name one by its id, or add --all",
        "SCHEMA_NOT_FOUND" => "`relata schema list` shows the versions",
        "SCHEMA_CHANGED" => "read the schema in force with `relata schema read` and decide anew",
        "ZOOKIE_HISTORY_LOST" => {
            "the database lost the write behind this zookie: ask without it and write anew what is missing"
        }
        "LOG_TRIMMED" => {
            "read the tuples anew with `relata tuple read`, then watch from the zookie it prints"
        }
        "IDEMPOTENCY_KEY_REUSED" => "choose a new key for a new request",
        _ => return None,
    })
}

/// What to do about an answer of the server, by its code alone.
fn advice_of_code(code: Code) -> Option<&'static str> {
    match code {
        Code::Unauthenticated => Some("pass a key or token with --token or RELATA_TOKEN"),
        Code::PermissionDenied => Some("ask whoever runs the server for a key with this right"),
        Code::Unavailable => Some("retry in a moment"),
        Code::DeadlineExceeded => Some("allow more time with --timeout SECONDS, or ask for less"),
        Code::ResourceExhausted => Some("ask for less at once, or retry when the server is less busy"),
        Code::Unimplemented => {
            Some("the server is older or newer than this program: compare `relata version`")
        }
        Code::Internal | Code::Unknown | Code::DataLoss => Some("the log of the server says more"),
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange => None,
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if let Some(failure) = status.source().and_then(transport::explain) {
            return failure;
        }
        // What a server answers has no source here; what is met on the way to it has. A server
        // that ends in the middle of an answer is away, and not at fault.
        if status.source().is_some() && exit_of(status.code()) == Exit::Internal {
            return Self::new(Exit::Unavailable, "the connection to the server broke")
                .advise("retry in a moment");
        }
        let details = status.get_error_details();
        let reason = reason(&status);
        let mut what = status.message().to_owned();
        if what.is_empty() {
            what = format!("the server answered {:?}", status.code());
        }
        if let Some(request) = details.bad_request() {
            for violation in &request.field_violations {
                if !what.contains(&violation.description) {
                    what = format!("{what}\n  {}: {}", violation.field, violation.description);
                }
            }
        }
        let advice = advice_of_reason(&reason).or_else(|| {
            advice_of_code(status.code()).filter(|_| !status.message().contains("log says more"))
        });
        Self { exit: exit_of(status.code()), what, reason, advice: advice.map(str::to_owned) }
    }
}

/// The machine-readable reason of an answer; empty if it has none.
#[must_use]
pub fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::ErrorDetails;

    #[test]
    fn every_grpc_code_has_its_exit_code() {
        for (code, exit) in [
            (Code::InvalidArgument, 65),
            (Code::NotFound, 65),
            (Code::AlreadyExists, 65),
            (Code::FailedPrecondition, 65),
            (Code::OutOfRange, 65),
            (Code::Unavailable, 69),
            (Code::DeadlineExceeded, 69),
            (Code::ResourceExhausted, 69),
            (Code::Aborted, 69),
            (Code::PermissionDenied, 77),
            (Code::Unauthenticated, 77),
            (Code::Internal, 70),
            (Code::Unknown, 70),
            (Code::Unimplemented, 70),
            (Code::DataLoss, 70),
            (Code::Cancelled, 70),
        ] {
            assert_eq!(Failure::from(Status::new(code, "no")).exit as u8, exit, "{code:?}");
        }
    }

    #[test]
    fn the_reason_is_shown_and_answered_with_advice() {
        let mut details = ErrorDetails::with_error_info(
            "STORE_NOT_FOUND",
            "relata",
            [("store".to_owned(), "x".to_owned())],
        );
        details.add_bad_request_violation("store", "no store is called `x`");
        let status = Status::with_error_details(Code::NotFound, "no such store", details);
        assert_eq!(
            Failure::from(status).to_string(),
            "error: no such store\n  store: no store is called `x` [STORE_NOT_FOUND]\n  \
             try: `relata store list` shows the stores, `relata store create NAME` makes one"
        );
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_closed_pipe());
        assert!(!Failure::from(io::Error::other("disk full")).is_closed_pipe());
    }
}
