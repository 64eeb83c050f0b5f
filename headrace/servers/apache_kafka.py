"""A real Apache Kafka: one KRaft node on loopback, durable in its data directory.

`make kafka` gets the jars through Maven into .kafka/libs of the checkout; Java >= 17 runs them. Listening 3 s after the
start, some 400 MiB resident.
"""

from __future__ import annotations

import asyncio
import base64
import shutil
import string
import subprocess
import uuid
from pathlib import Path

from contracts.errors import ServerMissing
from headrace.servers import probes
from headrace.servers.child import Child, Program

SERVER = "Apache Kafka"
READY_S = 90.0  # covers the log recovery of a killed broker
FORMAT_S = 60.0
# One person's broker lives for minutes: the optimising compiler took a core for the first 20 s and made p95 there 2.5
# times that of the rest. The plain compiler and collector are enough for some thousand records a second.
JVM_OPTIONS = ("-Xmx512m", "-Xms256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
CHECKOUT = Path(__file__).resolve().parents[2]
JARS = CHECKOUT / ".kafka" / "libs"
TEMPLATE = CHECKOUT / "deploy" / "kafka" / "server.properties"


async def start(data_dir: Path, port: int, *, jars: Path = JARS, advertised_port: int | None = None) -> Child:
    """Start the broker on what `data_dir` holds; the first start formats it.

    Clients are told to come to `advertised_port`, where a proxy may stand; None: to `port`.

    Raises:
        ServerMissing: no Java, no jars, or it did not start.
    """
    java = _java(jars)
    data_dir.mkdir(parents=True, exist_ok=True)
    classpath = str(jars / "*")
    properties = data_dir / "server.properties"
    properties.write_text(
        string.Template(TEMPLATE.read_text()).substitute(
            port=port,
            advertised_port=advertised_port or port,
            controller_port=probes.free_port(),
            log_dirs=data_dir / "log",
        )
    )
    if not (data_dir / "log" / "meta.properties").exists():
        await asyncio.to_thread(_format, java, classpath, properties)
    child = Child(
        Program(
            server=SERVER,
            url=f"{probes.HOST}:{port}",
            port=port,
            argv=[
                *(java, *JVM_OPTIONS, "-Dlog4j2.level=WARN", f"-Duser.dir={data_dir}"),
                *("-cp", classpath, "kafka.Kafka", str(properties)),
            ],
            data_dir=data_dir,
            remedy="see its log, or name a broker of your own with --kafka HOST:PORT",
        )
    )
    await child.ready(probes.kafka(port), READY_S)
    return child


def _java(jars: Path) -> str:
    java = shutil.which("java")
    if java is None:
        raise ServerMissing(
            server=SERVER,
            url=str(jars),
            reason="there is no java on PATH",
            remedy="install Java >= 17 (apt-get install openjdk-17-jre-headless), or leave out --kafka apache",
        )
    if not any(jars.glob("kafka_*.jar")):
        raise ServerMissing(
            server=SERVER,
            url=str(jars),
            reason="its jars are not there",
            remedy="run `make kafka` once (needs Maven and a network)",
        )
    return java


def _format(java: str, classpath: str, properties: Path) -> None:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    run = subprocess.run(
        [
            java,
            "-cp",
            classpath,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster_id,
            "-c",
            str(properties),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=FORMAT_S,
        check=False,
    )
    if run.returncode != 0:
        last = " | ".join((run.stderr or run.stdout).strip().splitlines()[-6:])
        raise ServerMissing(
            server=SERVER,
            url=str(properties),
            reason=f"format failed: {last}",
            remedy="remove its data directory",
        )
