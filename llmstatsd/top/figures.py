"""The figures of `top` as text: rows and their order, the filter, and what stands in each pane.

Everything here is a function of documents of the API; docs/reference/api.md says what is in them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from rich.cells import cell_len, set_cell_size

from llmstatsd.ask import Document
from llmstatsd.terminal import NOTHING, count, plain, rate, seconds, share, span
from llmstatsd.top.view import View

MODEL_CELLS: Final = 40
"""Widest name of a model in a table; a longer one is cut."""

REST: Final = "(rest)"
"""The row of what the daemon does not tell apart by model."""


def fit(text: str, cells: int) -> str:
    """The text made plain, and cut to so many cells; a wide character takes two."""
    text = plain(text)
    return text if cell_len(text) <= cells else set_cell_size(text, cells - 1) + "…"


class Column(NamedTuple):
    """A column of the table of models."""

    title: str
    value: Callable[[Document], Any]
    text: Callable[[Any], str]


def _figure(name: str) -> Callable[[Document], Any]:
    return lambda row: row["figures"][name]


def _model(row: Document) -> str:
    model = row["model"]
    return REST if model is None else str(model)


COLUMNS: Final = {
    "model": Column("model", _model, lambda model: fit(model, MODEL_CELLS)),
    "rate": Column("req/s", _figure("requests_per_second"), rate),
    "requests": Column("requests", _figure("requests"), count),
    "error-share": Column("err %", _figure("error_share"), share),
    "errors": Column("errors", _figure("errors"), count),
    "p50": Column("p50", _figure("p50_seconds"), seconds),
    "p95": Column("p95", _figure("p95_seconds"), seconds),
    "p99": Column("p99", _figure("p99_seconds"), seconds),
    "mean": Column("mean", _figure("mean_seconds"), seconds),
    "token-rate": Column("tok/s", _figure("tokens_per_second"), rate),
    "tokens": Column("tokens", _figure("tokens"), count),
    "rate-limited": Column("limited", _figure("rate_limited"), count),
}
"""By what `--sort` calls each, in the order of `SORTS`."""


def matches(pattern: str, model: str) -> bool:
    """Whether a model is shown: it holds the pattern, or is like it where that has `*` or `?`.

    Case does not matter; every text is a pattern, and an empty one shows all.
    """
    pattern, model = pattern.casefold(), model.casefold()
    if "*" in pattern or "?" in pattern:
        return fnmatchcase(model, pattern.replace("[", "[[]"))
    return pattern in model


def rows(summary: Document, view: View) -> list[Document]:
    """The rows to be shown, in order; what has no value comes last."""
    shown = [row for row in summary["models"] if matches(view.pattern, _model(row))]
    value = COLUMNS[view.sort].value
    known = [row for row in shown if value(row) is not None]
    greatest_first = (view.sort != "model") != view.is_reversed
    known.sort(key=value, reverse=greatest_first)
    return known + [row for row in shown if value(row) is None]


def cells(row: Document) -> list[str]:
    """The texts of a row."""
    return [column.text(column.value(row)) for column in COLUMNS.values()]


def head(summary: Document) -> Iterator[str]:
    """The daemon, in short statements."""
    about, ladder = summary["about"], summary["ladder"]
    yield "ready" if about["is_ready"] else "NOT READY"
    yield f"{rate(ladder['lines_per_second'])} lines/s"
    dropped = ladder["kernel_dropped_datagrams"], ladder["queue_dropped_datagrams"]
    if dropped != (None, 0):
        yield f"{count(sum(filter(None, dropped)))} dropped"
    yield f"{count(ladder['refused_lines'])} refused"
    yield f"up {span(about['uptime_seconds'])}"
    yield f"{plain(str(about['lane']))} lane"


def totals(summary: Document) -> Iterator[str]:
    """All models together, in short statements."""
    figures = summary["figures"]
    yield f"{count(figures['requests'])} requests"
    yield f"{rate(figures['requests_per_second'])} req/s"
    yield f"{share(figures['error_share'])} errors"
    yield f"{count(figures['rate_limited'])} limited"
    yield f"{count(figures['fallbacks'])} fallbacks"
    yield f"{rate(figures['tokens_per_second'])} tok/s"
    for name in ("p50", "p95", "p99"):
        yield f"{name} {seconds(figures[f'{name}_seconds'])}"


Line = tuple[str, str]
"""Of a pane: what, and how much."""


def errors(summary: Document, shown: Sequence[Document], view: View) -> list[Line]:
    """Errors by type in the window, most first; of the models shown where a filter is set."""
    by_type: dict[str, float] = {}
    parts = [row["figures"] for row in shown] if view.pattern else [summary["figures"]]
    for figures in parts:
        for kind, number in figures["errors_by_type"].items():
            by_type[kind] = by_type.get(kind, 0) + number
    found = sorted(by_type.items(), key=lambda item: -item[1])
    return [(plain(kind), count(number)) for kind, number in found] or [("none", "")]


def ladder(summary: Document) -> list[Line]:
    """What came in since the start, and became of it."""
    steps = summary["ladder"]
    dropped, queue = steps["kernel_dropped_datagrams"], steps["receive_queue_bytes"]
    lines = [
        ("datagrams", count(steps["datagrams"])),
        ("  dropped by the kernel", NOTHING if dropped is None else count(dropped)),
        *_some({"  dropped behind the socket": steps["queue_dropped_datagrams"]}),
        *_some(steps["refused_datagrams"], "  refused, "),
        *_some({"TCP connections": steps["tcp_open_connections"]}),
        *_some(steps["tcp_refused_connections"], "  refused, "),
        *_some({"lines over TCP": steps["tcp_lines"]}),
        *_some(steps["tcp_refused_lines"], "  not read, "),
        ("lines", count(steps["lines"])),
        ("  accepted", count(steps["accepted_lines"])),
        ("  refused", count(steps["refused_lines"])),
        ("  set aside", count(sum(steps["set_aside_lines"].values()))),
        ("samples", count(steps["samples"])),
    ]
    if queue is not None:
        lines.append(("queue", f"{count(queue)} of {count(2 * steps['receive_buffer_bytes'])} B"))
    return lines


def _some(counts: Document, before: str = "") -> Iterator[Line]:
    """What there is any of."""
    for what, number in counts.items():
        if number:
            yield f"{before}{plain(what)}", count(number)


def refused(document: Document) -> list[Line]:
    """Why lines were refused, most first, each with the last one."""
    lines: list[Line] = []
    for each in document["reasons"]:
        lines.append((plain(each["reason"]), count(each["lines"])))
        if each["last_line"] is not None:
            lines.append((f"  {plain(each['last_line'])}", ""))
    return lines or [("none", "")]


def cardinality(document: Document) -> list[Line]:
    """What is held of what is allowed; the fullest labels first, and what weighs in `other`."""
    lines = [
        ("lines", _of(document, "exposition_lines")),
        ("undeclared names", _of(document, "undeclared_names")),
    ]
    labels = [(each["series"], label) for each in document["series"] for label in each["labels"]]
    labels.sort(key=lambda one: (one[1]["estimate"] is None, -one[1]["values"], one[0]))
    for series, label in labels:
        held = f"{count(label['values'])}/{count(label['values_limit'])}"
        about = label["estimate"]
        short = series.removeprefix("llm_")
        lines.append(
            (
                f"{plain(short)} {plain(label['label'])}",
                held if about is None else f"{held} of about {count(about)}",
            )
        )
        lines.extend(
            (f"  {plain(heavy['value'])}", count(heavy["samples"])) for heavy in label["heaviest"]
        )
    return lines


def _of(document: Document, name: str) -> str:
    return f"{count(document[name])}/{count(document[f'{name}_limit'])}"


def rates(series: Document) -> list[float]:
    """Requests per second of each point."""
    step = series["step_seconds"]
    return [point["requests"] / step for point in series["points"]]


_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


def plot(values: Sequence[float], width: int, height: int) -> str:
    """Columns of blocks over a line of zero, the highest one over the whole height.

    Where there are more values than columns, a column is the mean of several, and the oldest
    values that fill none are left out.
    """
    width = max(1, width)
    many = max(1, -(-len(values) // width))
    parts = [values[start : start + many] for start in range(len(values) % many, len(values), many)]
    means = [sum(part) / len(part) for part in parts]
    top = max(means, default=0.0) or 1.0
    eighths = [round(mean / top * 8 * height) or (1 if mean else 0) for mean in means]
    lines = []
    for row in reversed(range(height)):
        blocks = (_EIGHTHS[min(8, max(0, eighth - 8 * row))] for eighth in eighths)
        lines.append("".join(blocks).rjust(width))
    return "\n".join(lines)


def justified(lines: Iterable[Line], width: int) -> str:
    """Lines of a pane: what at the left, how much at the right, nothing wider than `width`."""
    texts = []
    for what, number in lines:
        room = max(1, width - cell_len(number) - (1 if number else 0))
        name = fit(what, room)
        texts.append(f"{name}{' ' * (width - cell_len(name) - cell_len(number))}{number}".rstrip())
    return "\n".join(texts)


def table(lines: Sequence[Sequence[str]]) -> str:
    """Columns side by side, the first one to the left and the others to the right."""
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    texts = []
    for first, *others in lines:
        parts = [set_cell_size(first, widths[0])]
        parts += [
            " " * (width - cell_len(text)) + text
            for text, width in zip(others, widths[1:], strict=True)
        ]
        texts.append("  ".join(parts).rstrip())
    return "\n".join(texts)


def once(url: str, summary: Document, view: View) -> str:
    """Everything that `--once` prints."""
    about = summary["about"]
    shown = rows(summary, view)
    lines = [
        f"llmstatsd {plain(str(about['version']))} at {plain(url)}: {', '.join(head(summary))}",
        f"{summary['window']}: {', '.join(totals(summary))}",
        "",
        table([[column.title for column in COLUMNS.values()], *map(cells, shown)]),
    ]
    if not shown:
        lines.append("no calls" + (f" of a model like {plain(view.pattern)}" * bool(view.pattern)))
    return "\n".join(lines)


def narrowed(summary: Document, view: View) -> Document:
    """The same document with those rows alone that are shown, in their order."""
    return {**summary, "models": rows(summary, view)}
