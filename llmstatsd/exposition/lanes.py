"""Which twin renders the cells."""

from llmstatsd.exposition import text


def renderers(lane: str) -> text.Renderers:
    """The renderers for the cells of a lane."""
    if lane != "compiled":
        return text.PORTABLE
    from llmstatsd.exposition.compiled import RENDERERS

    return RENDERERS
