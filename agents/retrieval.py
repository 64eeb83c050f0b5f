"""Retrievals to windows of retrieval quality, and to messages.

Where it stands: `agents.runner` hands records of the rag topic to `agents.window_work`, which folds them into the table
`tables.retrieval_quality`; the messages' next stop is `contracts.push`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import window_agent
from agents.retrieval_messages import messages_of
from tables.retrieval_quality import kind

if TYPE_CHECKING:
    from agents.host import AgentHost
    from tables.window_table import WindowTable

NAME = "retrieval"


def register(host: AgentHost) -> WindowTable:
    """Attach the agent and declare its table."""
    table_kind = kind(host.settings)
    messages = messages_of(host.settings, table_kind)
    return window_agent.attach(host, NAME, table_kind, host.settings.retrieval_quality, messages)
