"""Whether a command of a database's client only asks: every statement in it is a query.

Texts inside quotes are data and decide nothing; whatever is not known to be a query is none.
"""

from __future__ import annotations

import re

from orchestrator.safety.rulebook import operands
from orchestrator.safety.words import UNKNOWN

_TEXT_OPTIONS = {
    "psql": ("-c", "--command"),
    "mysql": ("-e", "--execute"),
    "mariadb": ("-e", "--execute"),
    "clickhouse-client": ("-q", "--query"),
    "cqlsh": ("-e", "--execute"),
    "duckdb": ("-c",),
    "sqlcmd": ("-Q", "-q"),
    "cockroach": ("-e", "--execute"),
    "snowsql": ("-q",),
    "trino": ("--execute",),
    "presto": ("--execute",),
    "usql": ("-c", "--command"),
    "mycli": ("-e", "--execute"),
    "beeline": ("-e",),
    "hive": ("-e",),
    "impala-shell": ("-q", "--query"),
    "spark-sql": ("-e",),
    "vsql": ("-c",),
    "cbq": ("-s", "--script"),
    "bq": (),
    "sqlite3": (),
    "sqlite": (),
}
"""By client, the options that hold statements; without any, they are the operands after the first."""
CLIENTS = frozenset({*_TEXT_OPTIONS, "mongosh", "mongo", "redis-cli", "valkey-cli", "keydb-cli"}) - {"bq"}
_VALUES = ("-U", "-h", "-d", "-p", "-P", "-u", "-D", "-n", "-H", "--host", "--port", "--user", "--dbname")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|(--(?=\s)[^\n]*|/\*(?!!).*?\*/)", re.DOTALL)
"""Texts, and comments; MySQL runs what is in `/*! */`, and takes `--` without a blank for two signs."""
_QUERY = re.compile(
    r"(select|explain|show|describe|desc|values|table|with|use|help)\b|pragma\s+\w+(\([^=]*\))?\s*$"
    r"|\\(d\w*\+?|l\+?|z|conninfo|timing|x|pset|h|\?|q|echo|encoding|c)(\s|$)"
    r"|\.(schema|tables|indexes|indices|databases|dbinfo|headers?|mode|width|show|stats|help|quit|dump|separator)\b",
    re.IGNORECASE,
)
_ADDS = re.compile(
    r"(insert\s+into\b(?!.*\b(on\s+conflict|on\s+duplicate|overwrite)\b)|create\s+(?!or\s+replace|user|role|trigger|extension)"
    r"|begin|commit|rollback|end|start\s+transaction|savepoint|release|set\s+(?!global|password|role|session\s+auth)|use|comment\s+on"
    r"|\\(copy\s.*\bto\b|set|unset|a|t|f|g|o\s*$|pset|prompt|watch|warn|qecho|html|crosstabview)\b"
    r"|\.(echo|explain|timer|changes|nullvalue|prompt|print|bail|eqp|expert|lint|limit|parameter|scanstats|once\s*$|fullschema|exit)\b"
    r"|pragma\s+(foreign_keys|journal_mode|synchronous|cache_size|busy_timeout)\b|analyze\b|vacuum(?!\s+(full|into))\b"
    r"|explain\s+(analy[sz]e|verbose|\([^)]*\)|\s)*(select|with|values|table)\b(?!.*\b(insert|update|delete|merge|into)\b)|$)",
    re.IGNORECASE | re.DOTALL,
)
"""How statements begin that add, or only speak to the session."""
_CHANGE = re.compile(
    r"\b(insert|update|delete|drop|truncate|alter|create|replace|grant|revoke|merge|copy|call|do|exec(ute)?|into"
    r"|dblink\w*|lo_\w+|pg_(terminate|cancel|read|write|ls|reload|rotate|switch|logical)\w*|load_file|load_extension"
    r"|writefile|readfile|setval|nextval|set_config|xp_\w+|sp_\w+|sleep|benchmark|for\s+update|analyze)\b|\\!|\|",
    re.IGNORECASE,
)
_HARMLESS_EXPLAIN = re.compile(r"explain\s+(?!.*\banaly[sz]e\b)", re.IGNORECASE | re.DOTALL)
_MONGO = re.compile(
    r"(print(json)?\(\s*)?(db(\.\w+)*\.(find|findOne|count\w*|estimatedDocumentCount|stats|distinct|get\w+|version|aggregate"
    r"|serverStatus|hello|isMaster|dataSize|totalSize)\(.*|rs\.status\(\)|show \w+)\s*",
    re.IGNORECASE | re.DOTALL,
)
_MONGO_ASKS = re.compile(
    r"\.(run|admin)Command\(\s*\{?\s*['\"]?(ping|hello|buildInfo|serverStatus|dbStats|connectionStatus)['\"]?(\s*:\s*1\s*\})?\s*\)"
)
_MONGO_CHANGE = re.compile(
    r"\.(remove|delete|drop|insert|update|save|replace|findAnd|findOneAnd|bulk|create|kill|shutdown|rename|eval|forEach"
    r"|run|admin|set|add|grant|revoke|fsync|repair|compact|convert|re[iI]ndex)\w*\s*\(|=>|function|\$out|\$merge",
)


def speaks_sql(program: str) -> bool:
    """Whether a client takes statements as text."""
    return program in _TEXT_OPTIONS


def only_queries(program: str, arguments: list[str], given: str | None) -> bool:
    """Whether everything that the client is told to do is a query; False for other programs."""
    if program in {"mongosh", "mongo"}:
        texts = [_MONGO_ASKS.sub(".stats()", text) for text in _after(arguments, ("--eval",))]
        return bool(texts) and all(
            _MONGO.fullmatch(text) and not _MONGO_CHANGE.search(text) for text in texts
        )
    if program == "psql" and {"-l", "--list"} & set(arguments):
        return len(arguments) == 1
    texts = _statements(program, arguments, given)
    return bool(texts) and all(is_query(text) for text in texts)


def tells_more(program: str, arguments: list[str], given: str | None) -> bool:
    """Whether a client is told something that neither asks nor adds, as far as its first words show."""
    return program != "bq" and any(
        UNKNOWN in text or not all(is_query(part) or _ADDS.match(part) for part in _split(text))
        for text in _statements(program, arguments, given)
    )


def _statements(program: str, arguments: list[str], given: str | None) -> list[str]:
    """The texts of statements that a client is given; empty for other programs, and where a file has them."""
    options = _TEXT_OPTIONS.get(program)
    if options is None or any(argument in {"-f", "--file", "-init", "-cmd"} for argument in arguments):
        return []
    texts = _after(arguments, options)
    if not options:
        takes: dict[str, tuple[str, ...]] = {program: (*_VALUES, "-separator", "-cmd")}
        texts = operands(program, [item for item in arguments if item != "query"], takes)[program != "bq" :]
    return texts or ([given] if given else [])


def _after(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    """The values of options: behind them, after `=`, or at the end of a cluster such as `-tAc`."""
    found = []
    for at, argument in enumerate(arguments):
        for option in options:
            cluster = len(option) == 2 and re.fullmatch(rf"-[A-Za-z]*{option[1]}", argument)
            if argument == option or cluster:
                found += arguments[at + 1 : at + 2]
            elif argument.startswith(option + "=") and option.startswith("--"):
                found.append(argument[len(option) + 1 :])
    return found


def is_query(text: str) -> bool:
    """Whether every statement of a text only reads."""
    if UNKNOWN in text:
        return False
    return bool(text.strip()) and all(_reads(part) for part in _split(text) if part)


def _split(text: str) -> list[str]:
    """The statements of a text, without what stands in quotes."""
    plain = _QUOTED.sub(lambda match: " " if match[1] else "''", text)
    return [part.strip() for part in re.split(r";|\n(?=[\\.])", plain)]


def _reads(statement: str) -> bool:
    if not _QUERY.match(statement):
        return False
    if statement.startswith(("\\d", "\\h", "\\?", ".")):
        return not re.search(r"\\!|\|", statement)
    if re.match(r"show\s", statement, re.IGNORECASE):
        return True
    return bool(_HARMLESS_EXPLAIN.match(statement)) or not _CHANGE.search(statement)
