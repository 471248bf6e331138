"""What reporting one LLM call costs an application, with each field there is.

The Python client, plain and buffered, beside the StatsD clients of PyPI, `datadog` and `statsd`,
which say the same in one call for each line. All send to a bound socket that another process
drains. Each run is a process of its own, and the subjects take turns, so that what else the
machine does hits all of them.

- `burst`: 256 calls, then a pause in which a thread of the client may work: what the caller
  waits for, as in an application that calls a model now and then.
- `flat out`: no pause, nothing but calls. Here the threads of a buffered client take their time
  from the caller, so this is the whole cost; CPU is of the process, with the kernel's part.

Then the memory of the Python client: a million calls of one model, and as many models as calls.
Last the benches of the clients in Go and Rust, see compiled.py.
"""

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import msgspec
import psutil

from llmstatsd_client import Client

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import compiled, harness
from bench.harness import Yardstick

GOALS = {"llmstatsd-client": 12.0, "llmstatsd-client, buffered": 4.0}
"""Microseconds per call: flat out, or in a burst if buffered."""

GOAL_GROWTH_BYTES = 1 << 20
BURST = 256
PAUSE_SECONDS = 0.02
WARM_UP = 2000
MEMORY_CALLS = 1_000_000
MEMORY_STEPS = 10

Call = Callable[[], object]


@contextmanager
def ours(port: int, *, buffered: bool) -> Iterator[Call]:
    """The client of this repository."""
    with Client(port=port, buffered=buffered) as client:

        def call() -> None:
            client.send(
                model="gpt-4o",
                operation="chat",
                duration_seconds=1.84,
                load_duration_seconds=0.5,
                prompt_eval_duration_seconds=0.12,
                total_duration_seconds=1.8,
                time_to_first_token_seconds=0.3,
                time_per_output_token_seconds=0.0375,
                tokens=230,
                prompt_tokens=200,
                completion_tokens=30,
                cached_tokens=128,
                cost_dollars=0.0123,
                error="timeout",
                rate_limited=True,
                fallback=True,
            )

        yield call


@contextmanager
def datadog(port: int, *, buffered: bool) -> Iterator[Call]:
    """PyPI's `datadog`; its own telemetry is off."""
    from datadog.dogstatsd.base import DogStatsd

    client = DogStatsd(
        host="127.0.0.1", port=port, disable_buffering=not buffered, disable_telemetry=True
    )
    model, both = ["model:gpt-4o"], ["model:gpt-4o", "operation:chat"]
    failed = ["model:gpt-4o", "type:timeout"]

    def call() -> None:
        client.increment("llm_request_total", tags=both)
        client.timing("llm_request_duration_seconds", 1840, tags=both)
        client.increment("llm_tokens_total", 230, tags=model)
        client.increment("llm_prompt_tokens_total", 200, tags=model)
        client.increment("llm_completion_tokens_total", 30, tags=model)
        client.increment("llm_cached_tokens_total", 128, tags=model)
        client.increment("llm_cost_dollars_total", 0.0123, tags=model)
        client.timing("llm_model_load_duration_seconds", 500, tags=model)
        client.timing("llm_prompt_eval_duration_seconds", 120, tags=model)
        client.timing("llm_total_duration_seconds", 1800, tags=model)
        client.timing("llm_time_to_first_token_seconds", 300, tags=both)
        client.timing("llm_time_per_output_token_seconds", 37.5, tags=both)
        client.increment("llm_error_total", tags=failed)
        client.increment("llm_rate_limit_exceeded_total", tags=model)
        client.increment("llm_fallback_total")

    yield call
    client.flush()
    client.close_socket()


@contextmanager
def statsd(port: int, *, buffered: bool) -> Iterator[Call]:
    """PyPI's `statsd`, which has no tags, so they are in the names; buffered is its pipeline."""
    from statsd import StatsClient

    client = StatsClient("127.0.0.1", port, maxudpsize=1432)
    model, both = ",model=gpt-4o", ",model=gpt-4o,operation=chat"

    def call() -> None:
        to = client.pipeline() if buffered else client
        to.incr(f"llm_request_total{both}")
        to.timing(f"llm_request_duration_seconds{both}", 1840)
        to.incr(f"llm_tokens_total{model}", 230)
        to.incr(f"llm_prompt_tokens_total{model}", 200)
        to.incr(f"llm_completion_tokens_total{model}", 30)
        to.incr(f"llm_cached_tokens_total{model}", 128)
        to.incr(f"llm_cost_dollars_total{model}", 0.0123)
        to.timing(f"llm_model_load_duration_seconds{model}", 500)
        to.timing(f"llm_prompt_eval_duration_seconds{model}", 120)
        to.timing(f"llm_total_duration_seconds{model}", 1800)
        to.timing(f"llm_time_to_first_token_seconds{both}", 300)
        to.timing(f"llm_time_per_output_token_seconds{both}", 37.5)
        to.incr(f"llm_error_total{model},type=timeout")
        to.incr(f"llm_rate_limit_exceeded_total{model}")
        to.incr("llm_fallback_total")
        if buffered:
            to.send()

    yield call
    client.close()


SUBJECTS = {
    "llmstatsd-client": (ours, False),
    "llmstatsd-client, buffered": (ours, True),
    "datadog": (datadog, False),
    "datadog, buffered": (datadog, True),
    "statsd": (statsd, False),
    "statsd, pipeline": (statsd, True),
}


class Cost(msgspec.Struct, frozen=True):
    """Microseconds per call of one run: what the caller waits, and the CPU of the process."""

    subject: str
    burst: float
    flat_out: float
    flat_out_cpu: float


class Memory(msgspec.Struct, frozen=True):
    """Resident memory before and after so many calls, once the first ones were made."""

    what: str
    calls: int
    before_bytes: int
    after_bytes: int
    events: int
    sent_datagrams: int


class Result(msgspec.Struct, frozen=True):
    """Every run."""

    costs: list[Cost]
    memory: list[Memory]
    compiled: list[compiled.Cost]


def in_bursts(call: Call, calls: int) -> float:
    """Seconds per call when each burst of calls is followed by a pause."""
    spent = 0.0
    bursts = max(1, calls // BURST)
    for _ in range(bursts):
        started = time.perf_counter()
        for _ in range(BURST):
            call()
        spent += time.perf_counter() - started
        time.sleep(PAUSE_SECONDS)
    return spent / bursts / BURST


def measure(subject: str, port: int, calls: int) -> Cost:
    """One run of one subject, in this process."""
    make, buffered = SUBJECTS[subject]
    with make(port, buffered=buffered) as call:
        for _ in range(WARM_UP):
            call()
        time.sleep(PAUSE_SECONDS)
        burst = in_bursts(call, calls // 4)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(calls):
            call()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Cost(subject, burst * 1e6, wall / calls * 1e6, cpu / calls * 1e6)


def remember(subject: str, port: int, calls: int) -> Memory:
    """The growth of this process over so many calls of the Python client."""
    buffered, distinct = "buffered" in subject, "models" in subject
    process = psutil.Process()
    with Client(port=port, buffered=buffered) as client:
        before = 0
        steps = range(-1, MEMORY_STEPS)  # the first makes what is made once
        for step in harness.progress(steps, f"memory: {subject}"):
            for number in range(calls // MEMORY_STEPS):
                model = f"model-{step}-{number}" if distinct else "gpt-4o"
                client.send(model=model, operation="chat", duration_seconds=1.84, prompt_tokens=7)
            client.flush()
            gc.collect()
            before = before or process.memory_info().rss
        after, stats = process.memory_info().rss, client.stats()
    return Memory(subject, calls, before, after, stats.events, stats.sent_datagrams)


def in_a_child(mode: str, subject: str, port: int, calls: int) -> bytes:
    """The JSON that this script prints as a child; its progress goes to stderr."""
    options = ["--subject", subject, "--mode", mode, "--port", str(port), "--calls", str(calls)]
    done = subprocess.run(
        [sys.executable, __file__, *options], check=True, stdout=subprocess.PIPE, timeout=600
    )
    return done.stdout


def take_turns(rounds: int, calls: int, port: int) -> list[Cost]:
    """Every subject once a round."""
    steps = [subject for _ in range(rounds) for subject in SUBJECTS]
    return [
        msgspec.json.decode(in_a_child("cost", subject, port, calls), type=Cost)
        for subject in harness.progress(steps, "client")
    ]


def memories(calls: int, port: int) -> list[Memory]:
    """One model and as many models as calls, plain and buffered."""
    return [
        msgspec.json.decode(in_a_child("memory", what, port, calls), type=Memory)
        for what in ("one model", "one model, buffered", "models", "models, buffered")
    ]


def cost_table(costs: list[Cost]) -> str:
    """One row per subject: the median of the rounds, and the cheapest one."""
    rows = []
    for subject in SUBJECTS:
        own = [cost for cost in costs if cost.subject == subject]
        figures = ([getattr(cost, name) for cost in own] for name in Cost.__struct_fields__[1:])
        cells = (f"{median(column):.1f} ({min(column):.1f})" for column in figures)
        where = "burst" if "buffered" in subject else "flat out"
        goal = f"<= {GOALS[subject]:g}, {where}" if subject in GOALS else "none"
        rows.append((subject, *cells, goal))
    header = ("us per call, median (cheapest)", "burst", "flat out", "flat out, CPU", "goal")
    return harness.table(header, rows)


def memory_table(found: list[Memory]) -> str:
    """One row per way of sending."""
    rows = [
        (
            each.what,
            f"{each.calls:,}",
            f"{each.before_bytes / 2**20:.1f}",
            f"{(each.after_bytes - each.before_bytes) / 1024:+,.0f}",
            f"< {GOAL_GROWTH_BYTES // 1024:,}",
        )
        for each in found
    ]
    return harness.table(("memory", "calls", "MiB before", "KiB grown", "goal"), rows)


@click.command()
@click.option("--rounds", default=5, type=click.IntRange(1, 100))
@click.option("--calls", default=40_000, type=click.IntRange(1000, 10_000_000), help="Per run.")
@click.option("--memory-calls", default=MEMORY_CALLS, type=click.IntRange(1000, 10_000_000))
@click.option("--mode", type=click.Choice(["cost", "memory"]), hidden=True)
@click.option("--subject", hidden=True, help="Run one subject in this process.")
@click.option("--port", type=int, hidden=True)
@harness.json_option
def main(
    rounds: int,
    calls: int,
    memory_calls: int,
    mode: str | None,
    subject: str,
    port: int,
    json_path: str | None,
) -> None:
    """Measure the clients per whole LLM call, beside other StatsD clients, and Python's memory."""
    if mode:
        run: Callable[[str, int, int], Cost | Memory] = measure if mode == "cost" else remember
        click.echo(msgspec.json.encode(run(subject, port, calls)))
        return
    with Yardstick() as drain, TemporaryDirectory() as build:
        costs = take_turns(rounds, calls, drain.udp_port)
        memory = memories(memory_calls, drain.udp_port)
        others = compiled.measure(rounds, Path(build))
    tables = (cost_table(costs), memory_table(memory), compiled.table(others))
    harness.emit(Result(costs, memory, others), "\n\n".join(tables), json_path)


if __name__ == "__main__":
    main()
