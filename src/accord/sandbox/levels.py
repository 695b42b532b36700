"""How well this machine can shut strange code in: found out by shutting some in that tries to get out."""

from __future__ import annotations

import functools
import os
import platform
import socket
import tempfile
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from accord.errors import SandboxError
from accord.sandbox.inside import landlock, seccomp
from accord.sandbox.inside.confine import Walls
from accord.sandbox.launching import launch
from accord.sandbox.limits import Limits


class Level(IntEnum):
    """How strong a box is; each has all of those below it."""

    NONE = 0
    """Limits of time, memory and files only: the code can read what you can read, and reach the network."""
    LANDLOCK = 1
    """Landlock, where the kernel has it with a filter of system calls; but the processes of the machine, its users and
    its network are still those outside, held off by what the kernel's version of Landlock knows."""
    NAMESPACES = 2
    """New user, process, network, mount, IPC and host name namespaces, and files behind Landlock."""
    CONTAINER = 3
    """Also a root of its own, in which nothing else exists, and a filter of system calls: what container engines do."""


SAFE = Level.NAMESPACES
"""Below it code runs only where the user has said so."""
NAMES = {
    Level.NONE: "nothing but limits",
    Level.LANDLOCK: "Landlock and limits",
    Level.NAMESPACES: "namespaces, files shut off, limits",
    Level.CONTAINER: "namespaces, own root, Landlock, filter of system calls, limits",
}
_NOTHING = Walls(namespaces=False, root=False, landlock=False, seccomp=False)


@dataclass(frozen=True)
class Survey:
    """What was found on this machine."""

    level: Level
    """The strongest box that held."""
    walls: Walls
    """Of that box."""
    landlock_abi: int
    """0 = none."""
    reasons: tuple[str, ...]
    """Why it is no better."""


def level_of(walls: Walls) -> Level:
    """The level that these walls are."""
    if walls.namespaces and walls.root and walls.landlock and walls.seccomp:
        return Level.CONTAINER
    if walls.namespaces and (walls.root or walls.landlock):
        return Level.NAMESPACES
    return Level.LANDLOCK if walls.landlock else Level.NONE


def walls_of(level: Level, survey: Survey) -> Walls:
    """The walls of a level on this machine.

    Raises:
        SandboxError: this machine has no such level.
    """
    if level > survey.level:
        raise SandboxError(
            f"this machine has no sandbox of level {int(level)} ({NAMES[level]}), only {int(survey.level)}",
            where="; ".join(survey.reasons),
            fix="`accord sandbox` says what is missing",
        )
    if level == survey.level:
        return survey.walls
    if level == Level.NAMESPACES:
        return survey.walls._replace(root=not survey.walls.landlock)
    return survey.walls._replace(namespaces=False, root=False) if level == Level.LANDLOCK else _NOTHING


@functools.cache
def survey() -> Survey:
    """Try boxes, the strongest first; the first that holds is this machine's. Takes a tenth of a second, once."""
    abi = landlock.abi()
    filters = seccomp.available()
    reasons = [] if abi else ["this kernel has no Landlock, or it is switched off (boot parameter lsm=)"]
    if not filters:
        reasons.append(f"no filter of system calls for {platform.system()} on {platform.machine()}")
    best = Walls(namespaces=True, root=True, landlock=abi > 0, seccomp=filters)
    for walls in (best, best._replace(root=False), best._replace(namespaces=False, root=False)):
        if level_of(walls) == Level.NONE:
            continue
        try:
            escapes = _escapes(walls)
        except SandboxError as error:
            reason = f"{'namespaces' if walls.namespaces else 'Landlock'}: {error.what}"
            reasons += [reason] if reason not in reasons else []
            continue
        if not escapes or level_of(walls) < SAFE:
            reasons += [f"the box does not hold: {escape}" for escape in escapes]
            return Survey(level_of(walls), walls, abi, tuple(reasons))
        reasons.append(f"a box of level {int(level_of(walls))} does not hold: {', '.join(escapes)}")
    return Survey(Level.NONE, _NOTHING, abi, tuple(reasons))


def probe() -> Level:
    """The strongest level of this machine."""
    return survey().level


def require(level: Level | None = None, *, allow_unsafe: bool = False) -> Walls:
    """The walls to use.

    Args:
        level: this one and no other; None = the strongest.
        allow_unsafe: also below `SAFE`.

    Raises:
        SandboxError: the level is not to be had, or is not safe and nobody has allowed it.
    """
    found = survey()
    wanted = found.level if level is None else Level(level)
    walls = walls_of(wanted, found)
    if wanted < SAFE and not allow_unsafe:
        raise SandboxError(
            f"code is not run here: the sandbox is of level {int(wanted)} ({NAMES[wanted]}), "
            f"and {int(SAFE)} ({NAMES[SAFE]}) is the least that is safe",
            where="; ".join(found.reasons) or "the level was asked for",
            fix="run where user namespaces are allowed (`accord sandbox` says what is missing), or take the risk with "
            "--allow-unsafe-code on a machine that holds nothing of value",
        )
    return walls


_ATTEMPTS = """
import os, socket
def attempt(what, act):
    try:
        act()
    except OSError:
        pass
    else:
        print(what)
def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(1)
        s.connect(address)
attempt("it reads files outside", lambda: open({canary!r}).read())
attempt("it writes files outside", lambda: open({canary!r}, "a"))
attempt("it reaches the network", lambda: connect(socket.AF_INET, ("127.0.0.1", {port})))
attempt("it reaches sockets of this machine", lambda: connect(socket.AF_UNIX, {abstract!r}))
attempt("it signals processes outside", lambda: os.kill({pid}, 0))
attempt("it reads /proc of processes outside", lambda: open("/proc/{pid}/environ", "rb").read())
print("done")
"""


def _escapes(walls: Walls) -> list[str]:
    """What code in such a box can do and should not."""
    abstract = f"\0accord-sandbox-{os.getpid()}-{os.urandom(4).hex()}"
    with (
        tempfile.TemporaryDirectory(prefix="accord-canary-") as directory,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix,
    ):
        os.chmod(directory, 0o755)
        canary = Path(directory) / "canary"
        canary.write_text("a file outside the box", encoding="utf-8")
        os.chmod(canary, 0o666)
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(abstract)
        unix.listen()
        source = _ATTEMPTS.format(canary=str(canary), port=tcp.getsockname()[1], abstract=abstract, pid=os.getpid())
        ran = launch(walls, Limits(), {"program": {"source": source, "files": {}}})["program"]
    *escapes, last = ran.stdout.decode(errors="replace").splitlines() or [""]
    if last != "done":
        raise SandboxError(f"code did not run through in the box: {ran.stderr.decode(errors='replace')[-300:]}")
    return escapes
