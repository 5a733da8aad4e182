//! Labels with values known from the start, and tables indexed by them.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A label whose values are the variants of an enum.
pub trait Label: Copy + fmt::Debug + Send + Sync + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value, in the order of [`Self::index`].
    const ALL: &'static [Self];

    /// The value as it is exposed.
    fn value(self) -> &'static str;

    /// Its place in [`Self::ALL`].
    fn index(self) -> usize;
}

/// Declares an enum that is a label.
macro_rules! labels {
    ($($(#[$doc:meta])* $label:literal: $name:ident {
        $($(#[$value_doc:meta])* $variant:ident = $value:literal,)+
    })+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$value_doc])* $variant,)+
        }

        impl $crate::metrics::Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn value(self) -> &'static str {
                match self {
                    $(Self::$variant => $value,)+
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )+};
}
pub(super) use labels;

labels! {
    /// How something ended that can go well or not.
    "outcome": Outcome {
        /// It did what it should.
        Succeeded = "succeeded",
        /// It did not.
        Failed = "failed",
    }
}

impl<T, E> From<&Result<T, E>> for Outcome {
    fn from(result: &Result<T, E>) -> Self {
        if result.is_ok() { Self::Succeeded } else { Self::Failed }
    }
}

/// One metric for each value of a label.
pub struct By<L, M> {
    metrics: Arc<[M]>,
    label: std::marker::PhantomData<fn(L)>,
}

impl<L: Label, M> By<L, M> {
    /// A metric for each value.
    #[must_use]
    pub fn new(make: impl Fn() -> M) -> Self {
        Self { metrics: L::ALL.iter().map(|_| make()).collect(), label: std::marker::PhantomData }
    }

    /// The metric of one value.
    #[expect(clippy::indexing_slicing, reason = "there is one for each value, made above")]
    pub fn of(&self, label: L) -> &M {
        // INVARIANT: `index` is a place in `ALL`, and `metrics` has as many.
        &self.metrics[label.index()]
    }
}

impl<L: Label, M: Default> Default for By<L, M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

impl<L, M> Clone for By<L, M> {
    fn clone(&self) -> Self {
        Self { metrics: Arc::clone(&self.metrics), label: std::marker::PhantomData }
    }
}

impl<L: Label, M: fmt::Debug> fmt::Debug for By<L, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(L::ALL.iter().map(|label| label.value()).zip(self.metrics.iter())).finish()
    }
}

impl<L: Label, M: TypedMetric> TypedMetric for By<L, M> {
    const TYPE: MetricType = M::TYPE;
}

impl<L: Label, M: EncodeMetric + TypedMetric> EncodeMetric for By<L, M> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        L::ALL.iter().zip(self.metrics.iter()).try_for_each(|(label, metric)| {
            metric.encode(encoder.encode_family(&[(L::NAME, label.value())])?)
        })
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
