"""The way from a sandbox to granted hosts, and the ways around it, each really tried."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_sandbox import context
from served import Server, web

from orchestrator.sandbox.detect import detect, programs
from orchestrator.tools.base import ToolContext, call, parse
from orchestrator.tools.proxy import Bounds, Gate, Proxy, Reached
from orchestrator.tools.registry import TOOLS

pytestmark = pytest.mark.skipif(not programs(), reason="bubblewrap is for Linux")

ASK = """
import os, socket, ssl
def proxy():
    host, port = os.environ["http_proxy"].removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), 5)
    connection.settimeout(5)
    return connection
def all_of(connection):
    text = b""
    while piece := connection.recv(65536):
        text += piece
    return text
def say(raw):
    with proxy() as connection:
        connection.sendall(raw)
        return all_of(connection).decode()
def tunnel(target, raw):
    with proxy() as connection:
        connection.sendall(f"CONNECT {target} HTTP/1.1\\r\\n\\r\\n".encode())
        answer = connection.recv(65536).decode()
        if " 200 " in answer:
            connection.sendall(raw)
            try:
                answer += all_of(connection).decode("latin-1")
            except OSError as error:
                answer += str(error)
        return answer
def hello(name):
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
"""


@contextmanager
def raw() -> Iterator[Server]:
    """Takes one connection at a time, keeps its first bytes and answers `heard`."""
    server = Server()
    with socket.create_server(("127.0.0.2", 0)) as listening:
        server.port = listening.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    server.raw.append(connection.recv(65536))
                    connection.sendall(b"heard")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def reaching(root: Path, *hosts: str, private: tuple[str, ...] = ("127.0.0.2",)) -> ToolContext:
    return replace(context(root), sandbox=detect(), gate=Gate(hosts, private))


def python(given: ToolContext, code: str) -> str:
    tool = TOOLS["run_python"]
    return asyncio.run(call(tool, parse(tool, {"code": ASK + code, "seconds": 30}), given))


def test_a_granted_host_is_reached_and_told_of(tmp_path: Path) -> None:
    heard: list[Reached] = []
    with web() as server:
        given = reaching(tmp_path, f"127.0.0.2:{server.port}")
        assert given.gate
        given = replace(given, gate=replace(given.gate, heard=heard.append))
        url = f"http://127.0.0.2:{server.port}/a?b"
        code = f"import urllib.request as u; print(u.urlopen({url!r}, b'body').read())"
        assert "b'served'" in python(given, code)
    assert server.asked == [(f"127.0.0.2:{server.port}", "/a?b", "body")]
    assert heard == [Reached("127.0.0.2", server.port, allowed=True)]


def test_without_a_grant_there_is_no_network(tmp_path: Path) -> None:
    with web() as server:
        given = replace(reaching(tmp_path), gate=None)
        found = python(given, f"socket.create_connection(('127.0.0.2', {server.port}), 5)")
    assert "refused" in found
    assert server.asked == []


def test_another_host_and_another_port_are_refused(tmp_path: Path) -> None:
    heard: list[Reached] = []
    with web() as server, web() as other:
        gate = Gate((f"127.0.0.2:{server.port}",), ("127.0.0.2", "127.0.0.3"), heard.append)
        given = replace(reaching(tmp_path), gate=gate)
        found = python(
            given,
            f"""
for place in ("127.0.0.2:{other.port}", "127.0.0.3:{server.port}", "example.org",
              "example.org:{server.port}"):
    print(say(f"GET http://{{place}}/ HTTP/1.1\\r\\nHost: 127.0.0.2:{server.port}\\r\\n\\r\\n".encode())[:12])
    print(tunnel(place if ":" in place else place + ":443", hello("example.org"))[:12])
""",
        )
    assert found.count("HTTP/1.1 403") == 8
    assert server.asked == other.asked == []
    assert {(each.host, each.allowed) for each in heard} == {
        ("127.0.0.2", False),
        ("127.0.0.3", False),
        ("example.org", False),
    }
    assert "no way to example.org:80: only" in found


def test_direct_sockets_and_names_lead_nowhere(tmp_path: Path) -> None:
    with web() as server:
        found = python(
            reaching(tmp_path, f"127.0.0.2:{server.port}", "localhost"),
            f"""
for kind, place in ((socket.SOCK_STREAM, ("127.0.0.2", {server.port})),
                    (socket.SOCK_STREAM, ("192.0.2.1", 80)),
                    (socket.SOCK_DGRAM, ("192.0.2.1", 53))):
    try:
        with socket.socket(type=kind) as made:
            made.settimeout(5)
            made.connect(place)
        print("connected", place)
    except OSError as error:
        print("no", error.errno)
try:
    print("found", socket.getaddrinfo("example.org", 80))
except OSError:
    print("no name")
""",
        )
    assert "connected" not in found
    assert found.count("no ") == 4


@pytest.mark.parametrize(
    "host",
    ["2130706434", "0x7f000002", "127.2", "0177.0.0.2", "[::ffff:127.0.0.2]", "127.0.0.2.nip.io", "[::1]"],
)
def test_other_spellings_of_an_address_are_refused(tmp_path: Path, host: str) -> None:
    with web() as server:
        given = reaching(tmp_path, f"127.0.0.2:{server.port}")
        place = f"{host}:{server.port}"
        code = f"print(say(b'GET http://{place}/ HTTP/1.1\\r\\n\\r\\n'), tunnel('{place}', b''))"
        found = python(given, code)
    assert "HTTP/1.1 4" in found
    assert " 200 " not in found
    assert server.asked == []


def test_a_granted_name_at_a_private_address_is_refused(tmp_path: Path) -> None:
    with web() as server:
        given = reaching(tmp_path, f"127.0.0.2:{server.port}", f"localhost:{server.port}", private=())
        code = f"""
for host in ("127.0.0.2", "localhost"):
    print(say(f"GET http://{{host}}:{server.port}/ HTTP/1.1\\r\\n\\r\\n".encode()))
"""
        found = python(given, code)
    assert found.count("not a public address") >= 2
    assert server.asked == []


def test_a_redirect_to_another_host_is_refused(tmp_path: Path) -> None:
    with web() as other, web(redirect=f"http://127.0.0.2:{other.port}/") as server:
        given = reaching(tmp_path, f"127.0.0.2:{server.port}")
        found = python(given, f"import urllib.request as u; u.urlopen('http://127.0.0.2:{server.port}/')")
    assert len(server.asked) == 1
    assert other.asked == []
    assert "HTTPError: HTTP Error 403" in found
    assert f"no way to 127.0.0.2:{other.port}" in found


def test_a_host_header_of_another_host_is_replaced(tmp_path: Path) -> None:
    with web() as server:
        place = f"127.0.0.2:{server.port}"
        target = f"GET http://{place}/ HTTP/1.1\\r\\n"
        request = f"{target}Host: evil.example\\r\\nhost: evil.example\\r\\n\\r\\n"
        smuggled = f"{target}\\r\\nGET /second HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n"
        found = python(reaching(tmp_path, place), f"print(say(b'{request}')); print(say(b'{smuggled}'))")
    assert found.count("served") == 2
    assert server.asked == [(place, "/", ""), (place, "/", "")]


@pytest.mark.parametrize(
    "head",
    [
        "Transfer-Encoding: chunked",
        "Content-Length: 3\\r\\nContent-Length: 30",
        "Content-Length: +3",
        "Content-Length : 3",
        "X: a\\r\\n folded",
        "X: a\\nContent-Length: 3",
    ],
)
def test_a_body_of_unclear_length_is_refused(tmp_path: Path, head: str) -> None:
    with web() as server:
        place = f"127.0.0.2:{server.port}"
        code = f"print(say(b'POST http://{place}/ HTTP/1.1\\r\\n{head}\\r\\n\\r\\nabc'))"
        assert "HTTP/1.1 4" in python(reaching(tmp_path, place), code)
    assert server.asked == []


def test_a_tunnel_takes_tls_for_its_own_host_only(tmp_path: Path) -> None:
    with raw() as server:
        found = python(
            reaching(tmp_path, f"127.0.0.2:{server.port}"),
            f"""
place = "127.0.0.2:{server.port}"
print(tunnel(place, hello("evil.example")))
print(tunnel(place, b"GET / HTTP/1.1\\r\\nHost: evil.example\\r\\n\\r\\n"))
print(tunnel(place, hello("127.0.0.2")))
""",
        )
    assert [piece[:1] for piece in server.raw if piece] == [b"\x16"]
    assert found.count("heard") == 1
    assert "TLS for another host, 'evil.example'" in found


@pytest.mark.parametrize(
    "sent", ["GET / HTTP/1.1", "nothing", "GET http://user@127.0.0.2/ HTTP/1.1", "x" * 40_000]
)
def test_what_is_no_proxy_request_is_refused(tmp_path: Path, sent: str) -> None:
    found = python(reaching(tmp_path, "127.0.0.2"), f"print(say(b'{sent}\\r\\n\\r\\n')[:12])")
    assert "HTTP/1.1 4" in found


def test_another_run_cannot_reach_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    tool = TOOLS["run_python"]

    async def both(server: Server) -> str:
        given = reaching(tmp_path / "a", f"127.0.0.2:{server.port}")
        code = ASK + (
            "import pathlib, time\n"
            "print(os.environ['http_proxy'], flush=True)\n"
            "pathlib.Path('port').write_text(os.environ['http_proxy'].split(':')[-1])\n"
            "while not pathlib.Path('done').exists(): time.sleep(0.02)\n"
        )
        first = asyncio.ensure_future(call(tool, parse(tool, {"code": code}), given))
        while not (tmp_path / "a" / "port").exists():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
        port = int((tmp_path / "a" / "port").read_text())
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 5)
        other = replace(context(tmp_path / "b"), sandbox=detect())
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        found = await call(tool, parse(tool, {"code": code}), other)
        (tmp_path / "a" / "done").touch()
        await first
        return found

    with web() as server:
        assert "refused" in asyncio.run(both(server))
    assert server.asked == []


def test_too_much_that_is_sent_is_cut_off(tmp_path: Path) -> None:
    async def sent(server: Server) -> Proxy:
        proxy = Proxy(Gate((f"127.0.0.2:{server.port}",), ("127.0.0.2",)), Bounds(sent_bytes=10_000))
        async with proxy.listening() as number:
            with (
                socket.socket(fileno=socket.dup(number)) as control,
                socket.create_server(("127.0.0.1", 0)) as inside,
            ):
                socket.send_fds(control, [b"."], [inside.fileno()])
                reader, writer = await asyncio.open_connection(*inside.getsockname())
                head = f"POST http://127.0.0.2:{server.port}/ HTTP/1.1\r\nContent-Length: 20000\r\n\r\n"
                writer.write(head.encode() + b"x" * 20_000)
                assert await reader.read() == b""
                writer.close()
        return proxy

    with web() as server:
        proxy = asyncio.run(sent(server))
    assert [each.why for each in proxy.seen.values()][-1] == "more was sent than one call may"
    assert all(len(body) < 10_000 for _, _, body in server.asked)
