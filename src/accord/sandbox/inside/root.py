"""A root file system of one's own: the libraries and Python read-only, one small directory to write, nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from . import syscalls as kernel

WORK = "/box"
"""The directory to write in, where the root is one's own."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
_LIBRARIES = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib")
_DATA = ("/usr/share/zoneinfo", "/etc/ld.so.cache")
_ANYWHERE = ("/tmp", "/var/tmp", "/run", "/dev", "/usr")
"""A directory that is there, to mount the new root on; outside, nothing is mounted anywhere."""
_MOST_FILES = 1000
_OLD = "/.old"


def readable(extra: Sequence[str] = ()) -> list[str]:
    """What code may read: the libraries of the system, the interpreter's own, and `extra`; none inside another."""
    own = [os.path.join(sys.base_prefix, "lib"), *(path for path in sys.path if path)]
    found: list[str] = []
    for path in sorted({*_LIBRARIES, *_DATA, *own, *extra}):
        inside = any(path.startswith(above + "/") for above in found if not os.path.islink(above))
        if os.path.exists(path) and not inside:
            found.append(path)
    return found


def build(paths: Sequence[str], disk_bytes: int, owner: int | None) -> None:
    """Make the new root and step into it; the mount namespace must be a new one.

    Args:
        paths: what is found in it, read-only, at the same place as outside.
        disk_bytes: room in the directory for writing; it is memory.
        owner: user and group of that directory; None = this process.

    Raises:
        OSError: the kernel refuses; the process is then good for nothing else.
    """
    links = [(path, os.readlink(path)) for path in paths if os.path.islink(path)]
    binds = [(os.path.realpath(path), path) for path in paths if not os.path.islink(path)]
    binds += [(path, path) for path in DEVICES if os.path.exists(path)]
    base = next(path for path in _ANYWHERE if os.path.isdir(path))
    kernel.mount("none", "/", "none", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("none", base, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode=755,size=1m,nr_inodes={_MOST_FILES}")
    os.mkdir(base + _OLD)
    kernel.pivot_root(base, base + _OLD)
    os.chdir("/")
    for source, target in binds:
        _bind(_OLD + source, target)
        if target not in DEVICES:
            kernel.make_read_only(target)
    for path, target in links:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(target, path)
    os.mkdir(WORK)
    kernel.unmount(_OLD)
    os.rmdir(_OLD)
    kernel.make_read_only("/", below=False)
    whose = "" if owner is None else f",uid={owner},gid={owner}"
    options = f"mode=700,size={disk_bytes},nr_inodes={_MOST_FILES}{whose}"
    kernel.mount("none", WORK, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, options)
    os.chdir(WORK)


def _bind(source: str, target: str) -> None:
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444))
    kernel.mount(source, target, "none", kernel.MS_BIND | kernel.MS_REC)
