"""Holds many label sets of one series in prometheus_client and serves them, until SIGTERM.

The other side of exporters.py: what an application would have to do without a daemon.
"""

import signal
import sys
import threading
from pathlib import Path

import click
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.exposition import start_http_server

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from llmstatsd.catalog import UNDECLARED_BUCKETS

LABELS = ("customer", "region")


def labels_of(number: int) -> tuple[str, str]:
    """The values of one label set, of usual length."""
    return f"customer-{number:06d}", "eu-central"


@click.command()
@click.argument("kind", type=click.Choice(("counters", "histograms")))
@click.argument("label_sets", type=int)
def main(kind: str, label_sets: int) -> None:
    """Serve so many label sets on a free loopback port, which is said on stderr."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    server, thread = start_http_server(0, "127.0.0.1", registry)
    click.echo(f"ready: statsd_udp=none:0 http=127.0.0.1:{server.server_port}", err=True)
    sys.stdin.readline()  # the memory of an empty process has been read
    if kind == "counters":
        counter = Counter("app_jobs_total", "Held.", LABELS, registry=registry)
        for number in range(label_sets):
            counter.labels(*labels_of(number)).inc()
    else:
        histogram = Histogram(
            "app_run_seconds", "Held.", LABELS, registry=registry, buckets=UNDECLARED_BUCKETS
        )
        for number in range(label_sets):
            histogram.labels(*labels_of(number)).observe(1.5)
    click.echo("filled", err=True)
    over.wait()
    server.shutdown()
    thread.join()


if __name__ == "__main__":
    main()
