"""What all groups of settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Group(BaseModel):
    """A frozen group of settings; unknown names are errors, so that a typing mistake is not silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")
