"""Confine this process with Landlock and seccomp, then become the command; run as a script of its own.

Arguments: the number of pieces of a plan, the pieces, the command. It ends with 125 when the kernel refuses
any part of the plan. Numbers are those of linux/landlock.h, linux/prctl.h and linux/capability.h. The plan is
no JSON and paths are texts because those modules take longer to import than all the rest.
"""

from __future__ import annotations

import binascii
import ctypes
import errno
import marshal
import os
import resource
import stat
import struct
import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LONGEST = 100_000
"""Characters of one argument: the kernel takes 131,071."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_RULESET, _RULE, _RESTRICT = 444, 445, 446
_CAPSET = {"x86_64": 126, "aarch64": 91}
_PARENT_DEATH, _NO_NEW_PRIVS, _SECCOMP, _DROP = 1, 38, 22, 24
_READ = 1 << 0 | 1 << 2 | 1 << 3
"""Run a file, read a file, list a folder."""
_LIST = 1 << 3
_ONLY_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
_LAST = {1: 12, 2: 13, 3: 14, 4: 14}
"""Highest right on files by version of Landlock; from 5 on 15, which is for devices."""


def _call(number: int, *arguments: Any) -> int:
    result: int = _LIBC.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _landlock(plan: dict[str, Any]) -> None:
    version = plan["version"]
    every = (1 << _LAST.get(version, 15) + 1) - 1
    network = 3 if version >= 4 and not plan["network"] else 0
    scoped = 3 if version >= 6 else 0
    fields = struct.pack("QQQ", every, network, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _call(_RULESET, fields, ctypes.c_size_t(len(fields)), 0)
    # Making a device node is not among what a workspace needs.
    write = every & ~(1 << 6 | 1 << 11)
    for rights, places in ((_READ, plan["read"]), (write, plan["write"]), (_LIST, plan["list"])):
        for place in places:
            try:
                opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
            except OSError:
                continue
            allowed = rights if stat.S_ISDIR(os.fstat(opened).st_mode) else rights & _ONLY_FILES
            rule = struct.pack("=Qi", allowed & every, opened)
            try:
                _call(_RULE, ruleset, 1, rule, 0)
            except OSError as error:
                # What is no file, such as a pipe behind a link, cannot be granted and needs no grant.
                if error.errno != errno.EBADFD:
                    raise
            os.close(opened)
    _call(_RESTRICT, ruleset, 0)
    os.close(ruleset)


def _without_capabilities() -> None:
    for number in range(64):
        if _LIBC.prctl(_DROP, number, 0, 0, 0) < 0:
            break
    _call(_CAPSET[os.uname().machine], struct.pack("II", 0x20080522, 0), bytes(24))


def _filtered(program: bytes) -> None:
    steps = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(steps))
    if _LIBC.prctl(_SECCOMP, 2, head, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def packed(plan: dict[str, Any]) -> list[str]:
    """A plan as arguments, for the same Python: it names all that lies beside what is hidden."""
    text = binascii.b2a_base64(zlib.compress(marshal.dumps(plan), 1), newline=False).decode("ascii")
    pieces = [text[at : at + _LONGEST] for at in range(0, len(text), _LONGEST)]
    return [str(len(pieces)), *pieces]


def main(arguments: list[str]) -> None:
    """Confine, then run."""
    end = 1 + int(arguments[0])
    text, command = "".join(arguments[1:end]), arguments[end:]
    plan = marshal.loads(zlib.decompress(binascii.a2b_base64(text)))  # noqa: S302 - from `packed`
    try:
        for name, value in plan["limits"].items():
            number = getattr(resource, name)
            most = resource.getrlimit(number)[1]
            held = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(number, (held, held))
        for entrance in plan["groups"]:
            with open(entrance, "w", encoding="ascii") as opened:  # noqa: PTH123
                opened.write(str(os.getpid()))
        os.chdir(plan["cwd"])
        _LIBC.prctl(_PARENT_DEATH, 9, 0, 0, 0)
        if os.geteuid() == 0:
            _without_capabilities()
        if _LIBC.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), "no_new_privs")
        _landlock(plan)
        _filtered(bytes.fromhex(plan["filter"]))
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"the sandbox could not be set up: {error}\n")
        sys.exit(125)
    try:
        kept = {name: value for name, value in os.environ.items() if name not in plan["hidden"]}
        os.execvpe(command[0], command, {**kept, **plan["environment"]})  # noqa: S606 - it becomes the command
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


if __name__ == "__main__":
    main(sys.argv[1:])
