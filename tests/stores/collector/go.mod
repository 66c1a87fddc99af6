// The real OpenTelemetry Collector that tests/stores.rs sends to. Built by tests/stores/build.sh.
module everytick/tests/stores/collector

go 1.26.0

require (
	github.com/open-telemetry/opentelemetry-collector-contrib/exporter/fileexporter v0.159.0
	go.opentelemetry.io/collector/component v1.65.0
)
