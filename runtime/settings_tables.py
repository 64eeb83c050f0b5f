"""Settings of each table: how long its windows are, how long they are kept, and how long late events are waited for."""

from __future__ import annotations

from pydantic import Field, model_validator

from runtime.settings_group import Group


class TableSettings(Group):
    """What all tables have in common. Lengths are in event time."""

    window_s: int = Field(default=10, ge=1, le=3600, description="Length of the tumbling base windows, by event time.")
    retention_s: int = Field(
        default=3600, ge=60, le=2_592_000, description="How long a closed window is kept in its table, by event time."
    )
    lateness_s: float = Field(
        default=2.0, ge=0, le=3600, description="A window closes once its tenant's watermark is this far past its end."
    )
    accept_late_s: float = Field(
        default=2_592_000.0,
        ge=0,
        le=2_592_000,
        description="An event that comes when the watermark is further than this past its window's end is set aside "
        "on the topic `late` and counted; until then it goes into its window, which is told again with a higher "
        "revision. Never longer than retention_s, which also bounds it by default; 0 sets aside all that is late.",
    )

    @model_validator(mode="after")
    def _kept_longer_than_open(self) -> TableSettings:
        if self.retention_s < 2 * self.window_s:
            msg = f"retention_s ({self.retention_s}) must be at least twice window_s ({self.window_s})"
            raise ValueError(msg)
        return self


class ToolLatencySettings(TableSettings):
    """The table tool_latency."""


class AudioQualitySettings(TableSettings):
    """The tables audio_quality and audio_quality_tenant."""

    window_s: int = Field(default=1, ge=1, le=3600, description="Length of the tumbling base windows, by event time.")
    codec_ie: float = Field(
        default=0.0,
        ge=0,
        le=95,
        description="E-model: what the codec costs without loss (Ie of G.113), for reports without an R factor. The "
        "default is G.711's.",
    )
    codec_bpl: float = Field(
        default=25.1,
        gt=0,
        le=100,
        description="E-model: how well the codec stands packet loss (Bpl of G.113, percent). The default is G.711's "
        "with loss concealment; without it 4.3.",
    )


class RetrievalQualitySettings(TableSettings):
    """The table retrieval_quality."""


class AbResultsSettings(Group):
    """The table ab_results, which has no windows."""

    control_arm: str = Field(
        default="control",
        min_length=1,
        max_length=256,
        description="The arm that others are compared with; where an experiment has no arm of this name, the first by "
        "name.",
    )
    unit_outcomes: int = Field(
        default=1000,
        ge=1,
        le=10_000,
        description="Most outcomes kept for one unit; further ones are dead-lettered. Bounds a unit's row: more would "
        "not fit one record batch.",
    )
