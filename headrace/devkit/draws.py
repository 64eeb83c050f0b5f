"""What sample traffic is drawn with: every draw comes from one source of uniform numbers, so that plans repeat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from headrace.devkit.tenants import TENANTS, Tenant

T = TypeVar("T")
# A random number in [low, high]; e.g. `clock.uniform`.
Uniform = Callable[[float, float], float]


def chance(share: float, uniform: Uniform) -> bool:
    """True in `share` of all draws; `share` is 0 to 1."""
    return uniform(0.0, 1.0) < share


def normal(mean: float, sigma: float, uniform: Uniform) -> float:
    """One normal number (Box-Muller from two uniform draws)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(0.0, 1.0 - 1e-12)))
    return mean + sigma * radius * math.cos(2.0 * math.pi * uniform(0.0, 1.0))


def lognormal(median: float, sigma: float, uniform: Uniform) -> float:
    """One lognormal number; `sigma` is of its logarithm."""
    return median * math.exp(normal(0.0, sigma, uniform))


def weighted(items: Sequence[T], shares: Sequence[float], uniform: Uniform) -> T:
    """One of the items, each as often as its share says."""
    draw = uniform(0.0, sum(shares))
    for item, share in zip(items, shares, strict=True):
        draw -= share
        if draw < 0:
            return item
    return items[-1]


def tenant(uniform: Uniform) -> Tenant:
    """One of the sample tenants."""
    return weighted(TENANTS, [each.share for each in TENANTS], uniform)
