"""Settings of the pools that agents run work in (`reliability.pools`)."""

from __future__ import annotations

from pydantic import Field

from runtime.settings_group import Group


class IoPoolSettings(Group):
    """A bounded number of calls that wait for somebody else, in the worker's own loop."""

    slots: int = Field(
        default=32, ge=1, le=10_000, description="Most calls under way at once. Each costs a socket at the other side."
    )
    queue: int = Field(
        default=1000,
        ge=0,
        le=1_000_000,
        description="Most calls that wait for a slot; the next one is refused at once. 0: none waits.",
    )
    wait_s: float = Field(
        default=10.0, gt=0, le=3600, description="Longest wait for a slot; then the call is given up, not begun."
    )
    stop_grace_s: float = Field(
        default=5.0, ge=0, le=300, description="At a stop, calls under way get this long; then they are cancelled."
    )


class CpuPoolSettings(Group):
    """Child processes for functions that compute; started when first used."""

    children: int = Field(
        default=2, ge=1, le=256, description="Processes, each with one task at a time. Not above the processors."
    )
    queue: int = Field(
        default=100,
        ge=0,
        le=100_000,
        description="Most tasks that wait for a child; the next one is refused at once. 0: none waits.",
    )
    wait_s: float = Field(
        default=10.0, gt=0, le=3600, description="Longest wait for a child; then the task is given up, not begun."
    )
    timeout_s: float = Field(
        default=30.0,
        gt=0,
        le=86_400,
        description="Longest run of a task that names no limit of its own; then its child is ended and replaced.",
    )
    cut_grace_s: float = Field(
        default=0.5,
        ge=0,
        le=60,
        description="A task that is ended gets this long to clean up before SIGKILL. 0: at once.",
    )
    stop_grace_s: float = Field(
        default=5.0, ge=0, le=300, description="At a stop, running tasks get this long; then they are ended."
    )
    start_timeout_s: float = Field(
        default=30.0, gt=0, le=600, description="Longest time for a child's imports and warm-up; then it is replaced."
    )
    tasks_per_child: int = Field(
        default=1000,
        ge=0,
        le=10_000_000,
        description="A child is replaced after about so many tasks (80 to 100 %, so that not all are at once), which "
        "bounds slow leaks. Its successor is ready before it goes. 0 switches this off.",
    )
    child_bytes: int = Field(
        default=1_073_741_824,
        ge=0,
        le=1_099_511_627_776,
        description="A child that holds more memory than this after a task is replaced. 0 switches this off.",
    )
    message_bytes: int = Field(
        default=67_108_864,
        ge=1024,
        le=2_147_483_648,
        description="Most bytes of a task's pickled arguments, and of its result: they pass through the worker's loop.",
    )
    niceness: int = Field(
        default=5,
        ge=0,
        le=19,
        description="How far children give way to the worker itself, whose loop must not wait for them. 0: not at all.",
    )
