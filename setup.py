"""The compiled extension; everything else about the package is in setup.cfg.

It is built wherever Cython and a C compiler are. `LLMSTATSD_NO_EXTENSIONS=1` leaves it out, and
where it cannot be built, the install succeeds without it and says so, as `llmstatsd --version` and
the daemon's log do later.
"""

import os
import sys

from setuptools import Extension, setup

MODULES = ("series", "exposition", "intake")
HEADERS = [
    f"llmstatsd/{name}"
    for name in (
        *("batch.h", "batch.pxd", "intake/senders.h"),
        *("series/scan.h", "series/compiled.pxd"),
    )
]

# The sums are those of Python, bit by bit: nothing is fused.
FLAGS = ["-O3", "-ffp-contract=off"]


def extensions() -> list[Extension]:
    """One module for each of the stages; none where that is switched off, or not Linux."""
    if os.environ.get("LLMSTATSD_NO_EXTENSIONS") or sys.platform != "linux":
        sys.stderr.write("llmstatsd is installed without its compiled extension\n")
        return []
    from Cython.Build import cythonize

    modules = [
        Extension(
            f"llmstatsd.{stage}.compiled",
            [f"llmstatsd/{stage}/compiled.pyx"],
            depends=HEADERS,
            include_dirs=["llmstatsd"],
            extra_compile_args=FLAGS,
            optional=True,  # without a compiler, setuptools warns and goes on
        )
        for stage in MODULES
    ]
    return list(cythonize(modules, language_level=3))


setup(ext_modules=extensions())
