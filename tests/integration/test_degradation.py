"""The level of degradation, agreed on by processes through a real Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from reliability.call import Priority
from reliability.ladder import Feature, Level, Override, Signal
from reliability.load_metrics import LoadMetrics
from runtime.clock import ManualClock, SystemClock
from runtime.lag import StageLag
from runtime.metrics import Metrics
from runtime.settings import Settings
from streams.degradation import Degradation, DegradationBoard
from streams.redis_log import RedisLog
from tests.support.aio import run


@asynccontextmanager
async def on_redis(settings: Settings) -> AsyncIterator[RedisLog]:
    redis = RedisLog(settings.redis, settings.prefix, client_name="test")
    try:
        yield redis
    finally:
        await redis.close()


class Process:
    """A process whose pressure the test sets and whose monotonic clock it moves."""

    def __init__(self, settings: Settings, redis: RedisLog, name: str, *, measures: bool = True) -> None:
        self.clock = ManualClock(datetime.now(UTC))
        self.pressure = 0.0
        signals = (lambda: [Signal("shed_ratio", self.pressure, 1.0, Level.ESSENTIAL)]) if measures else None
        self.metrics = Metrics()
        self.ladder = Degradation(settings, redis, self.clock, LoadMetrics(self.metrics), name, signals)

    async def after(self, seconds: float) -> Level:
        for _ in range(int(seconds)):
            self.clock.advance(1)
            await self.ladder.look()
        return self.ladder.level


def test_what_presses_one_process_degrades_all_and_commands_hear_of_it(settings: Settings):
    async def body() -> None:
        async with on_redis(settings) as redis:
            one, two = Process(settings, redis, "gateway:a"), Process(settings, redis, "gateway:b")
            command = Process(settings, redis, "replay:c", measures=False)
            one.pressure = 2.0
            assert await one.after(3) == Level.NO_BACKGROUND
            assert await two.after(1) == Level.NO_BACKGROUND
            assert await command.after(1) == Level.NO_BACKGROUND
            assert command.ladder.why() == "shed_ratio"
            assert not command.ladder.allows(Feature.REPLAY)
            assert command.ladder.allows(Feature.TABLES)
            assert two.ladder.passes() == Priority.LOW
            labels = {"service": "gateway"}
            assert two.metrics.registry.get_sample_value("headrace_degradation_level", labels) == 1
            heard = await DegradationBoard(redis, settings.prefix, settings.ladder).exchange()
            assert set(heard.processes) == {"gateway:a", "gateway:b"}  # who only reads along says nothing

    run(body())


def test_an_operators_word_wins_until_it_ends_or_is_taken_back(settings: Settings):
    async def body() -> None:
        async with on_redis(settings) as redis:
            board = DegradationBoard(redis, settings.prefix, settings.ladder)
            one = Process(settings, redis, "gateway:a")
            one.pressure = 2.0
            assert await one.after(10) == Level.ESSENTIAL
            word = await board.override(Level.READ_ONLY, seconds=60, by="eva", reason="moving the database")
            assert await one.after(1) == Level.READ_ONLY
            assert one.ladder.why() == "set by eva: moving the database"
            assert (await board.exchange()).override == word
            await board.override(Level.NORMAL, seconds=60, by="eva", reason="")
            assert await one.after(1) == Level.NORMAL
            assert await board.clear()
            assert not await board.clear()
            assert await one.after(1) == Level.ESSENTIAL
            await board.override(Level.NORMAL, seconds=0.001, by="eva", reason="")
            await asyncio.sleep(0.01)
            assert await one.after(1) == Level.ESSENTIAL
            assert (await board.exchange()).override is None

    run(body())


def test_what_a_process_said_stops_counting_when_it_stops_saying_it(settings: Settings):
    async def body() -> None:
        brief = settings.model_copy(update={"ladder": settings.ladder.model_copy(update={"stale_s": 0.2})})
        async with on_redis(settings) as redis:
            one, two = Process(brief, redis, "gateway:a"), Process(brief, redis, "gateway:b")
            one.pressure = 2.0
            await one.after(3)
            assert await two.after(1) == Level.NO_BACKGROUND
            await asyncio.sleep(0.3)
            assert await two.after(1) == Level.NORMAL

    run(body())


def test_a_process_that_stops_takes_back_what_it_said(settings: Settings):
    async def body() -> None:
        async with on_redis(settings) as redis:
            one = Process(settings, redis, "gateway:a")
            task = asyncio.create_task(one.ladder.run())
            board = DegradationBoard(redis, settings.prefix, settings.ladder)
            await _until(lambda: _said(board, "gateway:a"))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await one.ladder.stop()
            assert not (await board.exchange()).processes

    run(body())


async def _said(board: DegradationBoard, process: str) -> bool:
    return process in (await board.exchange()).processes


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.02)


def test_lag_pauses_the_background_and_nothing_more(settings: Settings):
    async def body() -> None:
        async with on_redis(settings) as redis:
            one = Process(settings, redis, "gateway:a")
            now_s = SystemClock().wall_s()
            await redis.write_lag("mirror:orders", StageLag(5, 600.0, now_s).to_json())
            await redis.write_lag("relay", StageLag(9, 900.0, now_s - 60).to_json())  # gone: it says nothing of now
            assert await one.after(20) == Level.NO_BACKGROUND
            assert one.ladder.why() == "lag_s"
            await redis.write_lag("mirror:orders", StageLag(0, 0.0, now_s).to_json())
            assert await one.after(35) == Level.NORMAL

    run(body())


def test_without_redis_a_process_goes_by_itself_and_keeps_to_the_word_it_heard(settings: Settings):
    async def body() -> None:
        async with on_redis(settings) as redis:
            one = Process(settings, redis, "gateway:a")
            one.pressure = 2.0
            board = DegradationBoard(redis, settings.prefix, settings.ladder)
            await board.override(Level.STALE, seconds=3600, by="eva", reason="")
            assert await one.after(1) == Level.STALE
            nowhere = settings.redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})
            gone = RedisLog(nowhere, settings.prefix, client_name="test")
            one.ladder._board = DegradationBoard(gone, settings.prefix, settings.ladder)
            assert await one.after(1) == Level.STALE
            alone = Process(settings, gone, "gateway:b")
            alone.pressure = 2.0
            assert await alone.after(3) == Level.NO_BACKGROUND
            one.clock.advance(3600)
            assert await one.after(1) == Level.NO_BACKGROUND
            assert one.ladder.why() == "shed_ratio"
            await gone.close()

    run(body())


def test_words_that_nobody_can_read_are_passed_over(settings: Settings):
    async def body() -> None:
        async with on_redis(settings) as redis:
            key = f"{settings.prefix}:degradation"
            ends_ms = int(1000 * SystemClock().wall_s()) + 60_000
            for field, text in (
                ("process:w", b"1|\xff"),
                ("process:v", b"%d|\xff" % (ends_ms - 60_000)),
                ("process:x", "nonsense"),
                ("process:y", f"{ends_ms}|[1]"),
                ("override", f"{ends_ms}|{{"),
            ):
                await redis.call("HSET", key, field, text)
            await redis.call("HSET", key, "process:z", f"{ends_ms - 60_000}|{json.dumps({'level': 9})}")
            one = Process(settings, redis, "gateway:a")
            assert await one.after(1) == Level.NORMAL

    run(body())


def test_an_override_says_who_and_why(settings: Settings):
    async def body() -> None:
        async with on_redis(settings) as redis:
            board = DegradationBoard(redis, settings.prefix, settings.ladder)
            word = await board.override(Level.STALE, seconds=60, by="eva", reason="a | and a ü")
            assert word == Override(Level.STALE, word.until_s, "eva", "a | and a ü")
            assert (await board.exchange()).override == word

    run(body())
