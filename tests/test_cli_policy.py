"""`orc policy check|test|rejudge` and the policy files, as a person uses them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.cli import orc
from orchestrator.errors import ConfigError
from orchestrator.events import Journal, Place
from orchestrator.runs import Runs
from orchestrator.safety.policy_file import is_slow, load_book
from orchestrator.storage import open_state

COMMAND = [sys.executable, "-c", "from orchestrator.cli import main; main()"]
RULE = """\
rules:
- id: ours.frobnicate
  level: {level}
  why: it frobnicates
  program: [frobnicate]
  match: [frobnicate x]
  not_match: [ls]
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for kind in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"ORC_{kind}_DIR", str(tmp_path / kind))
    root = tmp_path / "ws"
    root.mkdir()
    (tmp_path / "CONFIG").mkdir()
    (root / "orchestrator.yaml").touch()
    monkeypatch.chdir(root)
    return root


def ask(*arguments: str, given: str | bytes = "") -> Result:
    return CliRunner().invoke(orc, arguments, input=given)


def judged(*lines: Any) -> list[dict[str, Any]]:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    result = ask("policy", "check", "-", given=text)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def decision(command: str) -> str:
    return str(json.loads(ask("policy", "check", "--json", command).stdout)["decision"])


def user_file(root: Path, text: str) -> Path:
    file = root.parent / "CONFIG" / "policy.yaml"
    file.write_text(text, "utf-8")
    return file


def test_a_verdict_names_rule_command_target_and_scope() -> None:
    shown = ask("policy", "check", "ls; sudo rm -rf /etc").stdout
    assert shown.startswith("deny: ")
    for part in (
        "[shell.delete-vital]",
        "command: rm -rf /etc",
        "target:  /etc (vital)",
        "shell.raises-rights",
    ):
        assert part in shown
    assert "in the sandbox, with snapshots: allow" in ask("policy", "check", "rm -rf build").stdout


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("ls -la", "allow"),
        ("make test", "allow"),
        ("cp a.txt b.txt", "allow_with_snapshot"),
        ("frobnicate", "review"),
        ("frobnicate /elsewhere", "ask"),
        ("frobnicate --delete x", "ask"),
        ("rm -rf build", "ask"),
        ("rm -rf /", "deny"),
        ("echo 'unclosed", "ask"),
    ],
)
def test_decisions_stand_for_the_command_alone(command: str, expected: str) -> None:
    assert decision(command) == expected


def test_many_are_judged_one_line_each_whatever_they_are() -> None:
    lines: list[Any] = [
        {"cmd": "rm -rf /srv/x", "workspace": "/srv/x", "home": "/home/a"},
        {"cmd": "rm -rf x", "workspace": "/srv/x", "cwd": "sub"},
        {"cmd": "rm -rf ..", "workspace": "/srv/x", "cwd": "/srv/x/sub"},
        "not json",
        "[" * 100_000,
        "",
        {"cmd": 7},
        {"cmd": "ls", "workspace": "relative"},
        {"cmd": "ls", "home": 7},
        {"cmd": "ls \udcff"},
        {"cmd": "ls \0"},
        {"cmd": "ls"},
    ]
    found = judged(*lines)
    assert [item["decision"] for item in found] == ["ask"] * 11 + ["allow"]
    assert [bool(item.get("error")) for item in found[3:9]] == [True] * 6
    assert found[0]["findings"][0]["rule"] == "shell.delete-root"


def test_ten_megabytes_and_bytes_that_are_no_text_get_a_verdict() -> None:
    lines = b'{"cmd": "ls ' + b"a" * 10_000_000 + b'"}\n\xff\xfe\n{"cmd": "ls"}\n'
    done = subprocess.run([*COMMAND, "policy", "check", "-"], input=lines, capture_output=True, check=True)
    decisions = [json.loads(line)["decision"] for line in done.stdout.splitlines()]
    assert decisions == ["ask", "ask", "allow"]


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=60))
def test_no_line_stops_the_stream(line: str) -> None:
    found = judged(line, {"cmd": line}, {"cmd": "ls"})
    assert len(found) == 3
    assert found[-1]["decision"] == "allow"


def test_the_built_in_rules_hold() -> None:
    result = ask("policy", "test")
    assert result.exit_code == 0
    assert "0 wrong" in result.stdout


def test_a_user_s_rule_makes_a_program_known(root: Path) -> None:
    user_file(root, RULE.format(level="allow"))
    assert decision("frobnicate x") == "allow"
    user_file(root, RULE.format(level="deny"))
    assert decision("frobnicate x") == "deny"


def test_a_user_may_loosen_a_rule_but_not_what_is_denied(root: Path) -> None:
    user_file(root, "levels: {git.force-push: allow, git.push: allow}\n")
    assert decision("git push --force") == "allow"
    file = user_file(root, "levels:\n  disk.format: ask\n  git.forc-push: ask\n")
    with pytest.raises(ConfigError) as caught:
        load_book(root)
    assert [(item.file, item.line, item.column) for item in caught.value.problems] == [
        (file, 2, 16),
        (file, 3, 3),
    ]
    assert "did you mean 'git.force-push'?" in str(caught.value)


@pytest.mark.parametrize("level", ["allow", "allow_with_snapshot"])
def test_a_workspace_may_not_loosen(root: Path, level: str) -> None:
    (root / "policy.yaml").write_text(RULE.format(level=level) + "levels: {git.push: allow}\n", "utf-8")
    result = ask("policy", "check", "ls")
    assert result.exit_code != 0
    problems = str(result.exception)
    assert "policy.yaml:3:10: rules.0.level: a workspace may only tighten" in problems
    assert "policy.yaml:8:20: levels.git.push: a workspace may only tighten" in problems


def test_a_workspace_s_rule_adds_and_vouches_for_nothing(root: Path) -> None:
    (root / "policy.yaml").write_text(RULE.format(level="review"), "utf-8")
    assert decision("frobnicate x") == "ask"
    assert json.loads(ask("policy", "check", "--json", "frobnicate /elsewhere").stdout)["inside"] is False
    (root / "policy.yaml").write_text("levels: {project.scripts: deny}\n", "utf-8")
    assert decision("npm ci") == "deny"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rules:\n- {id: a\n", "not valid YAML"),
        ("rulez: []\n", "policy.yaml:1:1: rulez: unknown key; did you mean 'rules'?"),
        ("rules:\n- id: a\n  level: fatal\n", "policy.yaml:3:10: rules.0.level: must be one of"),
        (
            RULE.format(level="ask").replace("[ls]", "[frobnicate y]"),
            "policy.yaml:7:15: rules.0.not_match.0: ours.",
        ),
        (RULE.format(level="ask").replace("[ls]", "[frobnicate x]"), "contradicts itself"),
        (RULE.format(level="ask").replace("ours.frobnicate", "git.push"), "is taken"),
        (RULE.format(level="ask") + "  argument: '('\n", "policy.yaml:8:13: rules.0.argument: not a regular"),
        (RULE.format(level="ask") + "  argument: '(a+)+$'\n", "policy.yaml:8:13: rules.0.argument: repeats"),
    ],
)
def test_an_error_in_a_policy_file_is_shown_where_it_is(root: Path, text: str, expected: str) -> None:
    (root / "policy.yaml").write_text(text, "utf-8")
    tested = ask("policy", "test")
    assert tested.exit_code == 1
    assert expected in tested.stderr
    assert ask("policy", "check", "ls").exit_code != 0


def test_a_wrong_policy_file_refuses_the_start(root: Path) -> None:
    (root / "policy.yaml").write_text("rules:\n- id: a\n  level: fatal\n", "utf-8")
    started = subprocess.run([*COMMAND, "run", "hello"], capture_output=True, text=True, check=False)
    assert started.returncode == 2
    assert "policy.yaml:3:10: rules.0.level: must be one of" in started.stderr
    assert not (root / ".orc").exists()


@pytest.mark.parametrize("pattern", [r"(a+)+", r"(\w*x)*", r"((ab)*c){2,}", r"(?:x|y+)*"])
def test_patterns_that_can_take_for_ever_are_found(pattern: str) -> None:
    assert is_slow(pattern)


@pytest.mark.parametrize("pattern", [r"a+b*", r"(a|b)+", r"[(+*]+", r"\(a+\)+", r"(ab)?c+", r"([a-z]+)x"])
def test_ordinary_patterns_are_not(pattern: str) -> None:
    assert not is_slow(pattern)


@pytest.fixture
def journal(root: Path) -> Iterator[Journal]:
    connection = open_state(root)
    run = Runs(connection, root).create("a request")
    journal = Journal(connection, root, Place(run.id, 1))
    yield journal
    journal.close()
    connection.close()


def note(journal: Journal, call: str, command: str, decision: str, rule: str = "harmless") -> None:
    arguments = {"command": command}
    journal.write("verdict", call=call, tool="run_command", decision=decision, rule=rule, arguments=arguments)


def test_recorded_calls_are_judged_again_and_flips_are_listed(journal: Journal) -> None:
    note(journal, "1", "git push --force", "allow")
    note(journal, "2", "ls", "deny", "old.rule")
    note(journal, "3", "rm -rf /", "deny")
    note(journal, "4", "ls", "ask", "request.asks-no-deletion")
    journal.write("verdict", call="5", tool="run_command", decision="allow", rule="harmless")
    journal.write("tool_intent", call="5", tool="run_command", arguments={"command": "git reset --hard"})
    result = ask("policy", "rejudge", "--since", "30d", "--json", "--check")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(item["arguments"]["command"], item["flip"]) for item in found] == [
        ("git push --force", "stricter"),
        ("ls", "looser"),
        ("git reset --hard", "stricter"),
    ]
    assert result.exit_code == 1
    assert "4 calls: 1 looser, 2 stricter" in result.stderr


def test_only_a_looser_verdict_fails_the_check(journal: Journal) -> None:
    note(journal, "1", "git push --force", "allow")
    assert ask("policy", "rejudge", "--check").exit_code == 0
    assert "stricter" in ask("policy", "rejudge").stdout
    assert "0 calls" in ask("policy", "rejudge", "--since", "0m").stderr
    assert "is no time span" in str(ask("policy", "rejudge", "--since", "soon").exception)


def _documented() -> list[str]:
    text = (Path(__file__).parents[1] / "docs" / "policy.md").read_text("utf-8")
    return text.split("```\n")[1].strip().split("\n")


@pytest.mark.parametrize("command", _documented())
def test_every_command_in_the_documentation_works(command: str, tmp_path: Path) -> None:
    orc_here = shlex.join([*COMMAND, ""]).removesuffix(" ''")
    done = subprocess.run(
        ["/bin/sh", "-c", command.replace("orc policy", f"{orc_here} policy")],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_documented_policy_file_is_valid(root: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "policy.md").read_text("utf-8")
    (root / "policy.yaml").write_text(text.split("```yaml\n")[1].split("```")[0], "utf-8")
    assert decision("shipit release 2") == "ask"
    assert decision("git push origin main") == "ask"
