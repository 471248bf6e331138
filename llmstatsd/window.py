"""How far back the API looks, by the names that its queries and commands have for it."""

from typing import Final, Literal, get_args

WindowName = Literal["5m", "1h"]

WINDOWS: Final[tuple[WindowName, ...]] = get_args(WindowName)
