"""What of a tool's result reaches the model: within its budget, never broken, the rest one read away."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from pathlib import Path

import pytest
from desk import Desk
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Call, Reply, Request, Say

from orchestrator.errors import ToolError
from orchestrator.llm.tokens import correction, tokens
from orchestrator.tools.results import clean, cut, opened_result, shaped

LOG = "".join(
    f"2026-11-25T04:{n % 60:02d}:00Z host-7 sshd[{n}]: Accepted publickey for deploy\n" for n in range(9000)
)


def test_a_result_that_fits_is_passed_as_it_is(tmp_path: Path) -> None:
    assert shaped("one\ntwo\n", 200, tmp_path) == "one\ntwo\n"
    assert not list(tmp_path.iterdir())


def test_one_that_is_barely_too_long_is_cut_and_one_that_is_long_is_kept(tmp_path: Path) -> None:
    barely = shaped("word " * 230, 220, tmp_path)
    assert "bytes cut …]" in barely
    assert "results:" not in barely
    long = shaped(LOG, 500, tmp_path)
    lines, size, name = re.search(r"\[… ([\d,]+) lines, ([\d,]+) bytes cut; .*(results:\w+),", long).groups()  # type: ignore[union-attr]
    assert tokens(long) <= 560
    head, _, tail = long.partition("\n[…")
    assert LOG.startswith(head)
    assert LOG.endswith(tail.split("…]\n", 1)[1])
    gone = LOG[len(head) : len(LOG) - len(tail.split("…]\n", 1)[1])]
    assert int(lines.replace(",", "")) == gone.count("\n")
    assert abs(int(size.replace(",", "")) - len(gone)) <= 2
    fd = opened_result(tmp_path, name)
    assert os.read(fd, 10**7).decode() == LOG
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o600
    os.close(fd)


def test_colours_of_a_command_leave_nothing_behind() -> None:
    assert clean("\x1b[32mPASSED\x1b[0m \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\x07") == "PASSED link\ufffd"


@given(st.text(alphabet="ab \néё日👩🏽\u200d💻\u0301🇩🇪\x00\x1b\ud83d", max_size=3000), st.integers(20, 200))
@settings(deadline=None)
def test_a_cut_never_breaks_a_character_and_shows_no_control_character(text: str, budget: int) -> None:
    found = shaped(text, budget, None)
    found.encode("utf-8")
    assert not any(unicodedata.category(sign) == "Cc" and sign not in "\n\t\r" for sign in found)
    if found != clean(text) and "[…" in found:
        tail = found.split("…]\n", 1)[1]
        assert not tail or not (unicodedata.combining(tail[0]) or tail[0] == "\u200d")
        assert tokens(found) <= budget + 120


@given(st.text(max_size=2000), st.integers(1, 500))
@settings(deadline=None)
def test_head_and_tail_are_those_of_the_text(text: str, room: int) -> None:
    found = cut(text, room)
    if found != text:
        head, tail = found.split("\n[… ", 1)[0], found.rsplit(" …]\n", 1)[1]
        assert text.startswith(head)
        assert text.endswith(tail)


def test_binary_output_is_named_and_not_shown() -> None:
    assert "binary output, " in shaped("".join(chr(n % 32) for n in range(1000)), 500, None)


@pytest.mark.parametrize(
    "name",
    [
        "results:../../state.db", "results:/etc/passwd", "results:0123456789abcdeg", "results:",
        "results:0123456789abcdef/..", "results:0123456789ABCDEF",
        "results:0123456789abcdef\nx", "results:0123456789abcdef.txt",
    ],
)  # fmt: skip
def test_only_a_kept_result_is_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / "state.db").write_text("secret", "utf-8")
    with pytest.raises(ToolError):
        opened_result(tmp_path / "results" / "r-1", name)


def test_a_link_among_the_results_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "0123456789abcdef.txt").symlink_to("/etc/passwd")
    with pytest.raises(ToolError):
        opened_result(tmp_path, "results:0123456789abcdef")


def test_a_long_output_is_read_page_by_page(desk: Desk) -> None:
    def script(request: Request) -> Reply:
        turns = len(request["messages"])
        if turns < 4:
            return Call("run_command", command="seq -f 'line %g of the output' 1 20000")
        name = re.search(r"results:[0-9a-f]{16}", " ".join(request.texts))
        assert name
        if turns < 6:
            return Call("read_file", path=name[0], offset=12_000, limit=3)
        if turns < 8:
            return Call("read_file", path=".orc/results/r-1/0.txt")
        if turns < 10:
            return Call("run_command", command="find . -type f | wc -l")
        return Say("done")

    turn = desk.work("@coder print many lines", script)
    assert turn.answer == "done"
    results = [str(event.fields["text"]) for event in turn.of("tool_result")]
    assert tokens(results[0]) < 4000
    assert "12000| line 12000 of the output\n12001|" in results[1].replace(" 12000|", "12000|")
    assert "orc's own" in turn.of("verdict")[2].fields["why"]
    assert results[2].splitlines()[1:] == ["0"]


def test_ten_megabytes_of_log_cost_at_most_the_budget(desk: Desk) -> None:
    desk.write("big.log", LOG * 17)
    desk.settings({"tools": {"result_tokens": {"read_file": 1000}}})
    turn = desk.work(
        "@coder what is in big.log?", [Call("read_file", path="big.log", limit=5000), Say("logins")]
    )
    text = str(turn.of("tool_result")[0].fields["text"])
    assert tokens(text) <= 1000
    assert "go on with offset=" in text


def test_reports_correct_the_estimate_and_nonsense_does_not() -> None:
    assert correction(1000, 1500) == 1.5
    assert [correction(1000, reported) for reported in (0, -5, 10**9, 1)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("The quick brown fox jumps over the lazy dog. " * 20, 160, 260),
        ("drwxr-xr-x 2 root root 4096 2026-11-25 04:10:59.123456 /var/log\n" * 10, 250, 480),
        ("日本語のテキストです。" * 20, 150, 330),
        ("", 0, 0),
    ],
)
def test_the_estimate_knows_prose_from_listings(text: str, least: int, most: int) -> None:
    assert least <= tokens(text) <= most
