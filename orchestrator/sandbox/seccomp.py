"""The system calls that a confined process may not make, as a BPF program for the kernel.

Everything else stays allowed: programs that people build and test use most of what there is. Denied is what
reaches other processes, kernel code, mounts, namespaces, keys and terminals, for root as for anybody.
The numbers are those of the kernel's own tables: arch/x86/entry/syscalls/syscall_64.tbl and, for aarch64,
include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import errno
import os
import platform
import struct
from functools import lru_cache

_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_DENIED: dict[str, tuple[int, int]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "move_pages": (279, 239),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "vhangup": (153, 58),
    "memfd_secret": (447, 447),
}
"""By name, the numbers on x86_64 and on aarch64."""
_DENIED_X86 = (156, 172, 173, 174, 177, 178, 180, 134, 212)
"""_sysctl, iopl, ioperm, create_module, get_kernel_syms, query_module, nfsservctl, uselib, lookup_dcookie."""
_CLONE, _CLONE3, _IOCTL, _PERSONALITY, _SOCKET = (56, 220), 435, (16, 29), (135, 92), (41, 198)
_NEW_NAMESPACES = 0x7E020080
"""CLONE_NEWNS, NEWTIME, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET."""
_TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI puts words into a terminal's input as if they were typed; TIOCLINUX can paste."""
_FAMILIES = (17, 38, 40)
"""AF_PACKET, AF_ALG and AF_VSOCK: the last passes any network namespace, to a virtual machine's host."""
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux, 32-bit Linux, old version numbers, and the question which one it is."""
_X32 = 0x40000000

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _FIRST, _SECOND = 0, 4, 16, 24
"""Offsets in `struct seccomp_data`; of the arguments the low halves, on little-endian machines."""

Step = tuple[int, int, int, int]


def is_known(machine: str = "") -> bool:
    """Whether there is a filter for a kind of machine, by default this one."""
    return (machine or platform.machine()) in _ARCHES


def program(machine: str = "", *, closed: bool = False, families: tuple[int, ...] = ()) -> bytes:
    """The filter for a kind of machine, by default this one, as an array of `struct sock_filter`.

    For where there are no namespaces: `closed` refuses every new socket, `families` some kinds of them.
    """
    machine = machine or platform.machine()
    column = list(_ARCHES).index(machine)
    refuse, absent = (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)
    allow = (_RETURN, 0, 0, _ALLOW)
    # Another machine's calls, such as 32-bit ones, have other numbers: none of them is let through.
    steps: list[Step] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _ARCHES[machine]),
        absent,
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine == "x86_64":
        steps += [(_AT_LEAST, 0, 1, _X32), absent]
    steps += [(_EQUAL, 0, 1, _CLONE3), absent]
    numbers = [pair[column] for pair in _DENIED.values()] + list(_DENIED_X86 if machine == "x86_64" else ())
    numbers += [_SOCKET[column]] if closed else []
    for number in numbers:
        steps += [(_EQUAL, 0, 1, number), refuse]
    steps += _when(_CLONE[column], _FIRST, [(_ANY_BIT, 0, 1, _NEW_NAMESPACES), refuse])
    steps += _when(_IOCTL[column], _SECOND, _each(_TERMINAL_INPUT, refuse))
    steps += _when(_SOCKET[column], _FIRST, _each((*_FAMILIES, *families), refuse))
    steps += _when(_PERSONALITY[column], _FIRST, [*_each(_PERSONALITIES, allow), refuse])
    return b"".join(struct.pack("<HBBI", *step) for step in [*steps, allow])


def _each(values: tuple[int, ...], outcome: Step) -> list[Step]:
    return [step for value in values for step in ((_EQUAL, 0, 1, value), outcome)]


def _when(number: int, offset: int, steps: list[Step]) -> list[Step]:
    """Steps on an argument of one system call; whoever gets through them is allowed."""
    body: list[Step] = [(_LOAD, 0, 0, offset), *steps, (_RETURN, 0, 0, _ALLOW)]
    return [(_EQUAL, 0, len(body), number), *body]


@lru_cache(maxsize=1)
def descriptor() -> int:
    """A sealed file in memory with the filter of this machine, open as long as this process lives."""
    import fcntl  # noqa: PLC0415 - it is not there on Windows

    number = os.memfd_create("orc-seccomp", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(number, program())
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(number, fcntl.F_ADD_SEALS, seals)
    return number


def path() -> str:
    """Where a child of this process can open the filter."""
    return f"/proc/{os.getpid()}/fd/{descriptor()}"
