"""What docs/limits.md says is true: its settings are read, its commands run."""

from __future__ import annotations

import re
from pathlib import Path

from desk import Desk
from scripted import Call, Say

from orchestrator.documents import read_yaml, validate
from orchestrator.limits.prices import PriceFile
from orchestrator.settings import Settings

PAGE = (Path(__file__).parents[1] / "docs" / "limits.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_its_settings_are_read(tmp_path: Path) -> None:
    limits, prices, fallback = blocks("yaml")
    for text, model in ((limits, Settings), (fallback, Settings), (prices, PriceFile)):
        path = tmp_path / "file.yaml"
        path.write_text(text, "utf-8")
        validate(read_yaml(path), model)


def test_its_commands_run(desk: Desk) -> None:
    (desk.home / "config").mkdir()
    (desk.home / "config" / "prices.yaml").write_text("models:\n  scripted: {input: 1, output: 1}\n", "utf-8")
    desk.settings({"limits": {"usd": 0.001}})
    with desk.model([Call("list_files"), Say("nothing here")], model={}):
        assert desk.orc("run", "@coder list").code == 5
        for line in blocks("sh")[0].splitlines():
            command, _, _ = line.partition("#")
            done = desk.orc(*command.split()[1:])
            assert done.code == 0, (line, done.err)
