"""Reports of voice sessions to rows of audio quality, and to messages of each session's seconds.

Where it stands: `agents.runner` hands records of the voice topic to `agents.window_work`, which folds them into the
tables of `tables.audio_quality`. Two agents read the topic, one for the sessions' rows and one for the tenants', each
with positions of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents import window_agent
from agents.audio_messages import NoMessages, messages_of
from tables.audio_quality import kinds

if TYPE_CHECKING:
    from agents.host import AgentHost
    from tables.window_table import WindowTable

SESSIONS = "audio_sessions"
TENANTS = "audio_tenants"


def register(host: AgentHost) -> tuple[WindowTable, WindowTable]:
    """Attach both agents and declare their tables."""
    lengths = host.settings.audio_quality
    sessions, tenants = kinds(host.settings)
    return (
        window_agent.attach(host, SESSIONS, sessions, lengths, messages_of(host.settings, sessions)),
        window_agent.attach(host, TENANTS, tenants, lengths, NoMessages()),
    )
