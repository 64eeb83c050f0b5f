"""Contributions as columns are what they are one by one: names, groups, newest times, and calls of any form."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.names import Mode, TenantId
from contracts.tool_samples import decode_tool_samples
from tables import columns, sketches
from tables.call_columns import FAILED, HIT_BIT, LABEL_BIT, LOOKUP_BIT, Calls, samples_of
from tables.columns import Books, Name, Objects
from tables.fold import Samples, chosen, contributions, named_samples, newest_by_tenant

SIZE_MS = 1000
Entry = tuple[str, str, int]
entries = st.lists(
    st.tuples(
        st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 5000) | st.integers(0, 253_370_764_800_000)
    ),
    min_size=1,
    max_size=80,
)


def samples(of: list[Entry]) -> Samples:
    names: list[Name] = [(TenantId(tenant), (subject,)) for tenant, subject, _ in of]
    return named_samples(range(len(of)), names, [at_ms for *_, at_ms in of], range(len(of)))


@given(entries, st.integers(1, 5))
def test_groups_hold_each_contribution_once_in_the_order_of_arrival(of: list[Entry], pieces: int):
    expected: dict[tuple[str, str, int], list[int]] = defaultdict(list)
    for place, (tenant, subject, at_ms) in enumerate(of):
        expected[tenant, subject, at_ms // SIZE_MS * SIZE_MS].append(place)
    whole, step = samples(of), -(-len(of) // pieces)
    first, *others = (
        contributions(chosen(whole, range(begin, min(begin + step, len(of)))), SIZE_MS)
        for begin in range(0, len(of), step)
    )
    keys, bounds, values = first.followed_by(others).grouped()
    found = {
        (key.tenant_id, key.subject[0], key.start_ms): values[begin:end]
        for key, begin, end in zip(keys, bounds, bounds[1:], strict=False)
    }
    assert found == expected
    assert len(keys) == len(found)


@given(entries)
def test_the_newest_time_of_a_tenant_is_the_highest_of_its_own(of: list[Entry]):
    assert newest_by_tenant(samples(of)) == {
        tenant: max(at_ms for each, _, at_ms in of if each == tenant) for tenant, *_ in of
    }


@given(entries, st.data())
def test_chosen_samples_are_those_at_the_places(of: list[Entry], data: st.DataObject):
    places = data.draw(st.lists(st.sampled_from(range(len(of))), unique=True).map(sorted))
    found, whole = chosen(samples(of), places), samples(of)
    assert list(found.indexes) == places
    assert found.names == [whole.names[place] for place in places]
    assert found.at_ms.tolist() == [of[place][2] for place in places]
    assert found.values == Objects(places)


def test_a_full_book_is_followed_by_an_empty_one(monkeypatch: Any):  # noqa: ANN401
    monkeypatch.setattr(columns, "MOST_NAMES", 2)
    books: Books[Name] = Books(lambda name: name)
    first = books.current()
    first.codes([(TenantId("a"), ()), (TenantId("b"), ()), (TenantId("c"), ())])
    assert books.current() is not first
    assert books.current() is books.current()
    assert first.names[2] == ("c", ())


def test_a_call_is_named_by_number_only_as_its_names_are_right():
    book: columns.NameBook[str] = columns.NameBook(lambda said: (TenantId(said), ()) if said != "bad" else None)
    assert book.codes(["x", "bad", "x", "y"]).tolist() == [0, columns.NameBook.NO_NAME, 0, 1]


calls = st.fixed_dictionaries(
    {
        "event": st.sampled_from(["tool_executed", "tool_executed", "tool_call", "other"]),
        "version": st.sampled_from(["1.0", "1.0", "1.7", "1.12", "2.0"]),
        "tool": st.sampled_from(["search", "price", "", "a\x7fb"]),
        "latency_ms": st.floats(0, 1e9) | st.just(-1.0),
        "ts": st.sampled_from(
            ["2026-03-01T12:00:00.123Z"] * 6 + ["2026-03-01T12:00:00Z", "2026-03-01T12:00:00.123", "x"]
        ),
    },
    optional={
        "tenant_id": st.sampled_from(["acme", "acme", "globex", "", "_ours", 7, None]),
        "status": st.sampled_from(["ok", "error", "timeout", "fine", None]),
        "error": st.sampled_from([None, False, "boom", {}]),
        "error_class": st.sampled_from([None, "http_500", "dns"]),
        "cache_hit": st.sampled_from([None, True, False]),
        "tool_version": st.sampled_from([None, "v1", ""]),
        "args": st.just({"q": "x"}),
    },
)
plain = st.fixed_dictionaries(
    {
        "event": st.just("tool_executed"),
        "version": st.just("1.0"),
        "tenant_id": st.sampled_from(["acme", "globex"]),
        "tool": st.sampled_from(["search", "price"]),
        "latency_ms": st.floats(0, 1e9),
        "ts": st.just("2026-03-01T12:00:00.123Z"),
        "status": st.sampled_from(["ok", "error"]),
    },
    optional={"error_class": st.sampled_from(["http_500", "dns"]), "cache_hit": st.booleans()},
)


def described(found: Samples) -> list[tuple[Any, ...]]:
    column: Calls = found.values
    out: list[tuple[Any, ...]] = []
    for place, (index, name, at_ms) in enumerate(zip(found.indexes, found.names, found.at_ms.tolist(), strict=True)):
        us, flags = int(column.us[place]), int(column.flags[place])
        failed = column.labels[flags >> LABEL_BIT] if flags & FAILED else None
        out.append((index, name, at_ms, us, flags & ((1 << LABEL_BIT) - 1), failed))
    return out


@given(st.lists(plain | calls, min_size=1, max_size=40) | st.lists(plain, min_size=16, max_size=40), st.data())
@settings(max_examples=300)
def test_calls_are_the_same_in_any_company_and_as_the_contract_reads_them(
    events: list[dict[str, object]], data: st.DataObject
):
    mode: Mode = data.draw(st.sampled_from(["strict", "compat"]))
    raw = [msgspec.json.encode(event) for event in events]
    together = samples_of(raw, mode)
    alone = [samples_of([value], mode) for value in raw]
    assert described(together) == [(place, *line[1:]) for place, each in enumerate(alone) for line in described(each)]
    assert [place for place, _ in together.bad] == [place for place, each in enumerate(alone) if each.bad]
    read = decode_tool_samples(raw, mode=mode)
    assert list(together.indexes) == list(read.indexes)
    assert together.at_ms.tolist() == list(read.at_ms)
    for (_, (tenant, subject), _, us, flags, failed), call in zip(described(together), read.samples, strict=True):
        assert (tenant, subject) == (call.tenant_id, (call.tool, call.tool_version or ""))
        assert us == call.latency_us
        assert flags & 2047 == sketches.bucket_of(us) + 1
        assert (failed is not None) == call.failed
        assert (flags >> LOOKUP_BIT & 1, flags >> HIT_BIT & 1) == (call.cache_hit is not None, bool(call.cache_hit))


@given(st.lists(st.lists(st.sampled_from(["", "a", "b", "c"]), max_size=5), min_size=1, max_size=5))
def test_joined_columns_keep_the_error_class_of_each_call(parts: list[list[str]]):
    def column(classes: list[str]) -> Calls:
        labels = sorted(set(classes) - {""})
        flags = [FAILED | labels.index(each) << LABEL_BIT if each else 5 for each in classes]
        return Calls(np.zeros(len(classes), np.int64), np.array(flags, np.int64), labels)

    first, *others = map(column, parts)
    joined = first.followed_by(others)
    found = [joined.labels[flag >> LABEL_BIT] if flag & FAILED else "" for flag in joined.flags.tolist()]
    assert found == [each for part in parts for each in part]


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=9), st.integers(1, 9))
def test_pieces_of_one_column_have_its_error_classes_once(classes: list[str], step: int):
    labels = ["a", "b", "c"]
    flags = [FAILED | labels.index(each) << LABEL_BIT for each in classes]
    whole = Calls(np.zeros(len(classes), np.int64), np.array(flags, np.int64), labels)
    starts = range(0, len(classes), step)
    first, *others = (whole.take(np.arange(begin, min(begin + step, len(classes)))) for begin in starts)
    joined = first.followed_by(others)
    assert (list(joined.labels), joined.flags.tolist()) == (labels, flags)
