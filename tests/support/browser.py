"""A headless Chromium, the system's own: Playwright's download of one needs a network and another host."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

MACOS = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", MACOS)
# Without the background flags it spends its time on connections that are refused.
ARGUMENTS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def program() -> str:
    """Path of the browser; the test is skipped without one, and fails where one is required (CI, `make browser`)."""
    for found in map(shutil.which, PROGRAMS):
        if found is not None:
            return found
    why = "there is no Chromium on PATH (Debian/Ubuntu: apt-get install chromium)"
    if os.environ.get("CI") or os.environ.get("HEADRACE_TEST_BROWSER"):
        pytest.fail(why)
    pytest.skip(why)


@contextmanager
def launched() -> Iterator[Browser]:
    """A running browser with a profile of its own; closed afterwards."""
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium's sandbox refuses root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program(), headless=True, args=[*ARGUMENTS, *sandbox], timeout=30_000
        )
        try:
            yield browser
        finally:
            browser.close()
