//! What each path of the HTTP listener answers. Reads snapshots only; nothing here can change a node.

use serde_json::{Value, json};

use super::{Shared, lock, metrics};
use crate::io::clock;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
/// What prometheus-client writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// (path, what it shows) of all pages but the list itself.
const PAGES: [(&str, &str); 6] = [
    ("/status", "role, epoch, leader, voters with lag, high watermark, log end (JSON)"),
    ("/latency", "percentiles of each stage of a produce request in us (JSON)"),
    ("/slow", "the slowest produce requests of the last minute, each stage of them in us (JSON)"),
    ("/metrics", "counters, gauges and histograms (Prometheus)"),
    ("/ready", "200 when a quorum can commit and this node does its part in it, else 503 with the reason"),
    ("/live", "200 while the process runs"),
];

pub(super) struct Page {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

/// The page of a path without its query.
pub(super) fn page(path: &str, shared: &Shared) -> Page {
    match path {
        "/" => Page { status: 200, content_type: HTML, body: index(shared) },
        "/status" => status(shared),
        "/latency" => Page { status: 200, content_type: JSON, body: pretty(&latency(shared)) },
        "/slow" => Page { status: 200, content_type: JSON, body: pretty(&slow(shared)) },
        "/metrics" => metrics_page(shared),
        "/ready" => ready(shared),
        "/live" => text(200, "live"),
        _ => text(404, "There is no such page. / lists them."),
    }
}

pub(super) fn text(status: u16, line: &str) -> Page {
    Page { status, content_type: TEXT, body: format!("{line}\n") }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn status(shared: &Shared) -> Page {
    let Some(published) = shared.fresh_status() else {
        return Page {
            status: 503,
            content_type: JSON,
            body: pretty(&json!({"role": "starting", "ready": false})),
        };
    };
    let mut value = match serde_json::to_value(&published.status) {
        Ok(value) => value,
        Err(e) => return text(500, &format!("The status cannot be written as JSON: {e}.")),
    };
    value["version"] = json!(env!("CARGO_PKG_VERSION"));
    value["uptime_ms"] = json!(shared.started.elapsed().as_millis() as u64);
    value["status_age_ms"] = json!(published.at.elapsed().as_millis() as u64);
    value["connections"] = json!(shared.places().sum());
    Page { status: 200, content_type: JSON, body: pretty(&value) }
}

fn latency(shared: &Shared) -> Value {
    let latency = lock(&shared.latency);
    json!({
        "unit": "us",
        "since_start": latency.since_start.json(),
        "last_interval": latency.last_interval.json(),
        "last_interval_seconds": latency.last_interval_seconds,
    })
}

fn slow(shared: &Shared) -> Value {
    lock(&shared.slow).json(clock::monotonic_ns())
}

fn metrics_page(shared: &Shared) -> Page {
    match metrics::encode(shared) {
        Ok(body) => Page { status: 200, content_type: OPEN_METRICS, body },
        Err(e) => text(500, &format!("The metrics cannot be written: {e}.")),
    }
}

fn ready(shared: &Shared) -> Page {
    match shared.fresh_status() {
        Some(published) if published.status.ready => text(200, "ready"),
        Some(published) => {
            let why = published.status.not_ready.as_deref().unwrap_or("no leader is known");
            text(503, &format!("not ready: {why}"))
        }
        None => text(503, "not ready: starting"),
    }
}

fn index(shared: &Shared) -> String {
    let title = match shared.fresh_status() {
        Some(p) => format!("kraft node {}: {} in epoch {}", p.status.node_id, p.status.role, p.status.epoch),
        None => "kraft node: starting".to_string(),
    };
    let rows: String = PAGES
        .iter()
        .map(|(path, what)| format!("<li><a href=\"{path}\">{path}</a>: {what}</li>\n"))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><title>{title}</title>\n<h1>{title}</h1>\n<ul>\n{rows}</ul>\n</html>\n"
    )
}
