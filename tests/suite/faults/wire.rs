//! Where a message ends and the next one begins, in either direction.
//!
//! PostgreSQL's messages are a type byte and a length, but for those that open a connection: they
//! have no type, and a request for encryption is answered by a single byte.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Requests for encryption, TLS and GSSAPI, in the place of a protocol version.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];
const CANCEL: u32 = 80_877_102;

/// Who sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Whoever connected; PostgreSQL says frontend.
    Client,
    /// What the proxy leads to; PostgreSQL says backend.
    Server,
}

/// One message on its way. In plain TCP, whatever one read returned.
#[derive(Debug, Clone, Copy)]
pub struct Message<'m> {
    /// The connection, counted from 1 since the proxy began.
    pub connection: u64,
    /// Who sent it.
    pub side: Side,
    /// Which of that side's messages on the connection it is, counted from 1.
    pub index: u64,
    /// The type, such as `Q` for a query and `C` for its completion. `None`: it has none, as when
    /// a connection is opened, and as in plain TCP.
    pub kind: Option<u8>,
    /// All of it, type and length included.
    pub bytes: &'m [u8],
}

impl Message<'_> {
    /// Whether the text is in the message.
    pub fn says(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// Cuts one direction of a connection into messages.
#[derive(Debug)]
pub struct Framing {
    side: Side,
    stage: Stage,
    /// Answers of a single byte that the client has asked for and not yet got.
    single_bytes: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// What a client says first has no type.
    Opening,
    Typed,
    /// Not understood: plain TCP, or encrypted.
    Opaque,
}

impl Framing {
    /// Both directions of a PostgreSQL connection: what the client sends, what the server does.
    pub fn postgres() -> (Self, Self) {
        let single_bytes = Arc::new(AtomicUsize::new(0));
        let client = Self { side: Side::Client, stage: Stage::Opening, single_bytes: single_bytes.clone() };
        (client, Self { side: Side::Server, stage: Stage::Typed, single_bytes })
    }

    /// Both directions of a connection of which nothing is understood.
    pub fn plain() -> (Self, Self) {
        let (client, server) = Self::postgres();
        (Self { stage: Stage::Opaque, ..client }, Self { stage: Stage::Opaque, ..server })
    }

    /// The length of the first message, if it is all there, and its type.
    pub fn first(&mut self, received: &[u8]) -> Option<(usize, Option<u8>)> {
        if received.is_empty() {
            return None;
        }
        match self.stage {
            Stage::Opaque => Some((received.len(), None)),
            Stage::Typed if self.side == Side::Server && self.answers_with_a_byte() => {
                if received[0] == b'S' {
                    self.stage = Stage::Opaque;
                }
                Some((1, None))
            }
            Stage::Typed => {
                let length = number(received.get(1..5)?) as usize + 1;
                (received.len() >= length).then(|| (length, Some(received[0])))
            }
            Stage::Opening => {
                let length = number(received.get(..4)?) as usize;
                let code = number(received.get(4..8)?);
                if received.len() < length {
                    return None;
                }
                if ENCRYPTION.contains(&code) {
                    self.single_bytes.fetch_add(1, Ordering::SeqCst);
                } else if code != CANCEL {
                    self.stage = Stage::Typed;
                }
                Some((length, None))
            }
        }
    }

    fn answers_with_a_byte(&self) -> bool {
        let less = |waiting: usize| waiting.checked_sub(1);
        self.single_bytes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(code: u32, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + rest.len()).expect("a length");
        [&length.to_be_bytes(), &code.to_be_bytes(), rest].concat()
    }

    fn typed(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(4 + body.len()).expect("a length");
        [&[kind], &length.to_be_bytes()[..], body].concat()
    }

    /// The messages of a stream that arrives in pieces of a given size.
    fn messages(framing: &mut Framing, stream: &[u8], piece: usize) -> Vec<(usize, Option<u8>)> {
        let (mut received, mut found) = (Vec::new(), Vec::new());
        for piece in stream.chunks(piece) {
            received.extend_from_slice(piece);
            while let Some((length, kind)) = framing.first(&received) {
                received.drain(..length);
                found.push((length, kind));
            }
        }
        assert!(received.is_empty(), "{} bytes are left", received.len());
        found
    }

    #[test]
    fn a_conversation_is_cut_into_its_messages_however_it_arrives() {
        let asked = [
            opening(ENCRYPTION[1], b""),
            opening(ENCRYPTION[0], b""),
            opening(196_608, b"user\0ann\0\0"),
            typed(b'Q', b"COMMIT\0"),
            typed(b'S', b""),
        ]
        .concat();
        let answered = [b"NN".to_vec(), typed(b'R', &[0; 4]), typed(b'Z', b"I")].concat();
        for piece in [1, 2, 3, 7, 1000] {
            let (mut client, mut server) = Framing::postgres();
            assert_eq!(
                messages(&mut client, &asked, piece),
                [(8, None), (8, None), (18, None), (12, Some(b'Q')), (5, Some(b'S'))]
            );
            assert_eq!(
                messages(&mut server, &answered, piece),
                [(1, None), (1, None), (9, Some(b'R')), (6, Some(b'Z'))]
            );
        }
    }

    #[test]
    fn what_is_encrypted_or_no_database_passes_as_it_comes() {
        let (mut client, mut server) = Framing::postgres();
        assert_eq!(client.first(&opening(ENCRYPTION[0], b"")), Some((8, None)));
        assert_eq!(server.first(b"S\x16\x03"), Some((1, None)));
        assert_eq!(server.first(b"\x16\x03"), Some((2, None)));
        let (mut client, mut server) = Framing::plain();
        assert_eq!((client.first(b"PRI * HTTP/2.0"), server.first(b"")), (Some((14, None)), None));
    }
}
