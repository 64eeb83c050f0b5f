"""Attaches an effect agent: a topic, what is done for each of its records, and the table of those that wait.

Where it stands: an agent's file (`agents.adapter`) writes an Effect and calls `attach` once; `agents.effect_work` is
what then runs for each partition.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from agents.effect_calls import EffectSurroundings
from agents.effect_work import EffectWork
from reliability.limiter import LocalLimiter

if TYPE_CHECKING:
    from agents.effect import Effect
    from agents.host import AgentHost
    from agents.runner import Runner
    from contracts.names import Consumer, Topic
    from runtime.settings_retry import RetrySettings


def table_of(consumer: Consumer) -> str:
    """The name of the table that holds a consumer's waiting records."""
    return f"{consumer.value}_waiting"


def attach(
    host: AgentHost, consumer: Consumer, topic: Topic, effect: Effect, policy: RetrySettings, *, describe: str
) -> Runner:
    """Have `effect` run for each record of the topic, and for the consumer's dead letters that come back.

    Args:
        host: where; its `at_close` is the place to close what the effect has opened.
        consumer: names the agent, its table, its retry topic and the `source` of its dead letters.
        topic: what it reads.
        effect: one object for all partitions of this worker.
        policy: order, concurrency, retries and quotas.
        describe: what `faust agents` prints.
    """
    sinks, table = host.sinks, host.table(table_of(consumer))

    def wake(partition: int) -> None:
        runner.wake(partition)

    def sharing() -> int:
        # The group divides partitions among its workers, and so it does the quotas: nobody has to be asked.
        return ceil(host.settings.kafka.partitions / max(1, runner.owned_count))

    around = EffectSurroundings(
        consumer,
        effect,
        policy,
        sinks.clock,
        sinks.metrics.effects,
        LocalLimiter(sinks.clock),
        sharing,
        cluster=lambda: sinks.burial.incarnation,
        wake=wake,
        fatal=sinks.fatal,
    )

    def open_work(partition: int) -> EffectWork:
        return EffectWork(partition, table.rows, table.incarnation(partition), around)

    runner = host.attach(consumer.value, topic, open_work, table=table, consumer=consumer, describe=describe)
    return runner
