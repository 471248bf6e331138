"""LLM call metrics for Prometheus: one small daemon per host, one UDP datagram per call."""

from typing import Final

__version__: Final = "0.1.0"
