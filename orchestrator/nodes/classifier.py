"""A small text classifier for routing, trained at start-up from the agents' own examples.

Multinomial logistic regression on word and character n-grams hashed into a fixed number of columns;
a few hundred short texts train in tens of milliseconds. It knows nothing of the request's meaning,
so its caller asks a model when it is unsure.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestrator.agents import Agent

NONE = "none"
"""The class of requests that need no specialist."""
TAUGHT = 8
"""Examples from which an agent is known well enough to be routed to by them alone."""
COLUMNS = 1 << 13
ROUNDS = 120
_WORD = re.compile(r"[^\W_]+|[@~/.]")

_COMMON = frozenset({
    "answ", "abou", "from", "find", "help", "that", "this", "what", "when", "wher", "whic", "with",
    "your", "ques", "expl", "know", "ever", "work", "agen", "make", "give", "does", "have", "into",
    "them", "they", "want", "need", "some", "more", "most", "used", "uses", "usin", "file",
})  # fmt: skip
"""Stems that say nothing of a subject."""

Vector = NDArray[np.float32]


def grams(text: str) -> list[str]:
    """Words, pairs of words and, inside words, runs of four characters."""
    words = _WORD.findall(text.lower())[:200]
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    runs = [f"#{w[i : i + 4]}" for w in (f" {word} " for word in words) for i in range(len(w) - 3)]
    return words + pairs + runs


def vector(text: str) -> Vector:
    """Hashed counts, square-rooted and scaled to length one."""
    row = np.zeros(COLUMNS, dtype=np.float32)
    for gram in grams(text):
        row[zlib.crc32(gram.encode()) % COLUMNS] += 1
    row = np.sqrt(row)
    length = float(np.linalg.norm(row))
    return row / length if length else row


class Classifier:
    """Gives each class a probability for a text."""

    def __init__(self, examples: Mapping[str, Sequence[str]]) -> None:
        self.names = list(examples)
        rows = [(vector(text), index) for index, name in enumerate(self.names) for text in examples[name]]
        inputs = np.array([row for row, _ in rows], dtype=np.float32)
        targets = np.zeros((len(rows), len(self.names)), dtype=np.float32)
        targets[np.arange(len(rows)), [index for _, index in rows]] = 1
        weight_of_class = targets / np.maximum(targets.sum(axis=0), 1) * (len(rows) / len(self.names))
        weight_of_row = weight_of_class.sum(axis=1, keepdims=True)
        self._weights = np.zeros((COLUMNS, len(self.names)), dtype=np.float32)
        for _ in range(ROUNDS):
            error = (_softmax(inputs @ self._weights) - targets) * weight_of_row
            self._weights -= 8.0 * (inputs.T @ error / len(rows) + 1e-4 * self._weights)

    def __call__(self, text: str) -> dict[str, float]:
        """Probabilities by class name; they sum to one."""
        scores = _softmax((vector(text) @ self._weights)[None, :])[0]
        return dict(zip(self.names, map(float, scores), strict=True))


def _softmax(scores: Vector) -> Vector:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Vector = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def corpus(agents: Mapping[str, Agent]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Training texts by agent, hashable, so that training happens once per set of agent files."""
    texts = [
        (name, (*agent.routing.examples, *agent.routing.keywords, agent.description))
        for name, agent in agents.items()
    ]
    return (*texts, (NONE, _small_talk()))


@lru_cache(maxsize=1)
def _small_talk() -> tuple[str, ...]:
    lines = (Path(__file__).parent / "small_talk.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line)


@lru_cache(maxsize=4)
def trained(corpus: tuple[tuple[str, tuple[str, ...]], ...]) -> Classifier:
    """The classifier for a set of agents."""
    return Classifier(dict(corpus))


def lifted(scores: Mapping[str, float], request: str, agents: Mapping[str, Agent]) -> dict[str, float]:
    """Raise the agents that bring few examples, for words of theirs that no other agent uses.

    A new agent file often says no more than a description; against agents with thirty examples the
    classifier would never choose it.
    """
    said = {name: _stems(_about(agent)) for name, agent in agents.items()}
    asked, raised = _stems(request), dict(scores)
    for name, agent in agents.items():
        if len(agent.routing.examples) >= TAUGHT:
            continue
        own = asked - set().union(*(stems for other, stems in said.items() if other != name))
        hits, hints = len(said[name] & own), len(_stems(agent.prompt[:500]) & own)
        if hits or hints > 1:
            raised[name] = max(raised[name], 0.75 if hits > 1 else 0.6)
    return raised


def _about(agent: Agent) -> str:
    return " ".join([agent.name, agent.description, *agent.routing.keywords, *agent.routing.examples])


def _stems(text: str) -> set[str]:
    """The first four letters of each word; it finds `query` in `queries` without knowing any language."""
    return {word[:4] for word in _WORD.findall(text.lower()) if len(word) > 2} - _COMMON
