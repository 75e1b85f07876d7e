"""A line that is too long for a page is read on, whole characters at a time, and searched with its place."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from desk import Desk, slowness
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Call, Reply, Request, Say
from scripted_sandbox import context, use, use_with

from orchestrator.errors import ToolError
from orchestrator.llm.tokens import tokens
from orchestrator.tools.results import shaped

MORE = re.compile(r"go on with (offset=(\d+)(?:, column=(\d+))?)")


def following(text: str) -> dict[str, int]:
    """The arguments that a page names for the next one; empty when there is none."""
    found = MORE.search(text)
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", found[1])} if found else {}


def paged(root: Path, path: str, **settings: Any) -> tuple[list[str], str]:
    """All pages of a file of one line, by following what each page names, and the line put together again."""
    given, where, pages, line = context(root, **settings), dict[str, int](), list[str](), ""
    while not pages or where:
        page = use_with(given, "read_file", path=path, **where)
        row = page.split("| ", 1)[1]
        line += row.rsplit(" [… cut, the line has", 1)[0] if " [… cut, the line has" in row else row
        pages.append(page)
        where = following(page)
    return pages, line


def minified(size: int) -> str:
    rows = ({"id": n, "name": f"Zoë {n}", "tags": ["日本", "🇩🇪", "e\u0301"], "ok": True} for n in range(size))
    return json.dumps(list(rows), ensure_ascii=False, separators=(",", ":"))


def test_a_file_of_one_line_is_read_to_its_end_within_the_budget(tmp_path: Path) -> None:
    text = minified(3_000)
    (tmp_path / "a.json").write_text(text, "utf-8")
    pages, line = paged(tmp_path, "a.json")
    assert line == text
    assert all(tokens(page) <= 5_000 for page in pages)
    assert len(pages) < tokens(text) / 3_500 + 2
    assert pages[1].startswith("a.json: line 1 of 1, characters 1,001–")  # noqa: RUF001


def test_ten_megabytes_in_one_line_are_entered_anywhere_in_little_time(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("é" * 5_000_000 + "x" * 100, "utf-8")
    started = time.monotonic()
    page = use("read_file", tmp_path, path="a.json", column=4_999_999)
    assert time.monotonic() - started < slowness()
    assert page == "a.json: line 1 of 1\n1:4999999| éé" + "x" * 100


def test_the_lines_behind_a_long_one_follow_it(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\n" + "x" * 2_500 + "\r\nthree\n", "utf-8")
    page = use("read_file", tmp_path, path="a.log")
    cut = "[… cut, the line has 2,502 bytes; go on with offset=2, column=1001]"
    assert page.splitlines() == ["a.log: lines 1–3 of 3", "1| one", f"2| {'x' * 1000} {cut}", "3| three"]  # noqa: RUF001
    rest = use("read_file", tmp_path, path="a.log", offset=2, column=1001)
    assert rest.splitlines() == ["a.log: lines 2–3 of 3", f"2:1001| {'x' * 1500}", "3| three"]  # noqa: RUF001


@pytest.mark.parametrize("column", [4, 5, 10**9])
def test_a_column_past_the_end_of_its_line_is_explained(tmp_path: Path, column: int) -> None:
    (tmp_path / "a").write_text("one\ntwo\n", "utf-8")
    with pytest.raises(ToolError, match=f"ends before column {column}"):
        use("read_file", tmp_path, path="a", offset=2, column=column)


@given(st.text(alphabet="ab é日👩🏽\u200d💻\u0301🇩🇪", max_size=6_000), st.integers(200, 600))
@settings(deadline=None, max_examples=60)
def test_no_page_breaks_a_character(tmp_path_factory: pytest.TempPathFactory, text: str, budget: int) -> None:
    root = tmp_path_factory.mktemp("lines")
    (root / "a").write_text(f"{text}.", "utf-8")
    pages, line = paged(root, "a", result_tokens={"read_file": budget})
    assert line == f"{text}."
    for page in pages[1:]:
        start = page.split("| ", 1)[1][:1]
        assert not (unicodedata.combining(start) or start == "\u200d") or len(set(text)) < 3


def test_a_long_result_of_one_line_is_read_on_where_it_was_cut(desk: Desk) -> None:
    """The notice names the very arguments; what they bring begins right where the head of the result ends."""

    def script(request: Request) -> Reply:
        turns = len(request["messages"])
        if turns < 4:
            return Call("run_command", command="seq -s , 1 60000")
        if turns < 6:
            name = re.search(r"results:[0-9a-f]{16}", request.last)
            where = re.search(r"from here with offset=(\d+), column=(\d+)", request.last)
            assert name
            assert where
            return Call("read_file", path=name[0], offset=int(where[1]), column=int(where[2]))
        return Say("done")

    turn = desk.work("@coder count", script)
    first, second = (str(event.fields["text"]) for event in turn.of("tool_result"))
    head = first.splitlines()[1]
    going_on = second.split("| ", 1)[1].split(" [… cut")[0]
    assert ",".join(map(str, range(1, 60_001))).startswith(head + going_on)
    assert tokens(second) <= 5_000


def test_places_of_a_kept_result_hold_when_a_secret_was_taken_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SECRET_TOKEN", "hunter2hunter2hunter2-" * 4)
    text = f"token {'hunter2hunter2hunter2-' * 4} " + " ".join(map(str, range(20_000)))
    found = shaped(text, 500, tmp_path)
    column = int(re.search(r"column=(\d+)", found)[1])  # type: ignore[index]
    (kept,) = tmp_path.iterdir()
    assert "hunter2" not in found
    assert kept.read_text("utf-8")[: column - 1].rstrip() == found.split("\n[…")[0]


def found(root: Path, pattern: str, **options: Any) -> tuple[str, list[tuple[int, int, str]]]:
    """The head of a search, and line, column and text of each row."""
    head, *rows = use("search_files", root, pattern=pattern, **options).splitlines()
    parts = [re.fullmatch(r"a\.json:(\d+)(?: \[column=(\d+)\])?: (.*)", row) for row in rows]
    return head, [(int(p[1]), int(p[2] or 0), p[3]) for p in parts if p]


def test_a_match_in_a_huge_line_is_shown_with_its_surroundings_and_its_place(tmp_path: Path) -> None:
    line = "é" * 3_000_000 + '{"name":"needle"}' + "日" * 2_000_000
    (tmp_path / "a.json").write_text(f"first\n{line}\nneedle\n", "utf-8")
    head, rows = found(tmp_path, "needle")
    assert head == "2 matches in 1 file"
    assert [row[0] for row in rows] == [2, 3]
    _, column, text = rows[0]
    assert text.startswith("…é")
    assert text.endswith("日…")
    assert '{"name":"needle"}' in text
    assert len(text) <= 302
    page = use("read_file", tmp_path, path="a.json", offset=2, column=column)
    assert page.split("| ", 1)[1].startswith(text.strip("…"))
    assert rows[1] == (3, 0, "needle")


@pytest.mark.parametrize("size", [2_001, 1 << 20, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize(
    "pattern", ["needle", "n[e]+dle", "^start|needle", r"(?<=x)needle(?=x)", "needle.*?x"]
)
def test_every_match_of_a_long_line_is_found_once_wherever_it_lies(
    tmp_path: Path, size: int, pattern: str
) -> None:
    step, piece = 1_000, 1 << 20
    places = sorted({
        *range(500, size, max(size // step // 7, 1) * step),
        *(piece * n + shift for n in (1, 2) for shift in (-400, -3) if piece * n + 50 < size),
    })
    places = [place for at, place in enumerate(places) if not at or place - places[at - 1] > 600]
    line = bytearray(b"x" * size)
    for place in places:
        line[place : place + 6] = b"needle"
    (tmp_path / "a.json").write_bytes(bytes(line[:size]))
    whole = [place for place in places if place + 7 <= size]
    _, rows = found(tmp_path, pattern, limit=500)
    assert [column + text.removeprefix("…").index("needle") - 1 for _, column, text in rows] == whole


def test_the_end_of_a_line_is_its_real_end(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("x" * ((1 << 20) - 6) + "needle" + "x" * (1 << 20) + "needle", "utf-8")
    _, rows = found(tmp_path, "needle$")
    assert len(rows) == 1
    assert rows[0][1] > 1 << 20


def test_many_matches_in_a_huge_line_are_counted_in_little_time(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(list(range(1_400_000))), "utf-8")
    started = time.monotonic()
    head, rows = found(tmp_path, r"\d+9,", limit=20)
    assert time.monotonic() - started < 5 * slowness()
    assert re.fullmatch(r"[\d,]+ matches in 1 file; the first 20 are shown", head)
    assert len(rows) == 20


def test_no_window_breaks_a_character(tmp_path: Path) -> None:
    line = "".join("e\u0301" for _ in range(5_000))
    for start in range(6):
        (tmp_path / "a.json").write_text("x" * start + line + "needle" + line, "utf-8")
        ((_, _, text),) = found(tmp_path, "needle")[1]
        assert not unicodedata.combining(text[1])
        assert unicodedata.combining(text[-2])
