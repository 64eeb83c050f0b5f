from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from runtime.clock import ManualClock, SystemClock
from runtime.settings import Settings
from runtime.settings_relay import RelaySettings
from streams.tenant_quota import TenantQuota
from tests.support.aio import run

RATE, BURST_S = 100.0, 0.5


def quota(settings: Settings, **values: object) -> TenantQuota:
    relay = RelaySettings.model_validate({"tenant_rows_per_s": RATE, "tenant_burst_s": BURST_S, **values})
    return TenantQuota(relay, settings.postgres, ManualClock(datetime.now(UTC)))


def test_relays_together_never_get_more_than_the_quota(settings: Settings):
    async def main() -> None:
        relays = [quota(settings) for _ in range(3)]
        clock, got = SystemClock(), 0
        begin_s = clock.monotonic_s()
        while (now_s := clock.monotonic_s()) < begin_s + 1.0:
            got += sum(taken["a"] for taken in await asyncio.gather(*(each.take({"a": 20}) for each in relays)))
            await asyncio.sleep(0.02)
        took_s = clock.monotonic_s() - begin_s
        assert got <= RATE * (took_s + BURST_S)
        assert got >= RATE * (now_s - begin_s) * 0.5
        for each in relays:
            await each.close()

    run(main())


def test_a_tenant_of_its_own_quota_does_not_take_from_others(settings: Settings):
    async def main() -> None:
        mine = quota(settings, tenant_quotas={"big": 1000.0})
        assert await mine.take({"a": 80, "big": 400}) == {"a": 50, "big": 400}
        assert await mine.take({"b": 10}) == {"b": 10}
        assert await mine.take({}) == {}
        await mine.close()

    run(main())


def test_a_tenant_that_got_too_little_rests_and_its_new_rows_queue(settings: Settings):
    async def main() -> None:
        clock = ManualClock(datetime.now(UTC))
        mine = TenantQuota(RelaySettings(tenant_rows_per_s=RATE, tenant_burst_s=BURST_S), settings.postgres, clock)
        assert mine.due(["a", "b"]) == ["a", "b"]
        await mine.take({"a": 1000, "b": 1})
        assert mine.due(["a", "b"]) == ["b"]
        assert mine.limited(["a", "b"]) == {"a"}
        clock.advance(0.06)
        assert mine.due(["a", "b"]) == ["a", "b"]
        assert mine.limited(["a", "b"]) == {"a"}
        clock.advance(1.0)
        mine.due(["a", "b"])
        assert mine.limited(["a", "b"]) == frozenset()
        await mine.close()

    run(main())
