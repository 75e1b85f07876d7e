"""The documentation is found by words, and the index follows the files."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_sandbox import context, use, use_with

from orchestrator.errors import ToolError
from orchestrator.tools import docs

GUIDE = """# Guide

Welcome.

## Retries

A failed request is retried three times.

## Limits

No more than 9.
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/guide.md").write_text(GUIDE, encoding="utf-8")
    (tmp_path / "docs/old.rst").write_text("Colours\n=======\n\nThe sky is blue.\n", encoding="utf-8")
    (tmp_path / "docs/page.html").write_text("<h1>Zebra</h1><p>It has stripes.</p>", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("zebra notes of ours\n", encoding="utf-8")
    return tmp_path


def test_the_section_is_found_with_its_place(root: Path) -> None:
    found = use("search_docs", root, query="How often is a request retried?")
    assert found.startswith("docs/guide.md:5 Retries\n")
    assert "retried three times" in found
    assert use("search_docs", root, query="blue sky").startswith("docs/old.rst:1 Colours")
    assert "stripes" in use("search_docs", root, query="zebra")


def test_word_forms_are_the_same_word(root: Path) -> None:
    assert "Retries" in use("search_docs", root, query="retrying requests")


def test_one_known_word_is_enough_when_not_all_are_there(root: Path) -> None:
    assert "Limits" in use("search_docs", root, query="limits of hovercrafts")


@pytest.mark.parametrize(
    "query", ['"', "a AND OR NOT (", "x*: ^y -z", "NEAR(a b)", "'; drop table chunks; --", "ü ß 中"]
)
def test_any_text_is_a_fine_query(query: str, root: Path) -> None:
    if query == '"':
        with pytest.raises(ToolError, match="no words"):
            use("search_docs", root, query=query)
    else:
        assert use("search_docs", root, query=query)


def test_only_the_folder_that_was_named_is_searched(root: Path) -> None:
    assert "notes.txt:1" in use("search_docs", root, query="zebra", folder="notes.txt")
    assert "nothing on" in use("search_docs", root, query="retries", folder="notes.txt")
    with pytest.raises(ToolError, match="no folder 'doc'"):
        use("search_docs", root, query="x", folder="doc")
    with pytest.raises(ToolError, match="out of the workspace"):
        use("search_docs", root, query="x", folder="../")


def test_without_documentation_all_texts_are_searched(root: Path) -> None:
    assert "notes.txt:1" in use_with(context(root, docs=["nowhere"]), "search_docs", query="notes")


def test_the_index_follows_the_files(root: Path) -> None:
    assert "Limits" in use("search_docs", root, query="limits")
    (root / "docs/guide.md").write_text("# Guide\n\nAll about walruses.\n", encoding="utf-8")
    (root / "docs/old.rst").unlink()
    (root / "docs/new.txt").write_text("A gnu.\n", encoding="utf-8")
    assert "nothing on" in use("search_docs", root, query="limits")
    assert "nothing on" in use("search_docs", root, query="sky")
    assert "walruses" in use("search_docs", root, query="walrus")
    assert "docs/new.txt:1" in use("search_docs", root, query="gnu")


def test_unchanged_files_are_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("search_docs", root, query="limits")
    read: list[str] = []
    content = docs._content

    def watched(root: Path, path: str) -> bytes | None:
        read.append(path)
        return content(root, path)

    monkeypatch.setattr(docs, "_content", watched)
    assert "Limits" in use("search_docs", root, query="limits")
    assert read == []


@pytest.mark.parametrize("damage", [b"no database at all" * 100, b""])
def test_a_broken_index_is_built_again(damage: bytes, root: Path) -> None:
    use("search_docs", root, query="limits")
    (root / ".orc/docs.db").write_bytes(damage)
    assert "Limits" in use("search_docs", root, query="limits")


def test_an_index_of_another_version_is_built_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use("search_docs", root, query="limits")
    monkeypatch.setattr(docs, "VERSION", 2)
    assert "Limits" in use("search_docs", root, query="limits")


def test_an_empty_workspace_is_said(tmp_path: Path) -> None:
    assert "no documents" in use("search_docs", tmp_path, query="x")
