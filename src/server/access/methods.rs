//! The table: what each method of the API asks of its caller.
//!
//! A method that has no row is refused, whoever calls and even where no credentials are asked
//! for. `docs/security/access.md` shows the same table to people, and a test holds the two and
//! the descriptors together.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::right::{Right, Rights};
use crate::proto;

/// What a method asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing, not even a credential.
    Nothing,
    /// A credential, whatever it carries.
    Credential,
    /// One of these rights on all stores.
    OnAll(Rights),
    /// One of these rights on the store that the request names.
    OnStore(Rights),
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// As HTTP/2 has it: `/package.Service/Method`.
    pub path: &'static str,
    /// What it asks of its caller.
    pub needs: Needs,
}

const READ: Needs = Needs::OnStore(Rights::of(&[Right::Read]));
const WRITE: Needs = Needs::OnStore(Rights::of(&[Right::Write]));
const SCHEMA: Needs = Needs::OnStore(Rights::of(&[Right::Schema]));
const ADMIN: Needs = Needs::OnStore(Rights::of(&[Right::Admin]));
/// Who changes schemas must see them.
const READ_OR_SCHEMA: Needs = Needs::OnStore(Rights::of(&[Right::Read, Right::Schema]));
const ADMIN_OF_ALL: Needs = Needs::OnAll(Rights::of(&[Right::Admin]));

/// Every method that is served.
pub const TABLE: &[Method] = &[
    row("/relata.v1.PermissionService/Check", READ),
    row("/relata.v1.PermissionService/BatchCheck", READ),
    row("/relata.v1.PermissionService/Expand", READ),
    row("/relata.v1.PermissionService/ListObjects", READ),
    row("/relata.v1.PermissionService/ListSubjects", READ),
    row("/relata.v1.PermissionService/ListRelations", READ),
    row("/relata.v1.TupleService/Write", WRITE),
    row("/relata.v1.TupleService/DeleteTuples", WRITE),
    row("/relata.v1.TupleService/DeleteObject", WRITE),
    row("/relata.v1.TupleService/Read", READ),
    row("/relata.v1.TupleService/Watch", READ),
    row("/relata.v1.TupleService/ReadLog", READ),
    row("/relata.v1.SchemaService/WriteSchema", SCHEMA),
    row("/relata.v1.SchemaService/ReadSchema", READ_OR_SCHEMA),
    row("/relata.v1.SchemaService/ListSchemas", READ_OR_SCHEMA),
    // It shows tuples, as a refusal of `WriteSchema` does.
    row("/relata.v1.SchemaService/PlanSchema", SCHEMA),
    row("/relata.v1.StoreService/CreateStore", ADMIN_OF_ALL),
    row("/relata.v1.StoreService/GetStore", READ),
    // It shows the stores on which the caller has any right.
    row("/relata.v1.StoreService/ListStores", Needs::Credential),
    row("/relata.v1.StoreService/DeleteStore", ADMIN),
    row("/relata.v1.KeyService/CreateKey", ADMIN_OF_ALL),
    row("/relata.v1.KeyService/ListKeys", ADMIN_OF_ALL),
    row("/relata.v1.KeyService/RevokeKey", ADMIN_OF_ALL),
    row("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Needs::Credential),
    row("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Needs::Credential),
    // A load balancer that has no credential must be able to tell a node that serves from one
    // that does not. Health says nothing else.
    row("/grpc.health.v1.Health/Check", Needs::Nothing),
    row("/grpc.health.v1.Health/Watch", Needs::Nothing),
];

const fn row(path: &'static str, needs: Needs) -> Method {
    Method { path, needs }
}

/// The row of a method, by its path exactly as it arrived.
#[must_use]
pub fn find(path: &str) -> Option<&'static Method> {
    static BY_PATH: LazyLock<HashMap<&str, &Method>> =
        LazyLock::new(|| TABLE.iter().map(|method| (method.path, method)).collect());
    BY_PATH.get(path).copied()
}

/// A request, as access control sees it.
pub trait Addressed {
    /// The store it names, empty for the default one; `None` if it is not about one store.
    fn store(&self) -> Option<&str>;
}

macro_rules! addressed {
    (to a store: $($message:ident)*; to the server: $($other:ident)*;) => {
        $(impl Addressed for proto::$message {
            fn store(&self) -> Option<&str> {
                Some(&self.store)
            }
        })*
        $(impl Addressed for proto::$other {
            fn store(&self) -> Option<&str> {
                None
            }
        })*
    };
}

addressed! {
    to a store:
        CheckRequest BatchCheckRequest ExpandRequest ListObjectsRequest ListSubjectsRequest ListRelationsRequest
        WriteRequest DeleteTuplesRequest DeleteObjectRequest ReadRequest WatchRequest ReadLogRequest
        WriteSchemaRequest ReadSchemaRequest ListSchemasRequest PlanSchemaRequest
        GetStoreRequest DeleteStoreRequest;
    to the server:
        CreateStoreRequest ListStoresRequest
        CreateKeyRequest ListKeysRequest RevokeKeyRequest;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// The paths of all methods that some descriptors describe.
    fn described(descriptors: &[u8]) -> Vec<String> {
        let set = FileDescriptorSet::decode(descriptors).expect("descriptors");
        let mut paths = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        paths
    }

    /// A new method without a row would be refused to everybody; a row without a method is a
    /// mistake in the table.
    #[test]
    fn the_table_has_a_row_for_each_method_that_is_served() {
        let served = [
            proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let described: BTreeSet<String> = served.into_iter().flat_map(described).collect();
        let rows: BTreeSet<String> = TABLE.iter().map(|method| method.path.to_owned()).collect();
        assert_eq!(described.difference(&rows).collect::<Vec<_>>(), Vec::<&String>::new(), "without a row");
        assert_eq!(
            rows.difference(&described).collect::<Vec<_>>(),
            Vec::<&String>::new(),
            "without a method"
        );
        assert_eq!(rows.len(), TABLE.len(), "no row twice");
    }

    /// People read the same table.
    #[test]
    fn the_documents_show_the_table() {
        let document = include_str!("../../../docs/security/access.md");
        for method in TABLE {
            let (service, name) = method.path.rsplit_once('/').expect("a method");
            let service = service.rsplit('.').next().expect("a service");
            let words = |rights: Rights| {
                rights.iter().map(|right| format!("`{right}`")).collect::<Vec<_>>().join(" or ")
            };
            let needs = match method.needs {
                Needs::Nothing => "nothing".to_owned(),
                Needs::Credential => "a credential".to_owned(),
                Needs::OnAll(rights) => format!("{} on all stores", words(rights)),
                Needs::OnStore(rights) => format!("{} on the store", words(rights)),
            };
            let row = format!("| `{service}/{name}` | {needs}");
            assert!(document.contains(&row), "docs/security/access.md lacks `{row}`");
        }
    }

    #[test]
    fn only_health_is_open() {
        let open = TABLE.iter().filter(|method| method.needs == Needs::Nothing);
        assert!(open.clone().count() > 0);
        for method in open {
            assert!(method.path.starts_with("/grpc.health.v1.Health/"), "{}", method.path);
        }
    }

    #[test]
    fn a_path_is_found_only_as_it_is_written() {
        assert!(find("/relata.v1.TupleService/Write").is_some());
        for other in [
            "",
            "/",
            "relata.v1.TupleService/Write",
            "//relata.v1.TupleService/Write",
            "/relata.v1.TupleService/Write/",
            "/relata.v1.tupleservice/Write",
            "/relata.v1.TupleService/write",
            "/relata.v1.TupleService/%57rite",
            "/relata.v1.TupleService/Write?x",
            "/grpc.health.v1.Health/../../relata.v1.TupleService/Write",
        ] {
            assert!(find(other).is_none(), "{other}");
        }
    }
}
