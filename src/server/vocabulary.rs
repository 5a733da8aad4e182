//! What metrics can be about: the methods of the API as its descriptors have them, and the
//! reasons of its errors.

use prost::Message as _;
use prost_types::FileDescriptorSet;

use super::status::Reason;
use crate::metrics::{MethodKind, Vocabulary};
use crate::proto;

/// Everything this server serves, health and reflection included.
#[must_use]
pub fn of_the_api() -> Vocabulary {
    let sets = [
        proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let methods = sets.into_iter().flat_map(methods).collect();
    Vocabulary { methods, reasons: Reason::ALL.iter().map(|reason| reason.as_str()).collect() }
}

fn methods(descriptors: &[u8]) -> Vec<(String, MethodKind)> {
    // They were made at build time; a test sees that they can be read.
    let files = FileDescriptorSet::decode(descriptors).unwrap_or_default().file;
    let mut methods = Vec::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                let kind = if method.server_streaming() { MethodKind::Stream } else { MethodKind::Single };
                methods.push((format!("{}.{}/{}", file.package(), service.name(), method.name()), kind));
            }
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_every_method_and_how_it_answers() {
        let methods = of_the_api().methods;
        for known in [
            ("relata.v1.PermissionService/Check", MethodKind::Single),
            ("relata.v1.PermissionService/ListObjects", MethodKind::Stream),
            ("relata.v1.TupleService/Watch", MethodKind::Stream),
            ("grpc.health.v1.Health/Check", MethodKind::Single),
            ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", MethodKind::Stream),
            ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", MethodKind::Stream),
        ] {
            assert!(
                methods.iter().any(|(name, kind)| (name.as_str(), *kind) == known),
                "{known:?}: {methods:?}"
            );
        }
    }
}
