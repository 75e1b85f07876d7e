"""Keep the files of a workspace before and after every call, and put them back byte for byte.

It knows nothing of runs, calls or graphs: it is given a folder and answers with ids.
"""

from orchestrator.snapshots.model import (
    Action,
    Applied,
    Change,
    Conflict,
    Edge,
    Plan,
    Snapshot,
    SnapshotLimits,
)
from orchestrator.snapshots.store import Snapshots, redo_edges

__all__ = [
    "Action",
    "Applied",
    "Change",
    "Conflict",
    "Edge",
    "Plan",
    "Snapshot",
    "SnapshotLimits",
    "Snapshots",
    "redo_edges",
]
