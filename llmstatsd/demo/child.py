"""Runs a module as a child that outlives nobody: it ends when its parent does, however that ends.

    python -m llmstatsd.demo.child MODULE [ARGUMENT]...

The parent holds the other end of standard input and writes nothing to it. When it is gone the
system closes that end, and the child gets SIGTERM as if it had been asked to stop.
"""

import os
import runpy
import signal
import sys
import threading


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
