"""The public conformance suite for checkpointers, every capability."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES

from orchestrator.checkpoints import Checkpointer


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_the_checkpointer_conforms_to_the_published_suite(tmp_path: Path, kind: str) -> None:
    problems: list[str] = []

    @checkpointer_test(name=f"orc {kind}")
    async def ours() -> AsyncGenerator[Checkpointer, None]:
        async with Checkpointer(tmp_path / "checkpoints.db" if kind == "file" else ":memory:") as saver:
            yield saver
            problems.extend(saver.verify())

    report = asyncio.run(validate(ours))
    failures = [failure for result in report.results.values() for failure in result.failures]
    passed = {name for name, result in report.results.items() if result.passed}
    assert failures == []
    assert passed == {capability.value for capability in ALL_CAPABILITIES}
    assert problems == []
