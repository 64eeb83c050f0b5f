"""`headrace archive`: source topics to Parquet files by day."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import ServerMissing, SettingsError
from contracts.names import Stream, Topic, kafka_topic, topic_of
from headrace.commands import times

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.archive import Archive
    from streams.archiving import Copied, Copying
    from streams.log_range import LogRange

SOURCES = tuple(topic_of(stream) for stream in Stream)

Topics = Annotated[list[str] | None, typer.Option("--topic", help="Source topic, such as tools; repeatable. All.")]
Until = Annotated[str | None, typer.Option(help=f"Only records before this time: {times.HELP}")]
Folder = Annotated[Path, typer.Option("--dir", help="The archive's folder; made when missing, added to when not.")]
SkipLost = Annotated[bool, typer.Option(help="Go on where retention has removed records before they were archived.")]


def archive(*, topic: Topics = None, until: Until = None, folder: Folder, skip_lost: SkipLost = False) -> None:
    """Write source topics to Parquet files by day. Run again, it goes on where it ended, also after a kill."""
    from headrace.commands.reported import reported
    from runtime.clock import SystemClock
    from runtime.settings import load

    def made() -> int:
        settings, clock = load(), SystemClock()
        until_ms = None if until is None else times.instant_ms(until, "--until", clock)
        return asyncio.run(run(settings, clock, chosen(topic), folder, until_ms, skip_lost=skip_lost))

    raise typer.Exit(reported(made))


def chosen(names: list[str] | None) -> tuple[Topic, ...]:
    """The topics of these names; all sources when none is given. Raises SettingsError for any other name."""
    known = {topic.value: topic for topic in SOURCES}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise SettingsError(f"--topic: must be one of {', '.join(known)} (got {unknown[0][:40]!r})")
    return tuple(known[name] for name in names) if names else SOURCES


async def run(
    settings: Settings, clock: Clock, topics: tuple[Topic, ...], folder: Path, until_ms: int | None, *, skip_lost: bool
) -> int:
    """Archive each topic to where its log ends now; returns the exit status."""
    from headrace.background import watched
    from headrace.console import Console
    from reliability.ladder import Feature
    from streams.archive import Archive
    from streams.archiving import Copying
    from streams.log_range import LogRange

    log = LogRange(settings.kafka)
    with Console(clock) as console, writing_alone(folder):
        archive = Archive(folder)
        archive.clear_partial()
        async with AsyncExitStack() as stack:
            background = await stack.enter_async_context(watched(settings, clock, Feature.ARCHIVE, console.say))
            stack.push_async_callback(log.stop)
            await log.start()
            counts = await log.topics()
            for topic in topics:
                name = kafka_topic(settings.prefix, topic)
                with console.step(name) as step:
                    if name not in counts:
                        raise _missing(settings, name)
                    incarnation = (await log.incarnations([name]))[name]
                    how = Copying(incarnation, until_ms, skip_lost, background.wait)
                    copied = await _topic(log, archive, name, counts[name], how)
                    step.detail = _told(copied)
    return 0


async def _topic(log: LogRange, archive: Archive, name: str, partitions: int, how: Copying) -> list[Copied]:
    from streams.archiving import copy
    from streams.records import Partition

    places = [Partition(name, number) for number in range(partitions)]
    spans = await log.spans(places)
    return [await copy(log, archive, place, spans[place], how) for place in places]


def _told(copied: list[Copied]) -> str:
    lost = sum(each.lost for each in copied)
    told = f"{sum(each.records for each in copied):,} records in {sum(each.files for each in copied)} new files"
    return f"{told}; {lost:,} offsets were gone before they could be archived" if lost else told


def _missing(settings: Settings, name: str) -> ServerMissing:
    return ServerMissing(
        "Kafka", settings.kafka.bootstrap, f"topic {name} does not exist", "start a worker or a mirror"
    )


@contextmanager
def writing_alone(folder: Path) -> Iterator[None]:
    """Hold the folder against other writers while the body runs; the kernel drops the lock with the process.

    Raises:
        SettingsError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingsError(f"{folder} cannot be written: {error.strerror or error}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise SettingsError(f"{folder} is in use by another headrace command; wait for it, or give another") from None
    try:
        yield
    finally:
        os.close(descriptor)
