"""Which twin runs, and how lanes are counted together."""

import pytest

from llmstatsd.series import lanes
from llmstatsd.series.lanes import LaneMissingError, choose
from llmstatsd.series.store import Store
from llmstatsd.wire import Dialect

from . import Rig

needs_extension = pytest.mark.compiled


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice is made as if nothing were set."""
    monkeypatch.delenv(lanes.NO_EXTENSIONS, raising=False)


@needs_extension
def test_auto_takes_the_extension_where_it_is_installed() -> None:
    assert choose("auto").name == choose("compiled").name == "compiled"


def test_portable_is_there_whatever_is_installed() -> None:
    assert choose("portable") is lanes.PORTABLE


def test_the_variable_switches_the_extension_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lanes.NO_EXTENSIONS, "1")
    assert choose("auto") is lanes.PORTABLE
    with pytest.raises(LaneMissingError, match="LLMSTATSD_NO_EXTENSIONS is set"):
        choose("compiled")


def test_without_the_extension_auto_is_portable_and_compiled_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "llmstatsd.series.compiled", None)
    assert choose("auto") is lanes.PORTABLE
    with pytest.raises(LaneMissingError, match="not installed"):
        choose("compiled")


@needs_extension
def test_the_ladder_of_several_lanes_is_their_sum() -> None:
    store = Store(instruments=choose("compiled").instruments)
    hot = lanes.CompiledHotPath(store, Dialect(), 100, lanes=2)
    one, two = hot.lanes
    one.feed(b"jobs:1|c\njobs:2|c|#bare\njobs:x|c")
    two.feed(b"jobs:3|c\njobs:4|g\n_sc|a|0")
    two.feed(b"jobs:3:5|c")
    stats = hot.stats
    assert (stats.datagrams, stats.lines, stats.accepted, stats.samples) == (3, 7, 4, 5)
    assert {reason: n for reason, n in stats.refused.items() if n} == {
        "bad_value": 1,
        "type_conflict": 1,
    }
    assert stats.notes["tag_without_value"] == 1
    assert stats.set_aside["service_check"] == 1
    assert set(stats.refused_lines) == {"bad_value", "type_conflict"}
    assert hot.cache_entries == 3
    assert hot.cache_entries_limit == 200
    [cell] = store.families["jobs_total"].cells.values()
    assert cell.value == 14  # type: ignore[attr-defined]


def test_a_portable_hot_path_goes_on_with_the_cells_and_counts_of_another() -> None:
    rig = Rig()
    rig.feed("jobs:1|c", "jobs:x|c", "wait:250|ms", "depth:2|g")
    from llmstatsd.series.hotpath import HotPath

    portable = HotPath(rig.store, rig.dialect, 100, rig.stats)
    for _ in range(2):
        portable.feed(b"jobs:2|c\nwait:500|ms\ndepth:+1|g")
    assert rig.values("jobs_total") == {(): 5}
    assert rig.values("depth") == {(): 4}
    assert rig.sums("wait_seconds") == {(): 1.25}
    assert (portable.stats.lines, portable.stats.accepted) == (10, 9)
