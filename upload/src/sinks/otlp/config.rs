//! The configuration of a sink for OTLP.

use http::Uri;
use http::uri::PathAndQuery;

use crate::config::Conflict;
use crate::sinks::send_plan::REQUEST_BYTES_MIN;
use crate::transport::Connection;

crate::config! {
    /// An OpenTelemetry Collector, or another receiver of OTLP. Keys that are not set are taken
    /// from the variables of OpenTelemetry, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub struct Config {
        /// The server.
        connection: Connection = flattened(),
        /// Transport of requests.
        protocol: Option<Protocol> =
            one_of().optional_or("`\"http\"` if the port is 4318, else `\"grpc\"`"),
        /// Path of the service below `url`, for HTTP.
        path: String = text().default("/v1development/profiles".into()),
        /// Maximum size of a request, uncompressed. Most servers accept 4MiB.
        ///
        /// Source of the maximum: OTLP specification, "clients should not send more".
        request_bytes_max: u64 = bytes(REQUEST_BYTES_MIN as u64..=mib(64)).default(kib(3584)),
        /// Whether a batch is kept and sent again when the server fails at it, by HTTP 500 or gRPC
        /// INTERNAL for example. By default it is lost, because OTLP allows a repetition only after
        /// certain errors. A batch that fails each time delays those behind it.
        retry_server_errors: bool = boolean().default(false),
    }
}

crate::config! {
    /// Transport of requests.
    pub enum Protocol {
        /// gRPC; port 4317 by convention.
        Grpc = "grpc",
        /// HTTP with binary messages; port 4318 by convention.
        Http = "http",
    }
}

impl Config {
    /// Returns the transport: by the port of the server if none is set.
    pub(super) fn protocol(&self) -> Protocol {
        let is_http_port = || {
            let url: Option<Uri> = self.connection.url.parse().ok();
            url.is_some_and(|url| url.port_u16() == Some(4318))
        };
        self.protocol.unwrap_or_else(|| match is_http_port() {
            true => Protocol::Http,
            false => Protocol::Grpc,
        })
    }

    /// Returns the path for HTTP, with a leading slash.
    pub(super) fn path(&self) -> String {
        format!("/{}", self.path.trim_start_matches('/'))
    }

    /// Returns the settings that contradict each other.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let mut conflicts = self.connection.conflicts();
        if self.path().parse::<PathAndQuery>().is_err() {
            let text = "is not a path; by convention the service is at /v1development/profiles";
            conflicts.push(Conflict::new("path", text));
        }
        conflicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_selects_the_protocol_by_default() {
        let protocol = |url: &str, protocol| {
            let connection = Connection { url: url.into(), ..Connection::default() };
            Config { connection, protocol, ..Config::default() }.protocol()
        };
        assert_eq!(protocol("http://collector:4317", None), Protocol::Grpc);
        assert_eq!(protocol("http://collector:4318", None), Protocol::Http);
        assert_eq!(protocol("https://collector", None), Protocol::Grpc);
        assert_eq!(protocol("http://collector:4318", Some(Protocol::Grpc)), Protocol::Grpc);
    }
}
