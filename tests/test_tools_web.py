"""Fetching and searching, against servers on the loopback address only."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from scripted_sandbox import context, use, use_with

from orchestrator.errors import ToolError
from orchestrator.settings import ToolSettings
from orchestrator.tools.address import checked, is_public
from orchestrator.tools.extract import page_text, plain_text
from orchestrator.tools.websearch import DuckDuckGo, provider

HTML = b"""<!doctype html><html><head><title>Fruit  prices</title><style>p{}</style></head><body>
<script>var x = "hidden"</script><h2>Apples</h2><p>An apple costs <b>3</b> coins.</p></body></html>"""
BOMB = gzip.compress(b"x" * 60_000_000)
PAGES: dict[str, tuple[int, dict[str, str], bytes]] = {
    "/": (200, {"Content-Type": "text/html; charset=utf-8"}, HTML),
    "/long": (200, {"Content-Type": "text/plain"}, b"0123456789" * 100),
    "/image": (200, {"Content-Type": "image/png"}, b"\x89PNG\0\0"),
    "/zipped": (200, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}, gzip.compress(b"unpacked")),
    "/bomb": (200, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}, BOMB),
    "/broken": (200, {"Content-Type": "text/plain", "Content-Encoding": "gzip"}, b"no gzip"),
    "/latin": (200, {"Content-Type": "text/plain; charset=iso-8859-1"}, b"caf\xe9"),
    "/hop": (302, {"Location": "/long"}, b""),
    "/loop": (302, {"Location": "/loop"}, b""),
    "/inward": (302, {"Location": "http://169.254.169.254/latest/meta-data"}, b""),
    "/file": (302, {"Location": "file:///etc/passwd"}, b""),
    "/gone": (404, {}, b"nope"),
    "/search": (
        200,
        {"Content-Type": "application/json"},
        json.dumps({
            "results": [
                {"title": f"Hit {number}", "url": f"http://h/{number}", "content": "some\n text"}
                for number in range(9)
            ]
        }).encode(),
    ),
    "/bad/search": (403, {}, b"forbidden"),
}  # fmt: skip


class Site(BaseHTTPRequestHandler):
    asked: list[tuple[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers["Host"]))
        status, headers, body = PAGES.get(self.path.split("?", 1)[0], (404, {}, b""))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has seen enough hangs up; that is what is tested."""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = Server(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield int(server.server_address[1])
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(root: Path, port: int, page: str, **arguments: Any) -> str:
    given = context(root, allowed_private_hosts=[f"127.0.0.1:{port}"])
    return use_with(given, "fetch_url", url=f"http://127.0.0.1:{port}{page}", **arguments)


def test_a_page_comes_back_as_text(port: int, tmp_path: Path) -> None:
    text = fetch(tmp_path, port, "/")
    assert "Fruit prices\n\n## Apples\n\nAn apple costs 3 coins." in text
    assert "hidden" not in text


def test_a_long_page_is_read_on_from_an_offset(port: int, tmp_path: Path) -> None:
    first = fetch(tmp_path, port, "/long", max_characters=105)
    assert "of 1,000; go on with offset=105" in first
    assert fetch(tmp_path, port, "/long", offset=995).endswith("\n56789")
    with pytest.raises(ToolError, match="past its end"):
        fetch(tmp_path, port, "/long", offset=1000)


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("/image", "image/png, 6 bytes; not text"),
        ("/zipped", "unpacked"),
        ("/latin", "café"),
        ("/hop", "0123"),
    ],
)
def test_kinds_of_answers(page: str, said: str, port: int, tmp_path: Path) -> None:
    assert said in fetch(tmp_path, port, page)


def test_a_decompression_bomb_is_cut(port: int, tmp_path: Path) -> None:
    assert "of 5,000,000; go on with offset=100; only the first 5000000 bytes (5.0 MB)" in fetch(
        tmp_path, port, "/bomb", max_characters=100
    )


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("/loop", "more than 5 redirects"),
        ("/inward", "169.254.169.254, which is not a public address"),
        ("/file", "only http:// and https://"),
        ("/gone", r"HTTP 404 \(no such page\)"),
        ("/broken", "compressed answer is broken"),
    ],
)
def test_refused_answers_say_why(page: str, why: str, port: int, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=why):
        fetch(tmp_path, port, page)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://2130706433:{port}/", "http://0x7f.1:{port}/",
        "http://[::1]:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://0.0.0.0:{port}/", "http://10.0.0.1/",
        "http://user:pass@127.0.0.1/", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "nonsense", "http://[",
        "http://a:99999/",
    ],
)  # fmt: skip
def test_a_private_address_in_any_spelling_is_refused_before_it_is_reached(
    url: str, port: int, tmp_path: Path
) -> None:
    Site.asked.clear()
    with pytest.raises(ToolError):
        use("fetch_url", tmp_path, url=url.format(port=port))
    assert Site.asked == []


def test_the_connection_goes_to_the_checked_address_under_the_host_s_name(port: int, tmp_path: Path) -> None:
    given = context(tmp_path, allowed_private_hosts=["localhost"])
    Site.asked.clear()
    use_with(given, "fetch_url", url=f"http://localhost:{port}/long#part")
    assert Site.asked == [("/long", f"localhost:{port}")]


def test_only_the_allowed_port_of_a_host_is_reached(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="not a public address"):
        asyncio.run(checked("http://127.0.0.1:81/", ["127.0.0.1:80"]))
    assert asyncio.run(checked("http://127.0.0.1/", ["127.0.0.1:80"])) == "127.0.0.1"


def test_a_closed_port_is_an_error_for_the_model(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="could not be fetched"):
        use_with(
            context(tmp_path, allowed_private_hosts=["127.0.0.1"]), "fetch_url", url="http://127.0.0.1:9/"
        )


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("127.0.0.1", False), ("10.1.2.3", False),
        ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("100.100.100.200", False), ("168.63.129.16", False), ("224.0.0.1", False), ("0.0.0.0", False),
        ("255.255.255.255", False), ("240.0.0.1", False), ("198.18.0.1", False), ("::1", False),
        ("::", False),
        ("fe80::1", False), ("fd00:ec2::254", False), ("ff02::1", False), ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False), ("64:ff9b::7f00:1", False), ("::7f00:1", False), ("64:ff9b::808:808", True),
    ],
)  # fmt: skip
def test_addresses_are_judged_with_what_is_wrapped_in_them(address: str, expected: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is expected


def test_text_is_found_in_broken_pages_too() -> None:
    assert plain_text("<p>a<p>b</div><td>c &amp; d") == "a\nb\nc & d"
    long = "<html><body><nav>menu</nav><article>" + "<p>A sentence with words in it.</p>" * 300 + "</article>"
    assert "A sentence with words in it." in page_text(long)


def test_a_search_server_gives_hits(port: int, tmp_path: Path) -> None:
    given = context(tmp_path, searxng_url=f"http://127.0.0.1:{port}/")
    text = use_with(given, "web_search", query="fruit & more", count=2)
    assert text == "1. Hit 0\n   http://h/0\n   some text\n2. Hit 1\n   http://h/1\n   some text"


def test_a_search_server_without_json_is_explained(port: int, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="enable `json`"):
        use_with(context(tmp_path, searxng_url=f"http://127.0.0.1:{port}/bad"), "web_search", query="x")
    with pytest.raises(ToolError, match="could not be reached"):
        use_with(context(tmp_path, searxng_url="http://127.0.0.1:9"), "web_search", query="x")


def test_without_a_provider_the_next_step_is_named() -> None:
    with pytest.raises(ToolError, match="or pip install 'orc-orchestrator"):
        provider(ToolSettings(), has_ddgs=False)
    assert isinstance(provider(ToolSettings(), has_ddgs=True), DuckDuckGo)
