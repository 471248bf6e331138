"""Stands for a provider's SDK in the code of the pages; the question says what happens.

`SEEN` names a folder in which each process that is asked leaves its id as the name of a file.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any, Final

ANSWER_SECONDS: Final = 0.02
HANG_SECONDS: Final = 120.0
"""Longer than any test: a call that hangs is ended by someone else."""

RESPONSE: Final = {
    "model": "gpt-4o",
    "usage": {"prompt_tokens": 512, "completion_tokens": 80, "total_tokens": 592},
}


def ask(question: str) -> dict[str, Any]:
    """A response, but `refused` raises ConnectionError, and `hang` never answers.

    `refused once` and `hang once` do so the first time that any process is asked.
    """
    what, _, once = question.partition(" ")
    seen = _seen()
    if not (once and _was_asked(seen, question)):
        _misbehave(what, seen)
    time.sleep(ANSWER_SECONDS)
    return RESPONSE


async def ask_async(question: str) -> dict[str, Any]:
    """The same for a server of coroutines, without the misbehaviour."""
    _seen()
    await asyncio.sleep(ANSWER_SECONDS)
    return {"question": question, **RESPONSE}


def _seen() -> Path:
    """The folder, in which this process has left its id."""
    folder = Path(os.environ["SEEN"])
    folder.joinpath(str(os.getpid())).touch()
    return folder


def _misbehave(what: str, seen: Path) -> None:
    if what == "refused":
        raise ConnectionError("the provider cannot be reached")
    if what == "hang":
        seen.joinpath(f"hangs-{os.getpid()}").touch()
        time.sleep(HANG_SECONDS)


def _was_asked(seen: Path, question: str) -> bool:
    try:
        seen.joinpath(question).touch(exist_ok=False)
    except FileExistsError:
        return True
    return False
