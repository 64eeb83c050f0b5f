"""The shop system that orders are told to: does its address take connections. No request is sent, and no order."""

from __future__ import annotations

import asyncio
import ssl
from urllib.parse import urlsplit

from agents.adapter_http import Trust, trust_of, without_query
from contracts.errors import SettingsError, shown
from headrace.checks.finding import Notebook
from runtime.settings_adapter import AdapterSettings

PORTS = {"http": 80, "https": 443}


async def examine(settings: AdapterSettings, notes: Notebook) -> None:
    """Connect, with TLS where the URL says so, and hang up. Waits at most adapter.connect_timeout_s.

    A shop that is away is no failure of ours: its orders wait. Certificates that are not believed mend by no waiting.
    """
    try:
        trust = trust_of(settings)
    except SettingsError as error:
        notes.fail("certificates", str(error), "set adapter.ca_file to a PEM file that the workers can read")
        return
    address = without_query(settings.url)
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            await _connected(settings.url, trust)
    except ssl.SSLCertVerificationError as error:
        remedy = "set adapter.ca_file to the authorities that signed it, or have it certified for this name"
        notes.fail("certificates", f"{address}: {shown(error)}", remedy)
    except (OSError, TimeoutError) as error:
        found = str(error) or f"no connection within {settings.connect_timeout_s:g} s (adapter.connect_timeout_s)"
        notes.warn("reachable", f"{address}: {shown(found)}", "orders wait for it: docs/playbooks/shop-system.md")
    else:
        notes.ok("reachable", f"{address} takes connections; nothing was sent")


async def _connected(url: str, trust: Trust) -> None:
    parts = urlsplit(url)
    context = ssl.create_default_context() if trust is True else trust
    secured = context if parts.scheme == "https" else None
    _, writer = await asyncio.open_connection(parts.hostname, parts.port or PORTS[parts.scheme], ssl=secured)
    writer.transport.abort()
