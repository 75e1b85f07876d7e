"""Work out what an undo has to do, path by path, and where it would lose something.

A path goes back through the calls that changed it, newest first, as long as it is what the call left
behind. Anything else is a change of the user's, and stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from orchestrator.snapshots.compare import Trees
from orchestrator.snapshots.model import Action, Conflict, Edge, Entry, Plan, is_same
from orchestrator.snapshots.places import ROOT, ways_to
from orchestrator.snapshots.scan import shown

Pairs = dict[str, list[tuple[Entry, Entry]]]
_NONE: Mapping[str, str] = MappingProxyType({})
_UNKEPT = frozenset({"left", "unseen"})


def changed_paths(trees: Trees, edges: Sequence[Edge]) -> Pairs:
    """What each path was before and after each call that changed it, oldest call first."""
    pairs: Pairs = {}
    for before, after in edges:
        for path, was, now in trees.differences(before, after):
            pairs.setdefault(path, []).append((was, now))
    return pairs


def looked_at(pairs: Pairs) -> list[str]:
    """The paths whose content is known: a folder that was left out is not to be read for an undo."""
    return [
        path for path, steps in pairs.items() if not any("left" in {was.kind, now.kind} for was, now in steps)
    ]


def make_plan(
    trees: Trees, edges: Sequence[Edge], now: str, notes: Iterable[str], apart: Mapping[str, str] = _NONE
) -> Plan:
    """The plan for a workspace that is at snapshot `now`.

    `apart` are paths that stay, with the reason; those without one are not even told.
    """
    pairs = changed_paths(trees, edges)
    pairs = {path: steps for path, steps in pairs.items() if apart.get(path) != ""}
    targets: dict[str, Entry] = {}
    forced: dict[str, Entry] = {}
    conflicts: list[Conflict] = []
    stuck: list[Conflict] = []
    for path, steps in pairs.items():
        disk = trees.at(now, path)
        target, reason = (disk, apart[path]) if path in apart else rewind(disk, steps)
        is_forceable = not _UNKEPT & {disk.kind, steps[0][0].kind}
        if reason:
            conflicts.append(Conflict(path, reason, is_forceable))
            if not is_forceable:
                stuck.append(conflicts[-1])
        if not is_same(target, disk):
            targets[path] = target
        wanted = steps[0][0] if is_forceable else target
        if not is_same(wanted, disk):
            forced[path] = wanted
    _add_folders(trees, edges, now, forced)
    actions, blocked = arrange(trees, now, targets)
    by_force, still = arrange(trees, now, forced)
    paths = {conflict.path for conflict in conflicts}
    return Plan(
        now,
        actions=actions,
        conflicts=(*conflicts, *(conflict for conflict in blocked if conflict.path not in paths)),
        forced=by_force,
        forced_conflicts=(*stuck, *still),
        notes=tuple(notes),
    )


def rewind(disk: Entry, steps: Sequence[tuple[Entry, Entry]]) -> tuple[Entry, str]:
    """Where a path ends up, and why it stops short of the oldest state if it does."""
    final, current = steps[0][0], disk
    for before, after in reversed(steps):
        if is_same(current, final):
            break
        if not is_same(current, after):
            return current, _difference(current, after, is_first=current is disk)
        if before.kind in _UNKEPT or (current.kind in _UNKEPT):
            why = before.why or current.why
            return current, f"it stays as it is, it was not kept: {why}"
        current = before
    return current, ""


def _difference(current: Entry, after: Entry, *, is_first: bool) -> str:
    when = "since" if is_first else "between two calls"
    if current.kind == "unseen":
        return "nobody knows what is there now: its folder is left out of snapshots"
    if not current.is_there:
        return f"you removed it {when}"
    if not after.is_there:
        return f"you made it {when}"
    return f"you changed it {when}"


def _add_folders(trees: Trees, edges: Sequence[Edge], now: str, targets: dict[str, Entry]) -> None:
    """By force, a file comes back with the folders that it was in."""
    for path in [path for path, target in targets.items() if target.is_there]:
        for way in ways_to(path)[:-1]:
            if way not in targets and not trees.at(now, way).is_there:
                was = trees.at(edges[0][0], way)
                targets[way] = was if was.kind == "folder" else Entry("folder", 0o755)


def arrange(
    trees: Trees, now: str, targets: dict[str, Entry]
) -> tuple[tuple[Action, ...], tuple[Conflict, ...]]:
    """The actions in an order that works, without those that something in the way forbids."""
    wanted, blocked = dict(targets), list[Conflict]()
    while found := _obstacles(trees, now, wanted):
        for conflict in found:
            del wanted[conflict.path]
        blocked += found
    actions = [_action(trees, path, trees.at(now, path), target) for path, target in wanted.items()]
    gone = sorted((a for a in actions if a.verb == "delete"), key=_depth, reverse=True)
    rest = sorted((a for a in actions if a.verb != "delete"), key=_depth)
    return (*gone, *rest), tuple(blocked)


def _depth(action: Action) -> tuple[int, str]:
    return (action.path.count("/"), action.path)


def _obstacles(trees: Trees, now: str, wanted: dict[str, Entry]) -> list[Conflict]:
    found = []
    for path, target in wanted.items():
        above = path.rpartition("/")[0] or ROOT
        parent = wanted.get(above) or trees.at(now, above)
        if target.is_there and path != ROOT and parent.kind != "folder":
            found.append(Conflict(path, f"its folder {shown(above)} is not there any more"))
        elif target.kind != "folder" and (held := _held(trees, now, path, wanted)):
            found.append(Conflict(path, f"the folder stays, it holds {held}"))
    return found


def _held(trees: Trees, now: str, path: str, wanted: dict[str, Entry]) -> str:
    """Something in a folder that will still be there; empty if nothing or no folder."""
    entry = trees.whole(now, path)
    if entry.kind != "folder":
        return ""
    folder = trees.folder(entry.id)
    if folder.is_partial:
        return "things that are not in the snapshots"
    for name, inner in folder.entries.items():
        if (wanted.get(f"{path}/{name}") or inner).is_there:
            return f"{shown(name)}, which is not part of this"
    return ""


def _action(trees: Trees, path: str, seen: Entry, target: Entry) -> Action:
    verb = "write"
    if not target.is_there:
        verb = "delete"
    elif not seen.is_there:
        verb = "create"
    elif (seen.kind, seen.id) == (target.kind, target.id):
        verb = "mode"
    return Action(path, verb, seen, target, trees.bytes(seen), trees.bytes(target))  # type: ignore[arg-type]
