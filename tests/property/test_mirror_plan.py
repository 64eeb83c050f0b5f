"""The mirror's rules against a model: whatever crashes, each entry stands once in Kafka, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from streams.mirror_plan import START, Memory, StreamId, next_read_count, parse_id, start_after
from streams.records import Partition, Record

PARTITIONS = 3
# What a new owner reads of each partition; at least one batch, as in the real one.
TAIL = 6
BATCH = 5


@dataclass
class World:
    """Redis and Kafka, as far as a mirror can see them."""

    entries: list[tuple[StreamId, str]] = field(default_factory=list)
    last_id: StreamId = START
    checkpoint: dict[str, str] = field(default_factory=dict)
    log: dict[Partition, list[Record]] = field(
        default_factory=lambda: {Partition("t", n): [] for n in range(PARTITIONS)}
    )
    cluster: str = "k1"
    epoch: int = 0

    def add(self, count: int) -> None:
        for _ in range(count):
            self.last_id = StreamId(self.last_id.ms + 1, 0)
            self.entries.append((self.last_id, f"row-{self.last_id.ms}"))

    def place(self, dedupe_id: str) -> Partition:
        return Partition("t", sum(dedupe_id.encode()) % PARTITIONS)

    def own(self, batches: int, crash: tuple[list[int], bool]) -> None:
        """A new owner works through `batches` and then dies in one more: a prefix of it arrives in each partition."""
        self.epoch += 1
        tails = {place: records[-TAIL:] for place, records in self.log.items()}
        memory = Memory(tails)
        start = start_after(self.checkpoint, self.cluster, self.last_id, memory.last_id)
        position = start.after
        for number in range(batches + 1):
            batch = [entry for entry in self.entries if entry[0] > position][:BATCH]
            if not batch:
                return
            fresh = []
            for entry_id, dedupe_id in batch:
                place = self.place(dedupe_id)
                if not memory.holds(place, entry_id, dedupe_id.encode(), ids_tell=start.ids_tell):
                    memory.sent(dedupe_id.encode())
                    fresh.append((place, entry_id, dedupe_id))
            dies = number == batches
            self._append(fresh, crash[0] if dies else [BATCH] * PARTITIONS)
            if dies and not crash[1]:
                return
            if dies and any(crash[0][p.number] < sum(f[0] == p for f in fresh) for p in self.log):
                return  # the position is stored only when every record was acknowledged
            position = batch[-1][0]
            self.checkpoint = {"position": str(position), "cluster_epoch": self.cluster}

    def _append(self, fresh: list[tuple[Partition, StreamId, str]], prefixes: list[int]) -> None:
        arrived = dict.fromkeys(self.log, 0)
        for place, entry_id, dedupe_id in fresh:
            if arrived[place] < prefixes[place.number]:
                arrived[place] += 1
                headers = [
                    ("ce_id", dedupe_id.encode()),
                    ("redis_id", str(entry_id).encode()),
                    ("epoch", str(self.epoch).encode()),
                ]
                records = self.log[place]
                records.append(Record("t", place.number, len(records), 0, b"", dedupe_id.encode(), headers))

    def sent(self) -> list[str]:
        return [(record.value or b"").decode() for records in self.log.values() for record in records]

    def in_order(self) -> bool:
        ids = [[parse_id(dict(r.headers)["redis_id"].decode()) for r in records] for records in self.log.values()]
        return all(each == sorted(each) for each in ids)


prefixes = st.lists(st.integers(0, BATCH), min_size=PARTITIONS, max_size=PARTITIONS)
crashes = st.tuples(prefixes, st.booleans())
lives = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), crashes), max_size=8)


def finish(world: World) -> None:
    world.own(1000, ([BATCH] * PARTITIONS, True))


@given(lives)
def test_each_entry_stands_once_and_in_order_whenever_the_mirror_dies(
    lives: list[tuple[int, int, tuple[list[int], bool]]],
):
    world = World()
    for count, batches, crash in lives:
        world.add(count)
        world.own(batches, crash)
    finish(world)
    assert sorted(world.sent()) == sorted(dedupe_id for _, dedupe_id in world.entries)
    assert world.in_order()


@given(lives, lives)
def test_a_kafka_that_was_emptied_gets_all_that_redis_still_has(
    before: list[tuple[int, int, tuple[list[int], bool]]], after: list[tuple[int, int, tuple[list[int], bool]]]
):
    world = World()
    for count, batches, crash in before:
        world.add(count)
        world.own(batches, crash)
    world.cluster, world.log = "k2", {place: [] for place in world.log}
    for count, batches, crash in after:
        world.add(count)
        world.own(batches, crash)
    finish(world)
    assert sorted(world.sent()) == sorted(dedupe_id for _, dedupe_id in world.entries)
    assert world.in_order()


@given(st.integers(0, 30), st.integers(0, 6), st.integers(0, 10), lives)
def test_what_redis_forgot_and_its_relay_published_again_is_not_doubled(
    first: int, forgotten: int, more: int, after: list[tuple[int, int, tuple[list[int], bool]]]
):
    world = World()
    world.add(first)
    finish(world)
    # Redis restarts without its last entries; its clock goes on, so the rows come back under new ids.
    lost = [dedupe_id for _, dedupe_id in world.entries[len(world.entries) - min(forgotten, first) :]]
    world.entries = world.entries[: len(world.entries) - len(lost)]
    checkpoint_id = world.entries[-1][0] if world.entries else START
    world.checkpoint = {"position": str(checkpoint_id), "cluster_epoch": "k1"} if world.entries else {}
    for dedupe_id in lost:
        world.last_id = StreamId(world.last_id.ms + 1, 0)
        world.entries.append((world.last_id, dedupe_id))
    world.add(more)
    for count, batches, crash in after:
        world.add(count)
        world.own(batches, crash)
    finish(world)
    assert sorted(world.sent()) == sorted(dedupe_id for _, dedupe_id in world.entries)


@given(st.lists(st.integers(1, 3_000_000), min_size=1, max_size=40), st.integers(1, 10_000))
def test_the_next_read_stays_within_its_bounds_and_never_stalls(sizes: list[int], most: int):
    count = next_read_count(0, 0, 0, most)
    for size_bytes in sizes:
        assert 1 <= count <= most
        following = next_read_count(count, count, count * size_bytes, most)
        assert following <= 2 * count
        if count * size_bytes > 8 * 1024 * 1024:
            assert following < count or count == 1
        count = following


ids = st.builds(StreamId, st.integers(0, 2**60), st.integers(0, 2**60))


@given(ids, ids)
def test_ids_keep_their_order_and_their_text(one: StreamId, other: StreamId):
    assert parse_id(str(one)) == one
    assert one < one.next()
    assert not one < other < one.next()
