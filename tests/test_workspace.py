"""Finding a workspace, its settings over the user's, and whom the user trusts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError, StorageError
from orchestrator.settings import ModelSettings, Settings, config_dir, resolve_model
from orchestrator.workspace.folders import builtin_folder, nearest_workspace
from orchestrator.workspace.layers import load_settings, read_layers
from orchestrator.workspace.trust import distrust, is_trusted, trust, trusted_folders


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORC_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("ORC_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "config").mkdir()
    root = tmp_path / "ws"
    root.mkdir()
    monkeypatch.chdir(root)
    return root


def settings(root: Path, text: str, user: str = "") -> Settings:
    (config_dir() / "orchestrator.yaml").write_text(user, "utf-8")
    (root / "orchestrator.yaml").write_text(text, "utf-8")
    return load_settings(root)


def test_the_nearest_folder_with_a_settings_file_is_the_workspace(root: Path) -> None:
    deep = root / "a" / "b"
    deep.mkdir(parents=True)
    assert nearest_workspace(deep) == deep
    (root / "orchestrator.yaml").touch()
    assert nearest_workspace(deep) == root
    (root / "a" / "orchestrator.yaml").touch()
    assert nearest_workspace(deep) == root / "a"


def test_a_settings_file_in_a_folder_open_to_all_does_not_rule_those_below(root: Path) -> None:
    shared = root / "shared"
    (shared / "mine").mkdir(parents=True)
    (shared / "orchestrator.yaml").touch()
    shared.chmod(0o1777)
    assert nearest_workspace(shared / "mine") == shared / "mine"


def test_the_built_in_folders_exist() -> None:
    assert (builtin_folder("agents") / "coder.md").is_file()


def test_nothing_written_means_the_defaults(root: Path) -> None:
    assert load_settings(root) == Settings()


def test_the_workspace_file_lies_over_the_users(root: Path) -> None:
    user = "plan: false\ntools: {command_seconds: 5, docs: [a]}\nmodels: {fast: {model: f, base_url: http://h/v1}}"
    found = settings(root, "tools: {docs: [b]}\nmodels: {fast: {model: g}}", user)
    assert not found.plan
    assert (found.tools.command_seconds, found.tools.docs) == (5, ["b"])
    assert found.models["fast"] == ModelSettings(model="g")


def test_a_workspace_tightens_the_users_limits_and_never_loosens_them(root: Path) -> None:
    user = "limits: {usd: 2, tool_calls: 50, seconds: 60}"
    found = settings(root, "limits: {usd: 5, tool_calls: 10, seconds: 61, model_calls: 200}", user).limits
    assert (str(found.usd), found.tool_calls, found.seconds, found.model_calls) == ("2", 10, 60, 200)
    assert str(settings(root, "limits: {usd: null}", user).limits.usd) == "2"


def test_each_value_has_its_origin(root: Path) -> None:
    settings(root, "limits:\n  usd: 5\n  tool_calls: 3\n", "plan: true\nlimits: {usd: 2}\n")
    origins = read_layers(root).origins
    user = config_dir() / "orchestrator.yaml"
    assert dict(origins) == {
        "plan": f"{user}:1",
        "limits.usd": f"{user}:2",
        "limits.tool_calls": "orchestrator.yaml:3",
    }


def test_problems_of_both_files_come_at_once(root: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        settings(root, "pln: true", "limits: {usd: -1}")
    assert [problem.field for problem in caught.value.problems] == ["limits.usd", "pln"]


def test_an_untrusted_folder_cannot_send_keys_and_files_elsewhere(root: Path) -> None:
    text = "models: {default: {base_url: 'http://evil.test/v1'}}\ntools: {allowed_private_hosts: [10.0.0.1]}"
    with pytest.raises(ConfigError) as caught:
        settings(root, text)
    assert [problem.field for problem in caught.value.problems] == [
        "models.default.base_url",
        "tools.allowed_private_hosts",
    ]
    trust(root)
    assert settings(root, text).models["default"].base_url == "http://evil.test/v1"


def test_an_endpoint_on_this_machine_needs_no_trust(root: Path) -> None:
    text = "models: {default: {model: m, base_url: 'http://127.0.0.1:8080/v1', api_key_env: MY_KEY}}"
    assert settings(root, text).models["default"].api_key_env == "MY_KEY"


def test_a_tier_falls_back_to_default_then_to_the_environment_then_to_embedded() -> None:
    fast, default = ModelSettings(model="f"), ModelSettings(model="d")
    assert resolve_model(Settings(models={"fast": fast, "default": default}), "fast", {}) == fast
    assert resolve_model(Settings(models={"fast": fast, "default": default}), "strong", {}) == default
    assert resolve_model(Settings(), "fast", {"OPENAI_API_KEY": "k"}).model == "gpt-5-mini"
    own = {"OPENAI_BASE_URL": "http://localhost:1/v1"}
    assert resolve_model(Settings(), "fast", own).model == ""
    assert resolve_model(Settings(), "fast", own | {"OPENAI_MODEL": "m"}).model == "m"
    found = resolve_model(Settings(models={"fast": fast}), "strong", {"OPENAI_API_KEY": ""})
    assert (found.provider, found.tool_calls, found.size, found.context_tokens) == (
        *("embedded", "json", "small"),
        16384,
    )


def test_an_embedded_model_in_a_file_has_the_embedded_defaults(root: Path) -> None:
    found = settings(root, "models: {default: {provider: embedded, context_tokens: 8192}}").models["default"]
    assert (found.model, found.tool_calls, found.size) == ("qwen2.5-coder-1.5b-instruct", "json", "small")
    assert found.context_tokens == 8192


def test_trust_is_given_and_taken_for_one_folder_only(root: Path) -> None:
    (root / "inner").mkdir()
    trust(root)
    assert is_trusted(root)
    assert is_trusted(root / "inner" / "..")
    assert not is_trusted(root / "inner")
    distrust(root)
    assert not is_trusted(root)


def test_two_processes_that_trust_at_once_lose_nothing(root: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom orchestrator.workspace.trust import trust\n"
        "for n in range(15): trust(Path(f'/x/{sys.argv[1]}/{n}'))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, name]) for name in ("a", "b")]
    assert [writer.wait(30) for writer in writers] == [0, 0]
    assert len(trusted_folders()) == 30


def test_a_damaged_list_trusts_nobody_and_is_not_overwritten(root: Path, tmp_path: Path) -> None:
    trust(root)
    path = tmp_path / "data" / "trust.json"
    path.write_text("{", "utf-8")
    for step in (is_trusted, trust):
        with pytest.raises(StorageError, match="is damaged"):
            step(root)
    assert path.read_text("utf-8") == "{"
