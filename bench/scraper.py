"""An HTTP client that scrapes a URL a few times from its own process, and prints one JSON object.

It stands in for Prometheus: one keep-alive connection, the body read whole and thrown away.
Its own work lies outside the measured process, as a real scraper's does.
"""

import http.client
import time
import urllib.parse

import click
import msgspec


class Scraped(msgspec.Struct, frozen=True):
    """When each scrape began (monotonic clock) and its wall seconds, request to last byte.

    `bytes` is the size of the last body as it came over the wire.
    """

    started: list[float]
    seconds: list[float]
    bytes: int


def scrape_once(connection: http.client.HTTPConnection, path: str, encoding: str) -> int:
    """One scrape; return the bytes of its body as sent; raises ValueError unless it is a 200."""
    headers = {"Accept": "text/plain;version=0.0.4", "Accept-Encoding": encoding}
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    received = 0
    while part := response.read(1 << 16):
        received += len(part)
    if response.status != 200:
        raise ValueError(f"scrape answered {response.status}")
    return received


@click.command()
@click.argument("url")
@click.option("--scrapes", default=5, type=click.IntRange(1, 100))
@click.option("--interval", default=0.2, type=click.FloatRange(0, 60), help="Seconds of rest.")
@click.option("--gzip", "encoding", flag_value="gzip", default="identity")
def main(url: str, scrapes: int, interval: float, encoding: str) -> None:
    """Scrape URL a few times."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    started, seconds, received = [], [], 0
    for _ in range(scrapes):
        time.sleep(interval)
        started.append(time.monotonic())
        received = scrape_once(connection, parts.path, encoding)
        seconds.append(time.monotonic() - started[-1])
    connection.close()
    click.echo(msgspec.json.encode(Scraped(started, seconds, received)).decode())


if __name__ == "__main__":
    main()
