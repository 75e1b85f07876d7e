"""An undo or a redo that was killed is finished by the next one: nothing is lost, nothing is half done."""

from __future__ import annotations

import random
from multiprocessing.synchronize import Event
from pathlib import Path

from desk import Desk
from doomed import processes
from scripted import Call, Say
from test_undo import contents

from orchestrator.history import undoing
from orchestrator.runs import Runs
from orchestrator.storage import opened_state

ROUNDS = 3
COMMAND = (
    "rm src/m1*; sed -i s/v/w/ src/m2*; mv src/m3 moved; chmod 600 src/m4; mkdir -p new/deep; ln -s moved l"
)


def move(root: Path, verb: str) -> None:
    with opened_state(root) as connection:
        runs = Runs(connection, root)
        with runs.held(runs.newest().id) as run:
            if verb == "redo":
                undoing.redo(root, runs, run)
            else:
                undoing.undo(root, runs, undoing.target(runs, run), "both")


def move_soon(root: Path, verb: str, begun: Event) -> None:
    begun.set()
    move(root, verb)


def kill(desk: Desk, verb: str, seconds: float) -> None:
    """Undo or redo in a process that is killed so long after it began."""
    begun = processes.Event()
    process = processes.Process(target=move_soon, args=(desk.root, verb, begun))
    process.start()
    begun.wait(30)
    process.join(seconds)
    process.kill()
    process.join()


def test_what_was_killed_is_finished_by_the_next(desk: Desk) -> None:
    for number in range(30):
        desk.write(f"src/m{number}", f"v {number}\n" * 50)
    states = [contents(desk.root)]
    desk.work(
        "@coder tidy and delete up", [Call("run_command", command=COMMAND), Say("tidied")], approves=True
    )
    states.append(contents(desk.root))
    move(desk.root, "undo")
    move(desk.root, "redo")
    moments = random.Random(3)
    for _ in range(ROUNDS):
        for turns, verb in ((0, "undo"), (1, "redo")):
            kill(desk, verb, moments.random() * 0.4)
            if (desk.runs()[0].turns, contents(desk.root)) != (turns, states[turns]):
                move(desk.root, verb)
            assert desk.runs()[0].turns == turns
            assert contents(desk.root) == states[turns]
    assert desk.orc("db", "verify").code == 0
