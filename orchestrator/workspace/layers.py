"""The settings that hold in a workspace: its own file over the user's, with the origin of each value.

A workspace may tighten the user's limits and never loosen them. One that the user does not trust may
not choose where requests and keys go.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from orchestrator.documents import Document, Place, read_yaml, validate
from orchestrator.errors import ConfigError, Problem
from orchestrator.settings import ModelSettings, Settings, config_dir
from orchestrator.workspace.folders import SETTINGS_FILE
from orchestrator.workspace.trust import is_trusted


@dataclass(frozen=True)
class Layers:
    """The settings that hold, and why."""

    settings: Settings
    files: tuple[Path, ...]
    """The files that were read, the user's first."""
    origins: Mapping[str, str]
    """`file:line` by dotted key; a key that is not there has its default."""


def load_settings(root: Path) -> Settings:
    """The settings that hold in a workspace; raises ConfigError with the problems of both files."""
    return read_layers(root).settings


def read_layers(root: Path) -> Layers:
    """The settings of a workspace with the origin of each; raises ConfigError."""
    problems: list[Problem] = []
    layers: list[tuple[Document, Settings]] = []
    own = root / SETTINGS_FILE
    files = [path for path in (config_dir() / SETTINGS_FILE, own) if os.path.lexists(path)]
    for path in files:
        try:
            document = read_yaml(path)
            layers.append((document, validate(document, Settings)))
            if path == own and not is_trusted(root):
                problems += _untrusted_problems(*layers[-1])
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for document, _ in layers:
        value = document.value
        if merged:
            value = _guarded(merged, _tightened(merged, document))
        _lay(merged, value, origins, document)
    return Layers(Settings.model_validate(merged), tuple(files), origins)


def _lay(merged: dict[str, Any], value: dict[str, Any], origins: dict[str, str], document: Document) -> None:
    """Put one layer over those before it; a tier of models is replaced as a whole, a list too."""
    for section, content in value.items():
        if not isinstance(content, dict):
            merged[section] = content
            origins[section] = _origin(document, (section,))
            continue
        below = merged.setdefault(section, {})
        for key, item in content.items():
            below[key] = item
            path = f"{section}.{key}"
            for old in [name for name in origins if name == path or name.startswith(f"{path}.")]:
                del origins[old]
            for place in _leaves(item, (section, key)):
                origins[".".join(str(part) for part in place)] = _origin(document, place)


def _leaves(value: Any, place: Place) -> Iterator[Place]:
    if not isinstance(value, dict):
        yield place
        return
    for key, item in value.items():
        yield from _leaves(item, (*place, key))


def _origin(document: Document, place: Place) -> str:
    line, _ = document.values[document.known(place)]
    return f"{document.file}:{line}"


def _tightened(user: dict[str, Any], document: Document) -> dict[str, Any]:
    """The workspace's layer without the limits that are wider than the user's own."""
    # How the user has commands confined is not for a workspace to say.
    own = {name: value for name, value in document.value.items() if name != "sandbox" or name not in user}
    limits, bounds = own.get("limits"), user.get("limits")
    if not isinstance(limits, dict) or not isinstance(bounds, dict):
        return own
    held = Settings.model_validate({"limits": bounds}).limits
    asked = Settings.model_validate({"limits": limits}).limits
    kept = _narrower(limits, bounds, held, asked)
    if any(name.endswith("usd") for name in _flat(bounds)):
        # It would let calls through that the user's limit of dollars refuses.
        kept.pop("allow_unpriced", None)
    return {**own, "limits": kept}


def _guarded(user: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """The workspace's layer without a guardian of its own, where the user has set one."""
    models = value.get("models")
    if not isinstance(models, dict) or "guardian" not in (user.get("models") or {}):
        return value
    return {**value, "models": {tier: model for tier, model in models.items() if tier != "guardian"}}


def _narrower(limits: dict[str, Any], bounds: dict[str, Any], held: Any, asked: Any) -> dict[str, Any]:
    """The keys of a workspace that the user has not set, or that are stricter than what the user set."""
    kept: dict[str, Any] = {}
    for key, value in limits.items():
        bound, wish = getattr(held, key), getattr(asked, key)
        if isinstance(value, dict) and isinstance(bounds.get(key), dict):
            kept[key] = {**bounds[key], **_narrower(value, bounds[key], bound, wish)}
        elif key not in bounds or bound is None or _is_narrower(wish, bound):
            kept[key] = value
    return kept


def _is_narrower(wish: Any, bound: Any) -> bool:
    return isinstance(bound, int | float | Decimal) and wish is not None and bool(wish <= bound)


def _flat(value: dict[str, Any], path: str = "") -> Iterator[str]:
    for key, item in value.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{path}{key}.")
        elif item is not None:
            yield f"{path}{key}"


def _untrusted_problems(document: Document, settings: Settings) -> Iterator[Problem]:
    """What a folder that the user does not trust must not decide: it could send keys and files away."""
    text = "is not taken from a folder that you do not trust; look at its files, then run `orc trust`"
    for place, model in _models(settings):
        if model.base_url and _is_loopback(model.base_url):
            continue
        for key in ("base_url", "api_key_env"):
            if key in model.model_fields_set and getattr(model, key) is not None:
                yield document.problem((*place, key), text)
    if settings.tools.searxng_url and not _is_loopback(settings.tools.searxng_url):
        yield document.problem(("tools", "searxng_url"), text)
    if settings.limits.on_warning.command or settings.limits.on_warning.webhook:
        yield document.problem(("limits", "on_warning"), text)
    if settings.telemetry.enabled or settings.telemetry.content:
        yield document.problem(("telemetry",), text)
    if settings.sandbox.kind == "container":
        yield document.problem(("sandbox",), text)
    if settings.tools.allowed_private_hosts:
        yield document.problem(("tools", "allowed_private_hosts"), text)


def _models(settings: Settings) -> Iterator[tuple[Place, ModelSettings]]:
    """Every model that the settings name, those behind others too, and where."""
    waiting: list[tuple[Place, ModelSettings]] = [
        (("models", t), model) for t, model in settings.models.items()
    ]
    while waiting:
        place, model = waiting.pop(0)
        yield place, model
        inner = [(n, each) for n, each in enumerate(model.fallback) if isinstance(each, ModelSettings)]
        waiting += [((*place, "fallback", number), each) for number, each in inner]


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
