"""Where a model is and what key it takes; nothing here talks to it."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from orchestrator.errors import ModelRejected
from orchestrator.settings import ModelSettings, base_url_in

PUBLIC_HOST = "api.openai.com"


Front = tuple[tuple[str, str], ...]
"""The fixed begin of a conversation, as (role, text): the same in every request of an agent."""


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible endpoint."""

    base_url: str
    api_key: str = field(repr=False)

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return urlsplit(self.base_url).netloc.rpartition("@")[2]

    @property
    def is_public(self) -> bool:
        """Whether it is OpenAI's own, which is stricter about options than its many followers."""
        return urlsplit(self.base_url).hostname == PUBLIC_HOST

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this machine."""
        name = urlsplit(self.base_url).hostname or ""
        return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def endpoint_of(settings: ModelSettings) -> Endpoint:
    """The endpoint that settings and environment name; raises ModelRejected when the key is missing."""
    base_url = _url_of(settings)
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key and not is_private(urlsplit(base_url).hostname or ""):
        raise ModelRejected(
            f"no key for {urlsplit(base_url).netloc}: set the environment variable {settings.api_key_env}, "
            "or point base_url (OPENAI_BASE_URL) at a server of your own, or use provider: embedded"
        )
    return Endpoint(base_url.rstrip("/"), key or "none")


def _url_of(settings: ModelSettings) -> str:
    return settings.base_url or base_url_in(os.environ) or f"https://{PUBLIC_HOST}/v1"


def resolved(settings: ModelSettings) -> ModelSettings:
    """The settings with the base URL that holds now, for the record; a password in it is left out."""
    if settings.provider == "embedded":
        return settings
    parts = urlsplit(_url_of(settings))
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return settings.model_copy(update={"base_url": urlunsplit(plain)})


def is_private(host: str) -> bool:
    """Whether a host is this machine or on a private network, where servers often take no key."""
    if _is_address(host):
        address = ipaddress.ip_address(host)
        return address.is_private or address.is_loopback or address.is_link_local
    return "." not in host or host.endswith((".local", ".localhost", ".internal", ".lan"))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
