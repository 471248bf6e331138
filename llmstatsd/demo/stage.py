"""The demo on a machine: a daemon and senders as child processes, and who says what to look at.

Every child is tied to this process by a pipe (see `child`), so none outlives it, even a SIGKILL.
"""

import contextlib
import errno
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Final

import msgspec

from llmstatsd import address
from llmstatsd.address import Address
from llmstatsd.demo.sender import Plan, Whole
from llmstatsd.demo.traffic import ACTS, STORY_SECONDS, act_at

SENDERS: Final = 3

READY_SECONDS: Final = 30.0
END_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.2

USUAL_URL: Final = "http://127.0.0.1:2112"
"""Where the other commands look by themselves."""

_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_READY: Final = re.compile(r"ready: .*statsd_udp=(\S+) http=(\S+)")

# What belongs to a daemon that stays: a state file, sockets of its own, a service manager.
_NOT_OURS: Final = ("--state=", "--statsd-unix=", "--statsd-tcp=", "--http-security-file=")
_NOT_OUR_VARIABLES: Final = ("STATE_DIRECTORY", "NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC")


class DemoError(Exception):
    """The demo cannot go on; `exit_code` is the daemon's where it could not start."""

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code or 1


class Wish(msgspec.Struct, frozen=True):
    """What the demo is asked for; `seconds` is None for one without an end.

    `story_seconds` is None for the usual length, or a shorter demo's own.
    """

    statsd_udp: Address
    http: Address
    config: Path | None
    rate: float
    seed: int
    seconds: float | None
    story_seconds: float | None = None

    @property
    def story(self) -> float:
        """Seconds until the story begins again."""
        return self.story_seconds or min(self.seconds or STORY_SECONDS, STORY_SECONDS)


class Child:
    """A process of ours, until `end`; what it writes to stderr goes line by line to `heard`."""

    def __init__(self, *command: str, heard: Callable[[str], None]) -> None:
        self.last_line = ""
        self._heard = heard
        self.process = subprocess.Popen(  # noqa: S603 - this Python, this package
            [sys.executable, "-P", "-m", "llmstatsd.demo.child", *command],
            env=_environ(),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the demo, which ends them in their order
        )
        self._reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                self.last_line = line.decode(errors="replace").rstrip()
                self._heard(self.last_line)

    def end(self) -> None:
        """Ask it to stop, and see to it that it does."""
        if self.process.poll() is None:
            self.process.terminate()
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(END_SECONDS)


def _environ() -> dict[str, str]:
    """Children import what this process has imported, from wherever they are started."""
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    kept = {name: text for name, text in os.environ.items() if name not in _NOT_OUR_VARIABLES}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


class Stage:
    """The daemon and its senders, all ended when the block is left."""

    def __init__(self, wish: Wish, say: Callable[[str], None], log: Callable[[str], None]) -> None:
        """`say` is told what people want to know, `log` each line of the daemon's log."""
        self._wish = wish
        self._say = say
        self._log = log
        self._ready: re.Match[str] | None = None
        self._ends = contextlib.ExitStack()
        self._senders: list[Child] = []

    def __enter__(self) -> "Stage":
        return self

    def __exit__(self, *_: object) -> None:
        for number in _ENDINGS:
            signal.signal(number, signal.SIG_IGN)  # it is ending already
        self._ends.close()

    def steps(self) -> Iterator[str]:
        """Set everything up, in steps; yields what comes next. Raises DemoError."""
        yield "the daemon"
        self._start_daemon()
        for index in range(SENDERS):
            yield f"sender {index + 1} of {SENDERS}"
            self._start_sender(index)

    def _start_daemon(self) -> None:
        wish = self._wish
        udp = self._free(wish.statsd_udp, socket.SOCK_DGRAM)
        http = self._free(wish.http, socket.SOCK_STREAM)
        config = [f"--config={wish.config}"] if wish.config else []
        self._daemon = self._start(
            "llmstatsd", "serve", *config, *_NOT_OURS, f"--statsd-udp={udp}", f"--http={http}"
        )
        deadline = time.monotonic() + READY_SECONDS
        while self._ready is None:
            code = self._daemon.process.poll()
            if code is not None:
                raise DemoError(f"the daemon did not start: {self._daemon.last_line}", code)
            if time.monotonic() > deadline:
                raise DemoError(f"the daemon was not ready within {READY_SECONDS:g} s")
            time.sleep(0.01)

    def _hear_daemon(self, line: str) -> None:
        self._ready = self._ready or _READY.search(line)
        self._log(line)

    def _start(self, *command: str) -> Child:
        child = Child(*command, heard=self._hear_daemon)
        self._ends.callback(child.end)
        return child

    def _start_sender(self, index: int) -> None:
        wish = self._wish
        udp = address.parse(self._bound(1))
        host = address.on_this_machine(udp.host)
        whole = Whole(wish.seed, wish.rate, wish.story, wish.seconds)
        plan = Plan(host, udp.port, whole, index, SENDERS)
        encoded = msgspec.json.encode(plan).decode()
        self._senders.append(self._start("llmstatsd.demo.sender", encoded))

    def _bound(self, number: int) -> str:
        return self._ready[number] if self._ready else ""

    def _free(self, wanted: Address, kind: socket.SocketKind) -> Address:
        """The address, or one with a free port where somebody else has it."""
        if is_free(wanted, kind):
            return wanted
        name = "UDP" if kind == socket.SOCK_DGRAM else "TCP"
        self._say(f"{wanted} ({name}) is taken, so a free port is used.")
        return Address(wanted.host, 0)

    @property
    def url(self) -> str:
        """Where the web is."""
        http = address.parse(self._bound(2))
        return f"http://{Address(address.on_this_machine(http.host), http.port)}"

    @property
    def statsd_udp(self) -> str:
        """Where datagrams go."""
        return self._bound(1)

    def play(self) -> None:
        """Say what happens until the senders have ended, which without `seconds` they never do.

        Raises DemoError when a child ends before its time.
        """
        started = time.monotonic()
        last = None
        end = math.inf if self._wish.seconds is None else self._wish.seconds
        while any(child.process.poll() is None for child in self._senders):
            self._check()
            seconds = time.monotonic() - started
            if seconds > end + END_SECONDS:  # the senders were held up
                break
            act = act_at(min(seconds, end - LOOK_SECONDS), self._wish.story)
            if act is not last:
                self._say(f"{_clock(seconds)}  {act.says if act is not None else 'calm again'}")
            last = act
            time.sleep(LOOK_SECONDS)
        self._check()

    def _check(self) -> None:
        if self._daemon.process.poll() is not None:
            raise DemoError(f"the daemon has ended: {self._daemon.last_line}")
        for child in self._senders:
            if child.process.poll():
                raise DemoError(f"a sender has ended: {child.last_line}")


def is_free(wanted: Address, kind: socket.SocketKind) -> bool:
    """Whether the address can be bound; one that is wrong is for the daemon to refuse."""
    host = wanted.host or address.every_interface()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
        if kind == socket.SOCK_STREAM:  # as servers do, or what has just been closed is taken
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted.port))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def run(
    wish: Wish,
    say: Callable[[str], None],
    log: Callable[[str], None],
    progress: Callable[[Iterable[str], int], Iterable[str]],
) -> None:
    """Play the demo to its end, or until SIGINT, SIGTERM or SIGHUP.

    `progress` goes through the steps of the start, of which it is told the number. Raises
    DemoError when the demo cannot start or go on.
    """
    with _ended_by_signals(), Stage(wish, say, log) as stage:
        for _ in progress(stage.steps(), 1 + SENDERS):
            pass
        say(guide(wish, stage.url, stage.statsd_udp))
        stage.play()


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Leave the block at the first signal that asks for the end; one that is ignored stays so."""
    before = {number: signal.getsignal(number) for number in _ENDINGS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(number, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def guide(wish: Wish, url: str, statsd_udp: str) -> str:
    """Where to look, and what will happen when."""
    own = command()
    where = "" if url == USUAL_URL else f" --url {url}"
    places = [
        ("Look at", ""),
        (f"  {url}/", "the live page, in a browser"),
        (f"  {url}/metrics", "what Prometheus scrapes"),
        ("or in another shell", ""),
        (f"  {own} top{where}", "the same in a terminal"),
        (f"  {own} doctor{where}", "what is wrong, and what to change"),
        (f"  {own} tap{where}", "the lines as they come"),
    ]
    width = max(len(place) for place, _ in places) + 2
    acts = [
        f"  {_clock(act.begins * wish.story)} to {_clock(act.ends * wish.story)}  {act.says}"
        for act in ACTS
    ]
    lines = [
        f"{SENDERS} processes report {wish.rate:g} calls a second to {statsd_udp}.",
        "",
        *(f"{place:{width}}{what}".rstrip() for place, what in places),
        "",
        "What happens",
        "  at any time   models are loaded, warm and cold; an old client sends 1,024 as a number",
        *acts,
        _ending(wish),
        "",
    ]
    return "\n".join(lines)


def _ending(wish: Wish) -> str:
    if wish.seconds is None:
        return f"  {_clock(wish.story)}          all of it again, until Ctrl-C"
    return f"  {_clock(wish.seconds)}          the end"


def command() -> str:
    """How people call llmstatsd here: its name, or its path where the name alone is not found."""
    beside = Path(sys.executable).with_name("llmstatsd")
    if shutil.which("llmstatsd") or not beside.exists():
        return "llmstatsd"
    with contextlib.suppress(ValueError):
        return str(beside.relative_to(Path.cwd()))
    return str(beside)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
