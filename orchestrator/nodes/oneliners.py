"""Ask a small model for a command in the form it was trained on: a task in words, code in the answer.

For counting, sorting, filtering, moving, deleting and questions about the machine. The recipes whose words
come nearest to the task stand in the question, since a small model adapts a line better than it invents one.
A command that fails, or does nothing, is followed by the wish for a short program in Python.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Literal

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from orchestrator.nodes.changes import UNCHANGED, files
from orchestrator.nodes.intent import asks_for_change
from orchestrator.nodes.mending import BLOCK
from orchestrator.nodes.messages import calling
from orchestrator.nodes.proof import is_text, named_in
from orchestrator.nodes.renames import renaming
from orchestrator.nodes.repair import asks_for_repair
from orchestrator.nodes.rounds import is_move, passed, rounds_of
from orchestrator.nodes.shellslips import mended
from orchestrator.safety.visible import escaped

Form = Literal["shell", "python"]
RECIPES = 3
LISTED = 40
"""Files that are named in the question; of a larger workspace its top."""
MOST_LINES = 5
MOST_CHARACTERS = 400
"""Of each line of a file that is shown."""
_NEAR = 0.5
"""The least nearness of a recipe that is shown."""
_PROGRAM = re.compile(r"\.(?:py|sh|js|ts|rb|c|cpp|java|go|rs)\Z")
_TABLE = re.compile(r"\.(?:csv|tsv|json|jsonl|xml|ya?ml|toml)\b", re.I)
"""Files whose records a program reads more surely than a line of shell."""
_HERE = re.compile(
    r"\b(?:(?:in )?here|this folder|these files|diesem ordner|hier|ce dossier|esta carpeta|aquí)\b", re.I
)
_LOG = re.compile(r"\.log\b", re.I)
_WORK = re.compile(
    r"\b(?:how (?:many|much|often|big|large|long)|count|number of|sum\b|total|altogether|average|mean\b"
    r"|median|(?:long|short|larg|bigg|small|high|low|old|new|few|cheap|earli|lat)(?:er|est)\b|most\b|least\b"
    r"|sort|order (?:of|by)|reverse|uniq|distinct|different|duplicat|more than once|twice|repeated"
    r"|delet|remov(?:e|ing) (?:all|every|any|the|each)|clean up|mov(?:e|ing)\b|cop(?:y|ies)\b|merg|join"
    r"|combin|concat|append (?:the )?cont|split|convert|upper ?case|lower ?case|capital letters|empty|blank"
    r"|trailing|(?:first|last) \d+|every (?:line|file|row|tab|word)|all (?:the )?(?:lines|files|rows|\.\w+)"
    r"|(?:which|what) (?:of the )?(?:files?|lines?|folders?|names?|words?)|contain|archive|\bzip|compress"
    r"|unpack|executable|number the|extract|column|subfolders? by"
    r"|wie (?:viele?|oft|groß|lang)|zähl|summe|durchschnitt|sortier|doppelt|lösch|verschieb|kopier"
    r"|umgekehrt|größte|kleinste|älteste|neueste|längste|kürzeste|höchste|häufigste|leere"
    r"|combien|compte|somme|moyenne|tri(?:e|er)\b|doublon|supprim|déplac|copi|inverse"
    r"|plus (?:grand|petit|long|vieux)|vide|cu[aá]nt[oa]s?|cuenta|suma|promedio|orden(?:a|ar)\b|duplicad"
    r"|borra|elimin|mueve|m[aá]s (?:grande|pequeñ|larg|antigu)|vac[ií]|inviert)",
    re.I,
)
_MACHINE = re.compile(
    r"\b(?:machine|computer|laptop|server|system|kernel|cpus?|cores?|processors?|memory|ram|disk|uptime"
    r"|host ?name|user(?:s|name)?|process(?:es)?|ports?|ip address|distribution|linux|os|version|installed"
    r"|shells?|time ?zone|locale|architecture|load|logged in|date|time|day|bits?|path"
    r"|home (?:folder|directory)"
    r"|rechner|maschine|speicher|prozessor|festplatte|betriebssystem|benutzer|prozess\w*|installiert|uhr\w*"
    r"|datum"
    r"|ordinateur|m[ée]moire|processeur|disque|syst[èe]me|utilisateur|processus|install[ée]e?|heure"
    r"|m[aá]quina|memoria|procesador|disco|sistema|usuario|procesos?|instalad\w|hora|fecha|ordenador|equipo)\b",
    re.I,
)
_CONTENT = re.compile(r"\b(?:docs?|documentation|manual|handbook|readme|guide|policy|rules?|notes?)\b", re.I)
"""What has to be read, not computed."""
_LINE_ENDS = re.compile(r"csv\.(writer|DictWriter)\(((?:(?!lineterminator)[^()])*)\)")
"""Python's csv ends its lines as Windows does, which is rarely meant."""
_INTO = re.compile(r"(?<![>&\d])>\s*([\w./-]+)")
_TO_FOLDER = re.compile(r"(?:\A|&& )(?:mv|cp) [^;&|]*?([\w-][\w./-]*/)\s*\Z")
_CODE = re.compile(
    r"\b(?:components?|functions?|class(?:es)?|methods?|endpoints?|bugs?|refactor|modules?|code)\b", re.I
)
"""What has to be programmed."""


def form_of(goal: str, history: Sequence[AnyMessage], root: Path, tools: Sequence[str]) -> Form | None:
    """In which form the next command is asked for; None where a task is no work for one, or it was done."""
    forms = _forms(goal, root, tools)
    rounds = rounds_of(history)
    if not forms or any(
        call["name"] == "search_docs" for message, _ in rounds for call in message.tool_calls
    ):
        return None
    own = [(message, results) for message, results in rounds if not is_move(message)]
    if len(own) >= len(forms) or any(not _in_vain(goal, results[-1]) for _, results in own):
        return None
    return forms[len(own)]


def _forms(goal: str, root: Path, tools: Sequence[str]) -> list[Form]:
    """The forms in the order in which they are tried; none where the task is something else."""
    names = [name for name in named_in(goal) if (root / name).is_file()]
    writes_program = any(_PROGRAM.search(name) and not (root / name).exists() for name in named_in(goal))
    is_code = asks_for_change(goal) and any(_PROGRAM.search(name) for name in names)
    about_machine = not names and not asks_for_change(goal) and _MACHINE.search(goal)
    about_log = _LOG.search(goal) and not asks_for_change(goal)
    if not (_WORK.search(goal) or about_machine or about_log) or writes_program or is_code:
        return []
    words = " ".join(word for word in goal.split() if not named_in(word))
    if (_CODE if asks_for_change(goal) else _CONTENT).search(words) or asks_for_repair(goal):
        return []
    if renaming(goal) or "run_command" not in tools or ("web_search" in tools and not _is_here(goal, root)):
        return []
    if "run_python" not in tools or not files(root):
        return ["shell"]
    return ["python", "shell"] if _TABLE.search(goal) else ["shell", "python"]


def _is_here(goal: str, root: Path) -> bool:
    """Whether a task is about the workspace, not about the world: it names a file or folder, or says so."""
    words = [word.strip(".,:;?!()\"'`").rstrip("/") for word in goal.split()]
    return _HERE.search(goal) is not None or any(word and (root / word).exists() for word in words)


def _in_vain(goal: str, result: ToolMessage) -> bool:
    """Whether a command failed, or did not do what it was for."""
    nothing = UNCHANGED if asks_for_change(goal) else "(no output)"
    return not passed(result) or nothing in result.text


def question(goal: str, form: Form, root: Path) -> list[AnyMessage]:
    """The task, the files that are there, the first lines of those that it names, and recipes."""
    parts = [_listed(root), *(_head(name, root) for name in dict.fromkeys(named_in(goal)))]
    parts.append(f"Task: {goal}")
    changes = asks_for_change(goal)
    if form == "shell":
        if near := recipes(goal):
            lines = "\n".join(f"# {words}\n{command}" for words, command in reversed(near))
            parts.insert(0, f"Examples of commands:\n```bash\n{lines}\n```")
        parts.append(
            "Write the bash command that does this, in one code block. It changes the files themselves."
            if changes
            else "Write the bash command that prints the answer, in one code block."
        )
        return [SystemMessage("You are an expert in the Linux command line."), HumanMessage(_joined(parts))]
    does = "changes them in place" if changes else "only reads them, and prints the answer"
    parts.append(
        "Write a short Python program that does this now, in one code block, with the standard library only. "
        f"It works on the files in the current folder and {does}."
    )
    return [SystemMessage("You are an expert Python programmer."), HumanMessage(_joined(parts))]


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if part)


def call(answer: str, form: Form, goal: str, root: Path) -> AIMessage | None:
    """The answer as a call; None where there is no code in it, or a command that would lose what it reads."""
    blocks = BLOCK.findall(answer)
    code = blocks[0].strip() if blocks else ""
    if not code:
        return None
    if form == "python":
        return calling("run_python", code=_LINE_ENDS.sub(r'csv.\1(\2, lineterminator="\\n")', code))
    if _reads_what_it_empties(code):
        return None
    return calling("run_command", command=_with_folder(mended(code, goal, root), root))


def _reads_what_it_empties(command: str) -> bool:
    """Whether a command writes a file with `>` that it has still to read: the shell empties it first."""
    for part in re.split(r"&&|;|\n", command):
        for target in _INTO.findall(part):
            if re.search(rf"(?<![\w./-]){re.escape(target)}(?![\w./-])", _INTO.sub("", part)):
                return True
    return False


def _with_folder(command: str, root: Path) -> str:
    """A command that moves files to a folder, after one that makes it where it is not there."""
    folder = _TO_FOLDER.search(command)
    if folder and not (root / folder[1]).exists() and "mkdir" not in command:
        return f"mkdir -p {shlex.quote(folder[1].rstrip('/'))} && {command}"
    return command


def _listed(root: Path) -> str:
    found = sorted(files(root) or ())
    if not found:
        return ""
    if len(found) > LISTED:
        tops = sorted({PurePosixPath(name).parts[0] + ("/" if "/" in name else "") for name in found})
        found = tops[:LISTED]
    return "The files here:\n" + "\n".join(escaped(name, keep="") for name in found)


def _head(name: str, root: Path) -> str:
    """The first lines of a text file; code has read them before, in a call of its own."""
    if not is_text(root / name):
        return ""
    try:
        with (root / name).open(encoding="utf-8") as file:
            lines = [file.readline(MOST_CHARACTERS).rstrip("\n") for _ in range(MOST_LINES)]
    except (OSError, ValueError):
        return ""
    return f"{name} begins with:\n" + "\n".join(line for line in lines if line)


@cache
def _book() -> tuple[list[tuple[str, str]], Counter[str]]:
    """The recipes, and in how many of them each stem stands."""
    text = (Path(__file__).parent / "small_recipes.txt").read_text(encoding="utf-8")
    book = [(words, command) for words, _, command in (line.partition(": ") for line in text.splitlines())]
    return book, Counter(stem for words, _ in book for stem in _stems(words))


def recipes(goal: str) -> list[tuple[str, str]]:
    """The recipes whose words come nearest to a task, the nearest first: cosine of rarity-weighted stems."""
    book, known = _book()
    asked = _stems(goal)

    def weight(stems: set[str]) -> float:
        return sum(math.log(len(book) / known[stem]) for stem in stems)

    rated = [
        (weight(asked & stems) / math.sqrt(weight(stems) + 4), words, command)
        for words, command in book
        for stems in [_stems(words)]
    ]
    return [
        (words, command) for near, words, command in sorted(rated, reverse=True)[:RECIPES] if near > _NEAR
    ]


def _stems(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"[a-z]{2,}|\.\w+", text.lower())}
