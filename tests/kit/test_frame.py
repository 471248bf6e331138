"""Panels get their ids and places in reading order."""

from typing import Any

from llmstatsd.kit.frame import placed
from llmstatsd.kit.panels import Panel, Row


def panel(name: str, width: int, height: int = 8) -> Panel:
    return Panel({"title": name, "type": "stat"}, width, height)


def places(rows: list[Row]) -> list[tuple[str, int, int, int, int]]:
    return [place(one) for one in placed(rows)]


def place(one: dict[str, Any]) -> tuple[str, int, int, int, int]:
    at = one["gridPos"]
    return one["title"], at["x"], at["y"], at["w"], at["h"]


def test_panels_flow_from_left_to_right_and_then_down() -> None:
    row = Row("", [panel("a", 12), panel("b", 12), panel("c", 8)])
    assert places([row]) == [("a", 0, 0, 12, 8), ("b", 12, 0, 12, 8), ("c", 0, 8, 8, 8)]


def test_a_line_is_as_high_as_its_first_panel() -> None:
    row = Row("", [panel("a", 12, 4), panel("b", 12, 8), panel("c", 24, 8)])
    assert places([row]) == [("a", 0, 0, 12, 4), ("b", 12, 0, 12, 4), ("c", 0, 4, 24, 8)]


def test_a_heading_is_a_line_of_its_own() -> None:
    rows = [Row("", [panel("a", 24, 4)]), Row("More", [panel("b", 24)])]
    assert places(rows) == [("a", 0, 0, 24, 4), ("More", 0, 4, 24, 1), ("b", 0, 5, 24, 8)]


def test_a_collapsed_row_holds_its_panels_and_takes_one_line() -> None:
    rows = [Row("Folded", [panel("a", 24)], collapsed=True), Row("Open", [panel("b", 24)])]
    folded, heading, shown = placed(rows)
    assert [place(one) for one in folded["panels"]] == [("a", 0, 1, 24, 8)]
    assert place(heading) == ("Open", 0, 1, 24, 1)
    assert place(shown) == ("b", 0, 2, 24, 8)
    assert folded["collapsed"] is True
    assert heading["collapsed"] is False


def test_ids_count_from_one_into_collapsed_rows_and_on() -> None:
    rows = [Row("Folded", [panel("a", 24)], collapsed=True), Row("Open", [panel("b", 24)])]
    folded, heading, shown = placed(rows)
    found = [one["id"] for one in (folded, *folded["panels"], heading, shown)]
    assert found == [1, 2, 3, 4]
