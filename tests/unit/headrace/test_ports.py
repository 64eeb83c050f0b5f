from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from headrace.devkit.ports import listens, reserved
from headrace.servers.probes import HOST


def any_free() -> int:
    with reserved({"a": 0}) as chosen:
        return chosen["a"].number


def test_a_free_port_is_taken_as_wanted():
    free = any_free()
    with reserved({"a": free}) as chosen:
        assert chosen["a"].number == free
        assert chosen["a"].taken is None


def test_a_taken_port_is_replaced_by_a_free_one_and_named():
    with socket.socket() as busy:
        busy.bind((HOST, 0))
        busy.listen()
        taken = busy.getsockname()[1]
        assert listens(os.getpid(), taken)
        with reserved({"a": taken}) as chosen:
            assert chosen["a"].number != taken
            assert chosen["a"].taken == taken
    assert not listens(os.getpid(), taken)


def test_no_port_is_handed_out_twice_even_before_anybody_listens_on_it():
    free = any_free()
    with reserved({"a": free, "b": free}) as first, reserved({"c": free}) as second:
        numbers = [port.number for port in (*first.values(), *second.values())]
    assert len(set(numbers)) == 3
    assert numbers[0] == free


def test_reservations_leave_nothing_behind():
    with reserved({"a": any_free()}) as chosen:
        name = str(chosen["a"].number)
    assert not (Path(tempfile.gettempdir()) / f"headrace-ports-{os.getuid()}" / name).exists()
