"""The options that say which dead letters are meant, the same for every command that has some."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.commands import times

if TYPE_CHECKING:
    from runtime.clock import Clock
    from runtime.settings import Settings
    from streams.letter_filter import LetterFilter

PANEL = "Which letters"
_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _option(help_text: str, *names: str) -> Any:  # noqa: ANN401 - what typer takes
    return typer.Option(*names, help=help_text, rich_help_panel=PANEL)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What was given on the command line, as it was typed."""

    ids: Annotated[list[int] | None, typer.Argument(metavar="ID", help="Letters by id.")] = None
    state: Annotated[list[str] | None, _option("dead, requeued, recovered or discarded; repeatable.")] = None
    source: Annotated[str | None, _option("Who failed: relay, or a consumer such as orders or tool_calls.")] = None
    stream: Annotated[str | None, _option("Stream of the event, such as orders or voice.")] = None
    tenant: Annotated[str | None, _option("Tenant, as far as the letter tells.")] = None
    type: Annotated[str | None, _option("Event type.")] = None
    reason: Annotated[str | None, _option("Error class, such as MissingField.")] = None
    since: Annotated[str | None, _option(f"Last failed at or after this: {times.HELP}")] = None
    until: Annotated[str | None, _option("Last failed before this.")] = None
    requeue: Annotated[int | None, _option("Part of this requeue last.")] = None

    def filter(self, clock: Clock) -> LetterFilter:
        """The filter. Raises QueryError or SettingsError naming what is wrong."""
        from streams.letter_filter import LetterFilter, state_named

        return LetterFilter(
            ids=tuple(self.ids or ()),
            states=tuple(state_named(text) for text in self.state or ()),
            source=self.source,
            stream=self.stream,
            tenant=self.tenant,
            type=self.type,
            reason=self.reason,
            since=_moment(self.since, "--since", clock),
            until=_moment(self.until, "--until", clock),
            requeue_id=self.requeue,
        )

    def check(self, _settings: Settings, clock: Clock) -> None:
        """Raise what `filter` raises."""
        self.filter(clock)


def with_filter(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Chosen`, and hand them to it as its parameter `chosen`."""
    hints = typing.get_type_hints(command, include_extras=True)
    options = typing.get_type_hints(Chosen, include_extras=True)
    names = [field.name for field in fields(Chosen)]
    own = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(command).parameters.values()
        if parameter.name != "chosen"
    ]
    added = [inspect.Parameter(name, _KEYWORD, default=None, annotation=options[name]) for name in names]

    @functools.wraps(command)
    def called(**given: Any) -> None:  # noqa: ANN401 - whatever typer parsed
        chosen = Chosen(**{name: given.pop(name) for name in names})
        command(chosen=chosen, **given)

    # Typer reads the signature and the annotations; both have to be those that it is to call.
    del called.__wrapped__
    called.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]  # inspect looks there
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *added)}
    return called


def _moment(text: str | None, option: str, clock: Clock) -> datetime | None:
    return None if text is None else datetime.fromtimestamp(times.instant_ms(text, option, clock) / 1000, UTC)
