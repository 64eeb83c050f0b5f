"""The E-model against published values."""

from __future__ import annotations

import pytest

from tables.voice_quality import G711, G711_BARE, Codec, mos_of, r_factor


@pytest.mark.parametrize(
    ("delay_ms", "loss_pct", "r", "mos"),
    [(20, 0, 92.7, 4.40), (150, 0, 89.6, 4.33), (200, 3, 75.8, 3.85), (400, 10, 32.0, 1.70)],
)
def test_ratings_are_those_worked_out_by_hand_for_g711_with_concealment(
    delay_ms: float, loss_pct: float, r: float, mos: float
):
    rating = r_factor(delay_ms=delay_ms, loss_pct=loss_pct)
    assert rating == pytest.approx(r, abs=0.05)
    assert mos_of(rating) == pytest.approx(mos, abs=0.005)


@pytest.mark.parametrize(("r", "mos"), [(90, 4.34), (80, 4.02), (70, 3.60), (60, 3.10), (50, 2.58)])
def test_opinion_scores_are_those_of_g107_table_b1(r: float, mos: float):
    assert mos_of(r) == pytest.approx(mos, abs=0.006)


def test_opinion_scores_keep_to_their_ends():
    assert mos_of(0) == mos_of(3) == 1.0
    assert mos_of(100) == mos_of(120) == 4.5


def test_without_loss_and_delay_only_the_codec_costs():
    assert r_factor(delay_ms=0, loss_pct=0) == 93.2
    assert r_factor(delay_ms=0, loss_pct=0, codec=Codec(ie=11, bpl=19)) == pytest.approx(82.2)


def test_concealment_saves_a_call_that_loses_packets():
    with_it = r_factor(delay_ms=50, loss_pct=2, codec=G711)
    without = r_factor(delay_ms=50, loss_pct=2, codec=G711_BARE)
    assert mos_of(with_it) > 4.1
    assert mos_of(without) < 3.2


def test_loss_in_bursts_is_worse_than_at_random():
    assert r_factor(delay_ms=50, loss_pct=5, burst_r=3) < r_factor(delay_ms=50, loss_pct=5)
    assert r_factor(delay_ms=50, loss_pct=5, burst_r=0.5) == r_factor(delay_ms=50, loss_pct=5)


def test_a_call_that_loses_everything_late_is_rated_zero_not_below():
    assert r_factor(delay_ms=2000, loss_pct=100, codec=G711_BARE) == 0.0
