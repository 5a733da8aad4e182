//! Messages with every field filled, made from the descriptors of the API, so that a new field or
//! method has its seed without anybody thinking of it.

use prost::encoding::{WireType, encode_key, encode_varint};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// How deep messages within messages are filled.
const DEPTH: usize = 8;

/// Text of the names that fields have, where not any text will do.
const TEXTS: &[(&str, &str)] = &[
    ("object", "doc:1"),
    ("relation", "viewer"),
    ("subject", "user:ann"),
    ("object_type", "doc"),
    ("object_types", "doc"),
    ("object_id", "1"),
    ("subject_type", "user"),
    ("subject_id", "ann"),
    ("subject_relation", ""),
    ("text", SCHEMA),
    // The default store, the schema in force, the first page, any zookie.
    ("store", ""),
    ("schema_id", ""),
    ("expected", ""),
    ("cursor", ""),
    ("after", ""),
    ("at_least", ""),
    ("exact", ""),
];

const SCHEMA: &str = "model
  schema 1.1

type user

type doc
  relations
    define parent: [doc]
    define owner: [user]
    define viewer: [user, user:*, doc#viewer, user with small] or owner or viewer from parent
    define editor: viewer but not owner
    define both: viewer and owner

condition small(amount: int) {
  amount < 100
}
";

/// A method of the API.
#[derive(Debug)]
pub(super) struct Method {
    /// As a request names it.
    pub(super) path: String,
    /// The full name of the message it takes.
    request: String,
}

/// Knows the messages of the API.
pub(super) struct Seeds {
    messages: Vec<(String, DescriptorProto)>,
    methods: Vec<Method>,
}

impl Seeds {
    pub(super) fn new(descriptors: FileDescriptorSet) -> Self {
        let (mut messages, mut methods) = (Vec::new(), Vec::new());
        for file in descriptors.file {
            let package = file.package().to_owned();
            for service in &file.service {
                methods.extend(service.method.iter().map(|method| Method {
                    path: format!("/{package}.{}/{}", service.name(), method.name()),
                    request: method.input_type().to_owned(),
                }));
            }
            collect(&format!(".{package}"), file.message_type, &mut messages);
        }
        Self { messages, methods }
    }

    /// The methods, in the order of the descriptors.
    pub(super) fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// A message for a method, every field of it filled; of alternatives, each once.
    pub(super) fn message(&self, method: usize) -> Vec<u8> {
        self.methods.get(method).map(|method| self.filled(&method.request, DEPTH)).unwrap_or_default()
    }

    // INVARIANT: the recursion is bounded by `depth`.
    fn filled(&self, name: &str, depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let Some((_, message)) = self.messages.iter().find(|(known, _)| known == name) else { return bytes };
        if depth > 0 {
            for field in &message.field {
                self.fill(field, depth, &mut bytes);
            }
        }
        bytes
    }

    fn fill(&self, field: &FieldDescriptorProto, depth: usize, bytes: &mut Vec<u8>) {
        let Ok(tag) = u32::try_from(field.number()) else { return };
        match field.r#type() {
            Type::String => delimited(tag, text(field.name()).as_bytes(), bytes),
            Type::Bytes => delimited(tag, b"bytes", bytes),
            Type::Message => delimited(tag, &self.filled(field.type_name(), depth - 1), bytes),
            Type::Double => {
                encode_key(tag, WireType::SixtyFourBit, bytes);
                bytes.extend_from_slice(&1.5_f64.to_le_bytes());
            }
            Type::Float => {
                encode_key(tag, WireType::ThirtyTwoBit, bytes);
                bytes.extend_from_slice(&1.5_f32.to_le_bytes());
            }
            Type::Fixed64 | Type::Sfixed64 => {
                encode_key(tag, WireType::SixtyFourBit, bytes);
                bytes.extend_from_slice(&1_u64.to_le_bytes());
            }
            Type::Fixed32 | Type::Sfixed32 => {
                encode_key(tag, WireType::ThirtyTwoBit, bytes);
                bytes.extend_from_slice(&1_u32.to_le_bytes());
            }
            Type::Bool if field.name() == "must_exist" => {}
            Type::Bool
            | Type::Enum
            | Type::Int32
            | Type::Int64
            | Type::Uint32
            | Type::Uint64
            | Type::Sint32
            | Type::Sint64 => {
                encode_key(tag, WireType::Varint, bytes);
                encode_varint(1, bytes);
            }
            // Of the syntax before proto3.
            Type::Group => {}
        }
    }
}

/// Messages and those inside them, by full name.
fn collect(prefix: &str, declared: Vec<DescriptorProto>, messages: &mut Vec<(String, DescriptorProto)>) {
    let mut pending: Vec<(String, DescriptorProto)> =
        declared.into_iter().map(|message| (prefix.to_owned(), message)).collect();
    while let Some((prefix, mut message)) = pending.pop() {
        let name = format!("{prefix}.{}", message.name());
        let inside = std::mem::take(&mut message.nested_type);
        pending.extend(inside.into_iter().map(|message| (name.clone(), message)));
        messages.push((name, message));
    }
}

fn text(field: &str) -> &'static str {
    TEXTS.iter().find(|(name, _)| *name == field).map_or("x", |(_, text)| text)
}

fn delimited(tag: u32, content: &[u8], bytes: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, bytes);
    encode_varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}
