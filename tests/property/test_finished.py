"""Records that finish in any order: what is acknowledged is finished, and what is finished is not done again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agents.finished import Finished

POSITIONS = st.lists(st.integers(0, 60), unique=True, min_size=1, max_size=30).map(sorted)


@given(POSITIONS, st.data())
def test_all_up_to_the_mark_are_finished_and_a_successor_does_the_rest_and_only_that(
    positions: list[int], data: st.DataObject
):
    finished = Finished()
    begun = positions[: data.draw(st.integers(0, len(positions)))]
    assert all(map(finished.begin, begun))
    done = data.draw(st.lists(st.sampled_from(begun), unique=True)) if begun else []
    for position in done:
        finished.finish(position)
    left = [position for position in begun if position not in done]
    assert all(position in done for position in begun if position <= finished.finished_to)
    assert finished.finished_to == (min(left) - 1 if left else max(begun, default=-1))
    assert finished.open_count == len(left)

    change = finished.take_change()
    assert not finished.is_changed
    successor = Finished.of_row(None if change is None else change[1])
    again = [position for position in positions if successor.begin(position)]
    assert again == [position for position in positions if position not in done]
    for position in again:
        successor.finish(position)
    assert successor.finished_to >= max(positions)


def test_the_row_is_written_when_it_says_something_new_and_newer_rows_win():
    finished = Finished()
    assert finished.take_change() is None
    finished.begin(3)
    finished.begin(4)
    finished.finish(4)
    first = finished.take_change()
    assert finished.take_change() is None
    finished.finish(3)
    second = finished.take_change()
    assert first is not None
    assert second is not None
    assert first[0] == second[0]
    assert Finished.of_row(second[1]).finished_to == 4
