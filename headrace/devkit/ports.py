"""Ports on loopback: the usual one when it is free, else any free one."""

from __future__ import annotations

import socket
from dataclasses import dataclass

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Port:
    """A free port, and the one that was wanted but taken (None when it was free)."""

    number: int
    taken: int | None = None


def pick(preferred: int, given: frozenset[int] = frozenset()) -> Port:
    """The preferred port, or a free one in its place. Ports in `given` were handed out already and are not yet bound.

    Nobody holds the port between this call and its use: the child that binds it fails clearly if it was too late.
    """
    if preferred not in given and _is_free(preferred):
        return Port(preferred)
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            number = int(probe.getsockname()[1])
        if number not in given:
            return Port(number, taken=preferred)


def pick_all(preferred: dict[str, int]) -> dict[str, Port]:
    """A port for each name, all different."""
    chosen: dict[str, Port] = {}
    for name, number in preferred.items():
        chosen[name] = pick(number, frozenset(port.number for port in chosen.values()))
    return chosen


def _is_free(number: int) -> bool:
    with socket.socket() as probe:
        # As asyncio's servers do: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, number))
        except OSError:
            return False
        return True
