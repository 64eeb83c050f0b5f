"""Deadlines: each subject is found once, at the last moment that was set for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents import deadlines
from agents.deadlines import Deadlines

Step = tuple[str, int, int]
steps = st.lists(st.tuples(st.sampled_from(["set", "drop", "due"]), st.integers(0, 5), st.integers(0, 30)), max_size=60)


@given(steps)
def test_what_is_due_is_what_a_plain_dictionary_says(taken: list[Step]):
    held: Deadlines[tuple[int]] = Deadlines()
    plain: dict[tuple[int], int] = {}
    for what, name, at in taken:
        if what == "set":
            held.set((name,), at)
            plain[name,] = at
        elif what == "drop":
            held.drop((name,))
            plain.pop((name,), None)
        else:
            due = sorted(held.due(at))
            assert due == sorted(subject for subject, its in plain.items() if its <= at)
            for subject in due:
                del plain[subject]
        assert bool(held) == bool(plain)


def test_deadlines_that_were_moved_do_not_pile_up():
    held: Deadlines[tuple[int]] = Deadlines()
    for at in range(10_000):
        held.set((1,), at)
    assert len(held._heap) <= 2 + deadlines.MANY_VOID
    assert held.due(9_998) == []
    assert held.due(9_999) == [(1,)]
