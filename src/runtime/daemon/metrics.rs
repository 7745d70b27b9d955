//! `GET /metrics` in the text form of OpenMetrics, for Prometheus. It listens on loopback unless the profile says
//! otherwise, answers nothing else, and refuses what a browser was made to ask by another site.

use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tiny_http::{Header, Method, Request, Response, Server};

use super::status::Shared;
use crate::bus::TransportStatus;

/// Answers at `address` on a thread of its own until the process ends; gives back where it listens.
///
/// # Errors
/// Where nothing can listen there; the message says what to do.
pub fn serve(address: SocketAddr, shared: Arc<Shared>) -> Result<SocketAddr, String> {
    let server = Server::http(address).map_err(|e| {
        format!("metrics: cannot listen at {address}: {e}\n  what to do: give control.metrics another port")
    })?;
    let listens = server.server_addr().to_ip().unwrap_or(address);
    let answer = move || {
        let mut registry = Registry::with_prefix("nestling");
        registry.register_collector(Box::new(FromStatus(shared)));
        for request in server.incoming_requests() {
            let (code, body) = match refusal(&request, listens) {
                Some((code, why)) => (code, why.to_string()),
                None => {
                    let mut body = String::new();
                    match text::encode(&mut body, &registry) {
                        Ok(()) => (200, body),
                        Err(e) => (500, e.to_string()),
                    }
                }
            };
            let kind = "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8";
            let response = Response::from_string(body).with_status_code(code);
            let response = match kind.parse::<Header>() {
                Ok(header) if code == 200 => response.with_header(header),
                _ => response,
            };
            // A caller that goes away is no concern of ours.
            let _ = request.respond(response);
        }
    };
    let spawned = std::thread::Builder::new().name("nestling-metrics".into()).spawn(answer);
    spawned.map(|_| listens).map_err(|e| format!("metrics: cannot start the thread: {e}"))
}

/// Why a request is not answered.
fn refusal(request: &Request, listens: SocketAddr) -> Option<(u16, &'static str)> {
    let header = |name: &'static str| request.headers().iter().find(|h| h.field.equiv(name)).map(|h| h.value.as_str());
    if header("Origin").is_some() {
        return Some((403, "not for pages of other sites"));
    }
    // A name that was made to point here is not ours; elsewhere we do not know our names.
    if listens.ip().is_loopback() && !header("Host").is_some_and(is_loopback_name) {
        return Some((421, "ask for 127.0.0.1 or localhost"));
    }
    match (request.method(), request.url().split('?').next()) {
        (Method::Get, Some("/metrics")) => None,
        (Method::Get, _) => Some((404, "there is /metrics only")),
        _ => Some((405, "only GET")),
    }
}

/// `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    ["localhost", "[::1]"].contains(&name) || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

struct FromStatus(Arc<Shared>);

impl std::fmt::Debug for FromStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FromStatus")
    }
}

impl Collector for FromStatus {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let s = self.0.status();
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let flag = |value: bool| f64::from(u8::from(value));
        gauge("uptime_seconds", "Time since the start", s.uptime_s)?;
        gauge("source_open", "1 while the source is open", flag(s.source.open))?;
        gauge("feature_stale", "1 while the newest feature is older than it may be", flag(s.features.stale))?;
        if let Some(age) = s.age_us {
            gauge("feature_age_seconds", "Age of the newest feature's sample", age as f64 / 1e6)?;
        }
        for (q, name) in [(0.5, "feature_latency_p50_seconds"), (0.99, "feature_latency_p99_seconds")] {
            gauge(name, "From a sample's arrival to its feature", s.features.latency_us.quantile(q) as f64 / 1e6)?;
        }
        for (q, name) in [(0.5, "backbone_p50_seconds"), (0.99, "backbone_p99_seconds")] {
            gauge(name, "A frame in the backbone; 0 without one", s.features.backbone_us.quantile(q) as f64 / 1e6)?;
        }
        if let Some(control) = &s.control {
            let latency = control.latency_us.quantile(0.99) as f64 / 1e6;
            gauge("decision_latency_p99_seconds", "From a sample's arrival to what was decided by it", latency)?;
            let safe = control.decisions.iter().filter(|decision| decision.safe.is_some()).count();
            gauge("decisions_safe", "Controllers that give their safe value", safe as f64)?;
            let examples: usize = control.taught.iter().map(|taught| taught.examples).sum();
            gauge("taught_examples", "Examples that were taught", examples as f64)?;
        }
        for (q, name) in [(0.5, "step_p50_seconds"), (0.99, "step_p99_seconds")] {
            gauge(name, "A step of learning", s.learning.step_us.quantile(q) as f64 / 1e6)?;
        }
        gauge("encoder_version", "Version of the published encoder", s.learning.encoder as f64)?;
        gauge("learning_frozen", "1 while nothing is learned", flag(s.learning.state == "frozen"))?;
        gauge("learning_pressure", "Share of its budget that learning takes, 0 to 1", s.learning.pressure)?;
        if let Some(temperature) = s.learning.temperature {
            gauge("temperature_celsius", "Hottest zone of the machine", temperature)?;
        }
        gauge("loss", "Running loss of the pretext, in nat", s.learning.loss)?;
        for (name, help, value) in s.learning.guard.rows() {
            gauge(name, help, value)?;
        }
        gauge("memory_planned_bytes", "Memory that the learner planned", s.memory.planned_bytes as f64)?;
        gauge("memory_resident_bytes", "Memory that the process holds", s.memory.rss_bytes as f64)?;
        gauge("memory_resident_peak_bytes", "Most memory that the process has held", s.memory.peak_rss_bytes as f64)?;
        let mut counter = |name: &str, help: &str, value: u64| {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
        };
        counter("samples", "Samples that came", s.source.samples)?;
        counter("samples_missed", "Samples that nobody had time to perceive", s.source.missed)?;
        counter("samples_damaged", "Damaged samples that the source passed over", s.source.damaged)?;
        counter("source_reopened", "Times that the source was opened again", s.source.reopened)?;
        counter("features", "Features made", s.features.perceived)?;
        counter("features_late", "Features after their deadline", s.features.late)?;
        counter("features_unread", "Features that their reader had no time for", s.features.unread)?;
        counter("messages_missed", "Messages that a reader of a socket had no time for", s.features.missed)?;
        counter(
            "features_withheld",
            "Samples without a feature as the encoder was damaged, or the backbone had no exponent yet",
            s.features.withheld,
        )?;
        counter("features_went_stale", "Times that features went stale", s.features.went_stale)?;
        counter("samples_learned", "Samples taken in by the learner", s.learning.observed)?;
        counter("samples_not_learned", "Samples that the learner had no time for", s.learning.not_learned)?;
        counter("steps", "Steps of the pretext", s.learning.steps)?;
        if let Some(control) = &s.control {
            counter("alarms", "Times that an alarm was raised", control.alarms)?;
            counter("decisions_stale", "Times that decisions went stale", control.went_stale)?;
            counter(
                "commands_failed",
                "Commands of controllers that failed or could not be started",
                control.commands_failed,
            )?;
            let failures = control.pins.iter().map(|pin| pin.failures).sum();
            counter("pin_failures", "Writes to pins that failed", failures)?;
        }
        counter("lessons_published", "Lessons published", s.learning.lessons_published)?;
        counter("samples_flat", "Samples without contrast, not learned from", s.learning.guard.flat)?;
        counter("samples_stuck", "Samples of a stuck sensor, not learned from", s.learning.guard.stuck)?;
        counter("memory_restored", "Times that damaged memory was restored", s.learning.restored)?;
        counter("lessons_undone", "Lessons undone", s.learning.lessons_rolled_back)?;
        if let Some(store) = &s.store {
            counter("store_saves", "Checkpoints written", store.saves)?;
            counter("store_failures", "Checkpoints that could not be written", store.failures)?;
            counter("store_written_bytes", "Bytes written by checkpoints", store.bytes_written)?;
        }
        type Count = fn(&TransportStatus) -> u64;
        let ways: [(&str, &str, Count); 3] = [
            ("transport_sent", "Messages that a way out took", |t| t.sent),
            ("transport_dropped", "Messages that a way out had no time for, or that it was away for", |t| t.dropped),
            ("transport_failures", "Times that a way out failed", |t| t.failures),
        ];
        for (name, help, value) in ways {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for transport in &s.transports {
                let label = [("transport", transport.name.as_str())];
                ConstCounter::new(value(transport)).encode(family.encode_family(&label)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for host in ["localhost", "localhost:9464", "127.0.0.1", "127.0.0.1:1", "[::1]:9464", "[::1]"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in ["example.org", "example.org:9464", "127.0.0.1.example.org", "10.0.0.1:9464", "localhost.evil", ""]
        {
            assert!(!is_loopback_name(host), "{host}");
        }
    }
}
