"""What code does for a small model between its own calls: checks after changes, tries undone, files told."""

from __future__ import annotations

from pathlib import Path

import pytest
from desk import Desk
from scripted import Call, Say
from scripted_sandbox import use

from orchestrator.errors import ToolError
from orchestrator.nodes import drafting
from orchestrator.nodes.changes import UNCHANGED, files, told
from orchestrator.nodes.drafting import draft
from orchestrator.nodes.expecting import corrected
from orchestrator.nodes.imports import forgotten
from orchestrator.nodes.mending import parses, proposal
from orchestrator.nodes.proof import named_in, proof_of, sources_of
from orchestrator.nodes.repair import asks_for_repair, score

SMALL = {"size": "small", "tool_calls": "json"}
WRONG = "def area(r):\n    return 3 * r\n"
TEST = "from circle import area\n\nassert area(1) == 3\nassert area(2) == 12\nprint('ok')\n"


def edit(old: str, new: str, path: str = "circle.py") -> Call:
    return Call("edit_file", path=path, old=old, new=new)


def commands(desk: Desk) -> list[str]:
    fields = [event.fields for event in desk.events("tool_intent")]
    return [
        str(each["tool"] if each["tool"] != "run_command" else each["arguments"]["command"])
        for each in fields
    ]


def code(body: str) -> Say:
    return Say(f"The mistake is in the formula.\n\n```python\ndef area(r):\n    return {body}\n```\n")


def test_a_failing_check_is_run_first_and_after_each_change_and_vain_tries_are_undone(desk: Desk) -> None:
    desk.write("circle.py", WRONG)
    desk.write("test_circle.py", TEST)
    script = [code("3 * r + 0"), code("3 * r * r")]
    turn = desk.work("@coder test_circle.py fails, repair circle.py", script, model=SMALL)
    assert turn.answer.startswith("circle.py: repaired, `python3 test_circle.py` passes now.")
    assert "AssertionError" in turn.requests[0].last
    assert "return 3 * r\n" in turn.requests[1].last
    check = "python3 test_circle.py"
    tried = [check, "write_file", check]
    assert "area(2) gives 6" in turn.requests[0].last
    undone = ["write_file", "try_changes"]
    assert commands(desk) == ["read_file", "read_file", "run_python", *tried, *undone, *tried[1:]]
    assert desk.text("circle.py") == WRONG.replace("3 * r", "3 * r * r")
    assert [request["temperature"] for request in turn.requests] == [0.0, 0.4]


def test_a_change_that_brings_the_check_nearer_is_kept(desk: Desk) -> None:
    desk.write("circle.py", "def area(r):\n    return 4 * r\n")
    desk.write("test_circle.py", TEST)
    script = [code("3 * r"), code("3 * r * r")]
    turn = desk.work("@coder test_circle.py fails, repair circle.py", script, model=SMALL)
    assert turn.answer.startswith("circle.py: repaired, `python3 test_circle.py` passes now.")
    assert "return 3 * r\n" in turn.requests[1].last
    assert "line 4" in turn.requests[1].last


def test_the_check_itself_is_not_changed_to_make_it_pass(desk: Desk) -> None:
    desk.write("circle.py", WRONG + "# a long story\n" * 200)
    desk.write("test_circle.py", TEST)
    script = [
        edit("== 12", "== 6", "test_circle.py"),
        edit("3 * r", "3 * r * r"),
    ]
    turn = desk.work("@coder make test_circle.py pass", script, model=SMALL)
    assert "The mistake is in circle.py" in turn.requests[1].last
    assert desk.text("test_circle.py") == TEST


def test_words_without_code_are_a_try_in_vain(desk: Desk) -> None:
    desk.write("circle.py", WRONG)
    desk.write("test_circle.py", TEST)
    script = [Say("It looks right to me."), code("3 * r * r")]
    turn = desk.work("@coder make test_circle.py pass", script, model=SMALL)
    assert [request["temperature"] for request in turn.requests] == [0.0, 0.4]
    assert turn.answer.startswith("circle.py: repaired, `python3 test_circle.py` passes now.")


def test_an_answer_is_not_taken_while_the_check_fails(desk: Desk) -> None:
    desk.write("circle.py", WRONG + "# a long story\n" * 200)
    desk.write("test_circle.py", TEST)
    script = [Call("finish", answer="done"), edit("3 * r", "3 * r * r")]
    turn = desk.work("@coder make test_circle.py pass", script, model=SMALL)
    assert "python3 test_circle.py still fails" in turn.requests[1].last
    assert turn.answer.startswith("circle.py: repaired, `python3 test_circle.py` passes now.")


def test_a_task_that_wants_more_than_a_repair_is_ended_by_the_model(desk: Desk) -> None:
    desk.write("circle.py", WRONG)
    desk.write("test_circle.py", TEST)
    script = [code("3 * r * r"), Call("finish", answer="area() forgot to square r")]
    turn = desk.work(
        "@coder repair circle.py so that test_circle.py passes and tell me why", script, model=SMALL
    )
    assert turn.answer == "area() forgot to square r"


def test_the_answer_to_a_repair_shows_what_changed(desk: Desk) -> None:
    desk.write("circle.py", WRONG)
    desk.write("test_circle.py", TEST)
    turn = desk.work("@coder fix circle.py", [code("3 * r + 0"), code("3 * r * r")], model=SMALL)
    assert turn.answer.splitlines()[1:] == ["-    return 3 * r", "+    return 3 * r * r"]


STACK = "class Stack:\n    def push(self, x):\n        self.x = x\n\n    def pop(self):\n        return 0\n"


@pytest.mark.parametrize(
    ("answer", "path", "content"),
    [
        ("```python\n# b.py\ny = 1\n```", "b.py", "y = 1\n"),
        ("```\ndef pop(self):\n    return self.x\n```", "a.py", STACK.replace("return 0", "return self.x")),
        (
            "First:\n```python\nx\n```\nso:\n```python\nclass Stack:\n    pass\n```",
            "a.py",
            "class Stack:\n    pass\n",
        ),
        ("y = 2", "b.py", "y = 2"),
        ("I do not know.", "a.py", STACK.rstrip()),
    ],
)
def test_code_in_an_answer_becomes_a_file(answer: str, path: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(STACK)
    (tmp_path / "b.py").write_text("y = 0\n")
    (tmp_path / "test_a.py").write_text("from a import Stack\nfrom b import y\n")
    call = proposal(answer, "python3 test_a.py", tmp_path).tool_calls[0]
    assert call["args"] == {"path": path, "content": content}


def test_a_script_is_run_once_it_is_written(desk: Desk) -> None:
    script = [Say("Here it is:\n\n```python\nprint(2 * 3)\n```"), Call("finish", answer="it prints 6")]
    turn = desk.work("@coder write six.py and run it", script, model=SMALL)
    assert turn.answer == "it prints 6"
    assert commands(desk) == ["write_file", "python3 six.py"]
    assert "exit code 0" in turn.requests[1].last


def test_a_program_that_fails_is_asked_for_again_with_its_error(desk: Desk) -> None:
    desk.write("story.txt", "one three\n")
    wrong, right = "print(open('tale.txt').read())", "print(max(open('story.txt').read().split(), key=len))"
    script = [Say(f"```python\n{code}\n```") for code in (wrong, right)]
    turn = desk.work(
        "@coder write longest.py which prints the longest word in story.txt, and run it",
        [*script, Call("finish", answer="it prints three")],
        model=SMALL,
    )
    assert turn.answer == "it prints three"
    assert "one three" in turn.requests[0].last
    assert "No such file or directory: 'tale.txt'" in turn.requests[1].last
    assert [request["temperature"] for request in turn.requests] == [0.0, 0.4, 0.0]
    assert desk.text("longest.py") == f"{right}\n"


@pytest.mark.parametrize(
    ("goal", "name"),
    [
        ("write a.py and run it", "a.py"),
        ("write a test for old.py in test_old.py", "test_old.py"),
        ("rename old.py to new.py", ""),
        ("write down what old.py does", ""),
        ("create notes.txt", ""),
        ("write a.py and b.py", ""),
    ],
)
def test_a_new_program_is_known_by_its_name(goal: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("x = 1\n")
    assert drafting.wanted(goal, [], tmp_path) == name


def test_a_drafted_script_does_not_start_itself() -> None:
    answer = "```bash\n#!/bin/bash\ndu -sh\nchmod +x disk.sh\n./disk.sh\nbash ./disk.sh\ncat disk.sh\n```"
    call = drafting.draft(answer, "disk.sh")
    assert call is not None
    assert call.tool_calls[0]["args"]["content"] == "#!/bin/bash\ndu -sh\ncat disk.sh\n"


def test_a_large_model_makes_its_own_moves(desk: Desk) -> None:
    desk.write("circle.py", WRONG)
    desk.write("test_circle.py", TEST)
    script = [
        edit("3 * r", "3 * r * r"),
        Call("run_command", command="python3 test_circle.py"),
        Call("finish", answer="ok"),
    ]
    turn = desk.work("@coder test_circle.py fails, repair circle.py", script)
    assert commands(desk)[:2] == ["edit_file", "python3 test_circle.py"]
    assert "add_lines" not in turn.requests[0].tools
    assert "Files:" not in turn.requests[2].last


def test_a_small_model_is_told_what_a_command_did_to_the_files(desk: Desk) -> None:
    desk.write("tags.txt", "b\nb\na\n")
    script = [
        Call("run_command", command="sort -u tags.txt"),
        Call("run_command", command="sort -u -o tags.txt tags.txt"),
        Call("finish", answer="sorted"),
    ]
    turn = desk.work("@coder put the tags of tags.txt in order", script, model=SMALL)
    assert turn.requests[1].last.endswith(UNCHANGED)
    assert turn.requests[2].last.endswith("Files: changed tags.txt. It holds now:\n1| a\n2| b")


def test_made_changed_and_gone_files_are_named(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    before = files(tmp_path)
    (tmp_path / "a").unlink()
    (tmp_path / "b").write_text("more")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "e").write_text("e")
    assert told(before, tmp_path) == "\nFiles: made d/e; changed b; gone a."


@pytest.mark.parametrize(
    ("goal", "command"),
    [
        ("run python3 -m unittest tests.test_a and repair it", "python3 -m unittest tests.test_a"),
        ("python3 -m unittest fails", "python3 -m unittest"),
        ("python3 check.py stops with an error", "python3 check.py"),
        ("the tests fail", "python3 -m unittest tests.test_a"),
        ("fix check.py", "python3 check.py"),
    ],
)
def test_the_check_of_a_task_is_found(goal: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("import unittest\nfrom a import b\n")
    (tmp_path / "a.py").write_text("b = 1\n")
    if "check" in goal:
        (tmp_path / "check.py").write_text("assert 1\n")
    assert proof_of(goal, tmp_path) == command


def test_the_sources_of_a_check_are_the_test_and_what_it_imports(tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text("import json\nfrom a import b\n")
    (tmp_path / "a.py").write_text("b = 1\n")
    assert sources_of("python3 -m unittest test_a", tmp_path) == ["test_a.py", "a.py"]
    assert sources_of("python3 test_a.py", tmp_path) == ["test_a.py", "a.py"]


def test_fewer_failures_and_a_later_line_are_nearer() -> None:
    assert score("FAILED (failures=1, errors=1)") > score("FAILED (failures=1)")
    assert score('File "t.py", line 3, in <module>') > score('File "t.py", line 4, in <module>')
    assert score("3 failed, 1 passed") > score("2 failed, 2 passed")


@pytest.mark.parametrize(
    ("place", "after"), [("top", "x\na\nb\n"), ("end", "a\nb\nx\n"), (1, "a\nx\nb\n"), (0, "x\na\nb\n")]
)
def test_lines_are_added_at_a_place(place: str | int, after: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a\nb")
    use("add_lines", tmp_path, path="f", place=place, text="x")
    assert (tmp_path / "f").read_text().rstrip("\n") == after.rstrip("\n")


def test_lines_past_the_end_are_refused_and_line_ends_kept(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"a\r\n")
    with pytest.raises(ToolError, match="no line 9"):
        use("add_lines", tmp_path, path="f", place=9, text="x")
    use("add_lines", tmp_path, path="f", place="end", text="x\ny\n")
    assert (tmp_path / "f").read_bytes() == b"a\r\nx\r\ny\r\n"


def test_a_forgotten_import_is_added_and_the_code_run_again(desk: Desk) -> None:
    code = "print(json.dumps([1, 2]))"
    script = [Call("run_python", code=code), Call("finish", answer="[1, 2]")]
    turn = desk.work("@coder print a list as JSON", script, model=SMALL)
    runs = [event.fields["arguments"]["code"] for event in turn.of("tool_intent")]
    assert runs == [code, f"import json\n{code}"]
    assert "exit code 0" in turn.requests[1].last


def test_a_forgotten_import_goes_below_the_docstring_of_a_script(desk: Desk) -> None:
    text = '#!/usr/bin/env python3\n"""Say it."""\n\nprint(Counter("aab")["a"])\n'
    script = [Say(f"```python\n{text}```"), Call("finish", answer="it printed 2")]
    turn = desk.work("@coder write say.py and run it", script, model=SMALL)
    assert turn.answer == "it printed 2"
    assert desk.text("say.py").splitlines()[1:3] == ['"""Say it."""', "from collections import Counter"]


def test_a_name_that_python_does_not_bring_along_is_left_to_the_model(tmp_path: Path) -> None:
    assert forgotten("NameError: name 'json' is not defined", "json = json + 1", tmp_path) == ""
    assert forgotten("NameError: name 'total' is not defined", "print(total.x)", tmp_path) == ""
    assert forgotten("NameError: name 'datetime' is not defined", "datetime.now()", tmp_path) == (
        "from datetime import datetime"
    )


def test_what_a_module_beside_a_program_defines_is_imported_from_there(tmp_path: Path) -> None:
    error, code = "NameError: name 'Stack' is not defined", "stack = Stack()\n"
    (tmp_path / "stack.py").write_text("class Stack:\n    pass\n")
    assert forgotten(error, code, tmp_path) == "from stack import Stack"
    assert forgotten("NameError: name 'stack' is not defined", "stack.Stack()", tmp_path) == "import stack"
    assert forgotten(error, f"{code}class Stack:\n    pass\n", tmp_path) == ""
    (tmp_path / "other.py").write_text("def Stack():\n    pass\n")
    assert forgotten(error, code, tmp_path) == ""


def test_a_renaming_shows_all_uses_first_and_is_not_done_while_one_is_left(desk: Desk) -> None:
    desk.write("shop.py", "def calc(prices):\n    return sum(prices)\n")
    desk.write("main.py", "from shop import calc\n\nprint(calc([1, 2]))\n")
    script = [
        edit("def calc(", "def total(", "shop.py"),
        Call("finish", answer="renamed"),
        Call("run_command", command="sed -i 's/\\bcalc\\b/total/g' main.py"),
        Call("finish", answer="renamed everywhere"),
    ]
    turn = desk.work("@coder rename the function calc to total", script, model=SMALL)
    assert "main.py:3: print(calc([1, 2]))" in turn.requests[0].last
    assert "calc is still in main.py (2)" in turn.requests[2].last
    assert turn.answer == "renamed everywhere"


def test_a_command_that_failed_after_its_work_is_not_done_again(desk: Desk) -> None:
    desk.write("a.jpg", "a")
    script = [
        Say("I cannot list them"),
        Call("run_command", command="mv a.jpg b_a.jpg; ls b_"),
        Call("finish", answer="renamed"),
        Call("finish", answer="a.jpg is b_a.jpg now"),
    ]
    turn = desk.work("@coder rename the pictures so that they begin with b_", script, model=SMALL)
    assert "it did change files first" in turn.requests[3].last
    assert turn.answer == "a.jpg is b_a.jpg now"


@pytest.mark.parametrize(
    "words", ["write to example.com about it", "write, e.g. to a list", "a node.js thing"]
)
def test_what_only_looks_like_a_file_is_none(words: str) -> None:
    assert named_in(words) == []


def test_to_be_told_what_fails_is_no_repair(desk: Desk) -> None:
    desk.write("circle.py", WRONG)
    desk.write("test_circle.py", TEST)
    script = [Call("finish", answer="test_circle.py fails: area(2) is not 12")]
    turn = desk.work("@coder run the tests and tell me which ones fail", script, model=SMALL)
    assert commands(desk) == ["python3 test_circle.py"]
    assert turn.answer == "test_circle.py fails: area(2) is not 12"
    assert desk.text("circle.py") == WRONG


@pytest.mark.parametrize(
    ("goal", "is_repair"),
    [
        ("why does test_a.py fail?", False),
        ("how many tests fail", False),
        ("test_a.py fails with an AssertionError", True),
        ("run the tests, tell me which fail and fix them", True),
        ("is the sum in a.txt correct?", False),
        ("make test_a.py pass", True),
        ("set log_level to debug in app.conf", False),
        ("use the fixtures of tests/ in test_a.py", False),
        ("debug the parser", True),
    ],
)
def test_a_repair_is_told_from_a_question_about_failures(goal: str, *, is_repair: bool) -> None:
    assert asks_for_repair(goal) is is_repair


def test_a_new_test_expects_what_the_code_gives(desk: Desk) -> None:
    desk.write(
        "temperature.py",
        "def to_celsius(f):\n    return (f - 32) / 2\n\n\ndef is_cold(f):\n    return f < 32\n",
    )
    test = (
        "import unittest\n\nfrom temperature import is_cold, to_celsius\n\n\n"
        "class TestIt(unittest.TestCase):\n"
        "    def test_values(self):\n        self.assertEqual(to_celsius(32), 0)\n\n"
        "    def test_zero(self):\n        self.assertEqual(to_celsius(0), -18)\n\n"
        "    def test_cold(self):\n        self.assertFalse(is_cold(0))\n"
    )
    script = [Say(f"```python\n{test}```"), Call("finish", answer="test_temperature.py passes")]
    turn = desk.work(
        "@coder write test_temperature.py with tests of temperature.py and run it", script, model=SMALL
    )
    assert turn.answer == "test_temperature.py passes"
    assert "assertEqual(to_celsius(0), -16.0)" in desk.text("test_temperature.py")
    assert "assertTrue(is_cold(0))" in desk.text("test_temperature.py")
    assert len(turn.requests) == 2


def test_a_test_of_code_that_the_model_wrote_itself_keeps_its_expectations(desk: Desk) -> None:
    test = (
        "import unittest\n\nfrom half import half\n\n\nclass TestIt(unittest.TestCase):\n"
        "    def test_it(self):\n        self.assertEqual(half(8), 4)\n"
    )
    script = [
        Call("write_file", path="half.py", content="def half(number):\n    return number\n"),
        Call("write_file", path="test_half.py", content=test),
        Call("write_file", path="half.py", content="def half(number):\n    return number / 2\n"),
        Call("run_command", command="python3 -m unittest test_half"),
        Call("finish", answer="half.py is tested"),
    ]
    desk.work(
        "@coder half a number in half.py, with a unittest in test_half.py, and run it", script, model=SMALL
    )
    assert desk.text("test_half.py") == test


@pytest.mark.parametrize(
    ("row", "failure"),
    [
        ("self.assertEqual(f(1), g(2))", "AssertionError: 1 != 2"),
        ("self.assertEqual(f(1), 2)", "AssertionError: <object at 0x1> != 2"),
        ("self.assertEqual(f(1), 2)", "TypeError: 1"),
        ("assert f(1) == 2", "AssertionError"),
        ("self.assertIn(1, f(2))", "AssertionError: 1 not found in [2]"),
        ("self.assertEqual(f(1),", "AssertionError: 1 != 2"),
    ],
)
def test_what_cannot_be_corrected_is_left(row: str, failure: str) -> None:
    output = f'{"=" * 70}\nFAIL\n  File "/w/test_a.py", line 1, in test\n{failure}\n'
    assert corrected(f"{row}\n", "test_a.py", output) is None


def test_of_equal_places_the_one_that_the_task_names_is_edited(desk: Desk) -> None:
    desk.write("style.css", "body {\n  color: white;\n}\n.card {\n  color: white;\n}\n")
    script = [edit("color: white;", "color: red;", "style.css"), Call("finish", answer="body is red")]
    turn = desk.work("@coder in style.css give the card a red color", script, model=SMALL)
    assert turn.answer == "body is red"
    assert desk.text("style.css") == "body {\n  color: white;\n}\n.card {\n  color: red;\n}\n"


def test_where_the_task_names_no_place_the_model_has_to_choose(desk: Desk) -> None:
    desk.write("style.css", "body {\n  color: white;\n}\n.card {\n  color: white;\n}\n")
    script = [
        edit("color: white;", "color: red;", "style.css"),
        edit("body {\n  color: white;", "body {\n  color: red;", "style.css"),
        Call("finish", answer="it is red"),
    ]
    turn = desk.work("@coder change white to red in style.css, one time", script, model=SMALL)
    assert "occurs 2 times" in turn.requests[1].last
    assert turn.answer == "it is red"


def test_a_new_test_that_does_not_end_is_cut() -> None:
    rows = ["import unittest", "", "", "class TestIt(unittest.TestCase):", "    def test_it(self):"]
    rows += [f"        self.assertTrue(f({number}))" for number in range(90)] + ["        self.assertTrue(f("]
    call = draft("```python\n" + "\n".join(rows), "test_it.py")
    assert call is not None
    content = str(call.tool_calls[0]["args"]["content"])
    assert content.count("assertTrue") == 6
    assert parses(content)


def test_a_program_that_is_needed_is_written(desk: Desk) -> None:
    script = [Say("```python\nprint(2)\n```"), Call("finish", answer="it prints 2")]
    turn = desk.work("@coder I need a script two.py that prints 2. Run it", script, model=SMALL)
    assert (desk.text("two.py"), turn.answer) == ("print(2)\n", "it prints 2")
