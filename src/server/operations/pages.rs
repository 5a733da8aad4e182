//! What can be asked.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::sync::watch;

use crate::metrics::{CONTENT_TYPE as OPEN_METRICS, Metrics};
use crate::server::readiness::Readiness;

/// What the pages are made of.
#[derive(Debug, Clone)]
pub struct Pages {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/readyz`: the last judgement, so that asking costs the database nothing.
    pub readiness: watch::Receiver<Readiness>,
}

impl Pages {
    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .with_state(self)
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    ([(CONTENT_TYPE, OPEN_METRICS)], pages.metrics.encode()).into_response()
}

async fn livez() -> Response {
    ([(CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

async fn readyz(State(pages): State<Pages>) -> Response {
    let readiness = pages.readiness.borrow().clone();
    let reasons = readiness.reasons().iter();
    let reasons: Vec<_> = reasons
        .map(|reason| json!({ "reason": reason.concern.as_str(), "message": reason.message }))
        .collect();
    let body = json!({ "ready": readiness.is_ready(), "reasons": reasons });
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, format!("{body}\n")).into_response()
}
