"""Every setting of every process: frozen groups, read from the environment and a TOML file.

A field's description says its effect, its unit, why that default, and what value switches it off. The reference page
`docs/settings.md` is printed from the code (`headrace settings`), never written by hand. Environment names are
`HEADRACE_<GROUP>__<FIELD>`; the file is named by `HEADRACE_CONFIG`, else `headrace.toml` in the current folder.
The environment wins over the file, the file over the defaults.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings.exceptions import SettingsError as SourceError

from contracts.errors import SettingsError
from runtime.settings_adapter import AdapterSettings, TaskSettings
from runtime.settings_control import ControlSettings
from runtime.settings_load import GateSettings, LadderSettings, LimitSettings
from runtime.settings_mirror import MirrorSettings
from runtime.settings_processes import (
    AlertSettings,
    GatewaySettings,
    WorkerSettings,
)
from runtime.settings_relay import RelaySettings
from runtime.settings_reliability import (
    BreakerSettings,
    BulkheadSettings,
    CallSettings,
    DependencyName,
    DependencySettings,
    changed,
    check_together,
)
from runtime.settings_servers import (
    AuthSettings,
    ContractSettings,
    KafkaSettings,
    LogSettings,
    PostgresSettings,
    RedisSettings,
)
from runtime.settings_store import StoreSettings
from runtime.settings_tables import (
    AbResultsSettings,
    AudioQualitySettings,
    RetrievalQualitySettings,
    ToolLatencySettings,
)

__all__ = [
    "AdapterSettings",
    "AlertSettings",
    "AuthSettings",
    "BreakerSettings",
    "BulkheadSettings",
    "CallSettings",
    "ContractSettings",
    "ControlSettings",
    "GateSettings",
    "GatewaySettings",
    "KafkaSettings",
    "LadderSettings",
    "LimitSettings",
    "LogSettings",
    "MirrorSettings",
    "PostgresSettings",
    "RedisSettings",
    "RelaySettings",
    "Settings",
    "TaskSettings",
    "WorkerSettings",
    "load",
]


class Settings(BaseSettings):
    """All settings of all processes; a process reads the groups that it uses."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", env_nested_delimiter="__", frozen=True, extra="forbid", toml_file=None
    )

    prefix: str = Field(
        default="headrace",
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        description="First part of every Redis key and Kafka topic name; `ragline` reads an existing deployment.",
    )
    contracts: ContractSettings = ContractSettings()
    log: LogSettings = LogSettings()
    postgres: PostgresSettings = PostgresSettings()
    redis: RedisSettings = RedisSettings()
    kafka: KafkaSettings = KafkaSettings()
    relay: RelaySettings = RelaySettings()
    mirror: MirrorSettings = MirrorSettings()
    worker: WorkerSettings = WorkerSettings()
    store: StoreSettings = StoreSettings()
    tool_latency: ToolLatencySettings = ToolLatencySettings()
    audio_quality: AudioQualitySettings = AudioQualitySettings()
    retrieval_quality: RetrievalQualitySettings = RetrievalQualitySettings()
    ab_results: AbResultsSettings = AbResultsSettings()
    gateway: GatewaySettings = GatewaySettings()
    control: ControlSettings = ControlSettings()
    auth: AuthSettings = AuthSettings()
    alerts: AlertSettings = AlertSettings()
    adapter: AdapterSettings = AdapterSettings()
    tasks: TaskSettings = TaskSettings()
    limits: LimitSettings = LimitSettings()
    gate: GateSettings = GateSettings()
    ladder: LadderSettings = LadderSettings()
    calls: CallSettings = CallSettings()
    breaker: BreakerSettings = BreakerSettings()
    bulkhead: BulkheadSettings = BulkheadSettings()
    dependencies: dict[DependencyName, DependencySettings] = Field(
        default={},
        description="What differs for one dependency, by its name: fields of `calls`, `breaker` and `bulkhead`, "
        'such as `{"adapter": {"calls": {"tries": 5}, "breaker": {"slow_s": 2}}}`. Names: `adapter`, `tasks`.',
    )

    @model_validator(mode="after")
    def _limits_that_depend_on_each_other(self) -> Settings:
        self.relay.check_with(self.redis, self.postgres)
        for name in ("", *self.dependencies):
            self.of_dependency(name)
        self.adapter.check_with(self.of_dependency("adapter")[1])
        self.tasks.check_with(self.of_dependency("tasks")[1])
        return self

    def of_dependency(self, name: str) -> tuple[BreakerSettings, CallSettings, BulkheadSettings]:
        """The settings in force for calls to one dependency; "" is one that has none of its own."""
        own, path = self.dependencies.get(name, DependencySettings()), f"dependencies.{name}." if name else ""
        breaker = changed(self.breaker, own.breaker, f"{path}breaker")
        calls = changed(self.calls, own.calls, f"{path}calls")
        check_together(breaker, calls, path)
        return breaker, calls, changed(self.bulkhead, own.bulkhead, f"{path}bulkhead")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of the sources: arguments, environment, TOML file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())


def config_file() -> Path | None:
    """The TOML file to read: `HEADRACE_CONFIG`, else ./headrace.toml when it is there, else none."""
    named = os.environ.get("HEADRACE_CONFIG")
    if named:
        if not Path(named).is_file():
            msg = f"HEADRACE_CONFIG names {named}, which is not a file"
            raise SettingsError(msg)
        return Path(named)
    default = Path("headrace.toml")
    return default if default.is_file() else None


def load() -> Settings:
    """Read and check all settings.

    Raises:
        SettingsError: names the full path of each bad field, its limit and the value given.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']} (got {_shown(e)})" for e in error.errors()]
        raise SettingsError("; ".join(lines)) from None
    except SourceError as error:
        raise SettingsError(f"{error} (lists are written as JSON in the environment); {error.__cause__}") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{config_file()}: {error}") from None


def _shown(error: object) -> str:
    value = error.get("input") if isinstance(error, dict) else None
    text = "all of them" if isinstance(value, dict | BaseModel) else repr(value)
    return "a secret" if isinstance(error, dict) and "secret" in error.get("loc", ()) else text[:80]
