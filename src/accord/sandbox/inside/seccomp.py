"""A filter of system calls: no sockets, no other processes, no programs, no signals to others, no mounts.

A list of what is refused, not of what is allowed: a list of the allowed breaks with every release of the C library, and
this filter is the last of several walls. Numbers of the calls are those of the kernel's headers, for the two
architectures named in `_ARCHITECTURES`; on others there is no filter, and the level says so.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from . import syscalls

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column in the tables below, and AUDIT_ARCH_ of linux/audit.h."""

_REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other programs and processes
    **{"execve": (59, 221), "execveat": (322, 281), "fork": (57, None), "vfork": (58, None)},
    **{"setsid": (112, 157), "setpgid": (109, 154), "ptrace": (101, 117), "kcmp": (312, 272)},
    **{"process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440)},
    **{"tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)},
    **{"pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pidfd_getfd": (438, 438)},
    **{"setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setaffinity": (203, 122)},
    **{"sched_setscheduler": (144, 119), "sched_setparam": (142, 118), "sched_setattr": (314, 274)},
    **{"move_pages": (279, 239), "migrate_pages": (256, 238)},
    # namespaces, mounts, the root
    **{"unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41)},
    **{"chroot": (161, 51), "move_mount": (429, 429), "open_tree": (428, 428), "fsopen": (430, 430)},
    **{"fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442)},
    **{"mknod": (133, None), "mknodat": (259, 33), "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265)},
    # the network, and memory that no limit counts
    **{"socket": (41, 198), "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194)},
    **{"shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180)},
    # the kernel itself: rarely needed, often broken
    **{"io_uring_setup": (425, 425), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282)},
    **{"keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "personality": (135, 92)},
    **{"init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "syslog": (103, 116)},
    **{"kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224)},
    **{"swapoff": (168, 225), "quotactl": (179, 60), "quotactl_fd": (443, 443), "acct": (163, 89)},
    **{"settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266)},
    **{"sethostname": (170, 161), "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None)},
    **{"modify_ldt": (154, None), "vhangup": (153, 58), "fanotify_init": (300, 262)},
}
_CLONE, _CLONE3 = (56, 220), 435
_KILL, _TGKILL, _PRLIMIT, _SOCKETPAIR = (62, 129), (234, 131), (302, 261), (53, 199)
_CLONE_THREAD, _AF_UNIX = 0x10000, 1
_X32 = 0x40000000
"""Calls of the x32 ABI have this bit, and other numbers for some."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
"""Offsets in struct seccomp_data (of the lower half of the argument: both architectures are little-endian)."""

_SECCOMP_MODE_FILTER = 2


def available() -> bool:
    """Whether this kernel filters calls, and the numbers of its architecture are known here."""
    if os.uname().machine not in _ARCHITECTURES:
        return False
    try:
        syscalls.prctl("seccomp", syscalls.PR_GET_SECCOMP)
    except OSError:
        return False
    return True


def program(machine: str, pid: int) -> bytes:
    """The filter in the machine language of BPF.

    Args:
        machine: as `os.uname()` names it.
        pid: of the process, the only one it may send signals to.
    """
    column, architecture = _ARCHITECTURES[machine]
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    allow = (_RETURN, 0, 0, _ALLOW)
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),  # 32-bit calls have other numbers
        (_LOAD, 0, 0, _NUMBER),
        *([(_AT_LEAST, 0, 1, _X32), refuse] if machine == "x86_64" else []),
        # The C library falls back on clone, whose flags are not behind a pointer.
        *[(_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)],
    ]
    for numbers in _REFUSED.values():
        number = numbers[column]
        if number is not None:
            code += [(_EQUAL, 0, 1, number), refuse]
    first = (_LOAD, 0, 0, _FIRST_ARGUMENT)
    code += [(_EQUAL, 0, 4, _CLONE[column]), first, (_ANY_BIT, 1, 0, _CLONE_THREAD), refuse, allow]
    for number in (_KILL[column], _TGKILL[column]):
        code += [(_EQUAL, 0, 4, number), first, (_EQUAL, 1, 0, pid), refuse, allow]
    code += [(_EQUAL, 0, 5, _PRLIMIT[column]), first, (_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, pid), refuse, allow]
    code += [(_EQUAL, 0, 4, _SOCKETPAIR[column]), first, (_EQUAL, 1, 0, _AF_UNIX), refuse, allow]
    code.append(allow)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


def restrict() -> None:
    """Filter the calls of this process from here on, for good; needs no_new_privs.

    Raises:
        OSError: the kernel refuses.
    """
    machine = program(os.uname().machine, os.getpid())
    held = ctypes.create_string_buffer(machine, len(machine))
    wanted = _Program(length=len(machine) // 8, code=ctypes.addressof(held))
    syscalls.prctl("seccomp", syscalls.PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(wanted))
