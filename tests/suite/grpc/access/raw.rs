//! Calls as bytes over HTTP/2, so that a method needs no client of its own to be called.

use http::uri::PathAndQuery;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Status};

use prost::bytes::{Buf as _, BufMut as _};

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut item);
        Ok(Some(item))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

/// The value of an `authorization` header.
pub fn header(bytes: &[u8]) -> MetadataValue<Ascii> {
    MetadataValue::try_from(bytes).expect("a header")
}

/// Calls a path with one message and these `authorization` headers, in the shape that fits every
/// kind of method: the messages of a unary call are a stream of one. The first message of the
/// answer, or the refusal.
pub async fn call(
    channel: &Channel,
    path: &str,
    message: Vec<u8>,
    credentials: &[MetadataValue<Ascii>],
) -> Result<Option<Vec<u8>>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.expect("a connection");
    let mut request = Request::new(tokio_stream::once(message));
    for credential in credentials {
        request.metadata_mut().append("authorization", credential.clone());
    }
    let path: PathAndQuery = path.parse().expect("a path");
    let mut answers = client.streaming(request, path, Bytes).await?.into_inner();
    answers.message().await
}

/// The same with an empty message and at most one credential.
pub async fn probe(channel: &Channel, path: &str, credential: Option<&str>) -> Result<(), Status> {
    let credentials: Vec<_> =
        credential.map(|text| header(format!("Bearer {text}").as_bytes())).into_iter().collect();
    call(channel, path, Vec::new(), &credentials).await.map(|_| ())
}
