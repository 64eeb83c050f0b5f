"""One child of `pools.cpu` as its pool sees it: started, spoken to, ended by force when it must be."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from reliability.pools.frames import HEAD, RETIRE, framed, length_of, parsed

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator

    from reliability.pools.frames import Message

# The pool is the parallelism: without these, each child would start a thread for every processor.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ChildProcess:
    """A running child. Only its owner, `opened_child`, makes one."""

    def __init__(self, process: Process, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        self._process = process
        self._reader, self._writer = streams
        self._kill_timer: asyncio.TimerHandle | None = None
        self.why = "died"
        """What became of it, for metrics: stays "died" unless somebody asked it to end."""
        self.tasks = 0
        """Tasks that it has done."""

    def send(self, message: Message) -> None:
        """Send a message; one to a child that is gone is lost, and `receive` says so."""
        self._writer.write(framed(message))

    async def receive(self) -> Message | None:
        """The child's next message; None once it is gone. Waits without bound: `retire` and `cut` bound it."""
        try:
            return parsed(await self._reader.readexactly(length_of(await self._reader.readexactly(HEAD.size))))
        except (asyncio.IncompleteReadError, OSError):
            return None

    def retire(self, why: str, grace_s: float) -> None:
        """Ask an idle child to end; it is killed after `grace_s`."""
        self.why = why
        self._writer.write(RETIRE)
        self._kill_after(grace_s)

    def cut(self, grace_s: float) -> None:
        """End the task of a busy child and the child; it is killed after `grace_s`."""
        self.why = "cut"
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGUSR1)
        self._kill_after(grace_s)

    async def ended(self, grace_s: float) -> str:
        """Wait until the process has ended, kill it after `grace_s` or when cancelled; answers how it ended."""
        self._writer.transport.abort()
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            self._kill()
            await self._process.wait()
        except asyncio.CancelledError:
            self._kill()
            await self._process.wait()
            raise
        finally:
            if self._kill_timer is not None:
                self._kill_timer.cancel()
        return self.ending

    @property
    def ending(self) -> str:
        """How the process ended, in words."""
        status = self._process.returncode
        if status is None:
            return "still running"
        return f"exit status {status}" if status >= 0 else signal.Signals(-status).name

    def _kill_after(self, grace_s: float) -> None:
        if self._kill_timer is None:
            self._kill_timer = asyncio.get_running_loop().call_later(grace_s, self._kill)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()


@asynccontextmanager
async def opened_child(setup: Message, grace_s: float) -> AsyncIterator[ChildProcess]:
    """Start a child and tell it `setup`; behind the body it has ended, whatever happens.

    Raises:
        OSError: no process, memory or descriptor is left.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            # Before the process: nothing is awaited between its start and the block that ends it.
            reader, writer = await asyncio.open_connection(sock=ours)
            try:
                process = await asyncio.create_subprocess_exec(
                    # -P: what can be imported is _environment's affair, not the working directory's.
                    *(sys.executable, "-P", "-X", "faulthandler", "-m", "reliability.pools.child"),
                    str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    env=_environment(),
                )
            except BaseException:
                writer.transport.abort()
                raise
        child = ChildProcess(process, (reader, writer))
        try:
            child.send(setup)
            yield child
        finally:
            await child.ended(grace_s)


def _environment() -> dict[str, str]:
    """Ours, with the same import path: what can be imported here can be there."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return dict.fromkeys(_ONE_THREAD, "1") | os.environ | {"PYTHONPATH": path}
