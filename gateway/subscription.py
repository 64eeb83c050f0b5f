"""Which channels a client asked for, and what of a token's grant covers them. Pure.

The tenant comes from the token, never from a channel's text. Channels `system:…` belong to the platform's own tenant
and are had only by a token that names them. A pattern that ends in `:*` stands for every channel with that beginning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from contracts.names import SYSTEM_TENANT, channel_matches

MAX_CHANNELS = 64
_PATTERN = re.compile(r"[^\s,\x00-\x1f\x7f*]{1,200}(?<!:)|[^\s,\x00-\x1f\x7f*]{1,200}:\*")
_SYSTEM = "system:"


class Key(NamedTuple):
    """What the hub's index is asked with: the owner of a message, and a channel or pattern."""

    tenant: str
    pattern: str


class Subscription(NamedTuple):
    """What one stream gets: everything that one of `keys` names. Equal subscriptions are served together."""

    tenant: str
    keys: frozenset[Key]

    def wants(self, channel: str) -> bool:
        """Whether a message of the tenant itself on `channel` belongs to the stream."""
        return any(Key(self.tenant, pattern) in self.keys for pattern in patterns_of(channel))

    def wants_system(self, channel: str) -> bool:
        """Whether a message of the platform on `channel` belongs to the stream."""
        return any(Key(SYSTEM_TENANT, pattern) in self.keys for pattern in patterns_of(channel))


def subscribe(tenant: str, patterns: Iterable[str]) -> Subscription:
    """The subscription of `tenant` to `patterns`, which must have been checked by `refused`."""
    return Subscription(tenant, frozenset(Key(SYSTEM_TENANT if p.startswith(_SYSTEM) else tenant, p) for p in patterns))


def patterns_of(channel: str) -> Iterator[str]:
    """The channel itself and every pattern that stands for it: `a:b` gives `a:b`, `a:*`."""
    yield channel
    at = channel.find(":")
    while at >= 0:
        yield f"{channel[: at + 1]}*"
        at = channel.find(":", at + 1)


def parse(text: str) -> tuple[str, ...]:
    """The channels of a comma-separated list, once each, in order.

    Raises:
        ValueError: none, more than 64, or one that is not a channel name or a pattern ending in `:*`.
    """
    channels = tuple(dict.fromkeys(part for part in text.split(",") if part))
    if not channels:
        raise ValueError("channels: name at least one, as in ?channels=orders:*,alerts:*")
    if len(channels) > MAX_CHANNELS:
        msg = f"channels: at most {MAX_CHANNELS} in one stream (got {len(channels)})"
        raise ValueError(msg)
    for channel in channels:
        if not _PATTERN.fullmatch(channel):
            msg = f"channels: {channel[:80]!r} is neither a channel nor a pattern ending in ':*'"
            raise ValueError(msg)
    return channels


def refused(granted: Iterable[str], channels: Iterable[str]) -> str | None:
    """The first channel (or pattern) that no granted pattern covers whole, None when all are covered."""
    grants = tuple(granted)
    for channel in channels:
        named = [g for g in grants if g.startswith(_SYSTEM)] if channel.startswith(_SYSTEM) else grants
        if not any(channel_matches(grant, channel) for grant in named):
            return channel
    return None
