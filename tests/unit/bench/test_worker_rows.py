from __future__ import annotations

import math
from collections import Counter

from bench.headrace_worker import decoded
from bench.recount import RowAnswer
from contracts.names import TenantId
from runtime.settings import Settings
from tables import tool_latency
from tables.row_codec import Row, RowCodec
from tables.rows import WindowKey, encode_key
from tables.tool_latency import Latencies


def test_the_benchs_own_decoder_reads_what_the_table_writes():
    kind = tool_latency.kind(Settings())
    state = Latencies(count=3, errors=1, sum_us=6000, max_us=3000, histogram=Counter({380: 1, 415: 2}))
    key = encode_key(kind.kind, WindowKey(TenantId("tenant"), ("search", "1.2"), 20_000))
    raw = RowCodec(kind).encode(Row(position=9, announced=4, state=state))
    ((place, answer),) = decoded(
        [(key, raw), (encode_key("xx", WindowKey(TenantId("t"), (), 0)), raw)], math.log(1.01 / 0.99)
    )
    assert place == ("tenant", "search", 20_000)
    assert answer == RowAnswer(3, 1, answer.p95_ms)
    assert answer.p95_ms is not None
    assert abs(answer.p95_ms - kind.fold.summarise(state)["p95_ms"]) < 0.01  # type: ignore[operator]


def test_a_deleted_row_is_no_row():
    key = encode_key(tool_latency.KIND, WindowKey(TenantId("tenant"), ("search", ""), 0))
    assert list(decoded([(key, None)], 0.02)) == []
