"""The last steps before strange code runs: another user, no capabilities, limits, Landlock, the filter of calls."""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import Any, NamedTuple

from . import landlock, root, seccomp
from . import syscalls as kernel

_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN = 1 << 6, 1 << 7, 1 << 21
_FIRST_UID = 2_000_000_000
"""Far above the numbers that systems give to people, services and containers; the process id is added."""
_NOBODY = 65534


class Walls(NamedTuple):
    """Which walls to build."""

    namespaces: bool
    """User, process, network, mount, IPC and host name."""
    root: bool
    """A root file system of one's own; needs namespaces."""
    landlock: bool
    """Files, TCP, signals and abstract sockets, as far as the kernel can."""
    seccomp: bool
    """The filter of system calls."""


def privileged() -> bool:
    """Whether this process may make namespaces without a user namespace around them, and become another user."""
    needed = _CAP_SETGID | _CAP_SETUID | _CAP_SYS_ADMIN
    return os.geteuid() == 0 and kernel.capabilities() & needed == needed


def other_user(own_root: bool) -> int | None:
    """A user and group number that owns nothing and that no other box has; None where it cannot be had.

    Args:
        own_root: whether the box has its own root: otherwise that user must be able to read the interpreter's library.
    """
    needed = _CAP_SETGID | _CAP_SETUID
    if os.geteuid() != 0 or kernel.capabilities() & needed != needed:
        return None
    if not own_root and not all(_everyone_reads(path) for path in sys.path if os.path.isdir(path)):
        return None
    mine = _FIRST_UID + os.getpid()
    return next((uid for uid in (mine, _NOBODY) if _mapped("uid_map", uid) and _mapped("gid_map", uid)), None)


def _mapped(table: str, number: int) -> bool:
    with open(f"/proc/self/{table}", encoding="ascii") as lines:
        ranges = [[int(part) for part in line.split()] for line in lines]
    return any(first <= number < first + count for first, _, count in ranges)


def _everyone_reads(path: str) -> bool:
    above = os.path.realpath(path)
    while above != "/":
        if not os.stat(above).st_mode & 0o001:
            return False
        above = os.path.dirname(above)
    return bool(os.stat(path).st_mode & 0o004)


def leave_namespaces(with_user: bool) -> None:
    """Step into new namespaces; a user namespace only where the others need it, and then as the same user.

    Raises:
        OSError: the kernel, or the container around, forbids it.
    """
    others = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
    if not with_user:
        kernel.unshare(others)
        return
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(others | kernel.CLONE_NEWUSER)
    descriptor = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    map_user(descriptor, uid, gid)
    os.close(descriptor)


def map_user(proc: int, uid: int, gid: int) -> None:
    """Say who the only user and group of a new user namespace are outside: the same.

    Args:
        proc: descriptor of a /proc.
        uid: the user.
        gid: the group.
    """
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        descriptor = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def become(uid: int, proc: int | None) -> None:
    """Turn into a user who owns nothing, and go into a user namespace where nobody else exists.

    Where user namespaces are forbidden that user still owns nothing and has no rights, which is what counts.

    Args:
        uid: of the user and group.
        proc: descriptor of a /proc; None = no user namespace.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    # Both are lost with the change; without the second the maps below cannot be written.
    kernel.prctl("die with the parent", kernel.PR_SET_PDEATHSIG, int(signal.SIGKILL))
    kernel.prctl("dumpable", kernel.PR_SET_DUMPABLE, 1)
    if proc is not None:
        try:
            kernel.unshare(kernel.CLONE_NEWUSER)
        except OSError:
            return
        map_user(proc, uid, uid)


def shut(walls: Walls, limits: dict[str, Any], *, work: str, read: list[str], count_processes: bool) -> None:
    """Close the box around this process. Nothing below can be undone by it.

    Args:
        walls: which.
        limits: `cpu_seconds`, `memory_bytes`, `file_bytes`, `open_files`, `processes`.
        work: the directory it may write in.
        read: what it may read.
        count_processes: whether the number of processes is of this box alone, so that it can be limited.

    Raises:
        OSError: a wall could not be built.
    """
    if walls.namespaces or walls.landlock:
        kernel.drop_capabilities()
    if kernel.libc is not None and sys.platform == "linux":
        kernel.prctl("no new privileges", kernel.PR_SET_NO_NEW_PRIVS, 1)
    if walls.landlock:
        landlock.restrict(read, [work], root.DEVICES)
    for which, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        _limit(which, most)
    # At the first a signal that says why, which a process may ignore; at the second it is ended.
    _limit(resource.RLIMIT_CPU, limits["cpu_seconds"], limits["cpu_seconds"] + 1)
    if count_processes:
        _limit(resource.RLIMIT_NPROC, limits["processes"])
    if walls.seccomp:
        seccomp.restrict()


def _limit(which: int, most: int, hardest: int | None = None) -> None:
    _, hard = resource.getrlimit(which)
    wanted = (most, most if hardest is None else hardest)
    resource.setrlimit(
        which, wanted if hard == resource.RLIM_INFINITY else (min(wanted[0], hard), min(wanted[1], hard))
    )
