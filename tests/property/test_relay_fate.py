"""Whatever is paused, poisoned, requeued or discarded: no row passes one of its aggregate that must go first."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.settings_relay import Poison
from streams.relay_fate import Aggregate, Ahead, Fate, Ground, Place, Verdict, Waiting, judge

LIMIT = 4


@dataclass
class World:
    """The tables as the relay's statements see them."""

    policy: Poison
    rows: dict[int, Waiting] = field(default_factory=dict)
    held: dict[int, Place] = field(default_factory=dict)
    stops: dict[int, Poison] = field(default_factory=dict)
    dead: dict[int, Waiting] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    published: list[Waiting] = field(default_factory=list)
    next_id: int = 1

    def insert(self, aggregate: int, tenant: int, *, bad: bool) -> None:
        tenant_id = None if bad else "ab"[tenant]
        self.rows[self.next_id] = Waiting(self.next_id, ("order", str(aggregate)), tenant_id, self.policy)
        self.next_id += 1

    def fresh(self, granted: int) -> None:
        self._batch([row for row_id, row in sorted(self.rows.items()) if row_id not in self.held][:LIMIT], granted)

    def queues(self, granted: int) -> None:
        open_ids = [
            row_id
            for row_id, place in sorted(self.held.items())
            if not place.blocked and place.queue not in self.paused
        ]
        self._batch([self.rows[row_id] for row_id in open_ids[:LIMIT]], granted)

    def mend(self) -> None:
        """All that is dead is mended and requeued."""
        for row_id, row in self.dead.items():
            self.rows[row_id] = row._replace(tenant_id=row.tenant_id or "a")
            self.held[row_id] = Place("", blocked=False)
        self.dead.clear()

    def discard(self) -> None:
        for row_id in self.dead:
            self.stops.pop(row_id, None)
        self.dead.clear()
        self._unblock()

    def _batch(self, rows: list[Waiting], granted: int) -> None:
        verdicts = judge(rows, self._ground(rows), frozenset(self.paused), {"b": granted})
        for row, verdict in zip(rows, verdicts, strict=True):
            self._apply(row, verdict)
        self._unblock()

    def _apply(self, row: Waiting, verdict: Verdict) -> None:
        if verdict.place is not None:
            self.held[row.id] = verdict.place
            return
        del self.rows[row.id]
        self.held.pop(row.id, None)
        self.stops.pop(row.id, None)
        if verdict.stop is not None:
            self.stops[row.id] = verdict.stop
        if verdict.fate is Fate.PUBLISH:
            self.published.append(row)
        else:
            self.dead[row.id] = row

    def _ground(self, rows: list[Waiting]) -> Ground:
        ids = {row.id for row in rows}
        return Ground(
            held={row_id: place for row_id, place in self.held.items() if row_id in ids},
            stopped={row_id: policy for row_id, policy in self.stops.items() if row_id in ids},
            first_held=self._firsts({k: v.queue for k, v in self.held.items() if k not in ids}),
            first_stop=self._firsts({k: str(v) for k, v in self.stops.items() if k not in ids}),
        )

    def _firsts(self, whats: dict[int, str]) -> dict[Aggregate, Ahead]:
        found: dict[Aggregate, Ahead] = {}
        for row_id in sorted(whats):
            found.setdefault(self.aggregate_of(row_id), Ahead(row_id, whats[row_id]))
        return found

    def _unblock(self) -> None:
        for row_id, place in self.held.items():
            before = [s for s in self.stops if s < row_id and self.aggregate_of(s) == self.aggregate_of(row_id)]
            if place.blocked and not before:
                self.held[row_id] = place._replace(blocked=False)

    def aggregate_of(self, row_id: int) -> Aggregate:
        return (self.rows.get(row_id) or self.dead[row_id]).aggregate


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("insert"), st.integers(0, 2), st.integers(0, 1), st.sampled_from([False, False, False, True])
        ),
        st.tuples(st.sampled_from(["fresh", "fresh", "queues"]), st.integers(0, 3)),
        st.tuples(st.sampled_from(["pause", "resume"]), st.sampled_from(["a", "b"])),
        st.tuples(st.sampled_from(["mend", "discard"])),
    ),
    min_size=12,
    max_size=60,
)


def played(policy: Poison, script: list[tuple[object, ...]]) -> World:
    world = World(policy)
    for name, *values in script:
        match name, values:
            case "insert", [int(aggregate), int(tenant), bool(bad)]:
                world.insert(aggregate, tenant, bad=bad)
            case "pause", [str(tenant)]:
                world.paused.add(tenant)
            case "resume", [str(tenant)]:
                world.paused.discard(tenant)
            case "fresh" | "queues", [int(granted)]:
                getattr(world, str(name))(granted)
            case _:
                getattr(world, str(name))()
    return world


def finished(world: World) -> World:
    """Everybody resumed, all letters mended, and the relay has looked often enough."""
    world.paused.clear()
    for _ in range(200):
        world.mend()
        world.queues(9)
        world.fresh(9)
    return world


@given(script=steps)
@settings(max_examples=150)
def test_when_poison_stops_its_aggregate_the_rest_goes_out_in_order(script: list[tuple[object, ...]]):
    for policy in ("block", "park"):
        world = finished(played(policy, script))
        assert not world.rows
        for aggregate in {row.aggregate for row in world.published}:
            ids = [row.id for row in world.published if row.aggregate == aggregate]
            assert ids == sorted(ids), (policy, aggregate)


@given(script=steps)
@settings(max_examples=150)
def test_with_skip_sound_rows_keep_their_order_and_all_go_out(script: list[tuple[object, ...]]):
    world = played("skip", script)
    bad = {number for number, step in enumerate((s for s in script if s[0] == "insert"), 1) if step[3]}
    finished(world)
    assert not world.rows
    sound = [row for row in world.published if row.id not in bad]
    assert len(sound) == world.next_id - 1 - len(bad)
    for aggregate in {row.aggregate for row in sound}:
        ids = [row.id for row in sound if row.aggregate == aggregate]
        assert ids == sorted(ids)
