"""Landlock: a process gives up what it does not need of files, TCP, signals and sockets, for good.

Source: the kernel's documentation, userspace-api/landlock; what a kernel can do is told by its ABI number:
1 files (5.13), 2 renaming between directories, 3 truncation, 4 TCP, 5 ioctl of devices, 6 scopes of signals and of
abstract sockets, 7 audit. Everything a kernel knows is handled, so what is not granted below is refused.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from . import syscalls

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (1 << bit for bit in range(6, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

_READ = _READ_FILE | _READ_DIR
_WRITE = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SYM | _REFER | _TRUNCATE


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("files", "net", "scoped")]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32)]


def abi() -> int:
    """The version of Landlock that this kernel has switched on; 0 = none."""
    try:
        return syscalls.syscall("landlock_create_ruleset", _CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except OSError:  # ENOSYS: not built in; EOPNOTSUPP: switched off at boot
        return 0


def handled(version: int) -> tuple[int, int, int]:
    """Rights on files, rights on TCP and scopes that a kernel of this ABI can refuse, as bit sets."""
    files = (1 << 13) - 1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        files |= right if version >= since else 0
    net = _BIND_TCP | _CONNECT_TCP if version >= 4 else 0
    scoped = _ABSTRACT_SOCKETS | _SIGNALS if version >= 6 else 0
    return files, net, scoped


def restrict(read: Iterable[str], write: Iterable[str], devices: Iterable[str]) -> None:
    """Refuse this process everything except these; needs no_new_privs. There is no way back.

    Args:
        read: files and directories to be read with everything below. Nothing may be executed.
        write: directories to be read and written.
        devices: files to be read and written, not truncated or made.

    Raises:
        OSError: the kernel lacks Landlock, or refuses a rule.
    """
    files, net, scoped = handled(abi())
    # The kernel takes longer structures than it knows as long as the rest is zero.
    asked = _Ruleset(files=files, net=net, scoped=scoped)
    size = ctypes.c_size_t(ctypes.sizeof(asked))
    ruleset = syscalls.syscall("landlock_create_ruleset", _CREATE, ctypes.byref(asked), size, ctypes.c_uint32(0))
    try:
        for path in read:
            _allow(ruleset, path, files & (_READ if os.path.isdir(path) else _READ_FILE))
        for path in write:
            _allow(ruleset, path, files & (_READ | _WRITE))
        for path in devices:
            _allow(ruleset, path, files & (_READ_FILE | _WRITE_FILE))
        syscalls.syscall("landlock_restrict_self", _RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:  # what is not there cannot be read either
        return
    try:
        rule = _Beneath(allowed=rights, parent=parent)
        arguments = (ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))
        syscalls.syscall("landlock_add_rule", _ADD_RULE, *arguments)
    finally:
        os.close(parent)
