"""Orders to a shop system over HTTP: each order event becomes one POST, in order for each order.

Where it stands: `agents.effect_agent` hands it records of the orders topic (and those that are tried again or given
back); `agents.adapter_request` makes the request, `agents.adapter_http` sends it, `agents.adapter_answer` says what the
answer means. It is off without `adapter.url`.

One event, and what bounds it:

    pools.io (adapter.pool: calls under way) -> deadline -> retry, within seconds -> breaker -> timeout of a try -> POST

Nothing is shed or limited here: what the log holds is waited for by nobody, and quotas (adapter.retries) leave events
waiting before a call is begun. What the rest does not achieve is tried again later, in minutes (adapter.retries), or
becomes a dead letter. An event is told at least once, with an Idempotency-Key that stays the same: an endpoint that
honours it has each effect once.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from agents.adapter_answer import classify, outcome_of
from agents.adapter_http import AdapterMetrics, ShopClient, opened, trust_of
from agents.adapter_request import aggregate_of, request_of
from agents.effect import Dead, Done, Reason
from agents.effect_agent import attach
from contracts.errors import ContractError, HeadraceError
from contracts.names import Consumer, Topic
from reliability.pools.io import IoPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from agents.effect import Outcome, Try
    from agents.host import AgentHost
    from contracts.names import Mode
    from reliability.pools.metrics import PoolMetrics
    from reliability.registry import Reliability
    from reliability.stack import Stack
    from runtime.metrics import Metrics
    from runtime.settings_adapter import AdapterSettings
    from streams.record_chunk import SourceRecord

# Its name as a dependency: in the settings, in metrics, at /v1/reliability.
DEPENDENCY = "adapter"
TASK = "order"


def register(host: AgentHost, reliability: Reliability, pools: PoolMetrics, metrics: Metrics) -> None:
    """Attach the agent, unless there is nobody to tell.

    Raises:
        SettingsError: `adapter.ca_file` cannot be read.
    """
    settings, clock = host.settings.adapter, host.sinks.clock
    if not settings.url:
        return
    stack = reliability.dependency(DEPENDENCY, classify).stack
    pool = IoPool(DEPENDENCY, settings.pool, pools, clock)
    client = partial(opened, settings, trust_of(settings), AdapterMetrics(metrics), clock)
    effect = OrdersToShop(settings, host.settings.contracts.mode, stack, pool, client)
    describe = "Order events to the shop system at adapter.url."
    attach(host, Consumer.ADAPTER, Topic.ORDERS, effect, settings.retries, describe=describe)
    host.at_close(effect.close)


class OrdersToShop:
    """The effect (`agents.effect.Effect`) of this agent; one for all partitions of a worker."""

    def __init__(
        self,
        settings: AdapterSettings,
        mode: Mode,
        stack: Stack,
        pool: IoPool,
        client: Callable[[], AbstractAsyncContextManager[ShopClient]],
    ) -> None:
        """`pool` bounds the calls under way; `client` is opened with the first one. `close` ends both."""
        self._settings, self._mode, self._stack, self._pool, self._open = settings, mode, stack, pool, client
        self._resources = AsyncExitStack()
        self._client: ShopClient | None = None

    def aggregate(self, record: SourceRecord) -> str:
        """The order: its events reach the shop one after the other, as they were committed."""
        return aggregate_of(record)

    async def run(self, record: SourceRecord, which: Try) -> Outcome:
        """Tell the shop. Bounded by the pool's wait and the stack's deadline."""
        del which  # the key is the same for all of them
        try:
            request = request_of(record, self._mode)
        except ContractError as error:
            return Dead(Reason.of(error))
        if self._settings.statuses and request.status not in self._settings.statuses:
            return Done()
        client = await self._opened()
        call = partial(self._stack.call, partial(client.post, request), idempotent=self._settings.idempotent)
        try:
            await self._pool.run(call, name=TASK)
        except HeadraceError as error:
            return outcome_of(error, idempotent=self._settings.idempotent)
        return Done()

    async def close(self) -> None:
        """Let calls under way end (adapter.pool.stop_grace_s), then close all connections."""
        await self._pool.stop()
        await self._resources.aclose()

    async def _opened(self) -> ShopClient:
        # Nothing is awaited on the way: two calls cannot both open one.
        if self._client is None:
            self._client = await self._resources.enter_async_context(self._open())
        return self._client
