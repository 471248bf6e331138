"""Which lines a tap shows: a small language of terms that all have to hold.

    filter  = [ term { space term } ]
    term    = key ( "=" | "!=" | "~" | "!~" ) value
    value   = one or more of: quoted text, "*", characters but spaces and quotes

`=` compares with the whole text, `~` with any part of it; `*` stands for any text, also for none,
but within quotes for itself. In quotes `\\` stands before a quote and before itself. There are no
regular expressions: a term costs a search or two for each of its parts, whatever comes in.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from llmstatsd.series.cardinality import FOLD_REASONS
from llmstatsd.series.explain import VERDICTS, Explained
from llmstatsd.wire.reasons import KINDS, NOTES, REASONS

LENGTH_LIMIT: Final = 500
"""Most characters of a filter."""

TERMS_LIMIT: Final = 16
"""Most terms of a filter, and most `*` in one value."""

TRANSPORTS: Final = ("udp", "unix", "tcp")

LABEL_PREFIX: Final = "label."
OPERATORS: Final = ("!=", "!~", "=", "~")

_KEY: Final = re.compile(r"[A-Za-z0-9_.]+")
_LABEL: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class FilterError(ValueError):
    """No filter: where it goes wrong, in characters from 1, and what may stand there."""

    def __init__(self, position: int, allowed: str) -> None:
        super().__init__(f"filter, at character {position}: {allowed}")
        self.position = position
        self.allowed = allowed


class Seen(NamedTuple):
    """A line as a filter sees it."""

    line: Explained
    transport: str | None
    sender: str | None


Pieces = tuple[str, ...]
"""The texts between the `*` of a pattern: one of them is the whole text."""


class Term(NamedTuple):
    """One condition: any of the texts that a key stands for fits, or with `is_not` none does."""

    key: str
    is_not: bool
    is_part: bool
    pieces: Pieces

    def holds(self, seen: Seen) -> bool:
        """Whether it holds for a line."""
        texts = _texts_of(self.key, seen)
        return any(_fits(self.pieces, text) for text in texts) != self.is_not

    def __str__(self) -> str:
        operator = ("!" if self.is_not else "") + ("~" if self.is_part else "=")
        pieces = self.pieces[1:-1] if self.is_part else self.pieces
        return f"{self.key}{operator}{'*'.join(map(_quoted, pieces)) or _EMPTY}"


class Filter(NamedTuple):
    """All terms have to hold; without any, every line is shown."""

    terms: tuple[Term, ...]

    def holds(self, seen: Seen) -> bool:
        """Whether a line is to be shown."""
        return all(term.holds(seen) for term in self.terms)

    def __str__(self) -> str:
        return " ".join(map(str, self.terms))


_EMPTY: Final = '""'


def _quoted(text: str) -> str:
    if not text:
        return ""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _whys(seen: Seen) -> Sequence[str]:
    return (seen.line.why,) if seen.line.why is not None else ()


_KEYS: Final[dict[str, Callable[[Seen], Iterable[str]]]] = {
    "verdict": lambda seen: (seen.line.verdict,),
    "reason": _whys,
    "note": lambda seen: seen.line.notes,
    "series": lambda seen: [met.series for met in seen.line.met],
    "folded": lambda seen: [met.fold_reason for met in seen.line.met if met.fold_reason],
    "transport": lambda seen: (seen.transport,) if seen.transport else (),
    "sender": lambda seen: (seen.sender,) if seen.sender else (),
    "text": lambda seen: (seen.line.text,),
}
_SHORT_LABELS: Final = ("model", "operation", "type")

KEYS: Final = (*_KEYS, *_SHORT_LABELS, f"{LABEL_PREFIX}NAME")
"""What a term may ask for."""

_CLOSED: Final[dict[str, tuple[str, ...]]] = {
    "verdict": VERDICTS,
    "reason": REASONS + KINDS,
    "note": NOTES,
    "folded": FOLD_REASONS,
    "transport": TRANSPORTS,
}
"""Keys that stand for words of a closed set: a term that fits none of them is a mistake."""


def _texts_of(key: str, seen: Seen) -> Iterable[str]:
    texts = _KEYS.get(key)
    if texts is not None:
        return texts(seen)
    label = key.removeprefix(LABEL_PREFIX)
    # A folded value is found by what it is and by what it was.
    return [
        value
        for met in seen.line.met
        for labels in (met.labels, met.folded)
        if (value := labels.get(label)) is not None
    ]


def _fits(pieces: Pieces, text: str) -> bool:
    if len(pieces) == 1:
        return text == pieces[0]
    first, last = pieces[0], pieces[-1]
    end = len(text) - len(last)
    at = len(first)
    if end < at or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in pieces[1:-1]:
        at = text.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def read_filter(text: str) -> Filter:
    """The filter that a text means; FilterError says where it goes wrong and what is allowed."""
    if len(text) > LENGTH_LIMIT:
        raise FilterError(LENGTH_LIMIT + 1, f"a filter has at most {LENGTH_LIMIT} characters")
    terms: list[Term] = []
    at = _skip_spaces(text, 0)
    while at < len(text):
        if len(terms) >= TERMS_LIMIT:
            raise FilterError(at + 1, f"a filter has at most {TERMS_LIMIT} terms")
        term, at = _read_term(text, at)
        terms.append(term)
        at = _skip_spaces(text, at)
    return Filter(tuple(terms))


def _skip_spaces(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _read_term(text: str, begin: int) -> tuple[Term, int]:
    key, at = _read_key(text, begin)
    operator = next((each for each in OPERATORS if text.startswith(each, at)), None)
    if operator is None:
        raise FilterError(at + 1, "after a key comes =, !=, ~ or !~")
    at += len(operator)
    pieces, end = _read_value(text, at)
    is_part = operator[-1] == "~"
    if is_part:
        pieces = ("", *pieces, "")
    term = Term(key, operator[0] == "!", is_part, pieces)
    words = _CLOSED.get(key)
    if words is not None and not any(_fits(pieces, word) for word in words):
        raise FilterError(at + 1, f"{key} is one of {', '.join(words)}")
    return term, end


def _read_key(text: str, begin: int) -> tuple[str, int]:
    found = _KEY.match(text, begin)
    key = found[0] if found else ""
    label = key.removeprefix(LABEL_PREFIX) if key.startswith(LABEL_PREFIX) else None
    if key not in _KEYS and key not in _SHORT_LABELS and not (label and _LABEL.fullmatch(label)):
        raise FilterError(begin + 1, f"a term begins with one of {', '.join(KEYS)}")
    return key, begin + len(key)


def _read_value(text: str, begin: int) -> tuple[Pieces, int]:
    pieces = [""]
    at = begin
    while at < len(text) and not text[at].isspace():
        if text[at] == '"':
            piece, at = _read_quoted(text, at)
            pieces[-1] += piece
            continue
        if text[at] != "*":
            pieces[-1] += text[at]
        elif len(pieces) > TERMS_LIMIT:
            raise FilterError(at + 1, f"a value has at most {TERMS_LIMIT} *")
        else:
            pieces.append("")
        at += 1
    if at == begin:
        raise FilterError(at + 1, 'a value, or "" for the empty one')
    return tuple(pieces), at


def _read_quoted(text: str, begin: int) -> tuple[str, int]:
    read: list[str] = []
    at = begin + 1
    while at < len(text):
        if text[at] == '"':
            return "".join(read), at + 1
        if text[at] == "\\":
            at += 1
            if text[at : at + 1] not in ('"', "\\"):
                raise FilterError(at + 1, 'after \\ in quotes comes " or \\')
        read.append(text[at])
        at += 1
    raise FilterError(begin + 1, "this quote is not closed")
