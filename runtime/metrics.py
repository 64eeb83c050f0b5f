"""One registry a process, with the bucket edges that our objectives need. The only importer of prometheus_client.

Each part declares its own metrics in a small dataclass built from a :class:`Metrics`; nothing is registered at import.
Names end in `_seconds`, `_bytes`, `_ratio` or `_total`; `tenant` is a label only where a guard caps it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "LATENCY_BUCKETS_S", "Counter", "Gauge", "Histogram", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Each objective's threshold (0.05, 0.1, 0.2 s) is an edge, so that a burn rate is read off without interpolation.
LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)


# Label values and the value, as they are at the moment of asking.
Readings = Iterable[tuple[Sequence[str], float]]


class Metrics:
    """A process' registry; names get the prefix `headrace_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """A counter `headrace_<name>`; `name` ends in `_total`."""
        return Counter(f"headrace_{name}", help_text, labels, registry=self.registry)

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        """A gauge `headrace_<name>`, with its unit as the last part of the name."""
        return Gauge(f"headrace_{name}", help_text, labels, registry=self.registry)

    def histogram(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> Histogram:
        """A histogram `headrace_<name>`; `name` ends in its unit."""
        return Histogram(f"headrace_{name}", help_text, labels, registry=self.registry, buckets=tuple(buckets))

    def read_counter(self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], Readings]) -> None:
        """A counter whose values are read when /metrics is asked for: counting is then `n += 1` where each us counts.

        `read` is called in another thread.
        """
        self.registry.register(_Read(CounterMetricFamily, f"headrace_{name}", help_text, labels, read))

    def read_gauge(self, name: str, help_text: str, labels: Sequence[str], read: Callable[[], Readings]) -> None:
        """A gauge of the same kind."""
        self.registry.register(_Read(GaugeMetricFamily, f"headrace_{name}", help_text, labels, read))

    async def render(self) -> bytes:
        """The exposition text, made in a thread: 18,000 lines held the event loop for 642 ms when made inline."""
        return await asyncio.to_thread(generate_latest, self.registry)


class _Read(Collector):
    """A metric whose values somebody else keeps."""

    def __init__(
        self,
        family: type[CounterMetricFamily | GaugeMetricFamily],
        name: str,
        help_text: str,
        labels: Sequence[str],
        read: Callable[[], Readings],
    ) -> None:
        self._family = family
        self._name = name
        self._help = help_text
        self._labelnames = tuple(labels)
        self._read = read

    def describe(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """What it is, without reading."""
        yield self._family(self._name, self._help, labels=self._labelnames)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """What it is and the values now."""
        for made in self.describe():
            for labels, value in self._read():
                made.add_metric(labels, value)
            yield made
