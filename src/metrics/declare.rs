//! How an area declares its families.

use std::sync::atomic::AtomicU64;

use prometheus_client::registry::{Metric, Registry, Unit};

/// A number that only grows.
pub type Counter = prometheus_client::metrics::counter::Counter;
/// A whole number that goes up and down.
pub type Gauge = prometheus_client::metrics::gauge::Gauge;
/// A measurement that goes up and down.
pub type Reading = prometheus_client::metrics::gauge::Gauge<f64, AtomicU64>;

/// Declares an area: a struct with a field for each family. The text after `in` begins the names;
/// the comments of the fields are their help texts.
macro_rules! families {
    ($(#[$doc:meta])* $area:ident in $prefix:literal {
        $($(#[doc = $help:literal])+ $field:ident: $kind:ty $(= $made:expr)?,)+
    }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $area {
            $($(#[doc = $help])+ pub $field: $kind,)+
        }

        impl $area {
            pub(super) fn register(registry: &mut prometheus_client::registry::Registry) -> Self {
                Self {
                    $($field: $crate::metrics::declare::family(
                        registry,
                        concat!($prefix, stringify!($field)),
                        concat!($($help),+),
                        $crate::metrics::declare::made!($kind $(, $made)?),
                    ),)+
                }
            }
        }
    };
}
pub(super) use families;

/// A metric as declared, or else the default of its kind.
macro_rules! made {
    ($kind:ty) => {
        <$kind>::default()
    };
    ($kind:ty, $made:expr) => {
        $made
    };
}
pub(super) use made;

/// Registers a family and gives it back. A name that ends in a unit has that unit.
pub(super) fn family<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    // The registry ends the text by a full stop of its own.
    let help = help.trim().trim_end_matches('.');
    let units = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)];
    let unit = units.into_iter().find_map(|(suffix, unit)| Some((name.strip_suffix(suffix)?, unit)));
    match unit {
        Some((name, unit)) => registry.register_with_unit(name, help, unit, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
    metric
}
