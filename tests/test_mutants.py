"""A repair is looked for among all small changes when a small model's own idea did not help."""

from __future__ import annotations

from pathlib import Path

import pytest
from desk import Desk
from scripted import Say

from orchestrator.tools.mutants import changes, found

SMALL = {"size": "small", "tool_calls": "json"}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("def f(a, b):\n    return a - b", "    return a + b"),
        ("def f(a):\n    return a < 3", "    return a <= 3"),
        ("def f(a, b):\n    return a and b", "    return a or b"),
        ("def f(text):\n    return text == text[::-1]", "    return text.lower() == text[::-1]"),
        ("def f(n):\n    for i in range(n):\n        return i", "    for i in range(1, n + 1):"),
        ("def f(n):\n    for i in n:\n        s = i\n        return s", "    return s"),
        ("def f(a):\n    return max(a)", "    return min(a)"),
        ("def f(a):\n    return sum(a) / len(a)", "    return (sum(a) / len(a)) if a else 0"),
        ("def f(a, b):\n    return a", "    return b"),
        ("def f(a):\n    if a:\n        return 1", "    if not (a):"),
        ("def f(a):\n    return a[1:]", "    return a[:]"),
        ("def f(a):\n    return sorted(a)", "    return sorted(a, reverse=True)"),
        ("def f(a):\n    a += 1\n    return a", "    a -= 1"),
        ("def f(a):\n    return 'ä' + a.upper()", "    return 'ä' + a.lower()"),
    ],
)
def test_a_small_mistake_is_one_change_away(wrong: str, right: str) -> None:
    rows = wrong.splitlines()
    made = changes(wrong)
    assert right in [text for _, text in made]
    assert all(rows[line - 1] != text for line, text in made)


def test_what_a_search_printed_is_read() -> None:
    assert found('exit code 0 (1.0 s)\n["a.py", 2, "    return 1"]') == ("a.py", 2, "    return 1")
    assert found("exit code 0 (9.0 s)\n(no output)") is None


@pytest.mark.parametrize(
    ("check", "test"),
    [
        (
            "test_words.py",
            "from words import vowels\n\nassert vowels('Apple') == 2\nassert vowels('Sky') == 0\n",
        ),
        (
            "test_words.py",
            "import unittest\n\nfrom words import vowels\n\n\nclass Words(unittest.TestCase):\n"
            "    def test_it(self):\n        self.assertEqual(vowels('Apple'), 2)\n",
        ),
    ],
)
def test_the_search_mends_what_the_model_did_not(desk: Desk, check: str, test: str) -> None:
    code = "def vowels(text):\n    return sum(1 for letter in text if letter in 'aeiou')\n"
    desk.write("words.py", code)
    desk.write("test_words.py", test)
    vain = "def vowels(text):\n    return len([letter for letter in text if letter in 'aeiou'])\n"
    turn = desk.work(f"@coder {check} fails, repair words.py", [Say(f"```python\n{vain}```")], model=SMALL)
    assert "text.lower()" in desk.text("words.py")
    assert "passes now" in turn.answer
    assert len(turn.requests) == 1


def test_the_search_leaves_the_files_alone_and_ends_where_nothing_helps(desk: Desk) -> None:
    desk.write("half.py", "def half(number):\n    return 'a'\n")
    desk.write("test_half.py", "from half import half\n\nassert half(3) == 'xyz'\n")
    vain = "def half(number):\n    return 'b'\n"
    right = "def half(number):\n    return 'xyz'\n"
    script = [Say(f"```python\n{vain}```"), Say(f"```python\n{right}```")]
    turn = desk.work("@coder test_half.py fails, repair half.py", script, model=SMALL)
    tools = [event.fields["tool"] for event in turn.of("tool_intent")]
    assert tools.count("try_changes") == 1
    assert "passes now" in turn.answer
    assert not list(Path(desk.root).glob("run_by_itself.py"))


def test_endless_tries_are_given_up(desk: Desk) -> None:
    code = "def count(n):\n    i = 0\n    while i < n:\n        i += 1\n    return i - 1\n"
    desk.write("count.py", code)
    desk.write("test_count.py", "from count import count\n\nassert count(3) == 3\nassert count(0) == 0\n")
    turn = desk.work(
        "@coder test_count.py fails, repair count.py", [Say(f"```python\n{code}```")], model=SMALL
    )
    assert "passes now" in turn.answer
