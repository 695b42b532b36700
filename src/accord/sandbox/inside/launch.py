"""The first process of a box: it makes the walls, puts a guard in, and the guard starts what is to run.

    launcher, outside            one Python interpreter a run; it never reads what is to run
      +- maker                   one a box: new namespaces, new root
           +- guard              first process of the new namespaces: waits, tells how it ended, and takes all with it
                +- code          shuts itself in (`confine`), then reads its program from a pipe

A run has one box (a program) or two: the code under test in one, its test in the other, joined by two pipes. They are
forked before either reads anything, so the code's memory holds nothing of its test. Messages to the parent are lines of
JSON on the pipe `status`: started, ready, failed, ended.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from itertools import pairwise
from typing import Any, NoReturn

from . import candidate, confine, root, tester
from . import syscalls as kernel

_FAILED = 70
"""Exit code of a box that could not be made (EX_SOFTWARE); the parent goes by the message."""


def main() -> NoReturn:
    """Run what the parent's plan, the only argument left, says."""
    plan = json.loads(sys.argv[2])
    sys.path.remove(sys.argv[1])
    sys.argv = ["candidate.py"]
    _die_with_parent()
    ask, answer = os.pipe(), os.pipe()
    channels = {"candidate": (ask[0], answer[1]), "tester": (answer[0], ask[1]), "program": ()}
    for role in plan["roles"]:
        if os.fork() == 0:
            _make(plan, role, channels[role["role"]])
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    with suppress(ChildProcessError):
        while True:
            os.wait()
    os._exit(0)


def _die_with_parent() -> None:
    if kernel.libc is not None and sys.platform == "linux":
        kernel.prctl("die with the parent", kernel.PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _make(plan: dict[str, Any], role: dict[str, Any], channel: tuple[int, ...]) -> NoReturn:
    """Make a box, and in it the guard."""
    status = role["status"]
    try:
        _die_with_parent()
        walls = confine.Walls(**plan["walls"])
        read = root.readable()
        uid = confine.other_user(walls.root)
        work: str = role["work"] or root.WORK
        proc = None
        if role["work"] is not None and uid is not None:
            os.chown(work, uid, uid)
        if walls.namespaces:
            strong = confine.privileged()
            # Opened while it is there: a box's own root has no /proc.
            proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) if strong else None
            confine.leave_namespaces(with_user=not strong)
            if walls.root:
                root.build(read, plan["limits"]["disk_bytes"], uid)
            guard = os.fork()
            if guard:
                _keep()
                os.waitpid(guard, 0)
                os._exit(0)
            _die_with_parent()
        os.chdir(work)
    except OSError as error:
        _tell(status, failed=str(error))
        os._exit(_FAILED)
    _guard(plan, role, channel, {"walls": walls, "uid": uid, "proc": proc, "work": work, "read": read})


def _guard(plan: dict[str, Any], role: dict[str, Any], channel: tuple[int, ...], box: dict[str, Any]) -> NoReturn:
    """Start the code, wait for its end, tell it, and end everything that it has left behind."""
    status = role["status"]
    if sys.platform == "linux" and kernel.libc is not None:
        kernel.prctl("take orphans", kernel.PR_SET_CHILD_SUBREAPER, 1)
    code = os.fork()
    if code == 0:
        _code(plan, role, channel, box)
    if not box["walls"].namespaces:
        _tell(status, started=code)
    _keep(status)
    _, ended, used = os.wait4(code, 0)
    left = 0 if box["walls"].namespaces else _end_orphans()
    _tell(status, ended=ended, cpu=used.ru_utime + used.ru_stime, memory_kb=used.ru_maxrss, left=left)
    os._exit(0)  # the first process of its namespace takes all others with it


def _end_orphans() -> int:
    """Kill what the code has started and left, where no namespace does it; how many there were."""
    children = f"/proc/self/task/{os.getpid()}/children"
    ended = 0
    while os.path.exists(children):
        with open(children, encoding="ascii") as listed:
            pids = [int(pid) for pid in listed.read().split()]
        if not pids:
            break
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            ended += 1
    return ended


def _code(plan: dict[str, Any], role: dict[str, Any], channel: tuple[int, ...], box: dict[str, Any]) -> NoReturn:
    """Shut this process in, then run the program that comes through the pipe."""
    status, program = role["status"], role["program"]
    try:
        _die_with_parent()
        for descriptor, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
            os.dup2(role[name], descriptor)
        inherited = {status, program, *channel, *([role["report"]] if "report" in role else [])}
        proc = box["proc"]
        if box["uid"] is not None:
            confine.become(box["uid"], proc)
        elif proc is not None:  # root that has to stay root to read its library, but root of nothing
            uid, gid = os.geteuid(), os.getegid()
            kernel.unshare(kernel.CLONE_NEWUSER)
            confine.map_user(proc, uid, gid)
        _keep(*inherited)
        counted = box["uid"] is not None or (box["walls"].namespaces and os.geteuid() != 0)
        confine.shut(box["walls"], plan["limits"], work=box["work"], read=box["read"], count_processes=counted)
        os.environ.update(HOME=box["work"], TMPDIR=box["work"])
        _tell(status, ready=True)
    except OSError as error:
        _tell(status, failed=str(error))
        os._exit(_FAILED)
    os.close(status)
    _run(role, json.loads(_all(program)), channel)


def _run(role: dict[str, Any], program: dict[str, Any], channel: tuple[int, ...]) -> NoReturn:
    code = 1
    try:
        if role["role"] == "candidate":
            code = candidate.serve(program, *channel)
        elif role["role"] == "tester":
            code = tester.judge(program, *channel, report=role["report"])
        else:
            code = candidate.run_program(program)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # whatever the code did to Python: no handlers of atexit, no waiting for threads, no way up from here
        os._exit(code)


def _all(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read()


def _keep(*wanted: int) -> None:
    """Close every descriptor but the standard ones and these."""
    edges = [2, *sorted(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0]]
    for below, above in pairwise(edges):
        os.closerange(below + 1, above)


def _tell(status: int, **message: Any) -> None:
    os.write(status, json.dumps(message).encode("ascii") + b"\n")
