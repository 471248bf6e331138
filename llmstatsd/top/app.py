"""The screen of `top`, by textual: keys, the table, the panes.

No text of others is ever read as markup: all goes through `rich.text.Text` and `terminal.plain`.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Input, Static

from llmstatsd.ask import AskError, Document, understood
from llmstatsd.terminal import plain, rate, span
from llmstatsd.top import figures
from llmstatsd.top.figures import COLUMNS
from llmstatsd.top.view import SORTS, View
from llmstatsd.top.watch import Seen, Watcher
from llmstatsd.window import WINDOWS

LOOK_SECONDS: Final = 0.2
"""How often the screen looks whether there is something new."""

GONE_SECONDS: Final = 1.0
"""How often it is seen whether the terminal is there, and how long an end without it may take."""

PLOT_LINES: Final = 3
FILTER_CHARACTERS: Final = 128

HELP: Final = """\
<  >     sort by the column to the left, to the right
r        turn the order round
/        show only models that hold the text, or are like it with * and ?
         Enter keeps it, Escape shows all again
w        the last five minutes, the last hour
p        the next pane, where there is room for one only
up down  move in the table
q        quit

req/s and tok/s are the mean of the last 10 s, everything else is of the window.
What is dropped, refused and counted in the ladder is of the time since the start.

? or Escape closes this."""


class Help(ModalScreen[None]):
    """What the keys do."""

    CSS = """
    Help { align: center middle }
    Help Static { width: auto; max-width: 100%; height: auto; padding: 1 2; border: round $primary;
        background: $surface }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "dismiss", "close"),
    ]

    def compose(self) -> ComposeResult:
        """One box."""
        yield Static(Text(HELP))


class Pane(VerticalScroll):
    """A titled list of lines; `tell` gives them."""

    can_focus = False

    def __init__(self, title: str) -> None:
        super().__init__()
        self.border_title = title
        self._body = Static(markup=False)

    def compose(self) -> ComposeResult:
        """One text."""
        yield self._body

    def show(self, lines: list[figures.Line]) -> None:
        """Show these lines instead of those of before."""
        width = max(8, self.size.width - 1)  # what is within the border, and a scroll bar
        self._body.update(Text(figures.justified(lines, width), no_wrap=True, overflow="crop"))


class Top(App[None]):
    """Shows what a watcher sees."""

    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - as textual declares it
        (0, "-narrow"),
        (140, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012
        (0, "-short"),
        (36, "-tall"),
    ]
    CSS = """
    Static.line { height: 1; width: 100%; padding: 0 1 }
    #daemon { background: $primary; color: $text }
    #daemon.stale { background: $error }
    #plot { height: 4; padding: 0 1; color: $accent }
    DataTable { height: 1fr; min-height: 5 }
    Grid { grid-size: 1; height: 9 }
    Pane { border: round $primary; height: 100%; scrollbar-size-vertical: 1 }
    .-short.-narrow Pane { display: none }
    .-short.-narrow Pane.chosen { display: block }
    .-wide Grid { grid-size: 4 }
    .-tall.-narrow Grid { grid-size: 2; height: 18 }
    .stale { text-style: dim }
    DataTable.stale, Grid.stale, #plot.stale, #totals.stale { opacity: 50% }
    Input { border: none; height: 1; padding: 0 1 }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("less_than_sign,comma", "sort(-1)", "sort", key_display="< >"),
        Binding("greater_than_sign,full_stop", "sort(1)", "sort", show=False),
        Binding("r", "reverse", "reverse"),
        # Before the table sees it, so that what is typed behind it already goes to the filter.
        Binding("slash", "filter", "filter", key_display="/", priority=True),
        Binding("escape", "all", "all models", show=False),
        Binding("w", "window", "window"),
        Binding("p", "pane", "pane"),
        Binding("question_mark", "help", "help", key_display="?"),
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
    ]

    def __init__(self, watcher: Watcher, url: str, view: View) -> None:
        super().__init__()
        self._watcher = watcher
        self._url = url
        self._view = view
        self._shown = -1
        self._chosen = 0
        self._daemon = Static(markup=False, id="daemon", classes="line")
        self._totals = Static(markup=False, id="totals", classes="line")
        self._plot = Static(markup=False, id="plot")
        self._table: DataTable[Text] = DataTable(
            cursor_type="row", zebra_stripes=True, fixed_columns=1
        )
        self._filter = Input(
            value=view.pattern, placeholder="model", max_length=FILTER_CHARACTERS, compact=True
        )
        self._panes = (
            Pane("errors by type"),
            Pane("ladder, since the start"),
            Pane("refused, with the last line"),
            Pane("cardinality"),
        )

    def compose(self) -> ComposeResult:
        """From the daemon down to the keys."""
        yield self._daemon
        yield self._totals
        yield self._plot
        yield self._table
        yield Grid(*self._panes)
        yield self._filter
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look; a signal to end restores the terminal."""
        self._filter.display = False
        self._panes[0].add_class("chosen")
        self._table.focus()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.exit)
        self.set_interval(LOOK_SECONDS, self._look)

    def on_resize(self) -> None:
        """Everything is as wide as the terminal."""
        self.call_after_refresh(self._show)

    def _look(self) -> None:
        seen = self._watcher.seen
        if seen.number != self._shown or seen.problem:
            self._shown = seen.number
            self._show()

    def _show(self) -> None:
        seen = self._watcher.seen
        problem = seen.problem
        if seen.summary is not None and self.is_running:
            try:
                understood(lambda: self._show_documents(seen))
            except AskError as error:
                problem = str(error)
        for widget in (self._daemon, self._totals, self._plot, self._table, self.query_one(Grid)):
            widget.set_class(bool(problem), "stale")
        if problem:
            since = "" if seen.answered is None else f" for {_age(seen.answered)}"
            why = plain(problem.removeprefix(self._url))
            self._daemon.update(_line(f"NO ANSWER{since}, trying again: {why}"))
        elif seen.summary is None:
            self._daemon.update(_line(f"asking {plain(self._url)} ..."))

    def _show_documents(self, seen: Seen) -> str:
        summary, series = seen.summary, seen.series
        if summary is None or series is None or seen.refused is None or seen.cardinality is None:
            return ""
        view = self._view
        shown = figures.rows(summary, view)
        about = f"llmstatsd {plain(str(summary['about']['version']))}"
        place = plain(self._url.partition("://")[2])
        self._daemon.update(_line("  ".join([about, place, *figures.head(summary)])))
        only = [f"shown: like {plain(view.pattern)}, all:"] if view.pattern else []
        self._totals.update(
            _line("  ".join([f"last {summary['window']}:", *only, *figures.totals(summary)]))
        )
        self._show_plot(series)
        self._show_table([figures.cells(row) for row in shown])
        for pane, lines in zip(
            self._panes,
            (
                figures.errors(summary, shown, view),
                figures.ladder(summary),
                figures.refused(seen.refused),
                figures.cardinality(seen.cardinality),
            ),
            strict=True,
        ):
            pane.show(lines)
        self._watcher.look_at(view.window, _only(shown))
        return ""

    def _show_plot(self, series: Document) -> None:
        rates = figures.rates(series)
        model = series["model"]
        whose = "all models" if model is None else figures.fit(str(model), figures.MODEL_CELLS)
        title = f"requests/s of {whose}, at most {rate(max(rates, default=0.0))}"
        blocks = figures.plot(rates, self.size.width - 2, PLOT_LINES)
        self._plot.update(Text(f"{title}\n{blocks}", no_wrap=True, overflow="crop"))

    def _show_table(self, lines: list[list[str]]) -> None:
        table, view = self._table, self._view
        at, x, y = table.cursor_row, table.scroll_x, table.scroll_y
        table.clear(columns=True)
        for key, column in COLUMNS.items():
            is_down = (key != "model") != view.is_reversed
            mark = ("▼" if is_down else "▲") if key == view.sort else ""
            table.add_column(Text(f"{column.title}{mark}"), key=key)
        for first, *others in lines:
            table.add_row(Text(first), *(Text(text, justify="right") for text in others))
        table.move_cursor(row=min(at, max(0, len(lines) - 1)), animate=False, scroll=False)
        table.scroll_to(x, y, animate=False, immediate=True)

    def _change(self, view: View) -> None:
        self._view = view
        self._show()

    def action_sort(self, step: int) -> None:
        """Sort by another column."""
        at = (SORTS.index(self._view.sort) + step) % len(SORTS)
        self._change(self._view._replace(sort=SORTS[at]))

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._change(self._view._replace(is_reversed=not self._view.is_reversed))

    def action_window(self) -> None:
        """Look at the other window."""
        window = WINDOWS[1 - WINDOWS.index(self._view.window)]
        self._watcher.look_at(window, None)
        self._change(self._view._replace(window=window))

    def action_pane(self) -> None:
        """Choose the next pane, for a terminal that has room for one."""
        self._panes[self._chosen].remove_class("chosen")
        self._chosen = (self._chosen + 1) % len(self._panes)
        self._panes[self._chosen].add_class("chosen")
        self.call_after_refresh(self._show)

    def action_filter(self) -> None:
        """Let a filter be typed."""
        self._filter.display = True
        self.set_focus(self._filter)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does what it stands for: in the filter, and in help, / is but a text."""
        is_free = not self._filter.display and not isinstance(self.screen, Help)
        return is_free if action == "filter" else super().check_action(action, parameters)

    def action_all(self) -> None:
        """Show all models again."""
        self._filter.value = ""
        self._close_filter()
        self._change(self._view._replace(pattern=""))

    def action_help(self) -> None:
        """Say what the keys do."""
        self.call_later(self.push_screen, Help())

    def on_input_changed(self, event: Input.Changed) -> None:
        """The table follows what is typed."""
        self._change(self._view._replace(pattern=event.value))

    def on_input_submitted(self) -> None:
        """Enter keeps the filter."""
        self._close_filter()

    def _close_filter(self) -> None:
        self._filter.display = False
        self.set_focus(self._table)


def _line(text: str) -> Text:
    """One line, cut where the terminal ends."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _only(shown: list[Document]) -> str | None:
    """The model, where one alone is shown: its points are asked for then."""
    return shown[0]["model"] if len(shown) == 1 else None


def _age(answered: float) -> str:
    return span(time.monotonic() - answered)


def _end_with_terminal() -> None:
    """End the process when its terminal is gone.

    Textual's writer ends by the first error then, and what is left waits for it for ever.
    """
    while os.isatty(0):
        time.sleep(GONE_SECONDS)
    time.sleep(GONE_SECONDS)
    os._exit(1)


def run(watcher: Watcher, url: str, view: View, make: Callable[..., Top] = Top) -> int:
    """Show it until the user ends it; 0, or 1 after a bug."""
    for name in ("COLUMNS", "LINES"):  # the terminal itself knows better, and when it changes
        os.environ.pop(name, None)
    app = make(watcher, url, view)
    watcher.start()
    threading.Thread(target=_end_with_terminal, daemon=True).start()
    try:
        app.run()
    finally:
        watcher.end()
    return app.return_code or 0
