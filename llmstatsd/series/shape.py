"""What lines have in common that differ in the values of their tags alone.

A model or a tenant that nobody has seen before comes with every line of a flood. All but those
values has been resolved with the first of them, and is kept here.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from llmstatsd.catalog import ERROR_TYPES, OTHER, UNKNOWN
from llmstatsd.series import naming
from llmstatsd.series.cardinality import Aliases
from llmstatsd.series.family import Family
from llmstatsd.series.instruments import LabelSet
from llmstatsd.wire.reasons import DROPPED_LABEL, UNKNOWN_ERROR_TYPE
from llmstatsd.wire.statsd import PlainSuffix

ERRORS: Final = "llm_error_total"

SHAPES_LIMIT: Final = 1024
"""Most shapes that are kept; one more, and all are forgotten."""

KEY_LENGTH_LIMIT: Final = 512
"""Longest name and suffix in characters whose shape is kept, which bounds them in bytes too."""


class Shape:
    """One type and rate of one series, and which tag gives which of its labels.

    `weight` is 1 / sampling rate; `notes` are those that do not depend on a tag's value.
    """

    __slots__ = ("_aliases", "_rewritten", "_sources", "family", "kind", "names", "notes", "weight")

    def __init__(
        self,
        family: Family,
        kind: str,
        weight: float,
        notes: Sequence[str],
        keys: Sequence[str],
        aliases: Aliases,
    ) -> None:
        """`keys` are the tags' as sent; an undeclared series learns labels from them."""
        self.family = family
        self.kind = kind
        self.weight = weight
        labels = [_label(family, key) for key in keys]
        taken = {label: number for number, label in enumerate(labels) if label is not None}
        self.names = family.label_names(taken)
        self.notes = tuple(sorted({*notes, DROPPED_LABEL} if None in labels else notes))
        # -1, the last of the texts, is the value of a label that no tag names
        self._sources = [taken.get(name, -1) for name in self.names]
        self._aliases = aliases
        self._rewritten = [at for at, name in enumerate(self.names) if aliases.has(name)]

    def label_set(self, texts: Sequence[str]) -> tuple[LabelSet, tuple[str, ...]]:
        """The label set that the tags' values ask for, fit for Prometheus, and all notes."""
        known = (*texts, UNKNOWN)
        values = [known[source] for source in self._sources]
        for at in self._rewritten:
            if self._sources[at] >= 0:
                values[at] = self._aliases.rewrite(self.names[at], values[at])
        notes = self.notes
        if self.family.name == ERRORS:
            at = self.names.index("type")
            if values[at] not in ERROR_TYPES:
                values[at] = OTHER
                notes = tuple(sorted((*notes, UNKNOWN_ERROR_TYPE)))
        return (self.names, tuple(values)), notes

    def tag_of(self, label: str) -> int | None:
        """Which tag gives this label its value as it is; None if none does, or rules rewrite it."""
        at = self.names.index(label)
        source = self._sources[at]
        return source if source >= 0 and at not in self._rewritten else None


def _label(family: Family, key: str) -> str | None:
    """The label that a tag of this key gives, None if it gives none."""
    label = naming.label_name(key)
    return label if label is not None and family.takes_label(label) else None


class Shapes:
    """The shapes of lines by all but the values of their tags, at most SHAPES_LIMIT."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, str, tuple[str, ...]], Shape] = {}

    def get(self, name: str, plain: PlainSuffix, families: Mapping[str, Family]) -> Shape | None:
        """The shape of such lines, if it is known and its series is still there."""
        shape = self._shapes.get((name, plain.head, plain.keys))
        if shape is None or families.get(shape.family.name) is not shape.family:
            return None
        return shape

    def keep(self, name: str, suffix: str, plain: PlainSuffix, shape: Shape) -> None:
        """Remember what a whole reading of such a line came to, unless it is too long."""
        if len(name) + len(suffix) > KEY_LENGTH_LIMIT:
            return
        if len(self._shapes) >= SHAPES_LIMIT:
            self._shapes.clear()
        self._shapes[name, plain.head, plain.keys] = shape
