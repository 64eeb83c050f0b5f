"""Did anything get lost, doubled or out of order, on the way from commit to client? Pure.

The judge knows only what was committed (the outbox itself) and what arrived at each place: in the order topics of Kafka
and at a listening client. It shares no code with what it judges. Per aggregate, each place must hold each committed
event once, in the order of its commit; nothing that was not committed; and nothing of another tenant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Fact(NamedTuple):
    """A committed event: its id on the way, whose it is, what it is about, and its place in that one's order."""

    id: str
    tenant: str
    aggregate: str
    seq: int


class Sight(NamedTuple):
    """An event as it arrived somewhere, in the order of arrival."""

    id: str
    tenant: str


@dataclass(frozen=True)
class Verdict:
    """What went wrong at one place. `examples` are ids, a few of each kind."""

    place: str
    committed: int
    arrived: int
    lost: int
    doubled: int
    reordered: int
    uncommitted: int
    misdelivered: int
    examples: Mapping[str, Sequence[str]]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.reordered or self.uncommitted or self.misdelivered)

    def __str__(self) -> str:
        told = f"{self.place}: {self.arrived} of {self.committed} arrived"
        faults = f"{self.lost} lost, {self.doubled} doubled, {self.reordered} reordered"
        rest = f"{self.uncommitted} never committed, {self.misdelivered} at another tenant"
        examples = "; ".join(f"{kind}: {', '.join(ids)}" for kind, ids in self.examples.items() if ids)
        return f"{told}; {faults}, {rest}{f' ({examples})' if examples else ''}"


SHOWN = 5


def judge(place: str, committed: Iterable[Fact], arrived: Iterable[Sight]) -> Verdict:
    """Compare what arrived at a place with what was committed."""
    facts = {fact.id: fact for fact in committed}
    seen: Counter[str] = Counter()
    newest: dict[tuple[str, str], int] = {}
    reordered, uncommitted, misdelivered = [], [], []
    for sight in arrived:
        fact = facts.get(sight.id)
        if fact is None:
            uncommitted.append(sight.id)
            continue
        if fact.tenant != sight.tenant:
            misdelivered.append(sight.id)
            continue
        seen[sight.id] += 1
        if seen[sight.id] > 1:
            continue  # told as doubled; where the repeat stands says nothing more
        aggregate = (fact.tenant, fact.aggregate)
        if fact.seq < newest.get(aggregate, fact.seq):
            reordered.append(sight.id)
        newest[aggregate] = max(fact.seq, newest.get(aggregate, fact.seq))
    lost = [identity for identity in facts if identity not in seen]
    doubled = [identity for identity, count in seen.items() if count > 1]
    examples = {"lost": lost, "doubled": doubled, "reordered": reordered}
    examples |= {"never committed": uncommitted, "at another tenant": misdelivered}
    return Verdict(
        place=place,
        committed=len(facts),
        arrived=len(seen),
        lost=len(lost),
        doubled=sum(count - 1 for count in seen.values()),
        reordered=len(reordered),
        uncommitted=len(uncommitted),
        misdelivered=len(misdelivered),
        examples={kind: ids[:SHOWN] for kind, ids in examples.items()},
    )
