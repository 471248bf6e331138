"""What the daemon can show of the last hour without a Prometheus: history, ladder, cardinality."""
