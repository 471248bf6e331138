"""Basic auth against bcrypt hashes: off the loop, one at a time, and remembered.

A guess costs its sender a turn in the queue; who is known already does not wait in it.
"""

import asyncio
import binascii
import hmac
import secrets
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from typing import Final

import bcrypt

from llmstatsd.threads import in_thread

REMEMBERED: Final = 100
"""Right answers kept, and wrong ones apart from them: wrong guesses push no right one out."""

BCRYPT_BYTES: Final = 72
"""bcrypt reads no further; a longer password is wrong, as its end would not count."""

_DEFAULT_COST: Final = 10


class Passwords:
    """Checks `Authorization` headers against `users`, names with their bcrypt hashes."""

    def __init__(self, users: Mapping[str, bytes]) -> None:
        self._users = dict(users)
        # For a name that is not there: as much work as for the costliest that is.
        cost = max((int(each[4:6]) for each in self._users.values()), default=_DEFAULT_COST)
        self._nobody = f"$2b${cost:02d}${'.' * 53}".encode()
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._turn = asyncio.Lock()

    @property
    def needed(self) -> bool:
        """Whether there are users at all."""
        return bool(self._users)

    async def admit(self, authorization: str) -> bool:
        """Whether the header of a request names a user and their password (RFC 7617)."""
        pair = _pair(authorization)
        if pair is None:
            return False
        name, password = pair
        # Only a keyed digest is kept and compared: neither memory nor timing tells a password.
        memory = hmac.digest(self._key, name.encode() + b":" + password, "sha256")
        if memory not in self._right and memory not in self._wrong:
            async with self._turn:
                is_right = await in_thread(partial(self._check, name, password))
            _remember(self._right if is_right else self._wrong, memory)
        return memory in self._right

    def _check(self, name: str, password: bytes) -> bool:
        expected = self._users.get(name)
        is_right = bcrypt.checkpw(password[:BCRYPT_BYTES], expected or self._nobody)
        return is_right and expected is not None and len(password) <= BCRYPT_BYTES


def _remember(memories: OrderedDict[bytes, None], memory: bytes) -> None:
    memories[memory] = None
    while len(memories) > REMEMBERED:
        memories.popitem(last=False)


def _pair(authorization: str) -> tuple[str, bytes] | None:
    """Name and password of a header, or None for anything that is not Basic."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, password = b64decode(token.strip(), validate=True).partition(b":")
        return (name.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
