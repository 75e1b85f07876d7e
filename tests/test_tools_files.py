"""Reading, listing, searching and changing files, through the same door as the tools node."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from scripted_sandbox import use

from orchestrator.errors import ToolError
from orchestrator.tools import search


def put(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def test_a_page_says_which_lines_of_how_many_it_shows(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "".join(f"line {number}\n" for number in range(1, 241)))
    text = use("read_file", tmp_path, path="a.txt", limit=120)
    assert text.splitlines()[:2] == ["a.txt: lines 1–120 of 240; go on with offset=121", "1| line 1"]  # noqa: RUF001
    text = use("read_file", tmp_path, path="./a.txt", offset=240)
    assert text == "a.txt: line 240 of 240\n240| line 240"


def test_a_page_that_is_too_big_ends_at_a_line_and_names_the_next(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", ("x" * 500 + "\n") * 100)
    first = use("read_file", tmp_path, path="a.txt")
    assert "of 100; go on with offset=39" in first
    assert "cut" not in first


def test_an_offset_past_the_end_is_explained(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "one\ntwo")
    with pytest.raises(ToolError, match=r"a.txt has 2 lines; offset 9"):
        use("read_file", tmp_path, path="a.txt", offset=9)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty file"),
        (b"\x7fELF\0\0", "an ELF program"),
        (b"a\0b", "3 bytes, binary"),
        (b"caf\xe9\n", "1| caf\ufffd"),
        (b"a\r\nb\r\n", "1| a\n2| b"),
        (b"x" * 3_000_000, "the line has 3,000,000 bytes"),
    ],
)
def test_odd_files_are_read_or_described(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    assert said in use("read_file", tmp_path, path="a")


def test_a_200_mb_file_is_read_in_little_memory_and_time(tmp_path: Path) -> None:
    with (tmp_path / "big.log").open("wb") as file:
        for _ in range(200):
            file.write(b"0123456789abcde\n" * 62_500)
    tracemalloc.start()
    started = time.monotonic()
    text = use("read_file", tmp_path, path="big.log", limit=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "12,500,000; go on with offset=4" in text or "about" in text
    assert peak < 20_000_000
    assert time.monotonic() - started < 5


def test_a_missing_file_brings_the_nearest_names(tmp_path: Path) -> None:
    put(tmp_path, "src/Notes.txt", "x")
    with pytest.raises(ToolError, match=r"no file 'notes.txt'; did you mean 'src/Notes.txt'"):
        use("read_file", tmp_path, path="notes.txt")
    with pytest.raises(ToolError, match="list_files"):
        use("read_file", tmp_path, path="src")


def test_a_listing_has_sizes_and_totals_and_leaves_out_caches(tmp_path: Path) -> None:
    put(tmp_path, "a.py", "x" * 58)
    put(tmp_path, "src/deep/b.py", "y")
    put(tmp_path, "src/deep/er/c.txt", "y")
    put(tmp_path, "node_modules/x.js", "y")
    put(tmp_path, ".git/HEAD", "y")
    assert use("list_files", tmp_path).splitlines() == [
        "a.py  58 bytes",
        "src/",
        "src/deep/ …",
        "1 file, 2 folders",
    ]
    assert use("list_files", tmp_path, glob="*.py").splitlines()[-1] == "2 files like *.py"
    assert use("list_files", tmp_path, path="src/deep").startswith("src/deep/b.py  1 byte\n")
    assert "(1 not shown" in use("list_files", tmp_path, glob="*.py", limit=1)


def test_a_search_gives_place_and_count(tmp_path: Path) -> None:
    put(tmp_path, "a.py", "import os\nprint(f(x))\n")
    put(tmp_path, "b/c.txt", "f(x) here\n")
    put(tmp_path, "b/d.bin", "f(x)\0")
    found = use("search_files", tmp_path, pattern="f(x)")
    assert found.splitlines() == ["2 matches in 2 files", "a.py:2: print(f(x))", "b/c.txt:1: f(x) here"]
    assert use("search_files", tmp_path, pattern=r"^im\w+", glob="*.py").endswith("a.py:1: import os")
    assert "b/c.txt:1:" in use("search_files", tmp_path, pattern="here", path="b/c.txt")
    assert use("search_files", tmp_path, pattern="zzz", glob="*.py") == "no match in 1 file like *.py"
    assert "with ignore_case=true: 1 match" in use("search_files", tmp_path, pattern="HERE")


def test_a_broken_regex_is_searched_as_text_and_says_so(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "x = a[\n")
    found = use("search_files", tmp_path, pattern="a[")
    assert "searched as plain text" in found
    assert "a.txt:1: x = a[" in found


def test_a_regex_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SECONDS", 0.5)
    put(tmp_path, "a.txt", "ok aab\n")
    put(tmp_path, "b.txt", "a" * 60 + "!\n")
    found = use("search_files", tmp_path, pattern="(a+)+b$")
    assert found.startswith("stopped after 0.5 s")
    assert "a.txt:1: ok aab" in found


def test_a_write_reports_and_checks_the_syntax(tmp_path: Path) -> None:
    assert (
        use("write_file", tmp_path, path="n/notes.txt", content="a\nb\nc\n")
        == "wrote n/notes.txt (3 lines, 6 bytes)"
    )
    assert use("write_file", tmp_path, path="a.py", content="x = 1\n").endswith("syntax: ok")
    assert "syntax error line 2" in use("write_file", tmp_path, path="a.py", content="x = 1\ny = (\n")
    assert "syntax error line 1" in use("write_file", tmp_path, path="a.json", content="{,}")
    assert "syntax error" in use("write_file", tmp_path, path="a.toml", content="a = \n")
    assert "syntax error line 2" in use("write_file", tmp_path, path="a.yaml", content="a: 1\n b: 2\n")
    with pytest.raises(ToolError, match="is a folder"):
        use("write_file", tmp_path, path="n", content="x")


def test_a_write_keeps_mode_bits_and_leaves_no_other_file(tmp_path: Path) -> None:
    put(tmp_path, "run.sh", "old").chmod(0o750)
    assert use("write_file", tmp_path, path="run.sh", content="new").startswith("replaced run.sh")
    assert (tmp_path / "run.sh").stat().st_mode & 0o777 == 0o750
    assert [item.name for item in tmp_path.iterdir()] == ["run.sh"]


def test_an_edit_shows_what_changed(tmp_path: Path) -> None:
    put(tmp_path, "a.py", "".join(f"v{number} = {number}\n" for number in range(30)))
    result = use("edit_file", tmp_path, path="a.py", old="v15 = 15", new="v15 = 51")
    assert "from line 13:" in result
    assert "-v15 = 15\n+v15 = 51" in result
    assert "v11" not in result
    assert result.endswith("syntax: ok")
    assert "v15 = 51\n" in (tmp_path / "a.py").read_text(encoding="utf-8")


def test_an_edit_that_fits_twice_names_the_lines(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "x\ny\nx\n")
    with pytest.raises(ToolError, match=r"occurs 2 times, at lines 1, 3; add lines around it"):
        use("edit_file", tmp_path, path="a.txt", old="x", new="z")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "x\ny\nx\n"


def test_an_edit_that_fits_twice_shows_what_would_fit_once(tmp_path: Path) -> None:
    put(tmp_path, "a.yml", "app:\n  host: a\ndb:\n  host: a")
    with pytest.raises(ToolError) as raised:
        use("edit_file", tmp_path, path="a.yml", old="host: a", new="host: b")
    assert str(raised.value).endswith('fits once:\n"app:\\n  host: a"\n"db:\\n  host: a"')


def test_an_edit_that_does_not_fit_shows_the_closest_lines(tmp_path: Path) -> None:
    put(tmp_path, "a.py", "def add(a, b):\n    return a - b\n")
    with pytest.raises(ToolError, match=r"closest lines:\n1\| def add\(a, b\):\n2\|     return a - b"):
        use("edit_file", tmp_path, path="a.py", old="    return a + b", new="x")
    with pytest.raises(ToolError, match="only spaces or indentation differ"):
        use("edit_file", tmp_path, path="a.py", old="\treturn a - b", new="x")
    with pytest.raises(ToolError, match="is not there; read_file shows"):
        use("edit_file", tmp_path, path="a.py", old="qqqqqqqq", new="x")


def test_an_edit_takes_numbered_lines_and_keeps_line_ends_and_broken_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n\xff\r\n")
    use("edit_file", tmp_path, path="a.txt", old="1| one\n2| two", new="1| one\n2| 2")
    assert (tmp_path / "a.txt").read_bytes() == b"one\r\n2\r\n\xff\r\n"


def test_whole_lines_that_are_taken_out_leave_no_empty_line(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "one\ntwo\nthree\n")
    use("edit_file", tmp_path, path="a.txt", old="two", new="")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "one\nthree\n"
    use("edit_file", tmp_path, path="a.txt", old="ne", new="")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "o\nthree\n"


def test_blank_space_alone_may_be_edited_and_is_told(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "one  \ntwo\n")
    assert "only blank space changed" in use("edit_file", tmp_path, path="a.txt", old="one  ", new="one")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "one\ntwo\n"


def test_a_move_never_overwrites(tmp_path: Path) -> None:
    put(tmp_path, "a.txt", "a")
    put(tmp_path, "b.txt", "b")
    (tmp_path / "box").mkdir()
    with pytest.raises(ToolError, match=r"'b.txt' exists already"):
        use("move_file", tmp_path, source="a.txt", target="b.txt")
    assert use("move_file", tmp_path, source="a.txt", target="box") == "moved a.txt to box/a.txt"
    assert use("move_file", tmp_path, source="b.txt", target="new/c.txt") == "moved b.txt to new/c.txt"
    with pytest.raises(ToolError, match="into itself"):
        use("move_file", tmp_path, source="box", target="box/inner")
    with pytest.raises(ToolError, match="no file 'zz'"):
        use("move_file", tmp_path, source="zz", target="y")


def test_a_full_folder_is_deleted_only_when_that_was_said(tmp_path: Path) -> None:
    put(tmp_path, "d/a.txt", "a")
    with pytest.raises(ToolError, match=r"is a folder with 1 item; use recursive=true"):
        use("delete_file", tmp_path, path="d")
    assert use("delete_file", tmp_path, path="d", recursive=True) == "deleted d/ (1 file)"
    with pytest.raises(ToolError, match="no file 'd'"):
        use("delete_file", tmp_path, path="d")


def test_wrong_arguments_name_the_right_ones(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"Use: read_file\(path, offset\?, limit\?, column\?\)"):
        use("read_file", tmp_path, file="a")


def test_the_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys, json, orchestrator.tools.registry as r;"
        "heavy = {'httpx2', 'trafilatura', 'numpy', 'langchain_core', 'ddgs', 'sqlite_utils', 'yaml'};"
        "print(json.dumps([sorted(heavy & set(sys.modules)), sorted(r.TOOLS)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    heavy, names = json.loads(done.stdout)
    assert heavy == []
    assert len(names) == 15


def test_finish_returns_the_answer(tmp_path: Path) -> None:
    assert use("finish", tmp_path, answer="42") == "42"
    with pytest.raises(ToolError, match="empty"):
        use("finish", tmp_path, answer=" ")
