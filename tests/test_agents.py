"""Agent files: what extends, what is refused, and what stays when a file breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.workspace.specialists import AgentFolder, Agents, load_agents
from orchestrator.workspace.trust import distrust, trust

TOOLS = (
    *(
        "read_file",
        "list_files",
        "search_files",
        "write_file",
        "edit_file",
        "add_lines",
        "move_file",
        "delete_file",
    ),
    *("run_command", "run_python", "fetch_url", "web_search", "search_docs", "finish"),
)
READ_ONLY = frozenset({"read_file", "list_files", "search_files", "search_docs"})


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORC_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("ORC_DATA_DIR", str(tmp_path / "data"))
    root = tmp_path / "ws"
    (root / "agents").mkdir(parents=True)
    trust(root)
    monkeypatch.chdir(root)
    return root


def write(root: Path, name: str, settings: str, prompt: str = "Work.") -> Path:
    path = root / "agents" / name
    path.write_text(f"---\n{settings}\n---\n{prompt}\n", "utf-8")
    return path


def load(root: Path) -> Agents:
    return load_agents(root, TOOLS, READ_ONLY)


def folder(root: Path) -> AgentFolder:
    return AgentFolder(root, TOOLS, READ_ONLY)


def refused(root: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(root)
    return str(caught.value).splitlines()


def test_the_built_in_specialists_are_there_and_need_no_trust(tmp_path: Path, root: Path) -> None:
    agents = load(tmp_path / "elsewhere")
    assert set(agents) == {"coder", "researcher", "sysadmin"}
    assert not agents.needs_trust
    assert "write_file" in agents["coder"].tools
    for agent in agents.values():
        assert agent.is_builtin
        assert 20 <= len(agent.routing.examples) <= 30
        assert 15 <= len(agent.routing.keywords) <= 25
        assert len(agent.prompt.splitlines()) <= 12


def test_a_new_file_is_a_new_specialist(root: Path) -> None:
    write(root, "dba.md", "description: Tunes queries.\nmodel: strong\ntools: [run_command]", "You tune.")
    agent = load(root)["dba"]
    assert (agent.prompt, agent.model, agent.tools) == ("You tune.", "strong", ("run_command", "finish"))
    assert not agent.is_builtin


def test_a_yaml_file_carries_its_prompt(root: Path) -> None:
    (root / "agents" / "poet.yaml").write_text("description: Rhymes.\nprompt: |\n  Rhyme.\n", "utf-8")
    assert load(root)["poet"].prompt == "Rhyme."


def test_a_child_takes_over_what_it_does_not_say_but_no_routing(root: Path) -> None:
    base = "description: x\ntools: [read_file]\nmodel: fast\nlimits: {usd: 1, tool_calls: 5}\napproval: ask"
    write(root, "base.md", base + "\nrouting: {examples: [do it]}", "Base prompt.")
    write(root, "child.md", "description: y\nextends: base\nlimits: {tool_calls: 9}", "")
    child = load(root)["child"]
    assert (child.tools, child.model, child.approval) == (("read_file", "finish"), "fast", "ask")
    assert child.limits is not None
    assert (child.limits.tool_calls, str(child.limits.usd)) == (9, "1")
    assert child.prompt == "Base prompt."
    assert child.routing.examples == []


def test_a_file_may_replace_and_extend_the_built_in_of_its_name(root: Path) -> None:
    write(root, "coder.md", "description: Ours.\nextends: coder\nmodel: strong", "")
    agents = load(root)
    assert (agents["coder"].description, agents["coder"].model) == ("Ours.", "strong")
    assert len(agents["coder"].routing.examples) >= 20
    assert agents.origins["coder"]["model"] == "agents/coder.md:4"


def test_problems_of_all_files_come_at_once(root: Path) -> None:
    write(root, "a.md", "description: x\nextends: b")
    write(root, "b.md", "description: x\nextends: a")
    write(root, "c.md", "description: x\nextends: codr\ntools: [read_fil]")
    write(root, "d.md", "name: b\ndescription: x")
    write(root, "none.md", "description: x")
    write(root, "E F.md", "description: x", "")
    assert refused(root) == [
        "agents/E F.md:2:1: has no prompt; write one below the second `---`",
        "agents/E F.md:2:1: the file's name 'E F' is no agent name; use a-z, 0-9 and -, or set `name:`",
        "agents/a.md:3:10: extends: leads back to itself: a → b → a",
        "agents/b.md:3:10: extends: leads back to itself: b → a → b",
        "agents/c.md:3:10: extends: unknown agent 'codr'; did you mean 'coder'?",
        "agents/c.md:4:9: tools.0: unknown tool 'read_fil'; did you mean 'read_file'?",
        "agents/d.md:2:7: name: the name 'b' is taken by agents/b.md; each agent needs its own",
        "agents/none.md:2:1: name: the name 'none' is reserved; choose another",
    ]


def test_a_child_is_not_blamed_for_its_broken_parent(root: Path) -> None:
    write(root, "base.md", "descripton: x")
    write(root, "child.md", "description: y\nextends: base")
    assert refused(root) == ["agents/base.md:2:1: descripton: unknown key; did you mean 'description'?"]


def test_other_files_in_the_folder_are_left_alone(root: Path) -> None:
    for name in ("README.md", ".draft.md", "#x.md#", "x.md~", "notes.txt"):
        (root / "agents" / name).write_text("no agent", "utf-8")
    assert set(load(root)) == {"coder", "researcher", "sysadmin"}


def test_agents_of_an_untrusted_folder_have_read_only_tools(root: Path) -> None:
    write(root, "dba.md", "description: x\nextends: coder")
    assert "run_command" in load(root)["dba"].tools
    distrust(root)
    agents = load(root)
    assert agents.needs_trust
    assert set(agents["dba"].tools) <= READ_ONLY | {"finish"}
    assert "run_command" in agents["coder"].tools


def test_a_broken_edit_keeps_the_last_good_version_in_this_and_the_next_process(root: Path) -> None:
    path = write(root, "dba.md", "description: Good.", "Old prompt.")
    first = folder(root)
    first.current()
    path.write_text("---\ndescripton: Bad.\n---\nNew prompt.\n", "utf-8")
    for reader in (first, folder(root)):
        agents = reader.current()
        assert agents["dba"].prompt == "Old prompt."
        assert agents["dba"].source == path
        assert [str(problem) for problem in agents.problems] == [
            "agents/dba.md:2:1: descripton: unknown key; did you mean 'description'?"
        ]
        assert reader.problems == agents.problems


def test_a_parent_that_breaks_keeps_its_child_working(root: Path) -> None:
    path = write(root, "base.md", "description: x\ntools: [read_file]")
    write(root, "child.md", "description: y\nextends: base")
    reader = folder(root)
    reader.current()
    path.unlink()
    path.write_text("nonsense", "utf-8")
    assert reader.current()["child"].tools == ("read_file", "finish")


def test_a_new_file_that_is_broken_stops_a_run_but_not_a_session_under_way(root: Path) -> None:
    reader = folder(root)
    reader.current()
    write(root, "coder.md", "descripton: x")
    with pytest.raises(ConfigError):
        folder(root).current()
    agents = reader.current()
    assert "coder" not in agents
    assert len(agents.problems) == 1


def test_files_are_read_again_only_when_one_changed(root: Path) -> None:
    reader = folder(root)
    before = reader.current()
    assert reader.current() is before
    path = write(root, "dba.md", "description: x")
    assert "dba" in reader.current()
    path.unlink()
    assert "dba" not in reader.current()
    assert list((root / ".orc" / "agents-good").iterdir()) == []


def test_an_untrusted_folder_cannot_bring_its_own_good_copies(root: Path) -> None:
    distrust(root)
    write(root, "dba.md", "descripton: x")
    copies = root / ".orc" / "agents-good"
    copies.mkdir(parents=True)
    (copies / "dba.md").write_text("---\ndescription: planted\n---\nObey.\n", "utf-8")
    with pytest.raises(ConfigError):
        folder(root).current()
