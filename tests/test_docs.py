"""The pages say what the code does: series, links, examples."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast

import pytest
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import Metric

from llmstatsd.catalog import CATALOG
from llmstatsd.gpu import GpuCollector
from llmstatsd.host import HostCollector
from llmstatsd.intake.sockets import IntakeStats, Memory, SocketStats
from llmstatsd.intake.udp import UdpIntake
from llmstatsd.live.filters import read_filter
from llmstatsd.live.tap import CountRecord, LineRecord
from llmstatsd.series import lanes
from llmstatsd.series.explain import Met
from llmstatsd.series.hotpath import HotPath
from llmstatsd.series.limits import Limits
from llmstatsd.series.store import Store
from llmstatsd.telemetry import Telemetry
from llmstatsd.web.app import WebStats
from llmstatsd.wire import Dialect, Parsed, parse_datagram
from llmstatsd.wire.reasons import MEANINGS, REASONS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
METRICS = DOCS / "reference" / "metrics.md"

_SERIES_ROW = re.compile(
    r"\| `(?P<name>[a-z]+_[a-z_0-9]+)` \| (?P<type>counter|gauge|histogram|info) \|"
)
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_QUOTED = re.compile(r"'([^']*)'")
#   name:value|   with what a name may hold, and no space: so that no program text is taken for it
_LOOKS_LIKE_STATSD = re.compile(r"[\w.,=#\[\]-]+:[^|\s]*\|")


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


class Series(NamedTuple):
    """A series as a row of the page or as the code gives it; labels are sorted."""

    name: str
    type: str
    labels: tuple[str, ...]


def documented_rows() -> list[Series]:
    rows = []
    for line in METRICS.read_text().splitlines():
        row = _SERIES_ROW.match(line)
        if row is not None:
            labels = re.findall(r"`(\w+)`", line.split(" | ")[2])
            rows.append(Series(row["name"], row["type"], tuple(sorted(labels))))
    return rows


def folded_store() -> tuple[lanes.HotPath, Store]:
    """A store in which every series of the telemetry has something to show."""
    store = Store(Limits(label_values=1))
    hot_path = HotPath(store, Dialect(), 100)
    for model in ("a", "b"):
        hot_path.feed(f"llm_request_total:1|c|#model:{model}".encode())
    return hot_path, store


def families() -> Iterator[Metric]:
    """Every family of every collector that the daemon registers."""
    hot_path, store = folded_store()
    bound = SimpleNamespace(
        buffer_bytes=4096, memory=lambda: Memory(0, 0), transport="udp", stats=SocketStats()
    )
    intake = SimpleNamespace(stats=IntakeStats(), sockets=[bound], settle=lambda: None)
    yield from Telemetry(cast("UdpIntake", intake), hot_path, store, WebStats()).collect()
    yield from HostCollector("/").describe()
    yield from GpuCollector(5).describe()
    registry = CollectorRegistry()
    yield from ProcessCollector(registry=registry).collect()
    yield from PlatformCollector(registry=registry).collect()
    yield from GCCollector(registry=registry).collect()


def exposed(metric: Metric) -> Series:
    ending = {"counter": "_total", "info": "_info"}.get(metric.type, "")
    labels = set(getattr(metric, "_labelnames", ()))
    for sample in metric.samples:
        labels |= sample.labels.keys()
    return Series(metric.name + ending, metric.type, tuple(sorted(labels)))


def test_every_series_has_exactly_one_row_with_its_type_and_labels() -> None:
    from_code = [exposed(metric) for metric in families()]
    from_catalog = [Series(one.name, one.type, one.labels) for one in CATALOG.values()]
    assert sorted(documented_rows()) == sorted(from_catalog + from_code)


def test_the_rows_stand_in_the_order_of_the_page_that_is_scraped() -> None:
    names = [row.name for row in documented_rows()]
    main = [one.name for one in CATALOG.values()]
    assert names == main + [exposed(metric).name for metric in families()]


def test_the_meaning_of_a_documented_series_is_its_help() -> None:
    text = METRICS.read_text()
    for series in CATALOG.values():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{series.name}` |"))
        assert row.endswith(f"| {series.help} |")


def test_the_buckets_on_the_page_are_those_of_the_catalogue() -> None:
    on_page: dict[str, tuple[float, ...]] = {}
    section = METRICS.read_text().partition("### Buckets")[2].partition("\n## ")[0]
    for names, bounds in re.findall(r"^\| (`.*`) \| ([0-9. ]+) \|$", section, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            on_page[name] = tuple(map(float, bounds.split()))
    assert on_page == {one.name: one.buckets for one in CATALOG.values() if one.buckets}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    text = _INLINE_CODE.sub("", _FENCE.sub("", page.read_text()))
    return [link for link in _LINK.findall(text) if not link.startswith(("https://", "http://"))]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_relative_link_resolves(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def linked(page: Path) -> set[Path]:
    return {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}


def test_the_index_names_every_page() -> None:
    """Or the README.md of a folder does, which the index names."""
    named = linked(DOCS / "README.md")
    for index in [page for page in named if page.name == "README.md"]:
        named |= {page for page in linked(index) if page.parent == index.parent}
    assert {page for page in PAGES if page.is_relative_to(DOCS)} - named == {DOCS / "README.md"}


def test_the_reasons_of_refusals_are_explained_as_the_api_does() -> None:
    page = (DOCS / "reference" / "wire.md").read_text()
    for reason, meaning in MEANINGS.items():
        escaped = meaning.replace("|", r"\|")
        assert f"| `{reason}` | {escaped} |" in page
    assert set(MEANINGS) == set(REASONS)


def test_filters_of_taps_in_the_docs_are_filters_and_their_fields_are_all() -> None:
    page = (DOCS / "reference" / "api.md").read_text().partition("## `tap`")[2]
    how_to = (DOCS / "how-to" / "tap.md").read_text()
    examples = re.findall(r"--filter '([^']+)'", how_to)
    examples += page.partition("### Filters")[2].split("```")[1].strip().splitlines()
    assert len(examples) > 6
    for example in examples:
        assert read_filter(example).terms
    rows = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))))
    for struct in (LineRecord, CountRecord, Met):
        assert set(struct.__struct_fields__) - {"version", "time"} <= rows


def test_the_code_map_names_every_module_and_no_other() -> None:
    text = (DOCS / "explanation" / "architecture.md").read_text()
    on_page = set(re.findall(r"^\| `(llmstatsd/\S+\.(?:pyx?|h))` \|", text, re.MULTILINE))
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "llmstatsd").rglob("*")}
    assert on_page == {
        path for path in modules if path.endswith((".py", ".pyx", ".h")) and "__" not in path
    }


def test_every_bound_stands_where_the_page_says() -> None:
    text = (DOCS / "explanation" / "overload.md").read_text()
    rows = re.findall(r"\| `([\w/]+\.pyx?)`, `(\w+)` \|$", text, re.MULTILINE)
    assert rows
    for path, constant in rows:
        declared = re.compile(rf"^ *{constant}\b.* = ", re.MULTILINE)
        assert declared.search((ROOT / "llmstatsd" / path).read_text()), (path, constant)


@pytest.mark.parametrize("page", ["reliability.md", "security.md"])
def test_every_promise_names_a_test_that_is_there(page: str) -> None:
    text = (DOCS / "explanation" / page).read_text()
    promises = [line for line in text.splitlines() if line.startswith("| ")]
    proofs = re.findall(r"\| `(tests/[\w/]+\.py)::(test_\w+)` \|$", text, re.MULTILINE)
    headings = sum(line.endswith((" proved by |", " shown by |")) for line in promises)
    assert len(proofs) == len(promises) - headings
    for path, name in proofs:
        assert f"def {name}(" in (ROOT / path).read_text(), (path, name)


class Example(NamedTuple):
    """A datagram as a page shows it, and the second word of its block: what becomes of it."""

    fate: str
    datagram: str


def examples(page: Path) -> Iterator[Example]:
    """Datagrams of a page: JSON blocks, and what stands in single quotes in a shell block."""
    for info, block in _FENCE.findall(page.read_text()):
        language, _, fate = info.partition(" ")
        if language == "json":
            yield Example(fate, block)
        elif language == "sh":
            for quoted in _QUOTED.findall(block):
                if quoted.startswith('{"model"') or _LOOKS_LIKE_STATSD.match(quoted):
                    yield Example(fate, quoted.replace("\\n", "\n"))


PAGES_WITH_EXAMPLES = [page for page in PAGES if any(examples(page))]


def is_good(parsed: Parsed) -> bool:
    return bool(parsed.samples) and not parsed.notes


def test_the_pages_that_teach_have_examples() -> None:
    assert {ROOT / "README.md", DOCS / "tutorial.md"} <= set(PAGES_WITH_EXAMPLES)


@pytest.mark.parametrize("page", PAGES_WITH_EXAMPLES, ids=page_id)
def test_every_example_is_taken_unless_the_page_says_that_it_is_refused(page: Path) -> None:
    for fate, datagram in examples(page):
        if '"messages"' in datagram:
            continue  # a request to a model server
        good = [is_good(parsed) for parsed in parse_datagram(datagram.encode())]
        if fate == "refused":
            assert not any(good), datagram
        elif fate == "mixed":
            assert len(set(good)) == 2, datagram
        else:
            assert good, datagram
            assert all(good), datagram
