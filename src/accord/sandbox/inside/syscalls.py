"""The calls of the Linux kernel that Python's `os` lacks, through ctypes; each raises OSError that names the call."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x2000000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_GET_SECCOMP, PR_SET_SECCOMP = 1, 4, 21, 22
PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 24, 36, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

_MOUNT_SETATTR = 442  # one number on every architecture, like all calls added since 5.0

try:
    libc = ctypes.CDLL(None, use_errno=True)
except (OSError, TypeError):  # Windows
    libc = None


def _done(name: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _library(name: str) -> ctypes.CDLL:
    if libc is None or sys.platform != "linux":
        raise OSError(38, f"{name}: not Linux")
    return libc


def syscall(name: str, number: int, *arguments: object) -> int:
    """A call by its number, for those that the C library does not wrap."""
    return _done(name, _library(name).syscall(ctypes.c_long(number), *arguments))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones, unshare(2)."""
    _done("unshare", _library("unshare").unshare(ctypes.c_int(flags)))


def prctl(name: str, option: int, second: object = 0, third: object = 0) -> int:
    """prctl(2); integers are passed as unsigned long.

    Args:
        name: for the error.
        option: which.
        second: its argument, an integer or a ctypes pointer.
        third: another.
    """
    passed = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in (second, third, 0, 0)]
    return _done(name, _library(name).prctl(ctypes.c_int(option), *passed))


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2)."""
    encoded = [os.fsencode(text) for text in (source, target, kind)]
    result = _library("mount").mount(*encoded, ctypes.c_ulong(flags), os.fsencode(options))
    _done(f"mount {target}", result)


def unmount(target: str) -> None:
    """umount2(2), at once and with everything below."""
    _done(f"umount {target}", _library("umount2").umount2(os.fsencode(target), ctypes.c_int(MNT_DETACH)))


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2): `new` becomes the root, the old one is found at `old`."""
    _done("pivot_root", _library("pivot_root").pivot_root(os.fsencode(new), os.fsencode(old)))


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def make_read_only(path: str, *, below: bool = True) -> None:
    """mount_setattr(2): read-only, no set-user-id programs, no devices; with everything mounted below unless told."""
    attributes = _MountAttr(attr_set=MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    flags, size = ctypes.c_uint(AT_RECURSIVE if below else 0), ctypes.c_size_t(ctypes.sizeof(attributes))
    arguments = (ctypes.c_int(AT_FDCWD), os.fsencode(path), flags, ctypes.byref(attributes), size)
    syscall(f"mount_setattr {path}", _MOUNT_SETATTR, *arguments)


class _CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


_CAP_VERSION_3 = 0x20080522
_MOST_CAPABILITIES = 64


def capabilities() -> int:
    """The effective capabilities of this process as a bit set; capget(2)."""
    header, data = _CapHeader(version=_CAP_VERSION_3), (_CapData * 2)()
    _done("capget", _library("capget").capget(ctypes.byref(header), ctypes.byref(data)))
    return data[0].effective | data[1].effective << 32


def drop_capabilities() -> None:
    """Give up every capability, also those that a program could get back by starting another."""
    for capability in range(_MOST_CAPABILITIES):
        try:
            prctl("drop from the bounding set", PR_CAPBSET_DROP, capability)
        except OSError:  # not allowed to, or there are no more: no_new_privs does the same for what is started
            break
    with suppress(OSError):  # kernels before 4.3 have none
        prctl("clear the ambient set", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header, data = _CapHeader(version=_CAP_VERSION_3), (_CapData * 2)()
    _done("capset", _library("capset").capset(ctypes.byref(header), ctypes.byref(data)))
