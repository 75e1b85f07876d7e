"""Fetch a page: resolved, checked and connected to the checked address, hop by hop."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from pydantic import Field

from orchestrator.effects import Effects, Trust
from orchestrator.errors import ToolError
from orchestrator.tools.address import checked, parts
from orchestrator.tools.base import Arguments, Tool, ToolContext
from orchestrator.tools.extract import page_text
from orchestrator.tools.hosts import HostAnswered, HostFailed, guarded
from orchestrator.tools.walk import size

if TYPE_CHECKING:
    import httpx2

LARGEST = 5_000_000
SECONDS = 20.0
MOST_REDIRECTS = 5
AGENT = "orc-orchestrator (fetches single pages for a person)"
_TEXT_TYPES = re.compile(r"text/|application/(.*\+)?(json|xml|yaml|toml|javascript|x-ndjson)", re.IGNORECASE)


@dataclass(frozen=True)
class Page:
    """What a URL led to."""

    url: str
    """After redirects."""
    status: int
    type: str
    body: bytes
    is_cut: bool


class FetchUrlArguments(Arguments):
    """Arguments of fetch_url."""

    url: str = Field(description="http or https URL")
    max_characters: int = Field(default=8000, ge=100, le=20_000, description="most text to return")
    offset: int = Field(default=0, ge=0, description="character to start at, to read on")


async def fetch_url(arguments: FetchUrlArguments, context: ToolContext) -> str:
    """Return a page's text, one part at a time."""
    url = arguments.url.strip()
    with guarded(context.breakers, parts(url)[0], SECONDS):
        page = await fetch(url, context.settings.allowed_private_hosts)
    text = await asyncio.to_thread(_text, page)
    if text is None:
        return f"{page.url}: {page.type or 'unknown type'}, {size(len(page.body))}; not text, not shown"
    start, end = arguments.offset, arguments.offset + arguments.max_characters
    if text and start >= len(text):
        raise ToolError(f"the page has {len(text):,} characters; offset {start} is past its end")
    rest = f"; go on with offset={end}" if end < len(text) else ""
    cut = f"; only the first {size(LARGEST)} were loaded" if page.is_cut else ""
    shown = f"characters {start:,}–{min(end, len(text)):,} of {len(text):,}" if text else "no text"  # noqa: RUF001
    status = "" if page.status == 200 else f" (HTTP {page.status})"
    return f"{page.url}{status}: {shown}{rest}{cut}\n{text[start:end]}"


async def fetch(url: str, allowed: Sequence[str]) -> Page:
    """Load a URL within all limits, redirects checked one by one. Raises ToolError."""
    import httpx2  # noqa: PLC0415

    try:
        async with asyncio.timeout(SECONDS):
            # trust_env off: a proxy would resolve the name again and undo the check.
            async with httpx2.AsyncClient(trust_env=False, timeout=SECONDS) as client:
                return await _follow(client, url, allowed)
    except TimeoutError:
        raise HostFailed(f"{url} did not answer in {SECONDS:g} s") from None
    except httpx2.InvalidURL as error:
        raise ToolError(f"{url} could not be fetched: {error}") from None
    except httpx2.HTTPError as error:
        raise HostFailed(f"{url} could not be fetched: {str(error) or type(error).__name__}") from None


async def _follow(client: httpx2.AsyncClient, url: str, allowed: Sequence[str]) -> Page:
    for _ in range(MOST_REDIRECTS + 1):
        address = await checked(url, allowed)
        request = _pinned(client, url, address)
        response = await client.send(request, stream=True)
        try:
            target = response.headers.get("location")
            if response.status_code in {301, 302, 303, 307, 308} and target:
                url = urljoin(url, target)
                continue
            body, is_cut = await _body(response)
        finally:
            await response.aclose()
        if response.status_code >= 400:
            fault = HostFailed if response.status_code >= 500 or response.status_code == 429 else HostAnswered
            raise fault(f"{url} answered HTTP {response.status_code}{_meaning(response.status_code)}")
        kind = response.headers.get("content-type", "")
        return Page(url.split("#", 1)[0], response.status_code, kind, body, is_cut)
    raise ToolError(
        f"more than {MOST_REDIRECTS} redirects, the last to {url[:200]}; fetch the final page itself"
    )


def _meaning(status: int) -> str:
    known = {
        401: " (needs a login)",
        403: " (forbidden)",
        404: " (no such page)",
        429: " (too many requests)",
    }
    return known.get(status, " (the server failed; try later)" if status >= 500 else "")


def _pinned(client: httpx2.AsyncClient, url: str, address: str) -> httpx2.Request:
    """A request to the address that was checked, with the host's name for the server and its certificate."""
    import httpx2  # noqa: PLC0415

    host, _ = parts(url)
    named = httpx2.URL(url)
    return client.build_request(
        "GET",
        named.copy_with(host=address, fragment=None),
        headers={
            "Host": named.netloc.decode("ascii"),
            "User-Agent": AGENT,
            "Accept": "text/html, text/plain, application/json;q=0.9, */*;q=0.5",
            "Accept-Encoding": "gzip",
        },
        extensions={"sni_hostname": host},
    )


async def _body(response: httpx2.Response) -> tuple[bytes, bool]:
    """Read at most LARGEST bytes, counted after decompression, so that a small bomb stays small."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "", "gzip", "x-gzip", "deflate"}:
        raise ToolError(f"the server sent {encoding!r} compression, which was not asked for")
    inflate = None if encoding in {"identity", ""} else zlib.decompressobj(wbits=47)
    body = bytearray()
    try:
        async for piece in response.aiter_raw():
            body += piece if inflate is None else inflate.decompress(piece, LARGEST + 1 - len(body))
            if len(body) > LARGEST:
                return bytes(body[:LARGEST]), True
    except zlib.error:
        raise ToolError("the server's compressed answer is broken") from None
    return bytes(body), False


def _text(page: Page) -> str | None:
    """The page as text; None when it is none."""
    kind = page.type.split(";", 1)[0].strip()
    if (kind and not _TEXT_TYPES.match(kind)) or b"\0" in page.body[:4096]:
        return None
    charset = re.search(r"charset=[\"']?([\w.:-]+)", page.type) or re.search(
        r"charset=[\"']?([\w.:-]+)", page.body[:2048].decode("ascii", "replace")
    )
    try:
        text = page.body.decode(charset.group(1) if charset else "utf-8", "replace")
    except LookupError:
        text = page.body.decode("utf-8", "replace")
    is_page = "html" in kind or text.lstrip()[:200].lower().startswith(("<!doctype html", "<html"))
    return page_text(text) if is_page else text


FETCH_URL = Tool(
    name="fetch_url",
    description="Fetch a web page and return its text.",
    arguments=FetchUrlArguments,
    run=fetch_url,
    effects=Effects(
        reads=False,
        writes=False,
        executes=False,
        reversible=True,
        repeatable=True,
        targets=("url",),
        output=Trust.WEB,
    ),
    seconds=SECONDS + 15,
    tokens=7_000,
)
