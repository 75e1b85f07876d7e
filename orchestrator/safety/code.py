"""What a piece of Python, Perl, Ruby, JavaScript … would do, as far as its text shows.

This only raises suspicion: what confines code is the sandbox.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field

from orchestrator.safety.decoding import decoded
from orchestrator.safety.expressions import quoted, text_of
from orchestrator.safety.references import References
from orchestrator.safety.words import UNKNOWN, ansi_c


@dataclass
class Signs:
    """What a text shows."""

    changes: list[tuple[str, str, bool]] = field(default_factory=list)
    """Effect, target (UNKNOWN in it where it is computed), whole tree."""
    scripts: list[str] = field(default_factory=list)
    """Shell commands that it starts."""
    network: bool = False
    sql: bool = False
    """It holds a statement that deletes or drops."""
    runs_text: bool = False
    """It runs code that it has only as text."""
    texts: list[str] = field(default_factory=list)
    """Code that it runs from a text."""
    folder: str = ""
    """Where it goes before it does the rest."""


_SQL = re.compile(
    r"^\s*(drop\s+(table|database|schema|index|view|user)|truncate\s|delete\s+from|alter\s+table|update\s+\S+\s+set)\b",
    re.I,
)
_EXECUTES = re.compile(r"execute|query|exec|run|raw|sql|command|read_sql")
_TREES = {"shutil.rmtree", "rmtree", "os.removedirs"}
_DELETES = {
    "os.remove",
    "os.unlink",
    "os.rmdir",
    "remove",
    "unlink",
    "os.rename",
    "os.replace",
    "shutil.move",
}
_COPIES = {"shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree"}
_ON_OBJECTS = {"unlink", "rmdir", "write_text", "write_bytes"}
_SHELLS = {"os.system", "os.popen", "system", "popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
_SHELLS |= {"pty.spawn", "os.execvp", "os.execv", "os.execl", "os.execlp", "os.spawnlp"}
_PROCESSES = {"run", "call", "check_call", "check_output", "Popen"}
_TEXTS = {"eval", "exec", "compile", "__import__", "pickle.loads", "marshal.loads", "runpy.run_path"}
_NETWORK = {
    "boto3",
    "botocore",
    "kubernetes",
    "docker",
    "redis",
    "psycopg",
    "psycopg2",
    "pymysql",
    "MySQLdb",
    "asyncpg",
    "pymongo",
    "elasticsearch",
    "kafka",
    "pika",
    "fabric",
    "pexpect",
    "socket",
    "urllib",
    "requests",
    "httpx",
    "http",
    "ftplib",
    "smtplib",
    "paramiko",
    "aiohttp",
    "telnetlib",
}


def python(text: str, depth: int = 0) -> Signs | None:
    """Signs of a Python text; None when it is not valid Python."""
    signs = Signs()
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    names = References(tree, _constants(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            signs.network |= any(alias.name.split(".")[0] in _NETWORK for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            signs.network |= (node.module or "").split(".")[0] in _NETWORK
        elif isinstance(node, ast.Call):
            name = names.dotted(node.func)
            signs.network |= name.partition(".")[0] in _NETWORK and name != ast.unparse(node.func)
            signs.runs_text |= names.is_dynamic(name) or names.is_dynamic(name.removesuffix("()"))
            _call(node, name, names.texts, signs)
    for name, holder in names.handed(tree):
        _handed(name, holder, signs)
    if any(UNKNOWN in target for effect, target, _ in signs.changes if effect == "delete"):
        # What it deletes is computed from something: the machine's own paths in the code are candidates.
        paths = (str(item.value) for item in ast.walk(tree) if isinstance(item, ast.Constant))
        signs.changes += [("delete", path, True) for path in paths if re.match(r"[/~]", path)]
    for inner in signs.texts:
        below = python(inner, depth + 1) if UNKNOWN not in inner and depth < 4 else None
        if below is None:
            signs.runs_text = True
            continue
        signs.changes += below.changes
        signs.scripts += below.scripts
        signs.network |= below.network
        signs.runs_text |= below.runs_text
    return signs


def _constants(tree: ast.AST) -> dict[str, str]:
    """Variables that are set exactly once, to a text."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.setdefault(node.id, []).append(UNKNOWN)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if len(found[name]) == 1 and isinstance(node.value, ast.Constant):
                found[name] = [str(node.value.value)]
    return {name: values[0] for name, values in found.items() if len(values) == 1}


def _call(node: ast.Call, name: str, texts: dict[str, str], signs: Signs) -> None:
    named = [word.value for word in node.keywords if word.arg in {"args", "cmd", "command", "path", "file"}]
    target = text_of(next(iter([*node.args, *named]), None), texts)
    last, owner = name.rpartition(".")[2], _owner(node.func)
    on_object = last in _ON_OBJECTS and owner is not None
    is_rename = last in {"rename", "replace"} and len(node.args) == 1 and not node.keywords
    if name in _TREES or last == "rmtree":
        signs.changes.append(("delete", target, True))
    elif name in _DELETES:
        signs.changes.append(("delete", target, False))
    elif (on_object or is_rename) and owner is not None:
        effect = "write" if last.startswith("write") else "delete"
        signs.changes.append((effect, text_of(owner, texts), False))
    elif name in _COPIES and len(node.args) > 1:
        signs.changes.append(("write", text_of(node.args[1], texts), last == "copytree"))
    elif _writes(node, name, last, texts):
        signs.changes.append(("write", target, False))
    elif _EXECUTES.match(last) and _SQL.search(target):
        signs.sql = True
    elif script := _process(node, name, target, texts):
        signs.scripts.append(script)
    elif name in _TEXTS:
        signs.texts.append(target)
    elif name == "os.chdir":
        signs.folder = target


def _owner(function: ast.expr) -> ast.expr | None:
    """The object whose method is called, by its name or by `getattr`."""
    if isinstance(function, ast.Attribute):
        return function.value
    return function.args[0] if isinstance(function, ast.Call) and function.args else None


def _handed(name: str, holder: ast.AST, signs: Signs) -> None:
    """A function that another one is to call: with the literals beside it, or with what nobody knows."""
    last = name.rpartition(".")[2]
    constants = ast.walk(holder) if isinstance(holder, ast.Call) else ()
    given = [
        item.value for item in constants if isinstance(item, ast.Constant) and isinstance(item.value, str)
    ]
    given = given or [UNKNOWN]
    if "." in name and (name in _TREES | _DELETES or last == "rmtree"):
        signs.changes += [("delete", item, name in _TREES) for item in given]
    elif "." in name and _starts_process(name, last):
        signs.scripts += given
    elif name in _TEXTS - {"compile", "__import__"}:
        signs.texts += given


def _process(node: ast.Call, name: str, target: str, texts: dict[str, str]) -> str:
    """The command that a call starts, or the signal that it sends; empty for any other call."""
    last = name.rpartition(".")[2]
    if name in {"os.kill", "os.killpg"}:
        return f"kill {target}"
    if not _starts_process(name, last):
        return ""
    lists = [item for item in node.args[1:2] if isinstance(item, ast.List | ast.Tuple)]
    if lists:
        return text_of(lists[0], texts)
    rest = " ".join(quoted(text_of(item, texts)) for item in node.args[2:])
    return f"{target} {rest}" if last.startswith(("exec", "spawn", "posix_spawn")) else target


def _writes(node: ast.Call, name: str, last: str, texts: dict[str, str]) -> bool:
    """Whether a call writes the file that it names first."""
    if last in {"truncate", "ftruncate"}:
        return True
    if last == "input":
        return any(word.arg == "inplace" for word in node.keywords)
    if name == "os.open":
        return any(flag in ast.unparse(node) for flag in ("O_TRUNC", "O_WRONLY", "O_RDWR"))
    mode = text_of(node.args[1], texts) if len(node.args) > 1 else "r"
    mode = next((text_of(word.value, texts) for word in node.keywords if word.arg == "mode"), mode)
    return name == "open" and bool(set(mode) & {"w", "a", "x", "+", UNKNOWN})


def _starts_process(name: str, last: str) -> bool:
    return (
        name in _SHELLS
        or last in {"create_subprocess_shell", "create_subprocess_exec"}
        or (name.startswith("os.") and last.startswith(("exec", "spawn", "posix_spawn")))
        or (name.startswith("subprocess.") and last in _PROCESSES)
    )


_OTHER_TREE = re.compile(
    r"\brm\(|delete-directory|file\s+delete|rm_rf|rm_r\b|remove_dir_all|rmtree|remove_tree|rmSync|\brmdir|fs\.rm\b|remove_entry|rimraf|removeSync"
    r"|RemoveAll\b|removeItem|delete_?[dD]ir\b|delete_?[tT]ree|forceDelete|deleteDirectory|empty\s+(the\s+)?trash|deleteRecursively|Directory\.Delete|deltree|unlink\([^)]*recursive"
)
_OTHER_DELETE = re.compile(
    r"\bunlink|delete-file|File\.delete|FileUtils\.(?:mv|rm|move|remove|cp)|\bremove\(|deleteSync|os\.remove"
    r"|\brename(?:Sync)?\b|os\.Remove\b|Files?\.[dD]elete\w*|\.delete\(\)"
)
_OTHER_SHELL = re.compile(
    r"\b(system|exec|execSync|execFile(?:Sync)?|fork|spawn|spawnSync|popen|passthru|shell_exec"
    r"|qx|execute|do shell script|shell-command|call-process|spawn_async"
    r"|shellescape|Open3|proc_open)\b|`|%x|\bopen3?\b.*\|"
)
_OTHER_NETWORK = re.compile(
    r"socket|fsockopen|stream_socket|https?[:.]|net/http|IO::Socket|fetch\(|LWP|TCPSocket|curl_|require\('net'\)",
    re.I,
)
_OTHER_WRITE = re.compile(
    r"writeFile|appendFile|truncate|File\.(write|open)|open\s*\(?\s*\w+\s*,\s*['\"]\+?>|file_put_contents|fopen"
)
_LITERAL = re.compile(
    r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|`([^`]*)`|(?:q[xwq]?|%[xqw])?[\[{(]([^\[\](){}'\"]+)[\])}]"
)


_HOME = re.compile(
    r"Dir\.home|os\.homedir\(\)|homedir\(\)|ENV\[['\"]HOME['\"]\]|\$ENV\{['\"]?HOME['\"]?\}|process\.env\.HOME|getenv\(['\"]HOME['\"]\)"
)
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_HOME_FILLED_IN = re.compile(rf"[#$]\{{\s*(?:{_HOME.pattern})\s*\}}")
_FILLED_IN = re.compile(r"#\{[^{}]*\}")
"""A value in the middle of a text, as Ruby and others write it."""
_PRINTED = re.compile(
    r"\b(print|puts|echo|say|warn|console\.log)[ (]+"
    r"(?:'[^'\\]*(?:\\.[^'\\]*)*'|\"[^\"\\$#]*(?:\\.[^\"\\$#]*)*\")(?=\s*(?:[;)}\n]|$))"
)
"""A literal that is only printed: its words are no code."""
_PATTERN = re.compile(
    r"\b(if|unless|and|or|while|grep)\s*\{?\s*(?:\$\w+\s*=~\s*)?m?/(?:[^/\\\n]|\\.)*/[a-z]*(?=\s*[;)}'\"]|\s*$)"
)
"""A pattern that something is compared with."""
_OTHER_RUN = re.compile(
    r"system|[sS]ys\.command|System\.(cmd|Process)|Process\b|\bs?h?run\b|\bsh\b|doShellScript|exec", re.I
)
"""Calls that start a process in languages of which little else is known here."""
_RUINS = frozenset(["rm", "dd", "shred", "mkfs.ext4", "wipefs", "chmod", "chown"])
_COMMAND = re.compile(r"\s*(sudo\s+)?(rm\s+-|dd\s+(\S+\s+)*of=|mkfs|shred\s|wipefs\s|ch(mod|own)\s+-R)")
"""How a literal begins that is a command, however it is run."""
_GLOB = re.compile(r"<([\w./~-]*\*[\w./*~-]*)>")
"""Files by a pattern, as Perl writes them."""
_TCL_DELETE = re.compile(r"\bfile\s+delete\s+(?:-force\s+|--\s+)*([^\s;\]\"]+)")
_CALL = re.compile(r"\b(?:system|exec\w*|spawn\w*|popen\w*|passthru|shell_exec)\s*\(?\s*([^;)]*,[^;)]*)")
"""A call with its command in several literals."""
_CONTINUED = re.compile(
    r"\b(?:system|exec\w*|popen|passthru|shell_exec)\s*\(?\s*(['\"])((?:(?!\1)[^\\])*)\1\s*[.+]\s*(?=[\w$(])"
)
"""A call with a command of which a part is computed."""


def _unescaped(match: re.Match[str]) -> str:
    """The text of a literal; only double quotes know more escapes than that of themselves."""
    single, double, *rest = match.groups("")
    return (
        ansi_c(double).replace("\\$", "$") if double else re.sub(r"\\([\\'])", r"\1", single) or "".join(rest)
    )


def _evaluated(text: str) -> list[str]:
    """What follows each `eval`."""
    return [text[match.end() :] for match in re.finditer(r"\beval\b[\s(]*", text)]


def other(text: str) -> Signs:
    """Signs of a text in another language, by its words and its literals."""
    signs = Signs()
    text = _QUOTED.sub(lambda match: _HOME.sub("~", match[0]), _HOME_FILLED_IN.sub("~", decoded(text)))
    text = _FILLED_IN.sub(UNKNOWN, text)
    text = _PATTERN.sub(r"\1 ", _PRINTED.sub(r"\1 ", _HOME.sub('"~"', text)))
    for name, items in re.findall(r"[@$](\w+)\s*=\s*\(([^()]*)\)", text):
        text = re.sub(rf"@{name}\b(?!\s*=)", lambda _, items=items: items, text)  # type: ignore[misc]
    for name, _, value in re.findall(r"\$(\w+)\s*=\s*(['\"])((?:(?!\2)[^\\])*)\2", text):
        text = re.sub(rf"\${name}\b(?!\s*=)", lambda _, value=value: value, text)  # type: ignore[misc]
    text += "".join("\n" + _unescaped(match) for match in map(_LITERAL.match, _evaluated(text)) if match)
    literals = [_unescaped(match).lstrip("+<> ") for match in _LITERAL.finditer(text)] + _GLOB.findall(text)
    targets = [
        item
        for item in literals
        if not re.fullmatch(r"fs|fileutils|child_process|[\w:]+=?\w*|\s*", item) or "." in item
    ]
    targets = targets or [item for item in literals if re.fullmatch(r"[\w.\-]+", item)]
    for pattern, effect, tree in (
        (_OTHER_TREE, "delete", True),
        (_OTHER_DELETE, "delete", False),
        (_OTHER_WRITE, "write", False),
    ):
        if pattern.search(text):
            signs.changes += [(effect, item, tree) for item in targets or [UNKNOWN]]
    if _OTHER_RUN.search(text):
        signs.scripts += [item for item in literals if _COMMAND.match(item)]
        starts = [at for at, item in enumerate(literals) if item in _RUINS][:8]
        signs.scripts += [" ".join(map(quoted, literals[at : at + 6])) for at in starts]
    signs.changes += [("delete", match[1], True) for match in _TCL_DELETE.finditer(text)]
    if _OTHER_SHELL.search(text):
        signs.scripts += [
            item for item in literals if set(item.strip()) & set(" {$;|&<") or item.isalpha()
        ] or [UNKNOWN]
        for match in re.finditer(r"call-process\s+([^()]*)", text):
            signs.scripts.append(" ".join(quoted(_unescaped(item)) for item in _LITERAL.finditer(match[1])))
        signs.scripts += [match[2] + UNKNOWN for match in _CONTINUED.finditer(text)]
        for match in _CALL.finditer(text):
            signs.scripts.append(" ".join(quoted(_unescaped(item)) for item in _LITERAL.finditer(match[1])))
        if "exec " in text and "(" not in text:
            signs.scripts.append(text.partition("exec ")[2])
    signs.network = bool(_OTHER_NETWORK.search(text))
    signs.sql = bool(re.search(r"\b(execute|query|exec|run|raw|prepare)\w*\(", text)) and any(
        map(_SQL.search, literals)
    )
    signs.runs_text = bool(re.search(r"\beval\b", text))
    return signs
