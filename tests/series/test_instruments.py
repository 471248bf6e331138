"""How a value changes a cell."""

from collections.abc import Callable

from llmstatsd.series.instruments import AnyCell, Histogram, MemberCount, SetCell

from . import Rig

NO_LABELS: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


def histogram_of(*bounds: float) -> Histogram:
    instruments = Rig.twin.instruments
    return instruments.histogram(instruments.bounds(bounds), NO_LABELS)


def test_a_counter_starts_at_zero_and_adds() -> None:
    cell = Rig.twin.instruments.counter(NO_LABELS)
    assert cell.value == 0
    cell.add(2)
    cell.add(0.5)
    assert cell.value == 2.5


def test_a_gauge_takes_a_value_as_it_is_and_a_change_on_top() -> None:
    cell = Rig.twin.instruments.gauge(NO_LABELS)
    cell.change(-2)
    assert cell.value == -2
    cell.set(10)
    cell.change(2.5)
    assert cell.value == 12.5


def test_an_upper_bound_of_a_bucket_is_inclusive() -> None:
    cell = histogram_of(1.0, 10.0)
    for value in (0.0, 1.0, 1.0000001, 10.0, 10.000001, 1e280):
        cell.observe(value)
    assert cell.counts == [2, 2, 2]


def test_a_millisecond_observation_meets_the_bucket_in_seconds() -> None:
    cell = histogram_of(0.25, 1.0)
    cell.observe_milliseconds(250)
    cell.observe_milliseconds(251)
    assert cell.counts == [1, 1, 0]
    assert cell.sum == 0.25 + 0.251


def test_a_weighted_observation_stands_for_many() -> None:
    cell = histogram_of(1.0)
    cell.observe_weighted(0.5, 8)
    assert cell.counts == [8, 0]
    assert cell.sum == 4.0


def test_counts_stay_whole_numbers_without_broken_weights() -> None:
    cell = histogram_of(1.0)
    cell.observe(1)
    cell.observe_weighted(2, 10)
    assert all(isinstance(count, int) for count in cell.counts)


def test_a_set_shows_a_minute_only_when_it_has_ended() -> None:
    cell = SetCell(10, MemberCount(), NO_LABELS)
    for member in ("a", "b", "a"):
        cell.insert(member)
    assert cell.value == 0
    cell.end_minute()
    assert cell.value == 2
    cell.end_minute()
    assert cell.value == 0


def test_a_full_set_shows_its_bound_and_keeps_no_more() -> None:
    cell = SetCell(3, MemberCount(), NO_LABELS)
    for number in range(1000):
        cell.insert(str(number))
    assert len(cell.members) == 3
    cell.end_minute()
    assert cell.value == 3


def test_every_change_touches_the_cell() -> None:
    instruments = Rig.twin.instruments
    counter, gauge = instruments.counter(NO_LABELS), instruments.gauge(NO_LABELS)
    histogram, members = histogram_of(1.0), SetCell(1, MemberCount(), NO_LABELS)
    changes: list[tuple[AnyCell, Callable[[], None]]] = [
        (counter, lambda: counter.add(0)),
        (gauge, lambda: gauge.set(0)),
        (gauge, lambda: gauge.change(0)),
        (histogram, lambda: histogram.observe(0)),
        (histogram, lambda: histogram.observe_milliseconds(0)),
        (histogram, lambda: histogram.observe_weighted(0, 2)),
        (members, lambda: members.insert("a")),
        (members, lambda: members.insert("a")),
    ]
    for cell, change in changes:
        cell.touched = False
        change()
        assert cell.touched


def test_all_sets_together_hold_a_bounded_number_of_members() -> None:
    count = MemberCount()
    cells = [SetCell(MemberCount.LIMIT, count, NO_LABELS) for _ in range(2)]
    for number in range(MemberCount.LIMIT):
        for cell in cells:
            cell.insert(str(number))
    assert count.held == sum(len(cell.members) for cell in cells) == MemberCount.LIMIT
    for cell in cells:
        cell.end_minute()
    assert count.held == 0
    assert sum(cell.value for cell in cells) == MemberCount.LIMIT
