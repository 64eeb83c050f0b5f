from __future__ import annotations

import socket

from headrace.devkit.ports import LOOPBACK, pick, pick_all


def test_a_free_port_is_taken_as_wanted():
    free = pick(0).number
    assert pick(free).number == free
    assert pick(free).taken is None


def test_a_taken_port_is_replaced_by_a_free_one_and_named():
    with socket.socket() as busy:
        busy.bind((LOOPBACK, 0))
        busy.listen()
        taken = busy.getsockname()[1]
        port = pick(taken)
    assert port.number != taken
    assert port.taken == taken


def test_no_port_is_handed_out_twice():
    free = pick(0).number
    chosen = pick_all({"a": free, "b": free, "c": free})
    assert len({port.number for port in chosen.values()}) == 3
    assert chosen["a"].number == free
