"""Dead letters of the worker: a connection to PostgreSQL only once there is something to bury."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from streams import postgres
from streams.dead_letters import DeadLetters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.settings import PostgresSettings
    from streams.dead_letters import DeadLetter, Recovered


class Burial:
    """Buries letters; the worker runs without PostgreSQL until the first one."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._settings = settings
        self._open = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._letters: DeadLetters | None = None
        # Set by the application when it knows its cluster: tells two topics of one name apart.
        self.incarnation = ""

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Make the letters durable; raises ServerMissing (transient) while PostgreSQL is down.

        One that brings no incarnation stands where this worker reads; one that came back brings its own.
        """
        named = [letter if letter.incarnation else replace(letter, incarnation=self.incarnation) for letter in letters]
        await (await self._connected()).bury(named)

    async def recovered(self, told: Sequence[Recovered]) -> None:
        """Say that letters which came back have had their effect; raises as `bury` does. May be repeated."""
        await (await self._connected()).recovered(told)

    async def _connected(self) -> DeadLetters:
        async with self._opening:
            if self._letters is None:
                pool = await self._open.enter_async_context(
                    postgres.pool(self._settings, name="headrace worker", size=2)
                )
                self._letters = DeadLetters(pool, self._settings)
            return self._letters

    async def stop(self) -> None:
        """Close the connections; may be called twice."""
        await self._open.aclose()
        self._letters = None
