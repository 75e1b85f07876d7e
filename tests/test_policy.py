from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from orchestrator.effects import WORST, Effects
from orchestrator.safety.policy import Policy
from orchestrator.safety.verdict import Call, Judgement, explain
from orchestrator.sandbox import Confinement

READ = Effects(writes=False, executes=False, network=False, paths=("path",))
WRITE = Effects(executes=False, network=False, paths=("path",))
FETCH = Effects(writes=False, executes=False)
RUN = Effects(network=False, paths=("cwd",))


@dataclass
class Walls:
    """A sandbox by name only: the policy never starts anything."""

    is_confining: bool = True
    has_gate: bool = True
    name: str = "walls"

    def wrap(self, argv: list[str], confinement: Confinement) -> list[str]:
        return argv


def judge(
    root: Path,
    tool: str,
    effects: Effects,
    /,
    approval: Literal["auto", "ask", "read-only"] = "auto",
    confining: bool = True,
    **arguments: Any,
) -> Judgement:
    policy = Policy(root, root.parent / "home", Walls(confining))
    return policy.judge(Call(tool, arguments, effects, "coder", approval))


def test_reading_and_writing_inside_is_allowed(tmp_path: Path) -> None:
    assert judge(tmp_path, "read_file", READ, path="a.txt").decision == "allow"
    written = judge(tmp_path, "write_file", WRITE, path="b/a.txt")
    assert (written.decision, written.inside, written.read_only) == ("allow", True, False)


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "b/../../a", ".orc/state.db", "./.orc"])
def test_paths_outside_and_our_own_records_are_denied(tmp_path: Path, path: str) -> None:
    assert judge(tmp_path, "read_file", READ, path=path).decision == "deny"
    assert judge(tmp_path, "write_file", WRITE, path=path).decision == "deny"


@pytest.mark.parametrize("kind", ["CONFIG", "DATA"])
def test_one_s_own_settings_and_approvals_are_protected_in_a_home_folder_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv(f"ORC_{kind}_DIR", str(tmp_path / "own" / "orc"))
    for path in ("own/orc/policy.yaml", "own/./orc/approvals.db", str(tmp_path / "own/orc/x")):
        assert judge(tmp_path, "write_file", WRITE, path=path).rule == "path.protected"
    assert judge(tmp_path, "delete_file", WRITE, path="own", recursive=True).rule == "path.protected"
    assert judge(tmp_path, "write_file", WRITE, path="own/notes").decision == "allow"


def test_the_repository_s_own_records_are_not_written_by_file_tools(tmp_path: Path) -> None:
    assert judge(tmp_path, "write_file", WRITE, path=".git/hooks/pre-commit").decision == "deny"
    assert judge(tmp_path, "read_file", READ, path=".git/HEAD").decision == "allow"


def test_deleting_much_is_asked_and_the_workspace_is_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    for number in range(60):
        (tmp_path / "many" / str(number)).touch()
    assert judge(tmp_path, "delete_file", WRITE, path="few", recursive=True).decision == "allow"
    assert judge(tmp_path, "delete_file", WRITE, path="many", recursive=True).decision == "ask"
    assert judge(tmp_path, "delete_file", WRITE, path=".", recursive=True).decision == "deny"


def test_a_page_is_fetched_and_a_secret_is_not_sent(tmp_path: Path) -> None:
    assert judge(tmp_path, "fetch_url", FETCH, url="https://docs.test/a?page=2").decision == "allow"
    for url in ["https://x.test/?q=" + "a " * 200, "https://x.test/?token=abc", "https://u:p@x.test/"]:
        assert judge(tmp_path, "fetch_url", FETCH, url=url).decision == "ask"
    assert judge(tmp_path, "web_search", FETCH, query="sk-" + "a1" * 20).decision == "ask"


def test_a_command_that_reads_runs_in_the_inspect_view(tmp_path: Path) -> None:
    found = judge(tmp_path, "run_command", RUN, command="ps aux | head -3")
    assert (found.decision, found.read_only) == ("allow", True)


def test_commands_are_judged_by_what_they_do(tmp_path: Path) -> None:
    expected = {
        "rm -rf build": "allow",
        "pytest -q": "allow",
        "python3 a.py": "allow",
        "rm -rf /": "deny",
        "git reset --hard": "ask",
        "git push origin main": "ask",
        "frobnicate /workspace/other": "ask",
        "sudo ls": "ask",
    }
    assert {text: judge(tmp_path, "run_command", RUN, command=text).decision for text in expected} == expected


def test_without_a_sandbox_every_command_is_asked(tmp_path: Path) -> None:
    for command in ["ls", "rm a", "python3 a.py"]:
        assert judge(tmp_path, "run_command", RUN, confining=False, command=command).decision == "ask"
    assert judge(tmp_path, "run_command", RUN, confining=False, command="rm -rf /").decision == "deny"
    assert judge(tmp_path, "run_python", RUN, confining=False, code="print(1)").decision == "ask"
    assert not judge(tmp_path, "run_command", RUN, confining=False, command="rm -rf /tmp/x").inside


def test_python_is_allowed_until_it_shows_something_grave(tmp_path: Path) -> None:
    expected = {
        "print(sum(range(10)))": "allow",
        "import os\nfor f in os.listdir('.'): os.remove(f)": "allow",
        "import shutil\nshutil.rmtree('build')": "allow",
        "import shutil\nshutil.rmtree(where)": "ask",
        "import os\nos.remove('/etc/hosts')": "ask",
        "import os\nos.system('rm -rf /')": "deny",
        "import subprocess\nsubprocess.run(['ls', '-l'])": "allow",
        "import subprocess\nsubprocess.run(command, shell=True)": "ask",
        "import urllib.request": "ask",
        "exec(input())": "ask",
        "p = '/'\nimport shutil as s\ns.rmtree(p)": "deny",
        "print('unclosed": "allow",
    }
    assert {text: judge(tmp_path, "run_python", RUN, code=text).decision for text in expected} == expected


def test_an_unknown_tool_is_asked(tmp_path: Path) -> None:
    assert judge(tmp_path, "frobnicate", WORST, thing="x").decision == "ask"
    assert judge(tmp_path, "send", Effects(executes=False), text="x").decision == "ask"


def test_a_working_folder_outside_is_denied(tmp_path: Path) -> None:
    assert judge(tmp_path, "run_command", RUN, command="ls", cwd="..").decision == "deny"
    assert judge(tmp_path, "run_command", RUN, command="rm -rf ..", cwd="a").decision == "ask"


def test_approval_modes_only_tighten(tmp_path: Path) -> None:
    assert judge(tmp_path, "write_file", WRITE, "ask", path="a").decision == "ask"
    assert judge(tmp_path, "write_file", WRITE, "read-only", path="a").decision == "deny"
    assert judge(tmp_path, "write_file", WRITE, "ask", path="../a").decision == "deny"
    assert judge(tmp_path, "read_file", READ, "read-only", path="a").decision == "allow"
    assert judge(tmp_path, "run_command", RUN, "read-only", command="df -h").decision == "allow"
    assert judge(tmp_path, "run_command", RUN, "read-only", command="git status").decision == "allow"
    assert judge(tmp_path, "run_command", RUN, "read-only", command="rm a").decision == "deny"
    assert judge(tmp_path, "run_command", RUN, "ask", command="pytest").decision == "ask"


@pytest.mark.parametrize("odd", [None, 7, ["a"], {"x": 1}, "\0", "\udcff", "$(" * 500, "a" * 100_000])
def test_odd_arguments_never_raise_and_never_allow_a_command(tmp_path: Path, odd: Any) -> None:
    assert judge(tmp_path, "run_command", RUN, command=odd).decision != "allow"
    judge(tmp_path, "write_file", WRITE, path=odd)
    judge(tmp_path, "run_python", RUN, code=odd)


def test_the_explanation_names_decision_reason_and_rule(tmp_path: Path) -> None:
    text = explain(judge(tmp_path, "run_command", RUN, command="sudo rm -rf /; echo \u202e"))
    assert text.startswith("deny: ")
    assert "[shell.delete-vital]" in text
    assert "shell.raises-rights" in text
    assert "\u202e" not in text
