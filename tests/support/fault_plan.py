"""What goes wrong in a run of the fault suite, and when: drawn before it begins, from a seed. Pure.

Kills and freezes hit Headrace's own processes, any time, also several at once and while a server is away. Servers fail
one at a time per server, each for a few seconds, with a pause after it, so that each outage is one of its own.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """One way to fail. The first two are for processes, the rest for servers."""

    KILL = "SIGKILL"
    FREEZE = "SIGSTOP, later SIGCONT"
    CUT = "refuses and resets connections"
    BLACK_HOLE = "swallows what it is sent"
    SLOW = "answers late"
    DROP_REPLY = "loses answers"
    RESTART = "SIGKILL, then started again on what was on its disk"
    MOVE = "SIGKILL, then started again on another port"
    REWIND = "SIGKILL, then started again without its last second"
    FULL = "refuses writes for want of memory"


PROCESS_KINDS = (Kind.KILL, Kind.FREEZE)
ON_THE_LINE = (Kind.CUT, Kind.BLACK_HOLE, Kind.SLOW, Kind.DROP_REPLY)
SERVER_KINDS: dict[str, tuple[Kind, ...]] = {
    "postgres": (*ON_THE_LINE, Kind.RESTART, Kind.MOVE),
    "redis": (*ON_THE_LINE, Kind.RESTART, Kind.REWIND, Kind.FULL),
    "kafka": (*ON_THE_LINE, Kind.FREEZE),
}
# Only a broker that keeps its log on disk may be restarted.
DURABLE_KAFKA_KINDS = (*SERVER_KINDS["kafka"], Kind.RESTART)
FREEZE_SHARE = 0.15
WIPE_SHARE = 0.5
OUTAGE_S = (1.0, 5.0)
# Beyond the session's end and the lease's.
FREEZE_S = (2.5, 7.0)


@dataclass(frozen=True, order=True)
class Fault:
    """One fault: `at_s` seconds after the traffic began, for `lasts_s` seconds (0: a moment)."""

    at_s: float
    target: str
    kind: Kind
    lasts_s: float = 0.0
    wipe: bool = False

    def __str__(self) -> str:
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return (
            f"{self.at_s:6.1f} s  {self.target:<10} {self.kind.value}{lasts}{', its disk wiped' if self.wipe else ''}"
        )


def draw(
    rng: random.Random,
    *,
    seconds: float,
    processes: Sequence[str],
    kills: int,
    outages: int,
    durable_kafka: bool,
) -> list[Fault]:
    """`kills` faults of processes and `outages` of servers within `seconds`, in order of time.

    Every process is hit when there are enough kills, and every kind of outage in turn.
    """
    found: list[Fault] = []
    victims = [processes[number % len(processes)] for number in range(kills)]
    rng.shuffle(victims)
    for number, victim in enumerate(victims):
        at_s = seconds * (number + rng.random()) / kills
        if rng.random() < FREEZE_SHARE:
            found.append(Fault(at_s, victim, Kind.FREEZE, rng.uniform(*FREEZE_S)))
        else:
            wipe = victim.startswith("worker") and rng.random() < WIPE_SHARE
            found.append(Fault(at_s, victim, Kind.KILL, wipe=wipe))
    kinds = SERVER_KINDS | ({"kafka": DURABLE_KAFKA_KINDS} if durable_kafka else {})
    every = [(server, kind) for server, its in kinds.items() for kind in its]
    chosen: list[tuple[str, Kind]] = []
    while len(chosen) < outages:
        rng.shuffle(every)
        chosen += every[: outages - len(chosen)]
    slot_s = seconds / max(1, outages)
    for number, (server, kind) in enumerate(chosen):
        at_s = slot_s * (number + 0.3 * rng.random())
        found.append(Fault(at_s, server, kind, min(rng.uniform(*OUTAGE_S), 0.6 * slot_s)))
    return sorted(found)
