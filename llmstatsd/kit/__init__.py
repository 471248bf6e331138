"""The monitoring kit: documents for Prometheus, Grafana and the like, made from the catalogue."""
