"""The policies of one dependency, made from its settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from reliability.breaker import Breaker, Change
from reliability.bulkhead import Bulkhead
from reliability.fault import Classify
from reliability.retry import Retry
from reliability.stack import Stack, TryTimeout

if TYPE_CHECKING:
    from reliability.call import Layer
    from runtime.clock import Clock
    from runtime.settings import Settings


class Dependency(NamedTuple):
    """What calls to it go through: `stack` holds the others, save for a bulkhead that is switched off."""

    name: str
    breaker: Breaker
    retry: Retry
    bulkhead: Bulkhead
    stack: Stack


def make(
    settings: Settings,
    name: str,
    clock: Clock,
    changed: Callable[[Change], None],
    classify: Classify,
    outer: Sequence[Layer],
) -> Dependency:
    """The policies of `name` as `settings` want them; `changed` is told when its breaker changes."""
    breaker_rules, rules, bulkhead_rules = settings.of_dependency(name)
    breaker = Breaker(name, breaker_rules, clock, changed, classify)
    retry = Retry(name, rules, clock, classify)
    bulkhead = Bulkhead(name, bulkhead_rules, clock)
    layers: list[Layer] = [*outer, retry, breaker, TryTimeout(name, rules.try_timeout_s, clock)]
    if bulkhead_rules.calls:
        layers.append(bulkhead)
    return Dependency(name, breaker, retry, bulkhead, Stack(name, layers, clock, deadline_s=rules.deadline_s))
