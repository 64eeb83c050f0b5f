"""Server-sent events as a client reads them: bytes in, messages out, however the network cuts them.

Follows the event stream format of the HTML standard: fields `id`, `event`, `data`, `retry`; lines end in LF, CRLF
or CR; a block without data is dropped, but its id counts. Written for the listener, apart from the gateway's own
writer, so that the two check each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    """One event; `sse_id` is None without an id line, `event` is "message" without an event line."""

    event: str
    data: str
    sse_id: str | None


@dataclass
class SseParser:
    """Feed it bytes; it keeps what is cut off. `last_id` goes into Last-Event-ID; `retry_ms` is None until sent."""

    last_id: str = ""
    retry_ms: int | None = None
    _rest: bytes = b""
    _event: str = ""
    _id: str | None = None
    _data: list[str] = field(default_factory=list)

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages completed by `chunk`, in order."""
        text = self._rest + chunk
        # A CR at the very end may be the first half of CRLF: it stays until the next byte is known.
        held = b"\r" if text.endswith(b"\r") else b""
        lines = text[: len(text) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + held
        messages = []
        for line in lines:
            message = self._line(line.decode("utf-8", "replace"))
            if message is not None:
                messages.append(message)
        return messages

    def reconnected(self) -> None:
        """Forget what the closed connection left unfinished; `last_id` and `retry_ms` stay."""
        self._rest, self._event, self._id, self._data = b"", "", None, []

    def _line(self, line: str) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Message | None:
        if self._id is not None:
            self.last_id = self._id
        message = Message(self._event or "message", "\n".join(self._data), self._id) if self._data else None
        self._event, self._id, self._data = "", None, []
        return message
