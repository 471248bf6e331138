"""Rules on what arrives: lanes, buffers, datagrams, lines, connections."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from llmstatsd import address
from llmstatsd.doctor.facts import Facts
from llmstatsd.doctor.report import Found, advice, problem
from llmstatsd.terminal import count, rate, share
from llmstatsd.wire import reasons

NEAR: Final = 0.8
"""Share of a limit from which on it is near."""

QUEUE_FULL: Final = 0.5
"""Share of the receive queue from which on the daemon does not keep up."""

SILENT_SECONDS: Final = 300.0
"""After so long without a call a daemon that had some is silent: the short window of the API."""

YOUNG_SECONDS: Final = 120.0
"""A daemon that runs for less has had no time for some things."""

MISSES_SHARE: Final = 0.1
"""Share of lines that miss a full cache from which on it is too small."""


def lane(facts: Facts) -> Iterator[Found]:
    """The portable lane runs although the compiled one could, or a compiled lane has failed."""
    failed = facts.value("llmstatsd_lane_failures_total")
    if failed:
        yield problem(
            "a compiled lane ended by a bug of ours, and the portable one took over",
            [f"llmstatsd_lane_failures_total is {count(failed)}"],
            ["Please report the traceback in its log. A restart brings the compiled lane back."],
        )
    elif facts.summary["about"]["lane"] == "portable":
        yield _portable(facts)


def _portable(facts: Facts) -> Found:
    if facts.setting("statsd.lane") == "portable":
        why, do = "statsd.lane says so", 'Let it choose, and restart it:\n[statsd]\nlane = "auto"'
    else:
        why = "the extension is missing, or LLMSTATSD_NO_EXTENSIONS is set for it"
        do = (
            "Install it where a C compiler is (Debian: apt-get install gcc libc6-dev"
            " libpython3-dev) or from a wheel, without LLMSTATSD_NO_EXTENSIONS, and restart it."
        )
    saw = [why, f"{rate(facts.ladder['lines_per_second'])} lines/s now"]
    if facts.own_lane == "compiled":
        saw.append("the llmstatsd that asks has the compiled lane")
    return advice(
        "datagrams are taken in by Python, a small part of what the compiled lane takes", saw, [do]
    )


def receive_buffer(facts: Facts) -> Iterator[Found]:
    """The kernel granted a smaller receive buffer than was asked for."""
    asked, granted = (
        facts.ladder["asked_receive_buffer_bytes"],
        facts.ladder["receive_buffer_bytes"],
    )
    if granted >= asked:
        return
    size = facts.setting("statsd.receive_buffer_bytes") or asked
    kind = problem if facts.ladder["kernel_dropped_datagrams"] else advice
    yield kind(
        "the kernel granted a smaller receive buffer than the configuration asks for",
        [f"{granted:,} of {asked:,} bytes"],
        [
            (
                "On the daemon's host (for a container too), as root, and restart the daemon:\n"
                f"sysctl -w net.core.rmem_max={size}\n"
                f"echo 'net.core.rmem_max = {size}' > /etc/sysctl.d/90-llmstatsd.conf"
            )
        ],
    )


def kernel_drops(facts: Facts) -> Iterator[Found]:
    """The kernel drops datagrams now, or has done so: problem above `dropped_ratio`, or now."""
    ladder = facts.ladder
    dropped, now = ladder["kernel_dropped_datagrams"], ladder["kernel_dropped_per_second"]
    if not dropped:
        return
    came = dropped + ladder["datagrams"] - ladder["restored_datagrams"]
    part = dropped / came
    size = min(1 << 30, 4 * max(ladder["receive_buffer_bytes"], 4096))
    do = [
        (
            "Bridge bursts by a larger buffer, which needs a sysctl and a restart:\n"
            f"sysctl -w net.core.rmem_max={size}\n[statsd]\nreceive_buffer_bytes = {size}"
        ),
        (
            "Against a steady rate that is too high: several lines in a datagram"
            " (docs/how-to/size-buffers.md), or [statsd] lanes on a machine with free cores."
        ),
    ]
    saw = [f"{count(dropped)} of {count(came)} datagrams ({share(part)})"]
    if now:
        saw.append(f"{rate(now)} per second in the last 10 s")
        yield problem("datagrams are being lost: the receive buffer is full", saw, do)
    else:
        saw.append("none in the last 10 s")
        kind = problem if part > facts.config.thresholds.dropped_ratio else advice
        yield kind("datagrams were lost: the receive buffer was full", saw, do)


def queue(facts: Facts) -> Iterator[Found]:
    """Datagrams wait in a queue that is half full, or were lost behind the socket."""
    ladder = facts.ladder
    waiting, room = ladder["receive_queue_bytes"], 2 * ladder["receive_buffer_bytes"]
    if waiting and room and waiting / room >= QUEUE_FULL:
        yield problem(
            "the daemon does not keep up: datagrams wait in the receive buffer",
            [f"{share(waiting / room)} of the room there is: {count(waiting)} bytes"],
            [
                "See whether it gets a core for itself, and what else runs on it.",
                "Send several lines in a datagram: docs/how-to/size-buffers.md.",
            ],
        )
    lost = ladder["queue_dropped_datagrams"]
    if lost:
        yield problem(
            "datagrams were dropped between the socket and the consumer: the daemon hung",
            [f"{count(lost)} of them"],
            ["Look in its log for what held it up, and at the load of its machine."],
        )


def refused_datagrams(facts: Facts) -> Iterator[Found]:
    """Datagrams came from networks that may not send, or were too long."""
    refused = facts.ladder["refused_datagrams"]
    if refused.get("foreign"):
        yield _foreign("datagrams", refused["foreign"], facts)
    if refused.get("too_long"):
        yield problem(
            "datagrams over 65,535 bytes came over the unix socket, and were refused",
            [count(refused["too_long"])],
            ["Send fewer lines in a datagram."],
        )


def _foreign(what: str, number: int, facts: Facts) -> Found:
    return advice(
        f"{what} came from networks that may not send",
        [f"{count(number)}; allow_from is {facts.setting('statsd.allow_from')!r}"],
        ["If they should count, add the senders' network to [statsd] allow_from."],
    )


_HINTS: Final = {
    reasons.MALFORMED: "Something else than StatsD is sent to this port, such as plain text, a"
    " header of another protocol, or lines joined without a line feed.",
    reasons.BAD_NAME: "A client builds names from data that may be empty, or has no letter in it.",
    reasons.BAD_VALUE: "A client formats numbers by a locale (1,5), sends None or null, or a unit"
    " behind the number. A number is digits with a point.",
    reasons.NOT_FINITE: "A client divides by zero, or sends a huge number: leave NaN and Inf out.",
    reasons.BAD_RATE: "The sample rate behind @ has to be over 0 and at most 1.",
    reasons.BAD_TYPE: "Types are c, g, ms, h, d and s: a client of another dialect sends others.",
    reasons.NEGATIVE: "A client counts down, or its clock was set back while it measured: take a"
    " monotonic clock, and a gauge for what goes down.",
    reasons.MIXED_TAGS: "Two libraries, or a proxy and a client, both add tags: let one do it.",
    reasons.INVALID_UTF8: "A client sends Latin-1 or binary data; or something else than StatsD"
    " comes to this port.",
    reasons.BAD_EVENT: "Somebody writes the JSON event by hand: check the fields against"
    " docs/reference/wire.md, or take a client of this project.",
    reasons.EVENT_NOT_FINAL: "A stream of Ollama is passed on chunk by chunk: send the last one"
    ' ("done": true) alone.',
    reasons.TYPE_CONFLICT: "Two programs use one name for different types: rename one of them.",
    reasons.NAME_CLASH: "Two names give samples of the same name: rename one of them.",
    reasons.RESERVED_NAME: "The name belongs to the daemon or to Prometheus: rename it.",
    reasons.NAME_BUDGET: "Names are made from data (an id, a user), or there are many of them: put"
    " what varies into a tag, or raise [limits] undeclared_names.",
    reasons.OUT_OF_MEMORY: "The daemon runs under a limit of memory that is reached: raise it, or"
    " lower [limits] exposition_lines.",
}
"""Of each reason: who may send such lines, and what to change."""


def refused_lines(facts: Facts) -> Iterator[Found]:
    """Lines are refused, by reason: a problem above `refused_ratio` of all lines."""
    lines = facts.ladder["lines"]
    for each in facts.refused["reasons"]:
        part = each["lines"] / max(lines, each["lines"])
        kind = problem if part > facts.config.thresholds.refused_ratio else advice
        saw = [f"{count(each['lines'])} of {count(lines)} lines ({share(part)})"]
        if each["last_line"] is not None:
            saw.append(f"the last one: {each['last_line']}")
        do = [_HINTS[each["reason"]]] if each["reason"] in _HINTS else []
        if each["reason"] != reasons.OUT_OF_MEMORY:  # no fault of a line, and no tap shows it
            do.append(_see_who_sends(each["reason"], facts.url))
        yield kind(f"lines are refused as {each['reason']}: {each['meaning']}", saw, do)


def _see_who_sends(reason: str, url: str) -> str:
    parts = urlsplit(url)
    own = f"{parts.scheme}://localhost:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    where = "" if own == "http://localhost:2112" else f" --url {own}{parts.path}"
    return (
        "See who sends them, on the daemon's machine, as they come:\n"
        f"llmstatsd tap --senders --filter 'verdict=refused reason={reason}'{where}"
    )


_NOTED: Final = {
    reasons.UNKNOWN_FIELD: "a client sends fields of a newer protocol; nothing is lost by it",
    reasons.TAG_WITHOUT_VALUE: "a client sends tags without a value: the label becomes `unknown`",
    reasons.RATE_IGNORED: "a client samples gauges or sets: a rate means nothing there",
    reasons.UNKNOWN_ERROR_TYPE: "errors are counted as `other`: take the words of the closed set"
    " in docs/reference/metrics.md",
    reasons.UNKNOWN_EVENT_FIELD: "fields of JSON events are not known: see docs/reference/wire.md",
    reasons.DROPPED_LABEL: "labels are dropped that a documented series does not have; keep one by"
    ' [series."NAME"] extra_labels = ["LABEL"]',
}


def notes(facts: Facts) -> Iterator[Found]:
    """Parts of accepted lines are left out."""
    for note, number in facts.refused["notes"].items():
        meaning = _NOTED.get(note, "see docs/reference/wire.md#notes")
        yield advice(f"lines are odd, {note}: {meaning}", [f"{count(number)} times"])


def tcp(facts: Facts) -> Iterator[Found]:
    """TCP connections are near their limit or over it, or lines over TCP were not read."""
    limit = facts.value("llmstatsd_tcp_open_connections_limit")
    if not limit:
        return
    held = facts.ladder["tcp_open_connections"]
    turned_away = facts.ladder["tcp_refused_connections"]["limit"]
    if turned_away or held >= NEAR * limit:
        kind = problem if turned_away else advice
        yield kind(
            "TCP connections are at their limit" if turned_away else "TCP connections are many",
            [f"{count(held)} of {count(limit)} open, {count(turned_away)} turned away"],
            [
                (
                    "Let each process keep one connection, or allow more:\n"
                    f"[statsd]\ntcp_connections = {min(65_536, int(2 * limit))}"
                )
            ],
        )
    too_long = facts.ladder["tcp_refused_lines"]["too_long"]
    if too_long:
        yield problem(
            "lines over TCP are longer than allowed, and were refused",
            [f"{count(too_long)}; the limit is {facts.setting('statsd.tcp_line_bytes')} bytes"],
            ["End each line by a line feed, or raise [statsd] tcp_line_bytes."],
        )
    if facts.ladder["tcp_refused_lines"]["cut"]:
        yield advice(
            "lines over TCP were cut off by the end of their connection, and not read",
            [count(facts.ladder["tcp_refused_lines"]["cut"])],
            ["Let clients close their connections in order, and see whether some crash."],
        )
    foreign = facts.ladder["tcp_refused_connections"]["foreign"]
    if foreign:
        yield _foreign("TCP connections", foreign, facts)


def arrivals(facts: Facts) -> Iterator[Found]:
    """Nothing has come at all, or nothing for five minutes."""
    ladder, udp = facts.ladder, facts.summary["about"]["statsd_udp"]
    if not ladder["datagrams"] and not ladder["lines"]:
        yield problem(
            "nothing has arrived since the start",
            ["0 datagrams, 0 lines", f"it receives at {udp or 'no UDP port'}"],
            _how_to_send(udp or ""),
        )
    elif not facts.summary["figures"]["requests"] and facts.uptime_seconds > SILENT_SECONDS:
        yield advice(
            "no call was counted in the last five minutes",
            [f"{count(ladder['lines'])} lines since the start"],
            ["If there should be some, see whether the applications run and where they send."],
        )


def _how_to_send(udp: str) -> list[str]:
    try:
        host, port = address.parse(udp)
    except ValueError:
        host, port = "", 0
    to = f"{address.on_this_machine(host)}:{port}" if port else "HOST:PORT"
    do = [
        f"Try it on the daemon's machine:\nllmstatsd send --to {to} --model test --operation chat",
        "Then give the applications LLMSTATSD_HOST and LLMSTATSD_PORT: docs/how-to/any-language.md",
    ]
    if host in ("127.0.0.1", "::1", "localhost"):
        do.append(
            "Only its own machine reaches this address; for containers and other hosts:\n"
            f'[statsd]\nudp = ":{port}"'
        )
    return do


def cache(facts: Facts) -> Iterator[Found]:
    """The cache of resolved meanings is full and missed often."""
    lines, misses = facts.ladder["lines"], facts.value("llmstatsd_cache_misses_total")
    limit = facts.value("llmstatsd_cache_entries_limit")
    is_full = limit and facts.value("llmstatsd_cache_entries") >= limit
    if is_full and misses > MISSES_SHARE * lines:
        size = min(1 << 20, int(4 * limit))
        yield advice(
            "the cache of resolved lines is too small, so that lines take the slow way",
            [f"{share(misses / lines)} of the lines miss it, {count(limit)} entries are in it"],
            [
                (
                    "Send fewer values of tags, such as ids; or, with a restart:\n"
                    f"[statsd]\ncache_entries = {size}"
                )
            ],
        )
