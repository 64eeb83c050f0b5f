from __future__ import annotations

import pytest

from contracts.errors import ServerMissing, SettingsError
from runtime.settings import RedisSettings
from streams.redis_log import CHUNK_BYTES, CHUNK_ENTRIES, NewEntry, RedisLog, chunked
from tests.support.aio import run


def entry(stream: str, size: int = 10) -> NewEntry:
    return NewEntry(stream, "ob-1-1", {"payload": "x" * size})


def test_chunks_hold_one_stream_each_in_order():
    assert chunked([entry("a"), entry("b"), entry("a")]) == [[0, 2], [1]]


def test_chunks_are_bounded_in_entries():
    assert [len(chunk) for chunk in chunked([entry("a")] * (2 * CHUNK_ENTRIES + 1))] == [CHUNK_ENTRIES] * 2 + [1]


def test_chunks_are_bounded_in_bytes_but_never_empty():
    half, more = CHUNK_BYTES // 2, CHUNK_BYTES + 1
    assert chunked([entry("a", half), entry("a", half), entry("a", 1), entry("a", more)]) == [[0, 1], [2], [3]]


@pytest.mark.parametrize("url", ["nonsense", "redis://u:secret@host:port/0", "http://u:secret@host"])
def test_what_is_no_redis_url_is_told_with_the_setting_and_without_the_password(url: str):
    with pytest.raises(SettingsError, match=r"^redis\.url: ") as told:
        RedisLog(RedisSettings(url=url), "hr", client_name="test")
    assert "secret" not in str(told.value)


def test_a_redis_that_does_not_answer_is_a_missing_server_and_its_password_is_not_shown():
    async def main() -> None:
        log = RedisLog(RedisSettings(url="redis://me:secret@127.0.0.1:1/0"), "p", client_name="test")
        try:
            with pytest.raises(ServerMissing) as missing:
                await log.ping()
        finally:
            await log.close()
        assert "secret" not in str(missing.value)
        assert missing.value.server == "Redis"

    run(main())
