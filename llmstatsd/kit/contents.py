"""Everything that the kit holds."""

from itertools import chain

from llmstatsd.config import Config
from llmstatsd.kit import docker, grafana, kubernetes, prometheus
from llmstatsd.kit.document import Document


def contents(config: Config) -> list[Document]:
    """Every document of the kit for these thresholds, ordered by path."""
    parts = (docker, grafana, kubernetes, prometheus)
    return sorted(chain.from_iterable(part.documents(config) for part in parts))
