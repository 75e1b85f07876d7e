"""Reading YAML and Markdown: values as YAML 1.2 has them, and problems that point at the place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from orchestrator.agents import AgentSettings
from orchestrator.documents import read_front_matter, read_yaml, validate
from orchestrator.errors import ConfigError
from orchestrator.settings import Settings


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def value(text: str) -> Any:
    Path("v.yaml").write_text(f"v: {text}\n", "utf-8")
    return read_yaml(Path("v.yaml")).value["v"]


def problems(content: str | bytes, name: str = "a.md", model: Any = AgentSettings) -> list[str]:
    path = Path(name)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as caught:
        validate(read_front_matter(path) if path.suffix == ".md" else read_yaml(path), model)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("FALSE", False),
        ("0o17", 15),
        ("017", 17),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-01-02", "2026-01-02"),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        ("~", None),
        ("", None),
        ('"5"', "5"),
        ("!!str 5", "5"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


def test_all_problems_of_a_file_come_at_once_with_line_column_and_field() -> None:
    text = "---\ndescription: x\nmodel: fsat\nlimits:\n  usd: -2\n  model_calls: many\ntool: []\n---\nhi\n"
    assert problems(text) == [
        "a.md:3:8: model: must be one of fast, default, strong, guardian (got 'fsat'); did you mean 'fast'?",
        "a.md:5:8: limits.usd: must be at least 0 (got -2)",
        "a.md:6:16: limits.model_calls: must be a whole number (got 'many')",
        "a.md:7:1: tool: unknown key; did you mean 'tools'?",
    ]


def test_a_misspelt_required_key_is_one_problem_and_not_two() -> None:
    assert problems("---\ndescripton: x\n---\nhi\n") == [
        "a.md:2:1: descripton: unknown key; did you mean 'description'?"
    ]


def test_a_missing_required_key_points_at_the_mapping() -> None:
    assert problems("---\n\nmodel: fast\n---\nhi\n") == [
        "a.md:3:1: description: this key is required and missing"
    ]


def test_a_wrong_key_of_a_mapping_points_at_the_key() -> None:
    found = problems("models:\n  strog: {}\n", "s.yaml", Settings)
    assert found[0].startswith("s.yaml:2:3: models.strog: must be one of fast, default, strong, guardian")
    assert found[0].endswith("did you mean 'strong'?")


def test_a_duplicate_key_is_a_problem_beside_the_others() -> None:
    found = problems("plan: true\nplan: false\nlimits: 3\n", "s.yaml", Settings)
    assert found == [
        "s.yaml:2:1: plan: key is already set on line 1; keep one of the two",
        "s.yaml:3:9: limits: must be a mapping (got 3)",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("hello\n", "a.md:1:1: must start with a line `---`"),
        ("", "a.md:1:1: must start with a line `---`"),
        ("---\ndescription: x\n", "a.md:1:1: the settings that start here never end"),
        ("---\n- x\n---\n", "a.md:2:1: must be a mapping of keys to values (got a list)"),
        ("---\ndescription: x\n\tmodel: y\n---\n", "a.md:3:1: not valid YAML: tabs cannot indent"),
        ("---\ndescription: a: b\n---\n", "a.md:2:15: not valid YAML: a second `:` on this line"),
        ("---\ndescription: @x\n---\n", "a.md:2:14: not valid YAML: a text cannot start"),
        (b"---\ndescription: gr\xfcn\n---\n", "a.md:2:16: is not UTF-8 text (byte 0xfc)"),
        ("---\ndescription: a\x07b\n---\n", "a.md:2:15: the control character U+0007 is not allowed"),
        ("---\na: &x {b: 1}\nc: {<<: *x}\n---\n", "a.md:3:5: merge keys (<<) are not supported"),
        ("---\na: &x [*x]\n---\n", "a.md:2:8: the alias *x stands inside its own anchor"),
        ("---\na: *y\n---\n", "a.md:2:4: "),
        (
            "---\na: !!python/name:os.system\n---\n",
            "a.md:2:4: the tag tag:yaml.org,2002:python/name:os.system",
        ),
        ("---\n? [a]\n: b\n---\n", "a.md:2:3: a key must be a plain text"),
        ("---\na: " + "9" * 5000 + "\n---\n", "a.md:2:4: a number of 5,000 characters (at most 100)"),
        ("---\na: " + "[" * 90 + "]" * 90 + "\n---\n", "a.md:2:44: nested too deeply (more than 40 levels)"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(content: str | bytes, expected: str) -> None:
    (found,) = problems(content)
    assert found.startswith(expected)


def test_nested_aliases_stop_before_they_fill_the_memory() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (found,) = problems("\n".join(lines), "s.yaml", Settings)
    assert "too many values (more than 20,000, aliases written out)" in found


def test_an_anchor_may_be_used_twice() -> None:
    Path("s.yaml").write_text("models:\n  fast: &m {model: a}\n  strong: *m\n", "utf-8")
    assert validate(read_yaml(Path("s.yaml")), Settings).models["strong"].model == "a"


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    Path("a.md").write_bytes(b"\xef\xbb\xbf---\r\ndescription: x\r\n---\r\n\r\nHi\r\nthere\r\n")
    document = read_front_matter(Path("a.md"))
    assert (document.value, document.body) == ({"description": "x"}, "Hi\nthere")


def test_an_empty_settings_file_means_the_defaults() -> None:
    Path("s.yaml").write_text("# nothing\n", "utf-8")
    assert validate(read_yaml(Path("s.yaml")), Settings) == Settings()


def test_folders_pipes_large_and_missing_files_are_one_line_each() -> None:
    Path("folder.yaml").mkdir()
    os.mkfifo("pipe.yaml")
    Path("large.yaml").write_bytes(b"#" * 1_048_577)
    ends = {
        "folder.yaml": "is a folder, not a file",
        "pipe.yaml": "is not a regular file",
        "large.yaml": "is too large (1,048,577 bytes, at most 1,048,576)",
        "gone.yaml": "cannot be read: No such file or directory",
    }
    for name, end in ends.items():
        with pytest.raises(ConfigError) as caught:
            read_yaml(Path(name))
        assert str(caught.value) == f"{name}: {end}"


def test_control_characters_of_a_key_never_reach_the_terminal() -> None:
    (found,) = problems('"\\e[31mred": 1\n', "s.yaml", Settings)
    assert "\x1b" not in found


def test_a_path_outside_of_the_current_folder_is_shown_as_given(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    os.chdir(inner)
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "gone.yaml")
    assert str(caught.value).startswith(str(tmp_path / "gone.yaml"))
