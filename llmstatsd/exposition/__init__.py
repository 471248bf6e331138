"""The text formats of Prometheus from the store, and a Collector for prometheus_client."""
