"""PromQL as a tree, in order to ask of each part of an expression whether it can give data.

The grammar is that of https://prometheus.io/docs/prometheus/latest/querying/ as far as the kit
uses it. An alert that does not fire and a filter that lets nothing through give nothing by nature,
so an expression is asked with its filters opened: see `opened`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

AGGREGATIONS: Final = frozenset(
    {"sum", "min", "max", "avg", "count", "group", "stddev", "stdvar", "topk", "bottomk"}
    | {"quantile", "count_values"}
)
COMPARISONS: Final = frozenset({"==", "!=", ">", "<", ">=", "<="})

_PRECEDENCE: Final = {
    "or": 1,
    "and": 2,
    "unless": 2,
    "+": 4,
    "-": 4,
    "*": 5,
    "/": 5,
    "%": 5,
    "^": 6,
    **dict.fromkeys(COMPARISONS, 3),
}
_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*')
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<duration>(?:\d+(?:ms|[smhdwy]))+)
    | (?P<name>[a-zA-Z_:][\w:]*)
    | (?P<sign>=~|!~|[=!<>]=|[-+*/%^<>=(){}\[\],:@])
    )\s*""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Literal:
    """A number or a text."""

    text: str

    def __str__(self) -> str:
        return self.text


class Matcher(NamedTuple):
    """A condition on a label; `value` has its quotation marks."""

    label: str
    operator: str
    value: str

    def __str__(self) -> str:
        return "".join(self)


@dataclass(frozen=True)
class Selector:
    """Series by name and matchers."""

    name: str
    matchers: tuple[Matcher, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        """What each label is compared with, without quotation marks."""
        return {matcher.label: matcher.value[1:-1] for matcher in self.matchers}

    def __str__(self) -> str:
        matchers = ", ".join(map(str, self.matchers))
        return f"{self.name}{{{matchers}}}" if matchers else self.name


@dataclass(frozen=True)
class Range:
    """What stands before a range in brackets; a subquery's range has a colon and a step."""

    of: "Node"
    text: str

    def __str__(self) -> str:
        return f"{self.of}[{self.text}]"


@dataclass(frozen=True)
class Shifted:
    """`offset`, with its time."""

    of: "Node"
    time: str

    def __str__(self) -> str:
        return f"{self.of} offset {self.time}"


@dataclass(frozen=True)
class Paren:
    """A pair of parentheses, or a sign before a node."""

    of: "Node"
    sign: str = ""

    def __str__(self) -> str:
        return f"{self.sign}{self.of}" if self.sign else f"({self.of})"


@dataclass(frozen=True)
class Call:
    """A function, or an aggregation with `by` or `without` and its labels."""

    name: str
    arguments: tuple["Node", ...]
    grouping: str = ""
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        grouping = f" {self.grouping} ({', '.join(self.labels)}) " if self.grouping else ""
        return f"{self.name}{grouping}({', '.join(map(str, self.arguments))})"


@dataclass(frozen=True)
class Binary:
    """An operation on two sides.

    `matching` is `on` or `ignoring` with its labels; `group` is `group_left` or `group_right` with
    the labels that it takes over from the other side.
    """

    operator: str
    left: "Node"
    right: "Node"
    matching: str = ""
    labels: tuple[str, ...] = ()
    group: str = ""
    taken: tuple[str, ...] = ()
    has_bool: bool = False

    def __str__(self) -> str:
        words = [str(self.left), self.operator, "bool" if self.has_bool else ""]
        if self.matching:
            words.append(f"{self.matching} ({', '.join(self.labels)})")
        if self.group:
            words.append(f"{self.group} ({', '.join(self.taken)})")
        return " ".join(word for word in [*words, str(self.right)] if word)


Node = Literal | Selector | Range | Shifted | Paren | Call | Binary


def parse(expression: str) -> Node:
    """The tree of an expression; raises ValueError for what is not in the grammar here."""
    parser = _Parser(list(_tokens(expression)))
    node = parser.binary(1)
    if parser.kind:
        raise ValueError(f"{parser.word!r} is left of {expression!r}")
    return node


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(expression):
        found = _TOKEN.match(expression, position)
        if found is None:
            raise ValueError(f"no token at {expression[position:]!r}")
        yield found.lastgroup or "", found[found.lastgroup or 0]
        position = found.end()


class _Parser:
    """Recursive descent; operators climb by precedence."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def kind(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    @property
    def word(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def take(self, word: str | None = None) -> str:
        taken = self.word
        if not self.kind or (word is not None and taken != word):
            raise ValueError(f"{taken!r} in place of {word!r}")
        self._at += 1
        return taken

    def takes(self, *words: str) -> str:
        return self.take() if self.word in words else ""

    def binary(self, least: int) -> Node:
        left = self.unary()
        while _PRECEDENCE.get(self.word, 0) >= least:
            operator = self.take()
            has_bool = bool(self.takes("bool"))
            matching, labels = self.modifier("on", "ignoring")
            group, taken = self.modifier("group_left", "group_right")
            # All but ^ bind to the left.
            right = self.binary(_PRECEDENCE[operator] + (operator != "^"))
            left = Binary(operator, left, right, matching, labels, group, taken, has_bool)
        return left

    def modifier(self, *words: str) -> tuple[str, tuple[str, ...]]:
        """One of the words with its labels, if it is there."""
        taken = self.takes(*words)
        return taken, self.labels() if taken and self.word == "(" else ()

    def unary(self) -> Node:
        if self.word in {"-", "+"}:
            return Paren(sign=self.take(), of=self.binary(6))
        node = self.primary()
        while self.word in {"[", "offset"}:
            if self.take() == "offset":
                node = Shifted(node, self.takes("-") + self.take())
            else:
                node = Range(node, self.up_to("]"))
        return node

    def up_to(self, end: str) -> str:
        words = []
        while self.word != end:
            words.append(self.take())
        self.take(end)
        return "".join(words)

    def primary(self) -> Node:
        if self.kind in {"number", "text"}:
            return Literal(self.take())
        if self.takes("("):
            inner = self.binary(1)
            self.take(")")
            return Paren(inner)
        if self.word == "{":
            return self.selector("")
        if self.kind != "name":
            raise ValueError(f"{self.word!r} in place of a value")
        name = self.take()
        if name in AGGREGATIONS or self.word == "(":
            return self.call(name)
        return self.selector(name)

    def call(self, name: str) -> Call:
        grouping, labels = self.modifier("by", "without")
        arguments = []
        self.take("(")
        while self.word != ")":
            arguments.append(self.binary(1))
            self.takes(",")
        self.take(")")
        if name in AGGREGATIONS and not grouping:
            grouping, labels = self.modifier("by", "without")
        return Call(name, tuple(arguments), grouping, labels)

    def selector(self, name: str) -> Selector:
        matchers = []
        if self.takes("{"):
            while not self.takes("}"):
                matchers.append(Matcher(self.take(), self.take(), self.take()))
                self.takes(",")
        return Selector(name, tuple(matchers))

    def labels(self) -> tuple[str, ...]:
        self.take("(")
        return tuple(word for word in self.up_to(")").split(",") if word)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly in a node."""
    match node:
        case Binary():
            return (node.left, node.right)
        case Call():
            return node.arguments
        case Range() | Shifted() | Paren():
            return (node.of,)
        case _:
            return ()


def parts(node: Node) -> Iterator[Node]:
    """A node and all that is in it."""
    yield node
    for child in children(node):
        yield from parts(child)


def opened(node: Node) -> Node:
    """The same expression with nothing in it that is meant to hold data back.

    A comparison gives 0 or 1 in place of a choice; `unless` asks for what matches in place of what
    does not; `absent` gives its argument; and an offset goes, as there is no data that old.
    """
    match node:
        case Binary(operator=operator) if operator in COMPARISONS:
            return replace(_with_opened(node), has_bool=True)
        case Binary(operator="unless"):
            return replace(_with_opened(node), operator="and")
        case Binary():
            return _with_opened(node)
        case Call(name="absent" | "absent_over_time", arguments=(argument,)):
            return opened(argument.of if isinstance(argument, Range) else argument)
        case Call():
            return replace(node, arguments=tuple(map(opened, node.arguments)))
        case Shifted():
            return opened(node.of)
        case Range() | Paren():
            return replace(node, of=opened(node.of))
        case _:
            return node


def _with_opened(node: Binary) -> Binary:
    return replace(node, left=opened(node.left), right=opened(node.right))
