"""When a failed call is tried again: the rules hold for every failure."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from reliability.fault import Fault, Health
from reliability.quota import RetryQuota
from reliability.retry import Verdict, next_step
from runtime.settings_reliability import CallSettings

RULES = st.builds(
    CallSettings,
    tries=st.integers(1, 6),
    base_s=st.floats(0.001, 1),
    throttled_base_s=st.floats(0.001, 2),
    cap_s=st.floats(1, 10),
    quota_tokens=st.integers(0, 600),
)
FAULTS = st.builds(
    Fault,
    st.sampled_from(Health),
    retry=st.booleans(),
    unsent=st.booleans(),
    throttled=st.booleans(),
    retry_after_s=st.none() | st.floats(0, 100),
)


@given(
    rules=RULES,
    fault=FAULTS,
    tries=st.integers(1, 8),
    idempotent=st.booleans(),
    left_s=st.floats(0, 200),
    tokens=st.integers(0, 500),
    draw=st.floats(0, 1),
)
def test_a_retry_needs_all_of_its_conditions_and_waits_neither_too_long_nor_less_than_it_was_told(
    rules: CallSettings,
    fault: Fault,
    tries: int,
    idempotent: bool,  # noqa: FBT001
    left_s: float,
    tokens: int,
    draw: float,
):
    told = next_step(rules, fault, tries=tries, idempotent=idempotent, left_s=left_s, tokens=tokens, draw=draw)
    if told.verdict is not Verdict.AGAIN:
        return
    assert fault.retry
    assert idempotent or fault.unsent
    assert tries < rules.tries
    asked_s = fault.retry_after_s or 0.0
    assert asked_s <= told.wait_s < left_s
    assert told.wait_s - asked_s <= rules.cap_s + 1e-9
    assert tokens >= told.cost == (rules.throttled_cost if fault.throttled else rules.retry_cost)


@given(rules=RULES, fault=FAULTS, tries=st.integers(1, 8), draw=st.floats(0, 1))
def test_what_may_be_repeated_is_while_tries_time_and_tokens_last(
    rules: CallSettings, fault: Fault, tries: int, draw: float
):
    told = next_step(rules, fault, tries=tries, idempotent=True, left_s=math.inf, tokens=10**6, draw=draw)
    assert (told.verdict is Verdict.AGAIN) == (fault.retry and tries < rules.tries)


@given(rules=RULES, events=st.lists(st.sampled_from(["retry", "throttled", "first", "recovered"]), max_size=200))
def test_the_quota_is_never_overdrawn_nor_overfull_and_pays_for_no_more_than_it_was_given(
    rules: CallSettings, events: list[str]
):
    quota = RetryQuota(rules)
    paid = returned = 0
    for event in events:
        before = quota.tokens
        if event in ("retry", "throttled"):
            cost = rules.retry_cost if event == "retry" else rules.throttled_cost
            taken = quota.take(cost)
            assert taken == (before >= cost)
            paid += cost * taken
        else:
            quota.succeeded(rules.retry_cost if event == "recovered" else 0)
            returned += quota.tokens - before
        assert 0 <= quota.tokens <= rules.quota_tokens
    assert quota.tokens == rules.quota_tokens - paid + returned
