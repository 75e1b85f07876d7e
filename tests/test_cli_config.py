"""`orc init`, `agents`, `config`, `schema`, `trust` and `doctor`, as a person uses them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from orchestrator.cli import orc
from orchestrator.errors import ConfigError, UsageError
from orchestrator.workspace.trust import is_trusted

COMMAND = [sys.executable, "-c", "from orchestrator.cli import main; main()"]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for kind in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"ORC_{kind}_DIR", str(tmp_path / kind))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "ORC_MODEL_PATH", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "ws"
    root.mkdir()
    monkeypatch.chdir(root)
    return root


def ask(*arguments: str) -> Result:
    return CliRunner().invoke(orc, arguments)


def printed(*arguments: str) -> str:
    result = ask(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def parsed(*arguments: str) -> Any:
    return json.loads(printed(*arguments))


def test_init_makes_a_trusted_workspace_and_overwrites_nothing(root: Path) -> None:
    (root / ".git").mkdir()
    (root / ".gitignore").write_text("*.pyc", "utf-8")
    printed("init")
    assert is_trusted(root)
    assert (root / ".gitignore").read_text("utf-8") == "*.pyc\n.orc/\n"
    (root / "orchestrator.yaml").write_text("plan: false\n", "utf-8")
    assert "stays as it is" in printed("init")
    assert (root / "orchestrator.yaml").read_text("utf-8") == "plan: false\n"
    assert (root / ".gitignore").read_text("utf-8") == "*.pyc\n.orc/\n"


def test_every_example_in_the_new_settings_file_is_valid(root: Path) -> None:
    printed("init")
    path = root / "orchestrator.yaml"
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(line.removeprefix("# ") for line in lines[3:]), "utf-8")
    assert parsed("config", "show", "--json")["limits"]["usd"] == "2.0"


def test_a_new_agent_is_listed_checked_and_shown(root: Path) -> None:
    printed("agents", "new", "dba", "--description", 'Says: "fast" queries.', "--extends", "coder")
    printed("agents", "new", "poet", "--yaml")
    rows = {row["name"]: row for row in parsed("agents", "list", "--json")}
    assert rows["dba"]["source"] == "agents/dba.md"
    assert rows["dba"]["trusted"]
    assert rows["coder"]["source"] == "built-in"
    assert printed("agents", "check") == "5 agent files, no problems\n"
    shown = parsed("agents", "show", "dba", "--json")
    assert shown["description"] == 'Says: "fast" queries.'
    assert shown["origins"]["description"] == "agents/dba.md:2"
    assert "You are dba." in printed("agents", "show", "dba")


def test_new_never_overwrites_and_refuses_bad_names(root: Path) -> None:
    printed("agents", "new", "dba")
    for arguments in (["dba"], ["dba", "--yaml"], ["../x"], ["none"], ["x", "--extends", "nobody"]):
        assert isinstance(ask("agents", "new", *arguments).exception, UsageError)
    assert [path.name for path in (root / "agents").iterdir()] == ["dba.md"]


def test_new_does_not_trust_a_folder_that_has_other_agent_files(root: Path) -> None:
    (root / "agents").mkdir()
    (root / "agents" / "found.md").write_text("---\ndescription: x\n---\nhi\n", "utf-8")
    printed("agents", "new", "dba")
    assert not is_trusted(root)
    assert "read-only tools only" in ask("agents", "list").stderr


def test_a_misspelt_key_is_one_line_and_exit_2(root: Path) -> None:
    (root / "agents").mkdir()
    (root / "agents" / "dba.md").write_text("---\ndescripton: x\n---\nhi\n", "utf-8")
    ended = subprocess.run([*COMMAND, "agents", "check"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "error: agents/dba.md:2:1: descripton: unknown key; did you mean 'description'?\n"
    assert isinstance(ask("agents", "show", "dba").exception, UsageError)


def test_list_is_a_table_on_a_terminal_and_tabs_in_a_pipe() -> None:
    assert [line.split("\t")[0] for line in printed("agents", "list").splitlines()] == [
        *("coder", "researcher", "sysadmin")
    ]
    ours, theirs = pty.openpty()
    plain = os.environ | {"NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "120"}
    subprocess.run([*COMMAND, "agents", "list"], stdout=theirs, env=plain, check=True)
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert text.split()[:3] == ["name", "model", "tools"] or "\x1b[1mname" in text
    assert "\t" not in text


def test_config_show_names_the_origin_of_each_value(root: Path) -> None:
    (root / "orchestrator.yaml").write_text("limits:\n  tool_calls: 7\n", "utf-8")
    lines = printed("config", "show", "--origin").splitlines()
    assert "limits.tool_calls\t7\torchestrator.yaml:2" in lines
    assert "plan\ttrue\tdefault" in lines


def test_schemas_describe_every_field() -> None:
    for kind, key in (("agent", "approval"), ("settings", "limits")):
        found = parsed("schema", kind)
        assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert key in found["properties"]
        parts = [found, *found["$defs"].values()]
        fields = [field for part in parts for field in part.get("properties", {}).items()]
        assert [name for name, field in fields if "description" not in field] == []


def test_trust_is_given_listed_and_taken(root: Path) -> None:
    printed("trust")
    assert printed("trust", "--list").split("\t")[0] == str(root)
    printed("trust", "--revoke")
    assert printed("trust", "--list") == ""
    assert isinstance(ask("trust", "gone").exception, UsageError)


def test_doctor_names_each_check_and_the_next_step(root: Path) -> None:
    found = {row["check"]: row for row in json.loads(ask("doctor", "--json").stdout)}
    assert list(found) == [
        *(
            "python",
            "libraries",
            "workspace",
            "agents",
            "sandbox",
            "policy",
            "shfmt",
            "models",
            "state",
            "ledger",
            "breakers",
            "disk",
        )
    ]
    assert found["python"]["status"] == "ok"
    assert found["models"]["next"]
    assert all(row["next"] for row in found.values() if row["status"] != "ok")


def test_doctor_fails_on_a_broken_agent_file_and_a_foreign_state_file(root: Path) -> None:
    for folder in ("agents", ".orc"):
        (root / folder).mkdir()
    (root / "agents" / "dba.md").write_text("nonsense", "utf-8")
    (root / ".orc" / "state.db").write_text("this is no database, whatever its name says", "utf-8")
    result = ask("doctor", "--json")
    failed = {row["check"] for row in json.loads(result.stdout) if row["status"] == "fail"}
    assert {"agents", "state"} <= failed
    assert result.exit_code == 1


def test_a_wrong_settings_file_is_a_config_error(root: Path) -> None:
    (root / "orchestrator.yaml").write_text("pln: true\n", "utf-8")
    assert isinstance(ask("config", "show").exception, ConfigError)


def commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{above}{name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")


def test_the_help_of_every_command_has_examples() -> None:
    found = dict(commands(orc))
    assert len(found) > 50
    assert [name for name, command in found.items() if "Examples:" not in (command.epilog or "")] == []
    assert "Examples:" in printed("db", "gc", "--help")


def test_listing_agents_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom orchestrator.cli import main\n"
        "try:\n    main(['agents', 'list'])\nexcept SystemExit:\n    pass\n"
        "heavy = ('langgraph', 'langchain_core', 'openai', 'httpx2', 'numpy', 'rich', 'trafilatura')\n"
        "print([name for name in heavy if name in sys.modules], file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr.strip() == "[]"
