"""What the relay tells of itself on /metrics."""

from __future__ import annotations

from runtime.metrics import Metrics


class RelayMetrics:
    """The relay's metrics in one registry."""

    def __init__(self, metrics: Metrics) -> None:
        self.waiting_rows = metrics.gauge("outbox_unprocessed_rows", "Rows that wait in the outbox; 10001 means more.")
        self.oldest_seconds = metrics.gauge(
            "outbox_oldest_unprocessed_seconds", "Age of the oldest row that waits in the outbox."
        )
        self.held_rows = metrics.gauge(
            "outbox_held_rows",
            "Rows on hold: tenant (paused or over quota), stop (behind a buried row of their aggregate); 100001 means "
            "more.",
            ["why"],
        )
        self.relayed = metrics.counter(
            "outbox_relayed_total",
            "Rows dealt with: ok (published), repeat (had been published before a failure), dead (buried), held.",
            ["result"],
        )
        self.rewinds = metrics.counter(
            "redis_rewinds_total", "Times that Redis was exchanged or had lost entries, so that rows were armed again."
        )
        self.rearmed_rows = metrics.counter(
            "outbox_rearmed_rows_total", "Rows that were armed again; most turn out as repeat, which Redis still has."
        )
        self.purged_rows = metrics.counter(
            "outbox_purged_rows_total", "Processed rows that were deleted because of relay.purge_after_hours."
        )
        self.late_rows = metrics.counter(
            "outbox_late_rows_total", "Rows found behind higher ids that were dealt with before, by lane.", ["lane"]
        )
        self.deviations = metrics.counter(
            "contract_deviations_total", "Departures from a contract that compat mode forgives.", ["deviation"]
        )
        self.dead_letters = metrics.counter("dlq_entries_total", "Rows or records buried.", ["stream", "reason"])
        self.stage = metrics.histogram(
            "stage_seconds",
            "Time from the begin of the writing transaction until Redis has the entry.",
            ["stage", "flow"],
        )
        self.outages = metrics.counter(
            "server_outages_total", "Attempts that failed because a server did not answer or refused.", ["server"]
        )
