"""Elements of long lists move into blocks: nothing that names them notices, and what is deleted goes."""

from __future__ import annotations

import random
import sys
import tracemalloc
from pathlib import Path
from types import FrameType
from typing import Any

from checkpointing import address, blocks, chat, put, saver_at, say, sql, steps, talk, tell, values
from langchain_core.messages import HumanMessage

from orchestrator.checkpoints.blocks import FEW, LARGE, SIZE, read_block, write_block
from orchestrator.checkpoints.elements import decompressors, pack, unpack_with

CONTENT = "select n, kind from ck_elements where kind in (0, 1, 5)"


def test_all_steps_of_a_conversation_read_alike_before_and_after_the_move(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        told = tell(saver, 150)
        for length, config in enumerate(told, 1):
            assert values(saver, config)["messages"] == talk(length)
    assert len(sql(tmp_path, CONTENT)) < 40
    assert sum(len(block.numbers) for block in blocks(tmp_path).values()) > 110
    order = list(enumerate(told, 1))
    random.Random(3).shuffle(order)
    with saver_at(tmp_path) as saver:
        assert saver.verify() == []
        assert saver.stats()["elements"] >= 150
        for length, config in order[:50]:
            assert values(saver, config)["messages"] == talk(length)
    for length, config in order[50:70]:
        with saver_at(tmp_path) as saver:
            assert values(saver, config)["messages"] == talk(length)


def test_a_conversation_of_many_processes_moves_all_the_same(tmp_path: Path) -> None:
    config = address()
    for end in range(3, 121, 3):
        with saver_at(tmp_path) as saver:
            config = put(saver, {"messages": talk(end)}, config)
    assert len(sql(tmp_path, CONTENT)) < 40
    with saver_at(tmp_path) as saver:
        assert values(saver)["messages"] == talk(120)
        assert saver.verify() == []


def test_what_another_process_moved_is_read_and_written_on(tmp_path: Path) -> None:
    with saver_at(tmp_path) as one, saver_at(tmp_path) as two:
        first = tell(one, 30)
        assert values(two)["messages"] == talk(30)
        listing = two.list(address())
        assert next(listing).checkpoint["channel_values"]["messages"] == talk(30)
        put(one, {"messages": talk(90)}, first[-1])
        assert [len(each.checkpoint["channel_values"]["messages"]) for each in listing] == [*range(29, 0, -1)]
        put(two, {"messages": talk(31)}, first[-1])
        put(two, {"messages": talk(90)[:60]}, address("other"))
        assert values(one, address("other"))["messages"] == talk(60)
        assert one.verify() == two.verify() == []


def test_a_graph_s_messages_their_texts_and_its_forks_survive_the_move(tmp_path: Path) -> None:
    long = "a text that is long enough to be cut out and pointed at, " * 6
    with saver_at(tmp_path) as saver:
        graph = chat(saver)
        for turn in range(40):
            say(graph, f"{long}{turn}")
        saver.copy_thread("t", "copy")
        say(graph, "more", "copy")
        expected = [message.content for message in values(saver, address("copy"))["messages"]]
        history = [len(state.values["messages"]) for state in graph.get_state_history(address())]
    assert blocks(tmp_path)
    with saver_at(tmp_path) as saver:
        assert [message.content for message in values(saver, address("copy"))["messages"]] == expected
        assert [
            len(state.values["messages"]) for state in chat(saver).get_state_history(address())
        ] == history
        assert saver.verify() == []


def test_deleted_content_leaves_its_block_and_the_rest_stays(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        told = put(saver, {"messages": talk(60)})
        put(saver, {"messages": talk(60)[:5] + talk(60)[30:40]}, address("kept"))
        put(saver, {"messages": [*talk(60)[:2], *talk(90)[60:]]}, told)
        saver.delete_thread("t")
        assert saver.gc() > 1_000
        assert values(saver, address("kept"))["messages"] == talk(60)[:5] + talk(60)[30:40]
        assert saver.verify() == []
        last = sql(tmp_path, "select max(n) from (select n from ck_elements union select n from ck_blocks)")
        put(saver, {"messages": talk(200)[100:]}, address("new"))
        assert saver.verify() == []
    held = b"".join(content for block in blocks(tmp_path).values() for content in block.contents)
    assert b"message 33 " in held
    assert b"message 12 " not in held
    assert b"message 70 " not in held
    new = {number for block in blocks(tmp_path).values() for number in block.numbers if number > last[0][0]}
    assert len(new) == 100, "no number is given twice"


def test_a_thread_that_is_gone_leaves_no_block(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        tell(saver, 60)
        last = max(blocks(tmp_path))
        saver.delete_thread("t")
        saver.gc()
        assert not blocks(tmp_path)
        assert sql(tmp_path, "select * from ck_members") == []
        assert saver.verify() == []
        tell(saver, 60)
        assert min(blocks(tmp_path)) > last
        assert values(saver)["messages"] == talk(60)


def test_large_elements_and_few_keep_rows_of_their_own(tmp_path: Path) -> None:
    rng = random.Random(1)
    large = [f"{at}" + rng.randbytes(LARGE).hex() for at in range(12)]
    with saver_at(tmp_path) as saver:
        put(saver, {"many": large})
        put(saver, {"few": ["x" * 200, "y" * 200, *map(str, range(20))]}, address("few"))
        assert FEW > 2
        assert not blocks(tmp_path)
        put(saver, {"many": [f"{at}" + rng.randbytes(3_000).hex() for at in range(40)]}, address("more"))
        assert values(saver)["many"] == large
        assert saver.verify() == []
    sizes = [sum(map(len, block.contents)) for block in blocks(tmp_path).values()]
    assert len(sizes) > 5
    assert max(sizes) < SIZE + 6_010


def test_an_element_that_unpacks_to_much_has_no_neighbours(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": [*talk(30), HumanMessage("x" * 1_000_000, id="long"), *talk(90)[30:]]})
        assert len(values(saver)["messages"]) == 91
    assert max(len(content) for block in blocks(tmp_path).values() for content in block.contents) < 10_000


def test_lists_of_one_step_share_no_block(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(
            saver,
            {"one": talk(30), "two": talk(60)[30:], "more": [["x" * 500 + str(at) for at in range(20)]]},
        )
        assert values(saver)["two"] == talk(60)[30:]
    told = [
        {content.split(b"message ")[1][0:2] for content in block.contents if b"message " in content}
        for block in blocks(tmp_path).values()
    ]
    assert len(told) > 1
    assert not any(
        {at for at in map(int, each) if at < 30} and {at for at in map(int, each) if at >= 30}
        for each in told
    )


def worded(rng: random.Random, count: int) -> list[Any]:
    """Messages of few words in any order, which pack better against a primer than against each other."""
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 10))) for _ in range(3_000)]
    return [HumanMessage(" ".join(rng.choices(words, k=150)), id=f"w{at}") for at in range(count)]


def test_what_would_take_more_in_a_block_stays_alone(tmp_path: Path) -> None:
    said, config = worded(random.Random(4), 400), address()
    with saver_at(tmp_path) as saver:
        for end in range(1, 401):
            config = put(saver, {"messages": said[:end]}, config)
        assert values(saver)["messages"] == said
    assert len(sql(tmp_path, CONTENT)) > 300


def test_what_stays_alone_is_not_packed_in_vain_at_every_step(tmp_path: Path) -> None:
    rng = random.Random(4)
    said, config, packed = worded(rng, 300), address(), 0

    def count(frame: FrameType, event: str, _: object) -> None:
        nonlocal packed
        packed += event == "call" and frame.f_code is write_block.__code__

    with saver_at(tmp_path) as saver:
        for end in range(1, 301):
            config = put(saver, {"messages": said[:end]}, config)
        sys.setprofile(count)
        try:
            for _ in range(20):
                rng.shuffle(said)
                config = put(saver, {"messages": said}, config)
        finally:
            sys.setprofile(None)
    assert len(sql(tmp_path, CONTENT)) > 200
    assert packed < 10


def test_large_elements_are_not_read_to_write_a_list(tmp_path: Path) -> None:
    rng = random.Random(4)
    large = [HumanMessage(rng.randbytes(250_000).hex(), id=f"l{at}") for at in range(40)]
    with saver_at(tmp_path) as saver:
        config = put(saver, {"messages": large})
        rng.shuffle(large)
        tracemalloc.start()
        try:
            put(saver, {"messages": large}, config)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 3_000_000


def test_no_number_of_an_element_is_above_those_that_have_rows(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(40)})
        for start in range(40, 100, 15):
            put(saver, {"messages": talk(start + 15)[start:]})
        put(saver, {"few": talk(90)[86:]}, address("few"))
        saver.delete_thread("t")
        saver.gc()
        ((row, member),) = sql(
            tmp_path, "select (select max(n) from ck_elements), (select max(n) from ck_members)"
        )
    assert row > member, "where an older orc, which knows no blocks, goes on counting"


def test_a_block_is_packed_better_than_its_elements_are_alone(tmp_path: Path) -> None:
    with saver_at(tmp_path) as saver:
        put(saver, {"messages": talk(60)})
    ((_, data),) = sql(tmp_path, "select n, data from ck_blocks")
    assert unpack_with(decompressors, data)
    assert len(data) < sum(len(pack(content)[1]) for content in read_block(data).contents)
    assert steps(saver_at(tmp_path)) == [(1, [])]
