"""Every setting of the server, in small groups: defaults, then `lantern.toml`, then `LANTERN_*`.

A nested field is written `LANTERN_SERVER__PORT` in the environment and `[server] port` in the file.
"""

from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

DEFAULT_CONFIG = Path("lantern.toml")


class Group(BaseModel):
    """A table of the configuration file; a name it does not know is an error, not a silence."""

    model_config = ConfigDict(extra="forbid")


class ServerSettings(Group):
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    workers: int = Field(1, ge=1, le=64, description="Server processes on this port.")
    max_body_bytes: int = Field(1_000_000, ge=1_000, description="Larger request bodies are 413.")
    trusted_proxies: list[str] = Field(
        default_factory=list,
        description="Addresses whose `X-Forwarded-For` is believed when a caller is counted.",
    )
    drain_seconds: float = Field(
        10.0, ge=0, description="How long SIGTERM waits for running runs before it hands them on."
    )


class DatabaseSettings(Group):
    """Connections to Postgres."""

    pool_size: int = Field(10, ge=2, le=200, description="Connections of one process.")
    pool_timeout_seconds: float = Field(
        10.0, gt=0, description="How long a request waits for a connection before it is 503."
    )
    statement_timeout_ms: int = Field(
        30_000, ge=100, description="Postgres ends a statement after this long."
    )


class LimitSettings(Group):
    """Requests a minute for one key: a bucket for each plan and each route family."""

    personal: int = Field(60, ge=1, description="Agent routes, plan `personal`.")
    team: int = Field(300, ge=1, description="Agent routes, plan `team`.")
    enterprise: int = Field(3000, ge=1, description="Agent routes, plan `enterprise`.")
    enrich: int = Field(50, ge=1, description="`/v1/enrich/*`.")
    match: int = Field(50, ge=1, description="`/v1/match`.")
    salesforce: int = Field(50, ge=1, description="`/v1/salesforce/*`.")
    routing: int = Field(300, ge=1, description="`/v1/routing/*`.")
    triggers: int = Field(50, ge=1, description="`/v1/triggers/*`.")
    logs: int = Field(50, ge=1, description="`/v1/logs/*`.")
    batches: int = Field(1, ge=1, description="Batch requests, all kinds together.")
    credits: int = Field(10, ge=1, description="`/v1/credits/*`.")
    workflows: int = Field(600, ge=1, description="`/v1/workflows/*`.")
    forms: int = Field(600, ge=1, description="`/v1/forms/*`.")
    records: int = Field(300, ge=1, description="`/v1/records/*`.")
    privacy: int = Field(50, ge=1, description="`/v1/privacy/*`.")
    dashboard: int = Field(600, ge=1, description="Pages and actions of the dashboard.")
    failures: int = Field(
        30, ge=1, description="Answers 401 a minute for one address; a valid key is never refused."
    )


class CreditSettings(Group):
    """Prices of operations."""

    tenants_set_prices: bool = Field(
        True, description="Whether a tenant's admin keys may set prices of their own."
    )


class RunSettings(Group):
    """Execution of runs and their event streams."""

    max_active: int = Field(512, ge=1, description="Runs one process works on at once.")
    flush_ms: int = Field(20, ge=1, le=1000, description="How long tokens gather before a row.")
    flush_bytes: int = Field(4096, ge=256, description="Gathered tokens that make a row at once.")
    heartbeat_seconds: float = Field(15.0, gt=0, description="Silence before an SSE heartbeat.")
    stall_seconds: float = Field(
        30.0, gt=0, description="A reader that takes nothing for this long is dropped."
    )
    max_seconds: int = Field(900, ge=1, description="A run that takes longer fails with `timeout`.")


class NodeSettings(Group):
    """Heartbeats between the processes that share one database."""

    beat_seconds: float = Field(1.0, gt=0, description="Time between two heartbeats.")
    dead_seconds: float = Field(3.0, gt=0, description="Silence after which a node is dead.")


class NetSettings(Group):
    """Which addresses outbound calls may reach."""

    allow: list[str] = Field(
        default_factory=list, description='Private addresses that are fine: `"10.1.2.3:5432"`.'
    )
    hosts: dict[str, str] = Field(
        default_factory=dict,
        description='Names mapped by hand: `"acme.example" = "127.0.0.1:9001"`.',
    )
    dns: str | None = Field(None, description='A resolver of your own: `"127.0.0.1:5353"`.')


class ModelSettings(Group):
    """One language model: `[[models]]`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}$", description="Its name here.")
    protocol: Literal["openai", "anthropic", "builtin"] = Field(
        "openai", description="The wire protocol it speaks."
    )
    base_url: str | None = Field(None, description="Where it is; default: the provider's own.")
    api_key_env: str | None = Field(None, description="Environment variable that holds its key.")
    model: str | None = Field(None, description="The provider's name of it; default: `name`.")
    input_usd_per_mtok: Decimal | None = Field(None, ge=0, description="Overrides the price table.")
    output_usd_per_mtok: Decimal | None = Field(
        None, ge=0, description="Overrides the price table."
    )
    self_hosted: bool = Field(False, description="Runs on your own machines: `local` may use it.")
    abilities: list[str] = Field(default_factory=list, description="Such as `tools`, `json`.")
    first_token_timeout: float = Field(20.0, gt=0, description="Seconds of silence before text.")
    idle_timeout: float = Field(60.0, gt=0, description="Seconds of silence between two tokens.")
    pace_ms: float = Field(
        0.0, ge=0, le=10_000, description="`builtin` alone: pause between two words, to watch it."
    )


class CrmSettings(Group):
    """The endpoint of yours that owners are written to; without `url` none are."""

    url: str | None = Field(None, description="Where owners and questions are sent.")
    secret_env: str | None = Field(
        None, description="Environment variable with the signing secret: `whsec_` and base64."
    )
    timeout_seconds: float = Field(10.0, gt=0, le=20, description="How long one call may take.")


class RetentionSettings(Group):
    """How long what is not wanted forever is kept."""

    answers_hours: int = Field(24, ge=1, description="Stored answers of `Idempotency-Key`.")
    events_days: int = Field(30, ge=1, description="Token events of finished runs.")
    outbox_days: int = Field(30, ge=1, description="Finished and undeliverable outbox rows.")
    cleanup_cron: str = Field("17 3 * * *", description="When the clean-up runs (UTC).")


class RoutingSettings(Group):
    """Assignment of owners."""

    charge_pool_size: Literal["live", "always", "never"] = Field(
        "live", description="When the item `pool_size` is charged; `live`: after a recount alone."
    )
    activity_minutes: int = Field(
        15, ge=1, description="Older knowledge of who is active in the CRM is asked for anew."
    )


class LogsSettings(Group):
    """The log of routing: who signs, and how many long reads run at once."""

    signing_key: SecretStr | None = Field(
        None,
        description="Seed of the Ed25519 key, 32 bytes in base64; default: a file of the data"
        " directory. Nodes that share a database need the same one.",
    )
    trusted_keys: list[str] = Field(
        default_factory=list, description="Public keys that signed earlier, as `lantern logs key`."
    )
    readers: int = Field(4, ge=1, le=50, description="Exports and checks of one process at once.")
    wait_seconds: float = Field(
        2.0, ge=0, description="How long another one waits for its turn before it is 503."
    )
    stall_seconds: float = Field(
        30.0, gt=0, description="A reader that takes nothing for this long is dropped."
    )


class DashboardSettings(Group):
    """The dashboard in the browser."""

    link_minutes: int = Field(60, ge=1, description="How long a sign-in link can be used.")
    session_hours: int = Field(168, ge=1, description="How long a browser stays signed in.")
    refresh_seconds: float = Field(
        2.0, gt=0, description="How often a live list looks for what has changed."
    )


class LogSettings(Group):
    """What the process writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level.")
    requests: bool = Field(False, description="One line for each request.")


class Settings(BaseSettings):
    """All groups. `database_url` set means: no embedded Postgres."""

    model_config = SettingsConfigDict(
        env_prefix="LANTERN_", env_nested_delimiter="__", extra="forbid"
    )

    database_url: str | None = Field(None, description="A Postgres of your own; default: embedded.")
    data_dir: Path = Field(Path(".lantern"), description="Where the embedded database lives.")
    server: ServerSettings = Field(default_factory=ServerSettings)
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    credits: CreditSettings = Field(default_factory=CreditSettings)
    runs: RunSettings = Field(default_factory=RunSettings)
    nodes: NodeSettings = Field(default_factory=NodeSettings)
    net: NetSettings = Field(default_factory=NetSettings)
    models: list[ModelSettings] = Field(default_factory=list)
    crm: CrmSettings = Field(default_factory=CrmSettings)
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    routing: RoutingSettings = Field(default_factory=RoutingSettings)
    logs: LogsSettings = Field(default_factory=LogsSettings)
    dashboard: DashboardSettings = Field(default_factory=DashboardSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line over environment over file."""
        file = TomlConfigSettingsSource(settings_cls, cls.model_config.get("toml_file"))
        return init_settings, env_settings, file


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the configuration. A named file that is missing is an error; the default one may be.

    `overrides` win over everything; nested groups as dictionaries.
    """
    if config is not None and not config.is_file():
        raise FileNotFoundError(f"configuration file not found: {config}")
    path = config or DEFAULT_CONFIG

    class Loaded(Settings):
        model_config = SettingsConfigDict(toml_file=path)

    return Settings.model_construct(**dict(Loaded(**overrides)))
