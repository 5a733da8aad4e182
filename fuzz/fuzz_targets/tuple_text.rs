//! Text that should be a tuple, an object, a subject or a relation: read without a panic, and
//! what is read prints as something that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relata::tuple::{Object, RelationName, Subject, TupleKey, TypeName};

const TUPLES: [&str; 5] = [
    "doc:plan#viewer@user:ann",
    "doc:plan#viewer@user:*",
    "doc:plan#viewer@group:eng#member",
    "doc:überplan#viewer@user:ann@example.com",
    "a:b#c@d:e#f",
];

fuzz_target!(init: relata_fuzz::plant(TUPLES.map(|text| text.as_bytes().to_vec())), |text: &str| {
    if let Ok(key) = text.parse::<TupleKey>() {
        assert_eq!(key.to_string().parse::<TupleKey>().as_ref(), Ok(&key));
    }
    if let Ok(object) = text.parse::<Object>() {
        assert_eq!(object.to_string().parse::<Object>().as_ref(), Ok(&object));
    }
    if let Ok(subject) = text.parse::<Subject>() {
        assert_eq!(subject.to_string().parse::<Subject>().as_ref(), Ok(&subject));
    }
    if let Ok(name) = RelationName::new(text) {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(name) = TypeName::new(text) {
        assert_eq!(name.as_str(), text);
    }
});
