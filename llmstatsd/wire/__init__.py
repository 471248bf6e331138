"""Bytes to samples, without I/O and without a clock.

Nothing here raises on any bytes: what cannot be a sample is a reason (see `reasons`).
An error belongs to a line, never to the datagram around it.
"""

from llmstatsd.wire.datagram import Parsed, parse_datagram, parse_line
from llmstatsd.wire.statsd import Dialect, Sample

__all__ = ["Dialect", "Parsed", "Sample", "parse_datagram", "parse_line"]
