"""The budgets of this stage, declared where they are kept; the configuration takes them whole."""

from typing import Annotated

from msgspec import Meta, Struct


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The budgets that bound memory and the size of a scrape, whatever comes in."""

    label_values: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Distinct values per series and label; further ones become `other`.",
        ),
    ] = 100
    label_sets: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Label sets per series name, with that of `other` for further ones.",
        ),
    ] = 2000
    exposition_lines: Annotated[
        int,
        Meta(
            ge=1000,
            le=10_000_000,
            description="Lines of all series; a histogram's label set costs its buckets + 3.",
        ),
    ] = 100_000
    undeclared_names: Annotated[
        int,
        Meta(ge=0, le=100_000, description="Series names accepted that the catalogue lacks."),
    ] = 500
    labels_per_series: Annotated[
        int, Meta(ge=0, le=64, description="Label names that an undeclared series may have.")
    ] = 16
    set_members: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Distinct members counted per set and minute; by all sets, 100,000.",
        ),
    ] = 10_000
    idle_seconds: Annotated[
        float,
        Meta(ge=0, le=31_536_000, description="A label set idle for that long leaves; 0: never."),
    ] = 86_400.0
