"""The child processes of a run: what each is called with, and with which settings.

They are the same commands that run in production, told by environment variables where everything is. A child is never
started through a shell, and `-P` keeps a stray `agents/` folder where the command was typed from being imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.devkit.supervisor import ChildSpec
from headrace.servers import tansu
from headrace.servers.probes import HOST

CHECKOUT = Path(__file__).resolve().parents[2]
# Tokens of a sample tenant outlive a working month, so that a page left open keeps working.
TOKEN_LIFETIME_S = 30 * 24 * 3600

FIRST_WORKER_PORT = 6066
PREFERRED_PORTS = {"gateway": 8020, "relay": 8021, "mirror": 8022, "control": 8023}


@dataclass(frozen=True)
class Places:
    """Where everything of a run is: server URLs, ports by child name, the data directory and the signing key."""

    data_dir: Path
    postgres_url: str
    redis_url: str
    kafka: str
    kafka_idempotent: bool
    ports: Mapping[str, int]
    secret: str

    @property
    def logs(self) -> Path:
        """The folder of the children's log files."""
        return self.data_dir / "logs"

    @property
    def workers(self) -> tuple[str, ...]:
        """Names of the workers, in order."""
        return tuple(name for name in self.ports if name.startswith("worker"))

    def url(self, name: str) -> str:
        """The HTTP address of a child."""
        return f"http://{HOST}:{self.ports[name]}"

    def worker_dir(self, name: str) -> Path:
        """A worker's own folder of local state."""
        return self.data_dir / name


def worker_names(count: int) -> tuple[str, ...]:
    """The names worker-1 to worker-N."""
    return tuple(f"worker-{number}" for number in range(1, count + 1))


def settings_env(places: Places) -> dict[str, str]:
    """The environment that tells any Headrace process about this run; it wins over a headrace.toml."""
    return {
        "HEADRACE_POSTGRES__URL": places.postgres_url,
        "HEADRACE_REDIS__URL": places.redis_url,
        "HEADRACE_KAFKA__BOOTSTRAP": places.kafka,
        "HEADRACE_KAFKA__IDEMPOTENCE": str(places.kafka_idempotent).lower(),
        "HEADRACE_KAFKA__FETCH_PAUSE_MS": str(0 if places.kafka_idempotent else tansu.FETCH_PAUSE_MS),
        "HEADRACE_RELAY__PORT": str(places.ports["relay"]),
        "HEADRACE_MIRROR__PORT": str(places.ports["mirror"]),
        "HEADRACE_GATEWAY__PORT": str(places.ports["gateway"]),
        "HEADRACE_CONTROL__PORT": str(places.ports["control"]),
        "HEADRACE_GATEWAY__CONTROL_URL": places.url("control"),
        "HEADRACE_GATEWAY__WORKER_URLS": "[" + ",".join(f'"{places.url(name)}"' for name in places.workers) + "]",
        "HEADRACE_AUTH__SECRET": places.secret,
        "HEADRACE_AUTH__MAX_AGE_S": str(TOKEN_LIFETIME_S),
        # At the default rate the quieter tenants make some ten calls of a tool in a window.
        "HEADRACE_ALERTS__MIN_COUNT": "8",
        # A run ends within five seconds of Ctrl-C; nobody has to be sent away gently.
        "HEADRACE_GATEWAY__DRAIN_S": "0.3",
        "HEADRACE_LOG__FORMAT": "console",
    }


def _env(places: Places, **further: str) -> dict[str, str]:
    # PYTHONPATH first: the child must run this checkout, whatever else is installed.
    path = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, **settings_env(places), **further, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def _python(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", *arguments)


def process(places: Places, name: str) -> ChildSpec:
    """Relay, mirror, gateway or control."""
    return ChildSpec(
        name=name,
        argv=_python("headrace", name),
        env=_env(places),
        log=places.logs / f"{name}.log",
        ready_url=f"{places.url(name)}/readyz",
    )


def worker(places: Places, name: str) -> ChildSpec:
    """A Faust worker with its own folder, port and advertised URL."""
    return ChildSpec(
        name=name,
        argv=_python("faust", "-A", "headrace.worker", "worker", "-l", "info"),
        env=_env(
            places,
            HEADRACE_WORKER__DATA_DIR=str(places.worker_dir(name)),
            HEADRACE_WORKER__PORT=str(places.ports[name]),
            HEADRACE_WORKER__ADVERTISED_URL=places.url(name),
        ),
        log=places.logs / f"{name}.log",
        ready_url=f"{places.url(name)}/readyz",
        state_dir=places.worker_dir(name),
    )


def shop(places: Places, ledger: Path | None, *, after: Path, rate_per_s: float, duration_s: float | None) -> ChildSpec:
    """The sample shop, open once `after` is there; without a duration it runs until stopped, again if it dies."""
    arguments = ["headrace.devkit.shop", "--after", str(after), "--rate", f"{rate_per_s:g}"]
    if ledger is not None:
        arguments += ["--ledger", str(ledger)]
    if duration_s is not None:
        arguments += ["--duration", f"{duration_s:g}"]
    return ChildSpec(
        name="shop",
        argv=_python(*arguments),
        env=_env(places),
        log=places.logs / "shop.log",
        restart=duration_s is None,
    )


def listener(places: Places, endpoints: Path, ledger: Path) -> ChildSpec:
    """The listening client."""
    return ChildSpec(
        name="listener",
        argv=_python("headrace.devkit.listener", "--endpoints", str(endpoints), "--ledger", str(ledger)),
        env=_env(places),
        log=places.logs / "listener.log",
        restart=False,
    )
