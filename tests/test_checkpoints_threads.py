"""Forks see what their parent had at a moment; nothing that is done to the parent touches them."""

from __future__ import annotations

from pathlib import Path

import pytest
from checkpointing import address, chat, put, saver_at, say, steps, talk, values

from orchestrator.errors import UsageError


def test_a_fork_sees_a_moment_with_its_pending_writes(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        first = put(saver, {"n": 1}, step=1)
        put(saver, {"inner": 1}, address("t", "sub:1"), step=1)
        saver.put_writes(first, [("channel", "before")], "a")
        moment = saver.position("t")
        saver.put_writes(first, [("channel", "after")], "b")
        put(saver, {"n": 2}, first, step=2)
        put(saver, {"inner": 2}, address("t", "sub:1"), step=2)
        saver.fork("t", "branch", moment)
        assert steps(saver, "branch") == [(1, ["before"])]
        assert values(saver, address("branch", "sub:1")) == {"inner": 1}
        assert saver.position("branch") == moment
        assert saver.lineage("branch") == [("branch", None), ("t", moment)]


def test_parent_and_fork_do_not_see_each_other(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        graph = chat(saver)
        say(graph, "one")
        saver.fork("t", "branch")
        say(graph, "two", "branch")
        say(graph, "three")
        assert [m.content for m in values(saver)["messages"]][2:] == ["three", "answer 3"]
        assert [m.content for m in values(saver, address("branch"))["messages"]][2:] == ["two", "answer 3"]
        old = saver.outline("t")[-1].checkpoint_id
        saver.put_writes(address("branch", "", old), [("channel", "mine")], "task")
        for thread, mine in (("branch", 1), ("t", 0)):
            found = saver.get_tuple(address(thread, "", old))
            assert found is not None
            assert sum(write[2] == "mine" for write in found.pending_writes or []) == mine


@pytest.mark.parametrize("change", ["delete", "prune", "runs"])
def test_a_fork_keeps_what_it_sees_when_its_parent_goes(tmp_path: Path, change: str) -> None:
    with saver_at(tmp_path) as saver:
        config = None
        for step in range(40):
            config = put(saver, {"messages": talk(step)}, config, step=step, run_id="r")
        saver.fork("t", "branch")
        saver.fork("branch", "twig")
        before = [one.checkpoint for one in saver.list(address("twig"))]
        if change == "delete":
            saver.delete_thread("t")
        elif change == "prune":
            saver.prune(["t"])
        else:
            saver.prune(["t", "branch"], strategy="delete")
        saver.gc()
        saver.delete_thread("branch")
        saver.gc()
        assert [one.checkpoint for one in saver.list(address("twig"))] == before
        assert len(steps(saver)) == (1 if change == "prune" else 0)
        assert saver.verify() == []
        saver.prune(["twig", "t"], strategy="delete")
        saver.gc()
        assert saver.stats()["checkpoints"] == 0
        assert saver.stats()["elements"] <= 1


def test_positions_only_grow_even_when_everything_is_deleted(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        assert saver.position("t") == 0
        seen = []
        for step in range(3):
            config = put(saver, {"messages": talk(step + 9)})
            seen.append(saver.position("t"))
            saver.put_writes(config, [("channel", 1)], "task")
            seen.append(saver.position("t"))
            saver.delete_thread("t")
            saver.gc()
            assert saver.position("t") == 0
        assert seen == sorted(set(seen))


def test_a_fork_costs_one_row_at_any_length(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(3000)})
        before = saver.stats()
        for at in range(20):
            saver.fork("t" if not at else f"f{at - 1}", f"f{at}")
        assert len(saver.lineage("f19")) == 2
        after = saver.stats()
        assert after["elements"] == before["elements"]
        assert (after["bytes"] - before["bytes"]) / 20 <= 4096


def test_prune_keeps_what_a_delta_channel_is_rebuilt_from(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        graph = chat(saver)
        for turn in range(8):
            say(graph, f"q{turn}")
            before = graph.get_state(address()).values
            saver.prune(["t"])
            assert graph.get_state(address()).values == before


def test_another_process_may_collect_what_this_one_remembers(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver, saver_at(tmp_path) as other:
        put(saver, {"messages": talk(20)})
        said = values(saver)["messages"]
        other.delete_thread("t")
        other.gc()
        put(saver, {"messages": said})
        assert values(other)["messages"] == talk(20)
        assert other.verify() == []


@pytest.mark.parametrize(
    ("old", "new", "position", "words"),
    [
        ("none", "x", None, "no thread"),
        ("t", "t", None, "already"),
        ("t", "x", 99, "goes from 0 to"),
        ("t", "x", -1, "goes from 0 to"),
    ],
)
def test_a_fork_that_makes_no_sense_is_refused(
    tmp_path: Path, old: str, new: str, position: int | None, words: str
) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {})
        with pytest.raises(UsageError, match=words):
            saver.fork(old, new, position)
        assert saver.threads() == ["t"]


def test_a_prune_with_nothing_to_remove_changes_nothing(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(3)})
        saver.fork("t", "branch")
        before = saver.position("t"), saver.position("branch"), saver.stats()
        saver.prune(["t", "branch"])
        assert (saver.position("t"), saver.position("branch"), saver.stats()) == before


def test_pruned_branches_of_branches_keep_their_heads(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        names = [f"branch{at}" for at in range(6)]
        for at, name in enumerate(names):
            config = address(name)
            for length in range(1, 4):
                config = put(saver, {"messages": talk(at * 3 + length)}, config)
            if at < 5:
                saver.fork(name, names[at + 1], saver.position(name) - 1)
        saver.prune([*names[3:], *names[:3]])
        assert [len(values(saver, address(name))["messages"]) for name in names] == [3, 6, 9, 12, 15, 18]
        assert [len(steps(saver, name)) for name in names] == [1] * 6
        saver.gc()
        assert saver.verify() == []
        assert saver.stats()["checkpoints"] == 6


def test_what_a_fork_does_not_see_of_a_deleted_thread_goes_though_it_came_last(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        config = put(saver, {"messages": talk(1)})
        saver.copy_thread("t", "fork")
        for length in range(2, 9):
            config = put(saver, {"messages": talk(length)}, config)
        last = saver.position("t")
        saver.delete_thread("t")
        assert saver.gc() > 0
        assert saver.gc() == 0
        assert saver.verify() == []
        assert values(saver, address("fork"))["messages"] == talk(1)
        put(saver, {"messages": talk(2)}, address("fork"))
        assert saver.position("fork") == last + 1, "no number is given twice"
