"""Find what a call names (hosts, addresses, files), and whether somebody who may decide named it before."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

_URL = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{1,15}:/{2,3}[^\s\"'<>`\\^{}|]+")
_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@((?:[\w-]{1,63}\.)+[\w-]{2,63}|[\w-]{1,63}(?=:))")
_BARE = re.compile(r"(?<![\w./@-])((?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24})(?![\w(@-])")
_NUMERIC = re.compile(
    r"(?<![\w.])((?:0x[0-9a-f]+|\d+)(?:\.(?:0x[0-9a-f]+|\d+)){3})(?![\w.])|\[([0-9a-f:.]{3,45})\]",
    re.IGNORECASE,
)
_ENDINGS = frozenset([
    "py",
    "js",
    "ts",
    "jsx",
    "tsx",
    "txt",
    "md",
    "rst",
    "csv",
    "tsv",
    "json",
    "jsonl",
    "yaml",
    "yml",
    "toml",
    "ini",
    "cfg",
    "conf",
    "sh",
    "bash",
    "html",
    "htm",
    "css",
    "log",
    "tmp",
    "bak",
    "gz",
    "zip",
    "tar",
    "tgz",
    "xz",
    "pdf",
    "png",
    "jpg",
    "jpeg",
    "gif",
    "svg",
    "lock",
    "xml",
    "sql",
    "db",
    "sqlite",
    "rs",
    "go",
    "c",
    "h",
    "cpp",
    "hpp",
    "java",
    "kt",
    "rb",
    "php",
    "pl",
    "r",
    "ipynb",
    "doc",
    "docx",
    "xls",
    "xlsx",
    "ppt",
    "pptx",
    "env",
    "ps1",
    "bat",
    "exe",
    "so",
    "dll",
    "o",
    "a",
    "out",
    "map",
    "min",
    "mod",
    "sum",
    "swift",
    "scala",
    "lua",
    "vim",
    "el",
    "tex",
    "bib",
    "mp3",
    "mp4",
    "wav",
    "avi",
    "mov",
    "iso",
    "img",
    "deb",
    "rpm",
    "whl",
    "egg",
    "pem",
    "key",
    "crt",
    "pub",
    "patch",
    "diff",
    "orig",
    "rej",
    "spec",
    "main",
    "dist",
])
"""What follows the dot in names of files far more often than in names of hosts."""
_LOCAL = re.compile(r"localhost|127(?:\.\d+){3}|::1|0\.0\.0\.0|(?:[\w-]+\.)*localhost")
_SYNONYMS = {
    "temp": "tmp",
    "temporary": "tmp",
    "logs": "log",
    "backup": "bak",
    "backups": "bak",
    "cached": "cache",
}


def plain(text: str) -> str:
    """A text as it is compared: compatible forms unified, lower case."""
    return unicodedata.normalize("NFKC", text).casefold()


def urls(text: str) -> list[str]:
    """Every URL in a text."""
    return [found[0].rstrip(".,;:!?)]") for found in _URL.finditer(text)]


def host_of(url: str) -> str:
    """The host of a URL, empty when there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".").casefold()
    except ValueError:
        return ""


def hosts(text: str) -> list[str]:
    """Every host that a text names, and every mail address or `user@host`; this machine is none."""
    text = unicodedata.normalize("NFKC", text)
    found = [host_of(url) or url for url in urls(text)]
    found += [match[0].casefold() for match in _MAIL.finditer(text)]
    found += [(match[1] or match[2]).casefold() for match in _NUMERIC.finditer(text)]
    without = _URL.sub(" ", text)
    found += [
        match[1].casefold()
        for match in _BARE.finditer(without)
        if match[1].rpartition(".")[2].casefold() not in _ENDINGS
    ]
    return [host for host in dict.fromkeys(found) if not _LOCAL.fullmatch(host)]


def names(texts: Iterable[str], thing: str) -> bool:
    """Whether one of the texts names a thing: as a word of its own, in any case."""
    wanted = plain(thing).strip()
    if not wanted:
        return False
    pattern = re.compile(rf"(?<![\w.@-]){re.escape(wanted)}(?![\w@-]|\.\w)")
    return any(pattern.search(plain(text)) for text in texts)


def names_host(texts: Iterable[str], host: str) -> bool:
    """Whether one of the texts names a host, or the domain that it belongs to."""
    texts = list(texts)
    try:
        ip_address(host)
        return names(texts, host)
    except ValueError:
        pass
    labels = host.split(".")
    return any(
        names(texts, ".".join(labels[at:])) or names(texts, f"www.{'.'.join(labels[at:])}")
        for at in range(max(len(labels) - 1, 1))
    )


def words(text: str) -> list[str]:
    """The words of a text with three letters or more, as they are compared."""
    return [_SYNONYMS.get(word, word) for word in re.findall(r"[^\W_]{3,}", plain(text))]


def names_file(texts: Iterable[str], path: str) -> bool:
    """Whether one of the texts speaks of a file: its name, its folder, its ending, a word of its name."""
    texts = [plain(text) for text in texts]
    path = plain(posixpath.normpath(unquote(path))).removeprefix("./").strip("*?/")
    if path.isdigit():
        # A number alone is named by chance in every date.
        return any(re.search(rf"\b(?:id|ids|number|no|nr|#)\W{{0,3}}{path}\b", text) for text in texts)
    parts = [part.strip("*?") for part in path.split("/") if part.strip("*?.")]
    if not parts:
        return False
    said = {word for text in texts for word in words(text)} | {
        word.removesuffix("s") for text in texts for word in words(text)
    }
    if any(names(texts, piece) for piece in (path, *parts)):
        return True
    ending = posixpath.splitext(parts[-1])[1] or (parts[-1] if parts[-1].startswith(".") else "")
    if ending and any(re.search(rf"(?:^|[\s*\"'`(]){re.escape(ending)}\b", text) for text in texts):
        return True
    own = {word.removesuffix("s") for part in parts for word in words(part)}
    return bool(own & said)
