"""The system's Chromium, driven by Playwright, for scripts that look at the page."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def is_there() -> bool:
    """Whether a page can be opened here."""
    try:
        import playwright.sync_api  # noqa: F401 - it is the question
    except ImportError:
        return False
    return shutil.which("chromium") is not None


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser of its own; without its sandbox only for root, for whom there is none."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        try:
            yield browser
        finally:
            browser.close()
