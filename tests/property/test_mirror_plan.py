"""The mirror's rules against a model: whatever crashes, each entry stands once in Kafka, in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from streams.epochs import Epochs, admitted, fence_headers
from streams.mirror_parking import split
from streams.mirror_plan import PARKED, START, Memory, StreamId, next_read_count, parse_id, start_after
from streams.mirror_record import Mirrored
from streams.records import Headers, Outgoing, Partition, Record
from streams.redis_log import Entry

PARTITIONS = 3
BATCH = 5
# What a new owner, or a reader in the middle, looks at of each partition.
TAIL = 4 * BATCH
TENANTS = ("a", "b")
# Former owners whose batches may be late at the same time; see `streams.epochs`.
ASLEEP = 2


Batch = list[tuple[Partition, StreamId, str]]


@dataclass
class Crash:
    """How an owner's last batch ends: a prefix of it arrives in each partition, and another part of it late or never.

    `stored`: the position is, if all arrived. `later`: how much more arrives, and after how many owners.
    """

    prefixes: list[int]
    stored: bool
    later: list[int]
    owners: int
    over: list[bool] = field(default_factory=list)
    """Which of the entries that this owner judges are over their tenant's quota; the others are not."""
    dropped: bool = True
    """Whether what went on from a parked stream is forgotten there, when the owner dies over that."""


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
    late: list[tuple[int, int, Batch, list[int]]] = field(default_factory=list)
    """Owners to wait for, epoch, what is in flight, and how much of it arrives in each partition."""
    parked: dict[str, list[tuple[StreamId, str]]] = field(default_factory=dict)
    over: list[bool] = field(default_factory=list)

    def add(self, count: int) -> None:
        for _ in range(count):
            self.last_id = StreamId(self.last_id.ms + 1, 0)
            self.entries.append((self.last_id, f"row-{self.last_id.ms}"))

    def place(self, dedupe_id: str) -> Partition:
        return Partition("t", sum(dedupe_id.encode()) % PARTITIONS)

    def remembered(self) -> Memory:
        memory = Memory()
        for place, records in self.log.items():
            start = max(0, len(records) - TAIL)
            memory.begin(place, start)
            memory.learn(place, records[start:])
        return memory

    def take_up(self) -> Memory:
        """Fence in every partition, then learn; what is late may arrive between the two, and at any later time."""
        self.epoch += 1
        for place in self.log:
            self._put(place, "", fence_headers(self.epoch))
        self._arrive()
        return self.remembered()

    def own(self, batches: int, crash: Crash, arrive_after: int = 0) -> None:
        """A new owner works through `batches` and then dies, or falls asleep, in one more."""
        memory = self.take_up()
        start = start_after(self.checkpoint, self.cluster, self.last_id, memory.last_id)
        position = start.after
        self.over = list(crash.over)
        for number in range(batches + 1):
            batch = [entry for entry in self.entries if entry[0] > position][:BATCH]
            if number == arrive_after:
                self._arrive()
            if not batch and not self.parked:
                return
            dies = number == batches
            fresh = [entry for entry in batch if self._is_fresh(memory, entry, ids_tell=start.ids_tell)]
            pairs = [(made(entry), Entry(str(entry[0]), {})) for entry in fresh]
            going, waiting = split(pairs, set(self.parked), lambda _tenant: not (self.over and self.over.pop()))
            if not self._send(memory, [(item.id, item.dedupe_id.decode()) for item in going], crash, dies=dies):
                return  # the position is stored only when every record was acknowledged
            if dies and not crash.stored:
                return
            for tenant, entry in waiting:
                parked = self.parked.setdefault(tenant, [])
                if all(str(entry_id) != entry.id for entry_id, _dedupe_id in parked):
                    parked.append(next(e for e in fresh if str(e[0]) == entry.id))
            position = batch[-1][0] if batch else position
            self.checkpoint = {"position": str(position), "cluster_epoch": self.cluster}
            if not self._unpark(memory, crash, dies=dies):
                return

    def _unpark(self, memory: Memory, crash: Crash, *, dies: bool) -> bool:
        """Send some of what waits, and forget it; False: the owner died over it."""
        for tenant, waiting in list(self.parked.items()):
            if self.over and self.over.pop():
                continue
            due = waiting[:BATCH]
            going = [entry for entry in due if self._is_fresh(memory, entry, ids_tell=False)]
            if not self._send(memory, going, crash, dies=dies, parked=True) or (dies and not crash.dropped):
                return False
            self.parked[tenant] = waiting[len(due) :]
            if not self.parked[tenant]:
                del self.parked[tenant]
        return not dies

    def _is_fresh(self, memory: Memory, entry: tuple[StreamId, str], *, ids_tell: bool) -> bool:
        return not memory.holds(self.place(entry[1]), entry[0], entry[1].encode(), ids_tell=ids_tell)

    def _send(
        self, memory: Memory, going: list[tuple[StreamId, str]], crash: Crash, *, dies: bool, parked: bool = False
    ) -> bool:
        """Whether all of it arrived; it does unless the owner dies."""
        for _id, dedupe_id in going:
            memory.sent(dedupe_id.encode(), 0.0)
        batch = [(self.place(dedupe_id), entry_id, dedupe_id) for entry_id, dedupe_id in going]
        rest = self._append(batch, crash.prefixes if dies else [BATCH] * PARTITIONS, self.epoch, parked=parked)
        if rest and len(self.late) < ASLEEP:
            self.late.append((crash.owners, self.epoch, rest, crash.later))
        return not rest

    def _arrive(self) -> None:
        waiting, self.late = self.late, []
        for owners, epoch, batch, prefixes in waiting:
            if owners > 0:
                self.late.append((owners - 1, epoch, batch, prefixes))
            else:
                self._append(batch, prefixes, epoch)

    def _append(self, batch: Batch, prefixes: list[int], epoch: int, *, parked: bool = False) -> Batch:
        """Append a prefix of a batch in each partition; what is left of it."""
        arrived, rest = dict.fromkeys(self.log, 0), []
        for place, entry_id, dedupe_id in batch:
            if arrived[place] >= prefixes[place.number]:
                rest.append((place, entry_id, dedupe_id))
                continue
            arrived[place] += 1
            headers = [
                *([(PARKED, b"1")] if parked else []),
                ("ce_id", dedupe_id.encode()),
                ("redis_id", str(entry_id).encode()),
                ("epoch", str(epoch).encode()),
            ]
            self._put(place, dedupe_id, headers)
        return rest

    def _put(self, place: Partition, value: str, headers: Headers) -> None:
        records = self.log[place]
        records.append(Record("t", place.number, len(records), 0, b"", value.encode(), headers))

    def counted(self) -> dict[Partition, list[Record]]:
        return {place: admitted(records) for place, records in self.log.items()}

    def sent(self) -> list[str]:
        return [(record.value or b"").decode() for records in self.counted().values() for record in records]

    def in_order(self) -> bool:
        """Whether each tenant's records are in the order of the stream."""
        for records in self.counted().values():
            for tenant in TENANTS:
                ids = [parse_id(dict(r.headers)["redis_id"].decode()) for r in records]
                ids = [entry_id for entry_id in ids if tenant_of(entry_id) == tenant]
                if ids != sorted(ids):
                    return False
        return True


def tenant_of(entry_id: StreamId) -> str:
    return TENANTS[entry_id.ms % len(TENANTS)]


def made(entry: tuple[StreamId, str]) -> Mirrored:
    record = Outgoing("t", b"", b"", [], 0)
    return Mirrored(record, entry[0], entry[1].encode(), invalid=False, tenant=tenant_of(entry[0]))


prefixes = st.lists(st.integers(0, BATCH), min_size=PARTITIONS, max_size=PARTITIONS)
crashes = st.builds(
    Crash,
    prefixes,
    st.booleans(),
    prefixes,
    st.integers(0, 4),
    st.lists(st.booleans(), max_size=30),
    st.booleans(),
)
Lives = list[tuple[int, int, Crash]]
lives = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), crashes), max_size=8)


def finish(world: World) -> None:
    whole = [BATCH] * PARTITIONS
    world.own(1000, Crash(whole, stored=True, later=whole, owners=0))


@given(lives)
def test_who_begins_to_read_in_the_middle_leaves_out_the_same_records(lives: Lives):
    world = World()
    for count, batches, crash in lives:
        world.add(count)
        world.own(batches, crash)
    finish(world)
    for records in world.log.values():
        counted = admitted(records)
        for start in range(len(records) + 1):
            epochs: Epochs[str] = Epochs()
            epochs.begin("p", 0)
            epochs.admit("p", records[max(0, start - TAIL) : start])
            before = epochs.highest()["p"]
            assert admitted(records[start:], before) == [record for record in counted if record.offset >= start]


@given(lives)
def test_each_entry_stands_once_and_in_order_whenever_the_mirror_dies(
    lives: Lives,
):
    world = World()
    for count, batches, crash in lives:
        world.add(count)
        world.own(batches, crash)
    finish(world)
    assert sorted(world.sent()) == sorted(dedupe_id for _, dedupe_id in world.entries)
    assert world.in_order()


@given(st.lists(st.tuples(st.integers(4, 40), st.integers(0, 8), crashes), min_size=2, max_size=5))
def test_a_position_that_somebody_deleted_costs_nothing(lives: Lives):
    world = World()
    for count, batches, crash in lives:
        world.add(count)
        world.own(batches, crash)
        world.checkpoint = {}
    finish(world)
    assert sorted(world.sent()) == sorted(dedupe_id for _, dedupe_id in world.entries)
    assert world.in_order()


@given(lives, lives)
def test_a_kafka_that_was_emptied_gets_all_that_redis_still_has(before: Lives, after: Lives):
    world = World()
    for count, batches, crash in before:
        world.add(count)
        world.own(batches, crash)
    if world.parked:
        finish(world)  # what waits while Kafka is emptied may come behind what it followed
    world.cluster, world.log, world.late = "k2", {place: [] for place in world.log}, []
    for count, batches, crash in after:
        world.add(count)
        world.own(batches, crash)
    finish(world)
    assert sorted(world.sent()) == sorted(dedupe_id for _, dedupe_id in world.entries)
    assert world.in_order()


@given(st.integers(0, 30), st.integers(0, 6), st.integers(0, 10), lives)
def test_what_redis_forgot_and_its_relay_published_again_is_not_doubled(
    first: int, forgotten: int, more: int, after: Lives
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
