"""The program of one child of `pools.cpu`: `python -m reliability.pools.child FD`. It runs one task at a time.

It is spawned, never forked: a fork of a process with threads, sockets and a running loop copies locks that nobody will
open. Who ends it, and how:

- the pool, between tasks: an empty frame; the interpreter ends as any program's.
- the pool, amid a task: SIGUSR1 raises `Cut` in the task, so that its `finally` blocks run; SIGKILL follows.
- the pool's death, however sudden: the socket closes, and a thread that waits for that ends the process at once. A task
  that holds the interpreter's lock for ever (a regular expression can) stops that thread too, so on Linux the kernel is
  asked to kill this process with its parent (in truth with the thread that started it, which is the one of the loop).
- nobody else: SIGTERM and SIGINT reach whole groups of processes (a supervisor, Ctrl-C); the pool decides what of its
  work still finishes.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import resource
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from queue import SimpleQueue

from reliability.pools.frames import HEAD, Done, Failure, Ready, Setup, Unready, Work, framed, length_of, parsed
from runtime.clock import SystemClock

_PR_SET_PDEATHSIG = 1
_STATM = Path("/proc/self/statm")
# Texts and tracebacks are for people; those of a huge value or a deep recursion are cut.
_MAX_TEXT_CHARS, _MAX_TRACEBACK_CHARS = 2000, 8000

Inbox = SimpleQueue[Work | None]


class Cut(BaseException):
    """The pool ends this task. No `except Exception` of a task swallows it."""


def main() -> None:
    """Serve the pool at the other end of the socket whose number is the first argument."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    # Processes that a task starts must not hold it: the pool learns from its closing that this one is gone.
    channel.set_inheritable(False)
    os.register_at_fork(after_in_child=channel.close)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, _cut)
    setup = _read(channel)
    if not isinstance(setup, Setup):
        return  # the pool stopped meanwhile
    _die_with(setup.parent_pid)
    inbox: Inbox = SimpleQueue()
    threading.Thread(target=_listen, args=(channel, inbox), name="pool", daemon=True).start()
    try:
        if _is_ready(channel, setup):
            _serve(channel, inbox, setup.max_result_bytes)
    except Cut:
        sys.exit(0)


def _is_ready(channel: socket.socket, setup: Setup) -> bool:
    try:
        os.nice(setup.niceness)
        for name in setup.preload:
            importlib.import_module(name)
        if setup.warm:
            pickle.loads(setup.warm)()  # noqa: S301 - from our own pool
    except BaseException as error:  # noqa: BLE001 - whatever it is, the pool has to be told
        channel.sendall(framed(Unready(_failure(error))))
        return False
    channel.sendall(framed(Ready(_rss_bytes())))
    return True


def _serve(channel: socket.socket, inbox: Inbox, max_result_bytes: int) -> None:
    while (work := inbox.get()) is not None:
        channel.sendall(framed(_done(work, max_result_bytes)))


def _done(work: Work, max_result_bytes: int) -> Done:
    clock = SystemClock()
    began_s, began_cpu_s = clock.monotonic_s(), _cpu_s()
    result, failure = b"", None
    try:
        call = pickle.loads(work.call)  # noqa: S301 - from our own pool
        result = pickle.dumps(call(), protocol=pickle.HIGHEST_PROTOCOL)
        if len(result) > max_result_bytes:
            text = f"the result has {len(result)} bytes, the limit is {max_result_bytes}"
            result, failure = b"", Failure("ResultTooLarge", text, "")
    except Cut:
        raise
    except BaseException as error:  # noqa: BLE001 - also SystemExit: a task must not end its process
        failure = _failure(error)
    return Done(work.number, result, failure, clock.monotonic_s() - began_s, _cpu_s() - began_cpu_s, _rss_bytes())


def _failure(error: BaseException) -> Failure:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a broken __str__ is the task's own
        text = "(its text cannot be had)"
    told = "".join(traceback.format_exception(error))
    return Failure(type(error).__qualname__, text[:_MAX_TEXT_CHARS], told[-_MAX_TRACEBACK_CHARS:])


def _listen(channel: socket.socket, inbox: Inbox) -> None:
    try:
        while (message := _read(channel)) is not None:
            inbox.put(message if isinstance(message, Work) else None)
    finally:
        os._exit(0)  # the pool is gone, or what it says cannot be read: nobody waits for what runs here


def _read(channel: socket.socket) -> object | None:
    """The next message, False for "end in your own time", None when the other end is gone."""
    try:
        head = _exactly(channel, HEAD.size)
        if head is None:
            return None
        length = length_of(head)
        if length == 0:
            return False
        body = _exactly(channel, length)
    except OSError:
        return None
    return None if body is None else parsed(body)


def _exactly(channel: socket.socket, count: int) -> bytes | None:
    taken = bytearray(count)
    view, filled = memoryview(taken), 0
    while filled < count:
        got = channel.recv_into(view[filled:])
        if got == 0:
            return None
        filled += got
    return bytes(taken)


def _cut(_number: int, _frame: object) -> None:
    raise Cut


def _die_with(parent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(0)  # it died before the kernel was asked


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _rss_bytes() -> int:
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes, the most it ever had


if __name__ == "__main__":
    main()
