"""Search the web through whichever provider is set up; a provider is one async method."""

from __future__ import annotations

import asyncio
import importlib.util
from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from orchestrator.effects import Effects, Trust
from orchestrator.errors import ToolError
from orchestrator.settings import ToolSettings
from orchestrator.tools.base import Arguments, Tool, ToolContext
from orchestrator.tools.hosts import HostFailed, guarded

SECONDS = 20.0


@dataclass(frozen=True)
class Hit:
    """One result of a search."""

    title: str
    url: str
    snippet: str


class SearchProvider(Protocol):
    """A way to search the web."""

    name: str

    async def search(self, query: str, count: int) -> list[Hit]:
        """Return at most `count` hits, best first; raises ToolError."""
        ...


class SearXNG:
    """A SearXNG server that the user named; its address is trusted as the settings are."""

    name = "SearXNG"

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def search(self, query: str, count: int) -> list[Hit]:
        """Ask the server's JSON interface."""
        import httpx2  # noqa: PLC0415

        try:
            async with httpx2.AsyncClient(timeout=SECONDS, follow_redirects=False) as client:
                answer = await client.get(f"{self._url}/search", params={"q": query, "format": "json"})
                found = answer.json() if answer.status_code == 200 else None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise HostFailed(f"the SearXNG server at {self._url} could not be reached: {reason}") from None
        except ValueError:
            found = None
        rows = found.get("results") if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise ToolError(
                f"{self._url} answered HTTP {answer.status_code} without JSON results; "
                "the user has to enable `json` under search.formats in its settings"
            )
        return [_hit(row, "url", "content") for row in rows[:count] if isinstance(row, dict)]


class DuckDuckGo:
    """The ddgs package, which needs no account; used when it is installed and no server is set."""

    name = "ddgs"

    async def search(self, query: str, count: int) -> list[Hit]:
        """Ask in a thread: the package is synchronous."""
        from ddgs import DDGS  # noqa: PLC0415
        from ddgs.exceptions import DDGSException  # noqa: PLC0415

        try:
            async with asyncio.timeout(SECONDS):
                rows = await asyncio.to_thread(
                    lambda: list(DDGS(timeout=10).text(query, max_results=count))  # blocking inside
                )
        except TimeoutError:
            raise HostFailed(
                f"the web search took longer than {SECONDS:g} s; try again or fetch a known page"
            ) from None
        except DDGSException as error:
            if "no results" in str(error).lower():
                return []
            raise HostFailed(f"the web search failed: {error}; try again or fetch a known page") from None
        return [_hit(row, "href", "body") for row in rows[:count]]


def _hit(row: dict[str, object], url: str, snippet: str) -> Hit:
    title, link, text = (" ".join(str(row.get(key) or "").split()) for key in ("title", url, snippet))
    return Hit(title[:200], link[:1000], text[:400])


def provider(settings: ToolSettings, *, has_ddgs: bool | None = None) -> SearchProvider:
    """The provider that the settings and the installed packages give; raises ToolError when there is none."""
    if settings.searxng_url:
        return SearXNG(settings.searxng_url)
    if importlib.util.find_spec("ddgs") is not None if has_ddgs is None else has_ddgs:
        return DuckDuckGo()
    raise ToolError(
        "no search provider is set: add tools.searxng_url to orchestrator.yaml or "
        "pip install 'orc-orchestrator[web]'; fetch_url still fetches pages that are known"
    )


class WebSearchArguments(Arguments):
    """Arguments of web_search."""

    query: str = Field(min_length=1, max_length=500, description="what to search for")
    count: int = Field(default=5, ge=1, le=20, description="number of results")


async def web_search(arguments: WebSearchArguments, context: ToolContext) -> str:
    """Return titles, URLs and snippets."""
    source = provider(context.settings)
    with guarded(context.breakers, source.name, SECONDS):
        hits = await source.search(" ".join(arguments.query.split()), arguments.count)
    if not hits:
        return f"no results for {arguments.query!r}; use fewer or other words"
    rows = [f"{number}. {hit.title}\n   {hit.url}\n   {hit.snippet}" for number, hit in enumerate(hits, 1)]
    return "\n".join(rows)


WEB_SEARCH = Tool(
    name="web_search",
    description="Search the web; fetch_url then reads a result.",
    arguments=WebSearchArguments,
    run=web_search,
    effects=Effects(
        reads=False,
        writes=False,
        executes=False,
        reversible=True,
        repeatable=True,
        targets=(),
        output=Trust.WEB,
    ),
    seconds=SECONDS + 15,
)
