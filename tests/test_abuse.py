"""Hostile datagrams, some of the ten million of the bench, read by Prometheus' own tool as well."""

import subprocess
from itertools import islice

import pytest

from bench import abuse, garbled, roads
from bench.harness import Daemon
from bench.payloads import PACKET_BYTES
from tests import twins
from tests.conftest import DEADLINE_SECONDS
from tests.differential import Step, assert_same

DATAGRAMS = 12_000
SEED = 7


@pytest.mark.parametrize("transport", roads.NAMES)
@pytest.mark.parametrize("lane", twins.BOTH)
def test_hostile_datagrams_lose_no_good_line_and_break_no_scrape(
    lane: str, transport: str, promtool: str
) -> None:
    def look(daemon: Daemon) -> None:
        checked = subprocess.run(
            [promtool, "check", "metrics"],
            input=daemon.scrape().text,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert "error while linting" not in checked.stdout + checked.stderr

    found = abuse.endure(lane, DATAGRAMS, SEED, look, transport)
    assert found.datagrams == DATAGRAMS
    assert found.good_lines > DATAGRAMS / 4
    assert found.wrong_sums == {}
    assert found.unexplained == 0
    assert found.scrapes > 1
    assert found.invalid_scrapes == []
    assert found.strange_lines == []
    assert found.log_lines < 100


@pytest.mark.compiled
@pytest.mark.parametrize("seed", range(5))
def test_both_twins_make_the_same_of_hostile_datagrams(seed: int) -> None:
    steps: list[Step] = []
    for number, datagram in enumerate(islice(garbled.datagrams(seed, garbled.Good()), 1000)):
        steps.append(datagram)
        if number % 200 == 0:
            steps.append(float(number))
    budgets = {"label_values": 3, "label_sets": 20, "undeclared_names": 60, "idle_seconds": 400.0}
    assert_same(steps, limits=budgets, cache_entries=100_000)


def test_the_same_seed_gives_the_same_datagrams_and_good_lines() -> None:
    one, other = garbled.Good(), garbled.Good()
    sent = list(islice(garbled.datagrams(SEED, one), 3000))
    assert sent == list(islice(garbled.datagrams(SEED, other), 3000))
    assert sent != list(islice(garbled.datagrams(SEED + 1, garbled.Good()), 3000))
    assert one.sums == other.sums


def test_of_hostile_datagrams_there_are_all_kinds_and_none_is_longer_than_udp_takes() -> None:
    sent = list(islice(garbled.datagrams(SEED, garbled.Good()), 50_000))
    assert max(map(len, sent)) == PACKET_BYTES
    assert b"" in sent
    assert any(b"\0" in each for each in sent)
    assert any(each.startswith(b"{" * 1000) for each in sent)
    assert any(each.count(b":") > 1000 and b"|ms" in each for each in sent)


def test_no_hostile_line_names_a_good_series() -> None:
    hostile = garbled.datagrams(SEED, garbled.Good())
    lines = b"\n".join(islice(hostile, 50_000)).split(b"\n")
    good = [line for line in lines if b"abuse" in line]
    assert len(good) == sum(line.startswith(b"abuse_good_") for line in lines)
