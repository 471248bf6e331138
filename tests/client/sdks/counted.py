"""What a daemon counts of LLM calls, as the lines of its scrape."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import pytest

from tests.client.sdks.provider import Provider
from tests.conftest import DEADLINE_SECONDS, POLL_SECONDS, RunningDaemon


def counted(daemon: RunningDaemon) -> set[str]:
    """The lines of the documented series that are not 0; of histograms only the counts."""
    lines = (line for line in daemon.scrape().splitlines() if line.startswith("llm_"))
    return {line for line in lines if not line.endswith((" 0", " 0.0")) and _is_exact(line)}


def _is_exact(line: str) -> bool:
    name = line.partition("{")[0]
    return not name.endswith(("_bucket", "_sum"))


ERRORS: Final = {
    "status-401": "auth",
    "status-404": "not_found",
    "status-429": "rate_limit",
    "quota": "quota",
    "too-long": "context_length",
    "status-500": "server_error",
    "status-503": "overloaded",
}
"""Models of the provider that fail, as OpenAI's do, and the error types."""

TIMEOUT_SECONDS: Final = 0.5
"""How long an SDK is to wait for a provider that does not answer."""


def answered(model: str = "plain", *, operation: str = "chat", times: int = 1) -> set[str]:
    """The lines of answers with OpenAI's or Anthropic's usage."""
    used = (Provider.PROMPT_TOKENS, Provider.COMPLETION_TOKENS, Provider.CACHED_TOKENS)
    own = tokens(model, *(times * count for count in used))
    return request(model, operation=operation, times=times) | own


def streamed(model: str = "plain") -> set[str]:
    """The same of one stream."""
    return answered(model) | first_token(model) | per_token(model)


def request(model: str, *, operation: str = "chat", times: int = 1) -> set[str]:
    """The lines of any call that has a duration."""
    labels = f'{{model="{model}",operation="{operation}"}} {times}'
    return {f"llm_request_total{labels}.0", f"llm_request_duration_seconds_count{labels}"}


def error(model: str, kind: str, *, operation: str = "chat", times: int = 1) -> set[str]:
    """The lines of a call that failed."""
    lines = request(model, operation=operation, times=times)
    if kind == "rate_limit":
        lines.add(f'llm_rate_limit_exceeded_total{{model="{model}"}} {times}.0')
    return lines | {f'llm_error_total{{model="{model}",type="{kind}"}} {times}.0'}


def tokens(model: str, prompt: int, completion: int, cached: int = 0) -> set[str]:
    """The lines of a usage."""
    found = {"": prompt + completion, "prompt_": prompt, "completion_": completion}
    found["cached_"] = cached
    return {
        f'llm_{kind}tokens_total{{model="{model}"}} {count}.0'
        for kind, count in found.items()
        if count
    }


def first_token(model: str, *, times: int = 1) -> set[str]:
    """The line of a stream whose first token came."""
    labels = f'{{model="{model}",operation="chat"}} {times}'
    return {f"llm_time_to_first_token_seconds_count{labels}"}


def per_token(model: str, *, times: int = 1) -> set[str]:
    """The line of a stream that told how many tokens it had."""
    labels = f'{{model="{model}",operation="chat"}} {times}'
    return {f"llm_time_per_output_token_seconds_count{labels}"}


def settle(daemon: RunningDaemon, expected: Iterable[str], act: Callable[[], object]) -> None:
    """Poll until the daemon has counted exactly this.

    `act` is a call of the model `marker`, made then: when it is counted, nothing else is.
    """
    lines = set(expected)
    _poll(daemon, lines)
    act()
    _poll(daemon, lines, marked=True)


async def async_settle(
    daemon: RunningDaemon, expected: Iterable[str], act: Callable[[], Awaitable[object]]
) -> None:
    """`settle` for libraries that report on the event loop."""
    lines = set(expected)
    await _async_poll(daemon, lines)
    await act()
    await _async_poll(daemon, lines, marked=True)


async def async_wait(daemon: RunningDaemon, expected: Iterable[str]) -> None:
    """Poll until the daemon has counted this, among more."""
    await eventually(lambda: counted(daemon) >= set(expected))


async def eventually(look: Callable[[], object]) -> None:
    """Poll until something is true, or fail at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not look():
        _fail_after(deadline, set())
        await asyncio.sleep(POLL_SECONDS)


def _difference(daemon: RunningDaemon, expected: set[str], *, marked: bool) -> set[str]:
    found = counted(daemon)
    ours = {line for line in found if 'model="marker"' not in line}
    is_waiting = marked and ours == found
    return {"the marker"} if is_waiting else ours ^ expected


def _poll(daemon: RunningDaemon, expected: set[str], *, marked: bool = False) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while difference := _difference(daemon, expected, marked=marked):
        _fail_after(deadline, difference)
        time.sleep(POLL_SECONDS)


async def _async_poll(daemon: RunningDaemon, expected: set[str], *, marked: bool = False) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while difference := _difference(daemon, expected, marked=marked):
        _fail_after(deadline, difference)
        await asyncio.sleep(POLL_SECONDS)


def _fail_after(deadline: float, difference: set[str]) -> None:
    if time.monotonic() > deadline:
        pytest.fail("not as expected: " + "\n".join(sorted(difference)))
