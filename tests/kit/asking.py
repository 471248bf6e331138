"""Asks a running Prometheus whether an expression, and each part of it, has data.

An empty answer is what a misspelt series, label or value gives, and Prometheus calls it no error.
"""

import math
from collections.abc import Iterator

from tests.kit.expressions import Binary, Call, Literal, Node, Range, Selector, opened, parse, parts
from tests.servers import BadExpressionError, PrometheusApi, Sample


def has_data(samples: list[Sample]) -> bool:
    """Whether there is a value to see: one that is a number."""
    return any(not math.isnan(sample.value) for sample in samples)


def complaints(server: PrometheusApi, expression: str) -> list[str]:
    """What is wrong with the parts of an expression, its filters opened; none if all is well."""
    try:
        tree = parse(expression)
        if _formatted(server, str(tree)) != _formatted(server, expression):
            return [f"this is not read here as Prometheus reads it: {expression}"]
        return [said for part in parts(opened(tree)) for said in _of_part(server, part)]
    except (ValueError, BadExpressionError) as error:
        return [f"{error}: {expression}"]


def _formatted(server: PrometheusApi, expression: str) -> object:
    return server.data("format_query", query=expression)


def _of_part(server: PrometheusApi, part: Node) -> Iterator[str]:
    if isinstance(part, Literal | Range):
        return  # what is in a range is asked by itself
    if not has_data(server.query(str(part))):
        yield f"no data: {part}"
    for choice in _choices(part):
        if not server.query(str(choice)):
            yield f"no data: {choice}"
    for label, nodes in _named_labels(part):
        if not any(_has_label(server, node, label) for node in nodes):
            yield f"no label {label}: {' or '.join(map(str, nodes))}"


def _choices(part: Node) -> Iterator[Node]:
    """A selector once for each word of a matcher such as `mode=~"idle|iowait"`."""
    if isinstance(part, Selector):
        for matcher in part.matchers:
            words = matcher.value[1:-1].split("|")
            if matcher.operator == "=~" and len(words) > 1:
                for word in words:
                    yield Selector(part.name, (matcher._replace(value=f'"{word}"'),))


def _named_labels(part: Node) -> Iterator[tuple[str, tuple[Node, ...]]]:
    """Each label that a node names, and the nodes of which one has to have it."""
    match part:
        case Selector(name=name, matchers=matchers) if name:
            yield from ((matcher.label, (Selector(name),)) for matcher in matchers)
        case Call(grouping=grouping, arguments=(*_, argument), labels=labels) if grouping:
            yield from ((label, (argument,)) for label in labels)
        case Binary(left=left, right=right, labels=labels, group=group, taken=taken):
            sides = [(left, right)] if part.matching == "ignoring" else [(left,), (right,)]
            yield from ((label, side) for label in labels for side in sides)
            yield from ((label, (right if group == "group_left" else left,)) for label in taken)


def _has_label(server: PrometheusApi, node: Node, label: str) -> bool:
    return any(label in sample.labels for sample in server.query(str(node)))
