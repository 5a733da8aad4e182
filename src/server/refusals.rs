//! What the transport refuses by itself, in the words and with the details of our own refusals.

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};

use super::status::Error;

/// How the transport says that a message cannot be read: not the type it should be, none at all,
/// cut short, or with impossible flags. It calls them `INTERNAL`, though the caller is at fault.
const UNREADABLE: [&str; 4] = [
    "failed to decode Protobuf message",
    "Missing request message",
    "Unexpected EOF decoding stream",
    "protocol error: received message",
];

/// Replaces a bare status that the transport made before any method saw the request.
pub fn in_our_words(response: Response<Body>) -> Response<Body> {
    let Some(status) = Status::from_header_map(response.headers()) else { return response };
    match translate(&status) {
        Some(error) => error.into_status().into_http(),
        None => response,
    }
}

fn translate(status: &Status) -> Option<Error> {
    // Ours carry details.
    if !status.details().is_empty() {
        return None;
    }
    let message = status.message();
    if let Some(detail) = message.strip_prefix("Error, decoded message length too large: ") {
        return Some(Error::MessageTooLarge { detail: detail.to_owned() });
    }
    let unreadable =
        status.code() == Code::Internal && UNREADABLE.iter().any(|words| message.starts_with(words));
    unreadable.then_some(Error::MalformedMessage)
}
