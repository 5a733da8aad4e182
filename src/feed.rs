//! Follows the changelog into the graph: the only place that joins the two.
