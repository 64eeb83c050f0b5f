"""What goes to a child of a pool and back is the same on the other side, or is refused before it is sent."""

from __future__ import annotations

import operator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reliability.pools.calls import pickled, unpickled
from reliability.pools.errors import TaskRefused
from reliability.pools.frames import HEAD, Done, Failure, Message, Ready, Setup, Work, framed, length_of, parsed

NUMBERS = st.integers(min_value=0, max_value=2**63)
TIMES = st.floats(min_value=0, max_value=1e9)
FAILURES = st.builds(Failure, st.text(), st.text(), st.text())
MESSAGES = st.one_of(
    st.builds(Setup, NUMBERS, NUMBERS, st.lists(st.text()).map(tuple), st.binary(), NUMBERS),
    st.builds(Work, NUMBERS, st.binary()),
    st.builds(Ready, NUMBERS),
    st.builds(Done, NUMBERS, st.binary(), st.none() | FAILURES, TIMES, TIMES, NUMBERS),
)


@given(MESSAGES)
def test_a_frame_says_its_length_and_holds_its_message(message: Message):
    frame = framed(message)
    assert length_of(frame[: HEAD.size]) == len(frame) - HEAD.size > 0, "0 would ask the child to end"
    assert parsed(frame[HEAD.size :]) == message


@given(st.binary(max_size=500), st.integers(min_value=1, max_value=1000))
def test_a_call_arrives_whole_or_is_refused_by_its_size(argument: bytes, limit: int):
    call = partial(operator.add, argument, b"!")
    payload = pickled(call, 10_000, "pool", "task")
    assert unpickled(payload, "pool", "task")() == argument + b"!"
    if len(payload) <= limit:
        assert pickled(call, limit, "pool", "task") == payload
    else:
        with pytest.raises(TaskRefused, match=f"allows {limit}"):
            pickled(call, limit, "pool", "task")
