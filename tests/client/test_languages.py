"""Every client against a live daemon, nobody, a full buffer and a name that is not known."""

import functools
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.client.languages import LANGUAGES, Language
from tests.conftest import RunningDaemon, StartDaemon, wait_for
from tests.tools import tool

DROPS: Final = ("dropped_full", "dropped_unresolved", "dropped_unreachable", "dropped_error")

AMOUNTS: Final = {
    "llm_tokens_total": 230.0,
    "llm_prompt_tokens_total": 200.0,
    "llm_completion_tokens_total": 30.0,
    "llm_cached_tokens_total": 128.0,
    "llm_rate_limit_exceeded_total": 1.0,
    "llm_model_load_duration_seconds_sum": 0.5,
    "llm_prompt_eval_duration_seconds_sum": 0.12,
    "llm_total_duration_seconds_sum": 1.8,
}
"""What one call of the acceptance program adds to the series that have a model alone."""

each_language = pytest.mark.parametrize("language", LANGUAGES, ids=lambda each: each.name)

Accept = Callable[..., dict[str, int]]


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all languages build."""
    return tmp_path_factory.mktemp("clients")


@pytest.fixture(scope="session")
def prepared(build: Path) -> Callable[[Language], None]:
    """Prepares a language once."""

    @functools.cache
    def prepare(language: Language) -> None:
        done = language.run(language.prepare, build)
        assert done.returncode == 0, done.stdout + done.stderr

    return prepare


@pytest.fixture
def accept(language: Language, build: Path, prepared: Callable[[Language], None]) -> Accept:
    """Runs the acceptance program of a language and gives its counts."""
    tool(language.tool, language.package)
    prepared(language)

    def run(*arguments: str, **variables: str) -> dict[str, int]:
        done = language.run(language.acceptance, build, *arguments, **variables)
        assert done.returncode == 0, done.stderr
        counts = json.loads(done.stdout)
        assert all(type(count) is int and count >= 0 for count in counts.values())
        return dict(counts)

    return run


def dropped(counts: dict[str, int]) -> int:
    return sum(counts[name] for name in DROPS)


def at(daemon: RunningDaemon) -> dict[str, str]:
    return {"LLMSTATSD_HOST": daemon.udp[0], "LLMSTATSD_PORT": str(daemon.udp[1])}


@pytest.mark.parametrize(
    "language",
    [language for language in LANGUAGES if language.native_tests],
    ids=lambda each: each.name,
)
def test_its_own_tests_pass(language: Language, build: Path) -> None:
    tool(language.tool, language.package)
    done = language.run(language.native_tests or (), build)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("language", "example"),
    [(language, example) for language in LANGUAGES for example in language.examples],
    ids=lambda each: each.name if isinstance(each, Language) else each[-1],
)
def test_an_example_runs_and_its_call_arrives(
    language: Language,
    example: tuple[str, ...],
    build: Path,
    prepared: Callable[[Language], None],
    daemon: RunningDaemon,
) -> None:
    tool(language.tool, language.package)
    prepared(language)
    done = language.run(example, build, **at(daemon))
    assert done.returncode == 0, done.stdout + done.stderr
    wait_for("a call", lambda: "\nllm_request_total{" in daemon.scrape())
    lines = daemon.value("llmstatsd_lines_total")
    assert daemon.value("llmstatsd_accepted_lines_total") == lines


@each_language
@pytest.mark.parametrize("flags", [(), ("--buffered",)], ids=["at once", "buffered"])
def test_the_daemon_shows_what_was_sent(
    accept: Accept, daemon: RunningDaemon, flags: tuple[str, ...]
) -> None:
    counts = accept("--threads", "1", "--calls", "40", *flags, **at(daemon))
    assert (counts["events"], counts["refused_fields"], dropped(counts)) == (40, 0, 0)
    daemon.wait_for_datagrams(counts["sent_datagrams"])
    daemon.wait_for_value(counts["sent_bytes"], "llmstatsd_received_bytes_total")
    call = {"model": "gpt-4o", "operation": "chat"}
    assert daemon.value("llm_request_total", **call) == 40
    assert daemon.value("llm_error_total", model="gpt-4o", type="timeout") == 40
    assert daemon.value("llm_fallback_total") == 40
    assert daemon.value("llm_request_duration_seconds_sum", **call) == pytest.approx(40 * 1.84)
    assert daemon.value("llm_time_to_first_token_seconds_sum", **call) == pytest.approx(40 * 0.3)
    assert daemon.value("llm_cost_dollars_total", model="gpt-4o") == pytest.approx(40 * 0.0123)
    for name, amount in AMOUNTS.items():
        assert daemon.value(name, model="gpt-4o") == pytest.approx(40 * amount), name
    lines = daemon.value("llmstatsd_lines_total")
    assert daemon.value("llmstatsd_accepted_lines_total") == lines


@each_language
def test_every_datagram_of_8_threads_is_accounted_for(
    accept: Accept, language: Language, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon("--statsd-receive-buffer-bytes", str(1 << 30))
    counts = accept("--threads", "8", "--calls", str(language.calls), **at(daemon))
    assert counts["events"] == 8 * language.calls
    assert counts["sent_datagrams"] + dropped(counts) == 8 * language.calls

    def seen() -> bool:
        taken = daemon.value("llmstatsd_datagrams_total") or 0.0
        lost = daemon.value("llmstatsd_kernel_dropped_datagrams_total") or 0.0
        return taken + lost == counts["sent_datagrams"]

    wait_for("every datagram, taken or lost in the kernel", seen)
    taken = daemon.value("llmstatsd_datagrams_total")
    assert daemon.value("llm_request_total", model="gpt-4o", operation="chat") == taken


@each_language
def test_nobody_who_listens_is_no_trouble(accept: Accept) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unbound:
        unbound.bind(("127.0.0.1", 0))
        port = unbound.getsockname()[1]
    counts = accept("--threads", "2", "--calls", "50", STATSD_PORT=str(port))
    assert counts["events"] == 100
    assert counts["sent_datagrams"] + dropped(counts) == 100
    assert counts["dropped_full"] == counts["dropped_unresolved"] == counts["dropped_error"] == 0


@each_language
def test_a_name_that_is_not_known_is_counted(accept: Accept) -> None:
    counts = accept("--threads", "1", "--calls", "20", LLMSTATSD_HOST="nobody.invalid")
    assert (counts["events"], counts["sent_datagrams"]) == (20, 0)
    assert counts["dropped_unresolved"] == dropped(counts) > 0


@each_language
def test_a_full_buffer_drops_and_counts(accept: Accept, language: Language, tmp_path: Path) -> None:
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(path)
        calls = min(2000, language.calls)
        counts = accept("--threads", "2", "--calls", str(calls), LLMSTATSD_SOCKET=path)
    assert counts["events"] == 2 * calls
    assert counts["sent_datagrams"] + dropped(counts) == 2 * calls
    assert counts[language.full] > 0


@each_language
def test_a_disabled_client_sends_nothing(accept: Accept, daemon: RunningDaemon) -> None:
    counts = accept("--threads", "1", "--calls", "5", LLMSTATSD_DISABLE="1", **at(daemon))
    assert (counts["events"], counts["sent_datagrams"], dropped(counts)) == (5, 0, 0)
