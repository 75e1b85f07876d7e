"""Code and script files that an interpreter would run, from its arguments or its input."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.safety import code
from orchestrator.safety.familiar import name_speaks_of_loss
from orchestrator.safety.rulebook import operands
from orchestrator.safety.scope import Scope, absolute, scope
from orchestrator.safety.verdict import Level
from orchestrator.safety.walk import Invocation
from orchestrator.safety.words import UNKNOWN, Scene

if TYPE_CHECKING:
    from orchestrator.safety.shell import Examiner

_PYTHON = re.compile(r"(python|pypy|ipython)[\d.]*$")
_CODE = {"perl": "eE", "ruby": "e", "node": "ep", "nodejs": "ep", "deno": "e", "bun": "e", "php": "rBR"}
_CODE |= {"lua": "e", "luajit": "e", "Rscript": "e", "R": "e", "julia": "eE", "tclsh": "", "osascript": "e"}
_CODE |= {
    "emacs": "",
    "emacsclient": "e",
    "ts-node": "e",
    "tsx": "e",
    "jshell": "",
    "swift": "e",
    "clojure": "e",
    "bb": "e",
    "kotlin": "e",
    "raku": "e",
}
_CODE |= {"elixir": "e", "groovy": "e", "guile": "c", "racket": "e", "sbcl": "", "gawk": "", "scala": "e"}
_CODE |= {"crystal": "", "coffee": "e", "ocaml": "e", "ghc": "e", "octave": "", "gnuplot": "e"}
_FILES = {
    "go": "run",
    "deno": "run",
    "bun": "run",
    "java": "",
    "ts-node": "",
    "tsx": "",
    "wish": "",
    "expect": "",
}
"""Programs that run a file of code, with the subcommand that does it."""
_MODULES = frozenset([
    "venv",
    "build",
    "unittest",
    "doctest",
    "json.tool",
    "http.server",
    "compileall",
    "timeit",
    "cProfile",
    "profile",
    "pdb",
    "trace",
    "tokenize",
    "ast",
    "dis",
    "inspect",
    "site",
    "sysconfig",
    "platform",
    "calendar",
    "zipfile",
    "tarfile",
    "gzip",
    "base64",
    "this",
    "pydoc",
    "ensurepip",
    "virtualenv",
    "sphinx",
    "setuptools",
    "wheel",
    "piptools",
    "pip_audit",
    "pydocstyle",
    "pycodestyle",
    "black",
    "isort",
    "ruff",
    "mypy",
    "pytest",
    "flake8",
    "pylint",
    "coverage",
    "tox",
    "nox",
    "bandit",
    "pre_commit",
    "ipykernel",
    "jupyter",
    "notebook",
    "uvicorn",
    "gunicorn",
    "flask",
    "django",
    "celery",
    "streamlit",
    "mkdocs",
])
_OWN_NAMES = {"pre_commit": "pre-commit", "django": "django-admin", "sphinx": "sphinx-build"}


_CHECKS = (("-c", "perl", "ruby"), ("-l", "php"), ("--check", "node", "nodejs"))
"""Options by which an interpreter only looks at the form of a file."""
_FORKS = re.compile(
    r"fork\(\) for\b|fork\W*\bwhile\b|(while|loop|for)\b[^\n;]*[:{;)]\s*(os\.|Process\.)?fork\b"
)
SHELL_SETUP = re.compile(
    r"/bin/activate$|/\.(bashrc|bash_profile|profile|zshrc|nvm/nvm\.sh|cargo/env|asdf/asdf\.sh|sdkman/bin/[\w-]+\.sh)$"
)


def takes_code(name: str) -> bool:
    """Whether a program runs code of a language of its own."""
    return bool(_PYTHON.match(name)) or name in _CODE


def inline(examiner: Examiner, name: str, invocation: Invocation, subject: str) -> bool:
    """Code in the arguments or the input of an interpreter, or the file that it runs."""
    is_python = bool(_PYTHON.match(name))
    letters = "c" if is_python else _CODE.get(name)
    if letters is None and name not in _FILES:
        return False
    arguments = invocation.argv[1:]
    text = _given_code(arguments, letters or "")
    if text is None and is_python and "-m" in arguments:
        return _module(examiner, arguments[arguments.index("-m") + 1 :], invocation)
    plain = [item for item in arguments if not item.startswith("-")]
    if text is None and not plain and letters is not None:
        text = invocation.given
        if text is None and (invocation.piped or "-" in arguments):
            examiner.doubt("shell.unknown-script", "runs code that is not known before it runs")
            return True
    if text is None:
        return _file(examiner, name, invocation)
    inspect(examiner, text, invocation.scene, subject, python=is_python)
    return True


def _given_code(arguments: list[str], letters: str) -> str | None:
    for at, argument in enumerate(arguments):
        found = letters and re.fullmatch(rf"-[A-Za-z]*[{letters}]", argument)
        if found or argument in {"--eval", "--print", "eval", "-eval", "--execute", "-execute"}:
            return "".join(arguments[at + 1 : at + 2])
        if argument.startswith(("--eval=", "--print=")):
            return argument.partition("=")[2]
        attached = re.fullmatch(rf"-[{letters}](.*[ ('\"].*)", argument, re.DOTALL) if letters else None
        if attached:
            return attached[1]
        if not argument.startswith("-") and arguments[at - 1 : at] != ["-l"]:
            return None
    return None


def _module(examiner: Examiner, words: list[str], invocation: Invocation) -> bool:
    """`python -m`: the module is judged as the program of its name."""
    module = "".join(words[:1])
    known = _OWN_NAMES.get(module, module)
    ruled = "." not in module and examiner.book.names(known)
    if not ruled and not {module, module.split(".")[0]} & _MODULES:
        return False
    examiner.add("project.tools", Level.SNAPSHOT, "runs a module of Python", module)
    for text in words[1:] if module in {"timeit", "pdb", "trace"} else ():
        inspect(examiner, text.lstrip("!"), invocation.scene, text, python=True)
    if ruled:
        examiner.walk.nested(
            Invocation([known, *words[1:]], invocation.scene, invocation.given, invocation.piped)
        )
    return True


def _file(examiner: Examiner, name: str, invocation: Invocation) -> bool:
    """A file of code as the first operand."""
    found = operands(name, invocation.argv[1:], examiner.book.values)
    word = _FILES.get(name, "")
    if word and found[:1] == [word]:
        found = found[1:]
    elif word:
        return False
    file = found[0] if found else ""
    if name == "java" and "-jar" in invocation.argv:
        file = "".join(invocation.argv[invocation.argv.index("-jar") + 1 :][:1])
    if not file or UNKNOWN in file:
        return False
    written = invocation.scene.script(absolute(file, invocation.scene))
    if written is not None:
        inspect(examiner, written, invocation.scene, file, python=bool(_PYTHON.match(name)))
        return True
    if {name: option for option, *names in _CHECKS for name in names}.get(name) in invocation.argv:
        return True
    after = invocation.argv[invocation.argv.index(file) + 1 :] if file in invocation.argv else found[1:]
    script_file(examiner, file, after, invocation.scene)
    return True


def script_file(examiner: Examiner, file: str, arguments: list[str], scene: Scene) -> None:
    """A script that was not read: the project's own runs as a build does, any other is looked at."""
    where = scope(file, scene)
    inside = where in {Scope.INSIDE, Scope.ROOT} or (scene.remote and not file.startswith("/"))
    if inside and name_speaks_of_loss(file, arguments):
        examiner.add(
            "project.grave-script", Level.ASK, "runs a project script named after something grave", file
        )
    elif inside:
        examiner.add("project.script", Level.SNAPSHOT, "runs a script of the workspace", file)
    elif SHELL_SETUP.search(absolute(file, scene)):
        examiner.add("project.script", Level.SNAPSHOT, "sets up the shell as the user does", file)
    else:
        examiner.add(
            "shell.script-file", Level.REVIEW, f"runs a script that was not read here, {where.value}", file
        )
        examiner.inside &= where in {Scope.SYSTEM, Scope.PRIVATE}


def inspect(examiner: Examiner, text: str, scene: Scene, subject: str, *, python: bool) -> None:
    """The signs of a piece of code."""
    examiner.add("code.runs", Level.SNAPSHOT, "runs code", subject)
    if _FORKS.search(text):
        examiner.forbid("shell.fork-bomb", "starts itself again and again until the machine stops")
    signs = (code.python(text) if python else None) or code.other(text)
    if UNKNOWN in text or signs.runs_text:
        examiner.doubt("code.unknown", "runs code that is not known before it runs")
    if signs.network:
        examiner.add("code.network", Level.ASK, "the code reaches the network", subject)
        examiner.reaches.append(text)
    if signs.sql:
        examiner.add("code.sql", Level.ASK, "the code deletes or changes rows or tables", subject)
    if signs.folder:
        where = absolute(signs.folder, scene)
        scene = scene.copy(cwd=None if UNKNOWN in where else where)
    for effect, target, tree in signs.changes:
        if target.startswith("~"):
            target = scene.home + target[1:]
        if UNKNOWN in target and not tree:
            why = f"the code {effect}s a path that it computes"
            examiner.add(f"code.{effect}-unknown", Level.REVIEW, why, subject)
        else:
            examiner.change(effect, target, scene, tree=tree, subject=subject)
    for script in signs.scripts:
        examiner.walk.script(script, scene.copy())
