"""Lines as LLM applications send them, the same for the same seed."""

import random
from collections.abc import Iterable, Iterator
from itertools import chain, count, islice
from typing import NamedTuple

MODELS = (
    "gpt-4o",
    "gpt-4o-mini",
    "claude-sonnet-4",
    "gemini-2.5-pro",
    "llama3.1:8b",
    "mistral-large",
    "qwen2.5:72b",
    "deepseek-r1",
)
OPERATIONS = ("chat", "generate")
PACKET_BYTES = 65507
"""Most bytes of a UDP payload over IPv4."""

MIX_SEED = 7
LINES_PER_MODEL = 123
"""Sample lines that `documented_mix` makes of each model.

2 requests, 2 x 23 request durations, 23 total durations, 18 prompt evaluations, 17 model loads,
1 token sum, 15 errors by type and 1 rate limit.
"""


class Line(NamedTuple):
    """One StatsD line before it is text.

    `value` stays the text that goes on the wire, so that every reader parses the same digits.
    `type` is the StatsD type letter or letters; `ms` values are milliseconds.
    """

    name: str
    value: str
    type: str
    labels: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """The DogStatsD form, without a line end."""
        tags = ",".join(f"{label}:{value}" for label, value in self.labels)
        return f"{self.name}:{self.value}|{self.type}|#{tags}"


def llm_call(rng: random.Random, model: str, operation: str) -> list[Line]:
    """The six to seven lines an application sends when one LLM call ends.

    Every 25th call or so has failed and sends its error as well.
    Durations are spread evenly over their usual range: where a value falls decides how far
    a histogram searches, so a constant would flatter the receiver.
    """
    of_model = (("model", model),)
    of_both = (*of_model, ("operation", operation))
    duration = rng.uniform(0.2, 30.0)
    lines = [
        Line("llm_request_total", "1", "c", of_both),
        Line("llm_request_duration_seconds", f"{duration:.3f}", "h", of_both),
        Line("llm_total_duration", f"{duration * 1000:.1f}", "ms", of_model),
        Line("llm_prompt_eval_duration", f"{rng.uniform(5, 4000):.1f}", "ms", of_model),
        Line("llm_model_load_duration", f"{rng.uniform(8, 9000):.0f}", "ms", of_model),
        Line("llm_tokens_total", str(rng.randrange(20, 6000)), "c", of_model),
    ]
    if rng.random() < 0.04:
        lines.append(Line("llm_error_total", "1", "c", (*of_model, ("type", "timeout"))))
    return lines


def llm_lines(seed: int) -> Iterator[Line]:
    """An endless stream of calls over a few models, the traffic of one busy host."""
    rng = random.Random(seed)
    while True:
        yield from llm_call(rng, rng.choice(MODELS), rng.choice(OPERATIONS))


def distinct_lines(first: int = 0) -> Iterator[Line]:
    """An endless stream in which each line names a model that no other line names.

    Values are whole numbers, and durations whole quarters of a second, so that a sum over
    millions of them is exact in binary and can be compared for equality.
    The kind of line goes round with the number: see `distinct_sums` for what to expect.
    """
    for number in count(first):
        model = (("model", f"model-{number:09d}"),)
        amount = number % 1000 + 1
        match number % 4:
            case 0:
                yield Line("llm_request_total", "1", "c", (*model, ("operation", "chat")))
            case 1:
                yield Line("llm_tokens_total", str(amount), "c", model)
            case 2:
                yield Line("llm_total_duration_seconds", f"{amount * 0.25:.2f}", "h", model)
            case _:
                yield Line("llm_prompt_eval_duration", str(amount * 250), "ms", model)


def distinct_sums(lines: int) -> dict[str, float]:
    """What the first `lines` of `distinct_lines` add up to, by sample name over all label sets."""
    amounts = [sum(number % 1000 + 1 for number in range(kind, lines, 4)) for kind in (1, 2, 3)]
    counts = [len(range(kind, lines, 4)) for kind in range(4)]
    return {
        "llm_request_total": float(counts[0]),
        "llm_tokens_total": float(amounts[0]),
        "llm_total_duration_seconds_count": float(counts[2]),
        "llm_total_duration_seconds_sum": amounts[1] * 0.25,
        "llm_prompt_eval_duration_seconds_count": float(counts[3]),
        "llm_prompt_eval_duration_seconds_sum": amounts[2] * 0.25,
    }


def datagrams(lines: Iterator[Line], lines_per_datagram: int, wanted: int) -> list[bytes]:
    """The next `wanted` datagrams of the stream, fewer when a finite stream ends first."""
    return packed(map(Line.text, lines), lines_per_datagram, wanted)


def packed(texts: Iterator[str], lines_per_datagram: int, wanted: int) -> list[bytes]:
    """The same of lines that are text already."""
    datagrams = ("\n".join(islice(texts, lines_per_datagram)).encode() for _ in range(wanted))
    return [datagram for datagram in datagrams if datagram]


def plain_text(line: Line) -> str:
    """A line for a server without tags: label values in the name, a count of one, or a timer."""
    values = [value.replace(".", "_").replace(":", "_") for _, value in line.labels]
    name = ".".join((line.name, *values))
    return f"{name}:1|c" if line.type == "c" else f"{name}:{line.value}|ms"


def in_runs(datagrams: Iterable[bytes], longest: int, seed: int) -> list[bytes]:
    """The same datagrams, those of equal length together, the runs in random order.

    A generator that uses segmentation offload sends a run as one packet, so a run has at most
    `longest` datagrams and no more bytes than such a packet may have. Within a run the lines are
    as mixed as their lengths allow.
    """
    by_length: dict[int, list[bytes]] = {}
    for datagram in datagrams:
        by_length.setdefault(len(datagram), []).append(datagram)
    runs = []
    for length, alike in by_length.items():
        size = max(1, min(longest, PACKET_BYTES // length))
        runs += [alike[start : start + size] for start in range(0, len(alike), size)]
    random.Random(seed).shuffle(runs)
    return list(chain.from_iterable(runs))


def models_for(sample_lines: int) -> int:
    """How many models of `documented_mix` make about so many sample lines, at least one."""
    return max(1, sample_lines // LINES_PER_MODEL)


def documented_mix(models: int) -> Iterator[Line]:
    """Three calls of each operation on so many models, always the same ones, MODELS first."""
    rng = random.Random(MIX_SEED)
    for number in range(models):
        model = MODELS[number] if number < len(MODELS) else f"provider/model-{number:05d}"
        for operation in OPERATIONS:
            for _ in range(3):
                yield from llm_call(rng, model, operation)
