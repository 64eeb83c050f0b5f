from __future__ import annotations

import json
import math

import pytest

from bench import lineup, report
from bench.contenders.meter import bucket_of, p95_ms
from bench.result import Result, first_progress_s, steady_rate
from bench.watch import at

LOG_GAMMA = math.log(1.01 / 0.99)


def _result(name: str, rate: float, *, right: bool = True, cpu_us: float = 1.0) -> Result:
    return Result(name, events=1000, seconds=1000 / rate, cpu_us_per_event=cpu_us, peak_rss_mib=50.0, answer_ok=right)


def test_a_histogram_gives_p95_within_one_per_cent():
    latencies_ms = [0.5 * 1.03**step for step in range(300)]
    buckets: dict[int, int] = {}
    for latency_ms in latencies_ms:
        bucket = bucket_of(latency_ms, LOG_GAMMA)
        buckets[bucket] = buckets.get(bucket, 0) + 1
    true_ms = latencies_ms[math.floor(0.95 * (len(latencies_ms) - 1))]
    assert abs(p95_ms(buckets, LOG_GAMMA) - true_ms) <= true_ms * 0.01


def test_the_steady_part_leaves_out_a_slow_start_and_a_slow_end():
    slow_start = [(0.0, 0), (5.0, 90)]
    steady = [(5.0 + step, 100 * step) for step in range(1, 10)]
    assert steady_rate([*slow_start, *steady, (30.0, 1000)], 1000) == pytest.approx(100.0)


def test_progress_that_is_too_coarse_gives_no_steady_rate():
    assert steady_rate([(0.0, 0), (1.0, 500), (2.0, 1000)], 1000) == 0.0
    assert steady_rate([], 1000) == 0.0


def test_the_time_until_the_first_progress_is_told():
    assert first_progress_s([(5.0, 0), (6.5, 0), (7.0, 3), (8.0, 9)], 5.0) == 2.0
    assert first_progress_s([(5.0, 0)], 5.0) == 0.0


def test_a_quantity_between_samples_is_interpolated_and_flat_outside():
    samples = [(1.0, 10.0), (2.0, 20.0), (4.0, 30.0)]
    assert [at(samples, moment_s) for moment_s in (0.0, 1.5, 2.0, 3.0, 9.0)] == [10.0, 15.0, 20.0, 25.0, 30.0]


def test_the_published_object_has_the_agreed_names_and_nothing_else():
    published = json.loads(report.as_json([_result("numpy", 2000.0).as_json()]))
    assert published == {
        "results": [
            {
                "name": "numpy",
                "events_per_s": 2000.0,
                "cpu_us_per_event": 1.0,
                "peak_rss_mib": 50.0,
                "answer_ok": True,
            }
        ]
    }


def test_all_agreed_contenders_are_in_the_line_up():
    limits, peers = "aiokafka-read numpy polars", "faust-table faust-plain quixstreams bytewax pathway"
    assert {*limits.split(), *peers.split(), "headrace-memory", "headrace-rocksdb"} <= {
        contender.name for contender in lineup.LINEUP
    }
    assert [contender.name for contender in lineup.chosen("polars, faust-table")] == ["faust-table", "polars"]
    with pytest.raises(SystemExit, match="no contender nobody"):
        lineup.chosen("polars,nobody")


def test_ratios_are_to_right_answers_of_the_same_run_only():
    results = [
        _result("headrace-rocksdb", 300.0),
        _result("faust-table", 3.0),
        _result("bytewax", 60.0, cpu_us=4.0),
        _result("pathway", 200.0, right=False),
    ]
    assert report.comparisons(results) == [
        "headrace-rocksdb / faust-table: 100.00",
        "headrace-rocksdb / best peer (bytewax): 5.00, CPU 0.25",
    ]
    assert report.comparisons([_result("headrace-rocksdb", 300.0, right=False), *results[1:]]) == []


def test_a_run_that_did_not_happen_has_no_rate():
    assert Result("bytewax", said="not installed").events_per_s == 0.0
