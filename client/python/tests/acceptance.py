"""Sends one event many times from many threads and prints the stats as one line of JSON.

Run it as `python tests/acceptance.py --threads N --calls N [--buffered]` with the client on
PYTHONPATH or installed; the variables alone say where to. The daemon then has the exact sums.
"""

import argparse
import json
import sys
import threading
from pathlib import Path
from typing import Any

from llmstatsd_client import Client

VECTOR = "a failed call with all fields"


def vector(name: str) -> dict[str, Any]:
    """The event of one case of client/vectors.json."""
    vectors = json.loads((Path(__file__).parents[2] / "vectors.json").read_text())
    event: dict[str, Any] = next(case["event"] for case in vectors["cases"] if case["name"] == name)
    return event


def send_many(client: Client, event: dict[str, Any], calls: int) -> None:
    """What each thread does."""
    for _ in range(calls):
        client.send(**event)


def main() -> None:
    """Send, close, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--buffered", action="store_true")
    wanted = parser.parse_args()
    client, event = Client(buffered=wanted.buffered), vector(VECTOR)
    threads = [
        threading.Thread(target=send_many, args=(client, event, wanted.calls))
        for _ in range(wanted.threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.close()
    sys.stdout.write(json.dumps(client.stats()._asdict()) + "\n")


if __name__ == "__main__":
    main()
