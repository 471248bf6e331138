"""Where the values of a line go: names, types, labels, weights."""

from typing import Any

import pytest

from llmstatsd.catalog import CATALOG, ERROR_TYPES
from llmstatsd.series.store import SeriesRules, Store
from llmstatsd.wire import Dialect

from . import DURATIONS, ERRORS, FALLBACKS, RATE_LIMITS, REQUESTS, TOKENS, Rig


def test_a_line_reaches_its_documented_series() -> None:
    rig = Rig()
    rig.feed("llm.request:1|c|#model:gpt-4o,operation:chat")
    assert rig.values(REQUESTS) == {("gpt-4o", "chat"): 1}
    assert rig.label_names(REQUESTS) == {("model", "operation")}


def test_all_documented_series_exist_from_the_start() -> None:
    assert list(Store().families) == list(CATALOG)


def test_a_series_without_labels_is_at_zero_from_the_start() -> None:
    assert Rig().values(FALLBACKS) == {(): 0}


def test_a_documented_label_that_is_missing_is_unknown() -> None:
    rig = Rig()
    rig.feed("llm.request:1|c|#model:m", "llm.request:1|c|#operation:chat", "llm.request:1|c")
    assert rig.values(REQUESTS) == {
        ("m", "unknown"): 1,
        ("unknown", "chat"): 1,
        ("unknown", "unknown"): 1,
    }
    assert not rig.notes()


def test_an_extra_label_on_a_documented_series_is_dropped_and_noted() -> None:
    rig = Rig()
    rig.feed("llm.tokens:5|c|#model:m,tenant:t,user:u")
    assert rig.values(TOKENS) == {("m",): 5}
    assert rig.notes() == {"dropped_label": 1}


@pytest.mark.parametrize("key", ["le", "__name__", "__x"])
def test_a_reserved_label_is_dropped_and_noted(key: str) -> None:
    rig = Rig()
    rig.feed(f"jobs:1|c|#{key}:v,kind:k")
    assert rig.values("jobs_total") == {("k",): 1}
    assert rig.notes() == {"dropped_label": 1}


def test_a_label_over_labels_per_series_is_dropped_and_noted() -> None:
    rig = Rig(limits={"labels_per_series": 2})
    rig.feed("jobs:1|c|#a:1,b:2,c:3", "jobs:2|c|#c:3,b:2")
    assert rig.values("jobs_total") == {("1", "2"): 1, ("2",): 2}
    assert rig.notes() == {"dropped_label": 2}


def test_an_extra_label_that_the_configuration_adds_is_kept_and_unknown_when_missing() -> None:
    rig = Rig(rules={TOKENS: SeriesRules(extra_labels=("tenant", "app"))})
    rig.feed("llm.tokens:5|c|#model:m,tenant:t", "llm.tokens:1|c|#app:a,other:x")
    assert rig.label_names(TOKENS) == {("app", "model", "tenant")}
    assert rig.values(TOKENS) == {("unknown", "m", "t"): 5, ("a", "unknown", "unknown"): 1}
    assert rig.notes() == {"dropped_label": 1}


def test_the_configuration_may_change_the_buckets_of_one_series() -> None:
    store = Store(rules={DURATIONS: SeriesRules(buckets=(1.0, 10.0))})
    assert store.families[DURATIONS].buckets == (1.0, 10.0)
    changed = {name for name, f in store.families.items() if f.buckets != CATALOG[name].buckets}
    assert {name for name in changed if CATALOG[name].buckets} == {DURATIONS}


def test_of_labels_that_are_made_equal_the_last_wins() -> None:
    rig = Rig()
    rig.feed("jobs:1|c|#a.b:1,a-b:2")
    assert rig.values("jobs_total") == {("2",): 1}


def test_the_order_of_tags_does_not_matter() -> None:
    rig = Rig()
    rig.feed("jobs:1|c|#a:1,b:2", "jobs:1|c|#b:2,a:1", "jobs,b=2,a=1:1|c")
    assert rig.values("jobs_total") == {("1", "2"): 3}


@pytest.mark.parametrize(
    ("line", "series"),
    [("jobs:1|c", "jobs_total"), ("wait:1|ms", "wait_seconds"), ("size:1|h", "size")],
)
def test_an_undeclared_series_is_accepted_under_its_exposed_name(line: str, series: str) -> None:
    rig = Rig()
    rig.feed(line)
    assert rig.store.families[series].labels is None
    assert rig.store.stats.undeclared_names == 1


def test_an_undeclared_series_may_have_label_sets_of_different_names() -> None:
    rig = Rig()
    rig.feed("jobs:1|c", "jobs:1|c|#a:x", "jobs:1|c|#b:x", "jobs:1|c|#a:x,b:x")
    assert rig.label_names("jobs_total") == {(), ("a",), ("b",), ("a", "b")}


# Types and names that collide.


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a:1|c", "a:1|g"),
        ("a:1|g", "a:1|c"),
        ("a:1|g", "a:1|h"),
        ("a:1|h", "a:1|g"),
        ("a:1|h", "a:1|c"),
        ("a:x|s", "a:1|g"),
        ("a:1|g", "a:x|s"),
        ("a_total:1|g", "a:1|c"),
        ("a:1|c", "a_total:1|g"),
        ("a_seconds:1|g", "a:1|ms"),
        ("a.b:1|c", "a-b:1|g"),
        ("x:1|g", "llm.request.total:1|g"),
        ("x:1|g", "llm_request_total:1|ms"),
        ("x:1|g", "llm_request_duration_seconds:1|c"),
        ("x:1|g", "llm_tokens:1|h"),
    ],
)
def test_a_name_that_changes_type_is_refused(first: str, second: str) -> None:
    rig = Rig()
    rig.feed(first, second, second)
    assert rig.refused() == {"type_conflict": 2}
    assert rig.stats.accepted == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a:1|h", "a_count:1|g"),
        ("a:1|h", "a_sum:1|g"),
        ("a:1|h", "a_bucket:1|g"),
        ("a:1|h", "a_created:1|g"),
        ("a:1|h", "a_count:1|c"),
        ("a_count:1|g", "a:1|h"),
        ("a_sum:x|s", "a:1|d"),
        ("a:1|c", "a_created:1|g"),
        ("a_created:1|g", "a:1|c"),
        ("a_seconds_count:1|g", "a:1|ms"),
        ("a.total:1|c", "a.total.total:1|c"),
        ("x:1|g", "llm_request_duration_seconds_count:1|g"),
        ("x:1|g", "llm_request_created:1|g"),
    ],
)
def test_a_name_whose_samples_would_collide_is_refused(first: str, second: str) -> None:
    rig = Rig()
    rig.feed(first, second)
    assert rig.refused() == {"name_clash": 1}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a:1|c", "a:5|ms"),
        ("a:1|h", "a:1|d"),
        ("a:1|ms", "a_seconds:1|h"),
        ("a:1|g", "a_count:1|g"),
    ],
)
def test_names_that_only_look_alike_stand_beside_each_other(first: str, second: str) -> None:
    rig = Rig()
    rig.feed(first, second)
    assert not rig.refused()


def test_a_legacy_chain_of_different_types_feeds_different_series() -> None:
    rig = Rig()
    rig.feed("a:1|c:250|ms|#k:v")
    assert rig.values("a_total") == {("v",): 1}
    assert rig.sums("a_seconds") == {("v",): 0.25}
    assert rig.stats.lines == rig.stats.accepted == 1
    assert rig.stats.samples == 2


def test_a_legacy_chain_with_a_type_conflict_counts_nowhere() -> None:
    rig = Rig()
    rig.feed("a:1|g", "b:5|c:7|c", "b:1|c:2|c:3|g")
    assert rig.values("b_total") == {(): 12}
    rig.feed("b:9|c:1|h")
    assert rig.refused() == {"type_conflict": 2}
    assert rig.values("b_total") == {(): 12}


@pytest.mark.parametrize("name", ["llmstatsd.x", "process_cpu", "python.gc", "llmstatsd_lines"])
def test_a_name_of_the_daemon_itself_is_refused(name: str) -> None:
    rig = Rig()
    for kind in ("c", "g", "h", "ms", "s"):
        rig.feed(f"{name}:1|{kind}")
    assert rig.refused() == {"reserved_name": 5}


def test_names_that_only_begin_like_reserved_ones_are_accepted() -> None:
    rig = Rig()
    rig.feed("processes:1|g", "pythonic:1|g", "llmstatsdx:1|g")
    assert not rig.refused()


def test_undeclared_names_over_their_budget_are_refused_and_documented_ones_are_not() -> None:
    rig = Rig(limits={"undeclared_names": 2})
    rig.feed("a:1|c", "b:1|c", "c:1|c", "a:1|c", "llm.request:1|c")
    assert rig.refused() == {"name_budget": 1}
    assert rig.values("a_total") == {(): 2}
    assert rig.values(REQUESTS) == {("unknown", "unknown"): 1}


def test_undeclared_names_can_be_forbidden() -> None:
    rig = Rig(limits={"undeclared_names": 0})
    rig.feed("a:1|c")
    assert rig.refused() == {"name_budget": 1}


def test_an_undeclared_name_that_finds_no_exposition_lines_is_refused() -> None:
    reserved = Store().ledger.charged
    rig = Rig(limits={"exposition_lines": 1000, "undeclared_names": 100_000})
    rig.feed(*(f"n{number}:1|g" for number in range(1000)))
    assert rig.refused()["name_budget"] >= reserved
    assert rig.store.ledger.charged == 1000


# Weights.


@pytest.mark.parametrize(
    ("rate", "weight"),
    [
        ("1", 1),
        ("0.1", 10),
        ("0.01", 100),
        ("0.001", 1000),
        ("0.5", 2),
        ("0.25", 4),
        ("0.2", 5),
        ("1e-9", 1e9),
        ("0.3", 1 / 0.3),
        ("0.7", 1 / 0.7),
    ],
)
def test_a_rate_is_a_weight_on_the_sample(rate: str, weight: float) -> None:
    rig = Rig()
    rig.feed(f"jobs:1|c|@{rate}", f"jobs:3|c|@{rate}", f"wait:2|h|@{rate}")
    assert rig.values("jobs_total") == {(): weight + 3 * weight}
    assert rig.counts("wait") == {(): weight}
    assert rig.sums("wait") == {(): 2 * weight}


def test_ten_times_a_tenth_is_exactly_a_hundred() -> None:
    rig = Rig()
    rig.feed(*["jobs:1|c|@0.1"] * 10)
    assert rig.values("jobs_total") == {(): 100.0}


def test_a_rate_applies_to_each_packed_value() -> None:
    rig = Rig()
    rig.feed("wait:1:2:5|h|@0.5", "wait.ms:1000:3000|ms|@0.25")
    assert rig.counts("wait") == {(): 6}
    assert rig.sums("wait") == {(): 16}
    assert rig.sums("wait_ms_seconds") == {(): 16}


# Gauges.


def test_a_signed_gauge_value_is_a_change() -> None:
    rig = Rig()
    for line in ("depth:10|g", "depth:+5|g", "depth:-3|g"):
        rig.feed(line)
    assert rig.values("depth") == {(): 12}
    rig.feed("depth:4|g")
    assert rig.values("depth") == {(): 4}


def test_a_change_of_a_gauge_that_is_not_there_starts_at_zero() -> None:
    rig = Rig()
    rig.feed("depth:-3|g")
    assert rig.values("depth") == {(): -3}


def test_packed_gauge_values_apply_in_order() -> None:
    rig = Rig()
    rig.feed("depth:10:+5:-1|g")
    assert rig.values("depth") == {(): 14}


def test_a_signed_gauge_value_is_absolute_by_the_datadog_switch() -> None:
    rig = Rig(dialect=Dialect(absolute_signed_gauges=True))
    for line in ("depth:10|g", "depth:+5|g", "depth:-3|g"):
        rig.feed(line)
    assert rig.values("depth") == {(): -3}


# Sets.


def test_a_set_counts_distinct_members_of_the_last_full_minute() -> None:
    rig = Rig()
    rig.store.end_minutes(0.0)
    rig.feed("users:anna|s", "users:bob|s", "users:anna|s")
    rig.store.end_minutes(59.9)
    assert rig.values("users") == {(): 0}
    rig.store.end_minutes(60.0)
    assert rig.values("users") == {(): 2}
    rig.feed("users:anna|s")
    rig.store.end_minutes(119.9)
    assert rig.values("users") == {(): 2}
    rig.store.end_minutes(120.0)
    assert rig.values("users") == {(): 1}
    rig.store.end_minutes(180.0)
    assert rig.values("users") == {(): 0}


def test_the_first_look_at_the_clock_ends_no_minute() -> None:
    rig = Rig()
    rig.feed("users:anna|s")
    rig.store.end_minutes(7_000_000.0)
    assert rig.values("users") == {(): 0}


def test_a_member_may_be_any_text() -> None:
    rig = Rig()
    rig.store.end_minutes(0)
    rig.feed("users:a:b:c|s", "users: |s", "users:1|s", "users:1.0|s", "users:ä|s")
    rig.feed("users:ä|s", "users:a:b:c|s", "users:1|s")
    rig.store.end_minutes(60)
    assert rig.values("users") == {(): 5}


def test_the_members_of_a_set_are_bounded() -> None:
    rig = Rig(limits={"set_members": 3})
    rig.store.end_minutes(0)
    rig.feed(*(f"users:{number}|s" for number in range(100)))
    rig.store.end_minutes(60)
    assert rig.values("users") == {(): 3}


# Errors.


def test_a_model_is_born_with_all_its_error_series_at_zero() -> None:
    rig = Rig()
    rig.feed("llm.request:1|c|#model:m,operation:chat")
    assert rig.values(ERRORS) == {("m", error_type): 0 for error_type in ERROR_TYPES}
    assert rig.values(RATE_LIMITS) == {("m",): 0}


@pytest.mark.parametrize("series", sorted(set(CATALOG) - {FALLBACKS, ERRORS, RATE_LIMITS}))
def test_whichever_series_shows_a_model_first_its_errors_are_born(series: str) -> None:
    rig = Rig()
    kind = "c" if CATALOG[series].type == "counter" else "h"
    rig.feed(f"{series}:1|{kind}|#model:m")
    assert len(rig.values(ERRORS)) == len(ERROR_TYPES)
    assert rig.values(RATE_LIMITS) == {("m",): 0}


def test_an_undeclared_series_gives_birth_to_no_error_series() -> None:
    rig = Rig()
    rig.feed("jobs:1|c|#model:m")
    assert rig.values(ERRORS) == {}


def test_error_series_are_born_with_the_extra_labels_of_the_model() -> None:
    rig = Rig(rules={ERRORS: SeriesRules(extra_labels=("tenant",)), TOKENS: SeriesRules()})
    rig.feed("llm.tokens:1|c|#model:m")
    assert set(rig.values(ERRORS)) == {("m", "unknown", kind) for kind in ERROR_TYPES}


@pytest.mark.parametrize("error_type", ERROR_TYPES)
def test_every_type_of_the_closed_set_is_kept(error_type: str) -> None:
    rig = Rig(limits={"label_values": 1})
    rig.feed(f"llm.error:1|c|#model:m,type:{error_type}")
    assert rig.values(ERRORS)["m", error_type] == 1
    assert not rig.notes()
    assert not rig.folded(ERRORS)


@pytest.mark.parametrize("tags", ["model:m,type:weird", "model:m,type:Timeout", "model:m"])
def test_an_unknown_error_type_becomes_other_and_is_noted(tags: str) -> None:
    rig = Rig()
    rig.feed(f"llm.error:2|c|#{tags}")
    assert rig.values(ERRORS)["m", "other"] == 2
    assert rig.notes() == {"unknown_error_type": 1}
    assert {kind for _, kind in rig.values(ERRORS)} == set(ERROR_TYPES)


def test_an_alias_may_bring_an_error_type_into_the_closed_set() -> None:
    rig = Rig(aliases={"type": {"*Timeout*": "timeout"}})
    rig.feed("llm.error:1|c|#model:m,type:ReadTimeoutError")
    assert rig.values(ERRORS)["m", "timeout"] == 1
    assert not rig.notes()


def test_a_store_is_told_the_time_and_never_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> Any:
        raise AssertionError

    for clock in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(f"time.{clock}", forbidden)
    rig = Rig()
    store, hot = rig.store, rig.hot
    hot.feed(b"a:1|c\nusers:x|s")
    store.end_minutes(1.0)
    assert list(hot.expire(1.0))


def test_names_that_prometheus_gives_itself_are_reserved() -> None:
    rig = Rig()
    rig.feed("up:1|g", "scrape_duration_seconds:1|h", "upstream:1|g")
    assert rig.refused() == {"reserved_name": 2}
