"""The page: one self-contained document, and the policy that allows what is in it and no more.

Its parts lie in the folder beside this module. The browser asks the daemon alone, and runs no
script but this one: Content Security Policy Level 3 (W3C) admits it by its hash, and Trusted Types
(W3C) keep text from becoming markup.
"""

from base64 import b64encode
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Final

from llmstatsd import __version__

_PARTS: Final = Path(__file__).with_name("page")


def _part(name: str) -> str:
    return (_PARTS / name).read_text("utf-8")


def _source(text: str) -> str:
    """How a policy names an inline block: by its hash."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


_STYLE: Final = _part("page.css")
_SCRIPT: Final = _part("page.js")

PAGE: Final = (
    _part("index.html")
    .replace("{version}", escape(__version__))
    .replace("{style}", _STYLE)
    .replace("{script}", _SCRIPT)
)

PAGE_HEADERS: Final = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "connect-src 'self'",
            "img-src data:",  # the icon in the page itself
            f"style-src {_source(_STYLE)}",
            f"script-src {_source(_SCRIPT)}",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
