"""`orc models`: what it lists, what it fetches, and what its check says of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from scripted import Call, Say, ScriptedModel

from orchestrator.cli import orc
from orchestrator.errors import ModelError, UsageError, WeightsError

READ = Call("read_file", path="notes/plan.txt")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"ORC_{kind}_DIR", str(tmp_path / kind.lower()))
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "ORC_MODEL_PATH", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)


def models(*arguments: str) -> tuple[str, BaseException | None]:
    """Standard output, and the error that the command ended with."""
    result = CliRunner().invoke(orc, ["models", *arguments])
    return result.stdout, result.exception


def test_with_nothing_configured_every_tier_is_embedded_and_its_weights_are_absent() -> None:
    rows: list[dict[str, Any]] = json.loads(models("list", "--json")[0])
    assert [row["tier"] for row in rows] == ["default", "fast", "strong", "guardian"]
    assert {row["provider"] for row in rows} == {"embedded"}
    assert {row["weights"] for row in rows} == {False}
    assert {row["key"] for row in rows} == {None}


def test_the_list_says_whether_a_key_is_there_and_never_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    out, _ = models("list", "--json")
    assert json.loads(out)[0]["key"] is True
    assert "sk-secret" not in out


def test_a_pull_of_an_own_file_prints_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.gguf"
    own.write_bytes(b"GGUF")
    monkeypatch.setenv("ORC_MODEL_PATH", str(own))
    assert models("pull") == (f"{own}\n", None)
    own.unlink()
    assert isinstance(models("pull")[1], WeightsError)


def use(model: ScriptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a scripted model the configured one."""
    monkeypatch.setenv("OPENAI_BASE_URL", str(model.settings().base_url))
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.setenv("OPENAI_MODEL", "scripted")


def test_the_check_names_both_modes_when_both_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedModel([READ, READ]) as model:
        use(model, monkeypatch)
        out, error = models("check", "--json")
    assert error is None
    assert json.loads(out)["works"] == ["native", "json"]


def test_a_model_that_only_talks_fails_the_check_with_what_it_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedModel(lambda _: Say("I would read the file.")) as model:
        use(model, monkeypatch)
        out, error = models("check")
    assert isinstance(error, ModelError)
    assert "I would read the file." in str(error)
    assert out.count("fails") == 2


def test_a_missing_tier_lists_the_tiers() -> None:
    _, error = models("check", "strongest")
    assert isinstance(error, UsageError)
    assert "default, fast, strong, guardian" in str(error)
