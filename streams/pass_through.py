"""A chunk of records passes through Faust as it is: what a topic's schema would decode is decoded by agents, at once.

Where it stands: `streams.batches` gives it to each topic that is read in chunks. The seam is Schema.compile of
faust-streaming 0.15.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faust.serializers.schemas import Schema

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from faust.types.tuples import Message


class PassThrough(Schema[Any, Any]):
    """Hands a message's value on as it is."""

    def compile(self, app: Any, **_kwargs: Any) -> Callable[..., Awaitable[Any]]:  # noqa: ANN401  Faust's own signature
        """Build the decoder that Faust calls for each message."""

        async def decode(message: Message, *, propagate: bool = False) -> Any:  # noqa: ANN401
            del propagate
            return app.create_event(None, message.value, message.headers, message)

        return decode
