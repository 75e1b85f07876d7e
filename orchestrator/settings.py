"""What `orchestrator.yaml` may say, and what holds when it says nothing.

This module knows the shape only; `workspace` finds the file, `documents` reads it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrator.errors import UsageError
from orchestrator.reach import Host, Url, url

Tier = Literal["fast", "default", "strong", "guardian"]

OPENAI_MODEL = "gpt-5-mini"
"""Asked at the public endpoint when there is a key and no model is named."""
EMBEDDED: Mapping[str, Any] = {
    "model": "qwen2.5-coder-1.5b-instruct",
    "tool_calls": "json",
    "size": "small",
    "context_tokens": 16_384,
    "max_output_tokens": 1_500,
}
"""What holds for the embedded model where a file says nothing else."""


class Strict(BaseModel):
    """Base of everything that a person writes: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Timeouts(Strict):
    """Time limits of one model call, in seconds."""

    connect: Annotated[float, Field(gt=0, le=600)] = 10
    """Until the connection stands."""
    first_token: Annotated[float, Field(gt=0, le=3600)] = 120
    """From the request to the first piece of the answer."""
    between_tokens: Annotated[float, Field(gt=0, le=3600)] = 60
    """The longest pause within an answer."""
    total: Annotated[float, Field(gt=0, le=7200)] = 600
    """The whole call."""


class ModelSettings(Strict):
    """One model and how it is talked to."""

    provider: Literal["openai", "embedded"] = "openai"
    """`openai` is any OpenAI-compatible endpoint; `embedded` runs in the process, without a key."""
    model: str = ""
    """The name that the endpoint knows; empty: the endpoint is asked which model it serves."""
    base_url: Url | None = None
    """Empty: OPENAI_BASE_URL, else the public OpenAI endpoint."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; the key itself is never written to a file."""
    tool_calls: Literal["native", "json"] = "native"
    """`json` constrains the answer by a schema, for models that do not emit tool calls reliably."""
    size: Literal["small", "large"] = "large"
    """Small models get shorter prompts and more help."""
    context_tokens: Annotated[int, Field(ge=1024)] = 128_000
    """How much the model can take in, request and answer together."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    """0 makes answers as repeatable as the model allows."""
    max_output_tokens: Annotated[int, Field(ge=16)] = 4096
    """The longest answer of one call."""
    timeouts: Timeouts = Timeouts()
    """Time limits of one call."""
    fallback: list[Tier | ModelSettings] = []
    """Tiers or models that are asked when this one does not answer, in this order."""

    @model_validator(mode="before")
    @classmethod
    def _embedded_defaults(cls, value: Any) -> Any:
        """The embedded model has its own defaults: it is small and speaks JSON."""
        if isinstance(value, dict) and value.get("provider") == "embedded":
            return {**EMBEDDED, **value}
        return value


Dollars = Annotated[Decimal, Field(ge=0, le=1_000_000)]
Tokens = Annotated[int, Field(ge=1, le=1_000_000_000_000)]
Calls = Annotated[int, Field(ge=1, le=10_000)]
ManyCalls = Annotated[int, Field(ge=1, le=1_000_000_000)]
Seconds = Annotated[float, Field(gt=0, le=604_800)]


class StepLimits(Strict):
    """What one step of an agent may use; a step that passes a limit fails, and the turn goes on."""

    model_calls: Calls | None = None
    """Calls of models."""
    tool_calls: Calls | None = None
    """Calls of tools."""
    iterations: Calls | None = None
    """Rounds of thinking and acting."""
    seconds: Seconds | None = None
    """Working time."""
    tokens: Tokens | None = None
    """Tokens of requests and answers together."""
    usd: Dollars | None = None
    """Dollars."""


class Caps(Strict):
    """What may be used in all; what is not named is not limited."""

    usd: Dollars | None = None
    """Dollars."""
    tokens: Tokens | None = None
    """Tokens of requests and answers together."""
    model_calls: ManyCalls | None = None
    """Calls of models."""
    tool_calls: ManyCalls | None = None
    """Calls of tools."""


class PeriodCaps(Strict):
    """What may be used in a period."""

    usd: Dollars | None = None
    """Dollars."""
    tokens: Tokens | None = None
    """Tokens of requests and answers together."""
    model_calls: ManyCalls | None = None
    """Calls of models."""
    tool_calls: ManyCalls | None = None
    """Calls of tools."""
    per: Literal["day", "month", "total"] = "month"
    """After which time it starts again; `total` never does. Days and months are those of UTC."""


class OnWarning(Strict):
    """Who else is told when most of a limit is used."""

    command: list[str] = []
    """A program and its arguments; it gets the warning as JSON on its standard input."""
    webhook: Url | None = None
    """A URL that the warning is posted to as JSON."""


class Limits(Strict):
    """What may be used: by one turn, and in all by a run, a user, an organisation, a day, a month.

    The run stops with exit 5 before a limit is passed, and can be resumed.
    """

    model_calls: Calls = 100
    """Calls of models in one turn."""
    tool_calls: Calls = 100
    """Calls of tools in one turn."""
    iterations: Calls = 500
    """Rounds of thinking and acting in one turn."""
    seconds: Seconds = 3600
    """Working time of one turn; waiting for a person is not counted."""
    tokens: Tokens | None = None
    """Tokens of one turn, requests and answers together."""
    usd: Dollars | None = None
    """Dollars of one turn; a model without a known price is refused when any limit of dollars is set."""
    run: Caps = Caps()
    """All turns of a run together."""
    day: Caps = Caps()
    """Everything on one day (UTC)."""
    month: Caps = Caps()
    """Everything in one month (UTC)."""
    user: PeriodCaps = PeriodCaps()
    """What one user may use: ORC_USER, else the name of the account."""
    organisation: PeriodCaps = PeriodCaps()
    """What one organisation may use: ORC_ORGANISATION."""
    allow_unpriced: bool = False
    """Let models of unknown price work under a limit of dollars; their cost is not counted."""
    warn_at: Annotated[float, Field(gt=0, le=1)] = 0.8
    """The share of a limit from which on a warning is given, once."""
    on_warning: OnWarning = OnWarning()
    """Who else is told of a warning."""
    ask_above_usd: Dollars | None = None
    """A plan that may cost more than this is asked before it starts."""


class ToolSettings(Strict):
    """Settings of the built-in tools."""

    searxng_url: Url | None = None
    """Base URL of a SearXNG server with the JSON format enabled; used by web_search."""
    allowed_private_hosts: list[str] = []
    """Hosts or host:port on private or loopback addresses that fetch_url may reach."""
    command_seconds: Annotated[float, Field(gt=0, le=86_400)] = 120
    """Longest time limit that a command may ask for."""
    result_tokens: dict[str, Annotated[int, Field(ge=200, le=200_000)]] = {}
    """Tokens of one result, by the tool's name, in place of what the tool says."""
    parallel: Annotated[int, Field(ge=1, le=64)] = 8
    """How many calls that only read run at a time; others run alone."""
    docs: list[str] = ["docs", "README.md"]
    """Folders and files, relative to the workspace, that search_docs reads."""


class Sandboxing(Strict):
    """How commands are confined; `sandbox: container` is short for `sandbox: {kind: container}`."""

    kind: Literal["auto", "container", "none"] = "auto"
    """`auto`: what this machine has, bubblewrap first; `none`: not at all, so that each command is asked."""
    program: Literal["docker", "podman"] | None = None
    """What starts containers; empty: what is there."""
    runtime: Annotated[str, Field(pattern=r"^[\w./-]*$")] = ""
    """The container runtime, such as `runsc` for gVisor; empty: the program's own choice."""
    image: Annotated[str, Field(pattern=r"^[\w][\w./:@-]*$")] = "python:3.12"
    """The image in which commands run; it is never fetched."""

    hosts: Annotated[tuple[Host, ...], Field(max_length=1000)] | None = None
    """The hosts that agent files may let commands reach; unset: those that they name; `[]`: none."""

    @model_validator(mode="before")
    @classmethod
    def _from_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value


class Retention(Strict):
    """How long ended runs are kept; both unset: for ever. `orc db prune` and the start of a day apply it."""

    days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    """Remove runs that were not worked on for so many days."""
    runs: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Keep only so many of the newest runs."""


class Logs(Strict):
    """The journal as files of JSON lines in `.orc/logs`; the state file has it all, whatever this says."""

    megabytes: Annotated[float, Field(gt=0, le=10_000)] = 20
    """A file that has so much is put aside, and a new one begun."""
    files: Annotated[int, Field(ge=1, le=1_000)] = 5
    """Files of one run that are kept, the current one included."""
    runs: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Runs whose files are kept."""


class Telemetry(Strict):
    """Spans for an OpenTelemetry collector; OTEL_EXPORTER_OTLP_ENDPOINT says where it is."""

    enabled: bool = False
    """Send them; needs the extra `otel`."""
    content: bool = False
    """Send requests, arguments, results and answers too, without the secrets that are known."""


class Settings(Strict):
    """The whole of `orchestrator.yaml`."""

    models: dict[Tier, ModelSettings] = {}
    """By tier; a tier that is not set falls back to `default`."""
    limits: Limits = Limits()
    """What may be used; where your own file sets a limit too, the smaller one holds."""
    tools: ToolSettings = ToolSettings()
    """Settings of the built-in tools."""
    sandbox: Sandboxing = Sandboxing()
    """How commands are confined."""
    retention: Retention = Retention()
    """How long runs are kept in the state file."""
    logs: Logs = Logs()
    """How much of the log files is kept."""
    telemetry: Telemetry = Telemetry()
    """What is sent to an OpenTelemetry collector."""
    plan: bool = True
    """Draft steps for requests that need several."""


def resolve_model(settings: Settings, tier: Tier, env: Mapping[str, str]) -> ModelSettings:
    """The model of a tier: its own, else `default`, else what the environment offers, else embedded."""
    for name in (tier, "default"):
        if name in settings.models:
            return settings.models[name]
    base_url = base_url_in(env)
    if base_url or env.get("OPENAI_API_KEY"):
        # An endpoint of one's own rarely serves the public endpoint's model, so it is asked later.
        model = env.get("OPENAI_MODEL") or ("" if base_url else OPENAI_MODEL)
        return ModelSettings(model=model, base_url=base_url)
    return embedded()


def base_url_in(env: Mapping[str, str]) -> str | None:
    """What OPENAI_BASE_URL says; raises UsageError when it is no URL."""
    found = env.get("OPENAI_BASE_URL", "")
    try:
        return url(found) or None
    except ValueError as error:
        raise UsageError(f"OPENAI_BASE_URL: {found!r} {error}") from None


def embedded() -> ModelSettings:
    """The embedded model as it is when nothing is configured."""
    return ModelSettings(provider="embedded")


def config_dir() -> Path:
    """Where the user's own `orchestrator.yaml` lies; ORC_CONFIG_DIR overrides it."""
    return _user_folder("config")


def data_dir() -> Path:
    """Where the list of trusted folders lies; ORC_DATA_DIR overrides it."""
    return _user_folder("data")


def cache_dir() -> Path:
    """Where things lie that can be fetched again, such as model weights; ORC_CACHE_DIR overrides it."""
    return _user_folder("cache")


def _user_folder(kind: Literal["config", "data", "cache"]) -> Path:
    if given := os.environ.get(f"ORC_{kind.upper()}_DIR"):
        return Path(given).expanduser()
    import platformdirs  # noqa: PLC0415 - tests and servers set the variables and never need it

    folders = {
        "config": platformdirs.user_config_path,
        "data": platformdirs.user_data_path,
        "cache": platformdirs.user_cache_path,
    }
    return folders[kind]("orc", appauthor=False)


def chosen_model(
    settings: Settings, tier: Tier, env: Mapping[str, str], override: str | None
) -> ModelSettings:
    """What a tier resolves to when `--model` may replace it: `embedded`, or a name at the endpoint."""
    found = resolve_model(settings, tier, env)
    if override is None:
        return found
    if override == "embedded":
        return ModelSettings(provider="embedded")
    if found.provider == "embedded":
        return ModelSettings(model=override)
    return found.model_copy(update={"model": override})
