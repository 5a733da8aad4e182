//! Every setting with its unit, default and reason.
