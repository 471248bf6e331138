"""Asks a daemon whether it is ready, as a container's health check does."""

import urllib.error
import urllib.request
from typing import Final

from llmstatsd import address

READY_PATH: Final = "/-/ready"
TIMEOUT_SECONDS: Final = 4.0
"""Longest wait for the answer: container runtimes give a check 5 s or more."""

# No proxy that HTTP_PROXY names, which Docker may set: it could not reach this machine's daemon.
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def url_of(listen: str) -> str:
    """Where a daemon that listens there is reached on its own machine."""
    host, port = address.parse(listen)
    return f"http://{address.Address(address.on_this_machine(host), port)}"


def why_not_ready(url: str) -> str | None:
    """None if the daemon of this URL (http or https) answers that it is ready, else why not.

    Raises ValueError for a text that is no such URL.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no http or https URL")
    asked = f"{url.rstrip('/')}{READY_PATH}"
    try:
        with _DIRECT.open(asked, timeout=TIMEOUT_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        return f"{asked} answers {error.code}"
    except OSError as error:
        return f"{asked}: {getattr(error, 'reason', None) or error}"
