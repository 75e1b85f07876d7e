"""How long a verdict takes, by kind of command, and how many come out in a second.

The commands are those of the test corpora; each is judged with an empty parser cache.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.safety import syntax
from orchestrator.safety.alone import opinion
from orchestrator.safety.rulebook import builtin
from orchestrator.safety.words import Scene

DATA = Path(__file__).parents[1] / "tests" / "data"


def commands() -> list[str]:
    """The commands of both corpora."""
    files = ("shell_commands.jsonl", "more_commands.jsonl")
    lines = [line for name in files for line in (DATA / name).read_text("utf-8").splitlines()]
    return [json.loads(line)["cmd"] for line in lines]


def milliseconds(command: str) -> float:
    """Time of one verdict, the parser included."""
    syntax._cached.cache_clear()
    started = time.perf_counter()
    opinion(command, Scene("/workspace/app", "/home/dev", "/workspace/app"), builtin())
    return 1000 * (time.perf_counter() - started)


def line(name: str, taken: list[float], targets: str) -> str:
    """Median, 99th percentile and largest of some times."""
    last = statistics.quantiles(taken, n=100)[98] if len(taken) > 1 else taken[0]
    middle = statistics.median(taken)
    figures = f"p50 {middle:7.2f} ms  p99 {last:7.2f} ms  max {max(taken):7.2f} ms"
    return f"{name:24} n {len(taken):5}  {figures}  {targets}\n"


def longest() -> dict[str, str]:
    """Commands of about 64 KB, each of another shape."""
    size = syntax.MAX_BYTES - 64
    return {
        "64 KB, one word": "echo " + "a" * size,
        "64 KB, quoted text": "echo '" + "rm -rf / " * (size // 9) + "'",
        "64 KB, many commands": "ls -l;" * (size // 6),
        "64 KB, many deletions": "rm -rf a/b;" * (size // 11),
        "64 KB, here document": "cat > a.txt <<'E'\n" + "a line of text\n" * (size // 15) + "E\n",
        "64 KB, pipes": "ls" + "|cat" * (size // 4),
        "64 KB, nested": "$(" * 2_000 + "ls" + ")" * 2_000,
        "64 KB, assignments": "".join(f"a{n}=b{n};" for n in range(size // 12)),
        "10 MB": "ls " + "a" * 10_000_000,
    }


def stream(many: list[str]) -> float:
    """Verdicts a second through `orc policy check -`, its start included."""
    given = "".join(json.dumps({"cmd": command, "workspace": "/workspace/app"}) + "\n" for command in many)
    argv = [sys.executable, "-c", "from orchestrator.cli import main; main()", "policy", "check", "-"]
    started = time.perf_counter()
    subprocess.run(argv, input=given, text=True, check=True, capture_output=True)
    return len(many) / (time.perf_counter() - started)


def main() -> None:
    """Measure and print; always exit 0, because a shared machine decides more than the code."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    found = commands()
    builtin()
    milliseconds(found[0])
    plain = [milliseconds(item) for item in found if syntax.plain(item)]
    other = [milliseconds(item) for item in found if not syntax.plain(item)]
    sys.stdout.write(line("plain commands", plain, "target p50 0.5"))
    sys.stdout.write(line("with quotes, pipes, …", other, ""))
    sys.stdout.write(line("all", plain + other, "targets p50 5, p99 25"))
    for name, command in longest().items():
        sys.stdout.write(line(name, [milliseconds(command) for _ in range(3)], "target 500"))
    sys.stdout.write(f"orc policy check -           {stream(found):,.0f} verdicts a second, start included\n")


if __name__ == "__main__":
    main()
