"""What code does that wants out of its box, as data: programs that print ESCAPED where they succeed."""

from __future__ import annotations

ATTEMPT = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def attempt(act):
    try:
        result = act()
    except (OSError, ValueError, ImportError, MemoryError) as error:
        print("stopped:", type(error).__name__)
    else:
        print("ESCAPED", result)
def syscall(x86, arm, *arguments):
    number = x86 if os.uname().machine == "x86_64" else arm
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")
def connect(kind, family, address):
    with socket.socket(family, kind) as s:
        s.settimeout(1)
        s.connect(address)
        s.send(b"secret")
"""

# {canary} is a file outside that everybody may read and write; {pid} the process that runs the test, {port} a port and
# {abstract} an abstract socket that it listens on.
ESCAPES = {
    # files
    "read the users": "attempt(lambda: open('/etc/passwd').read())",
    "read a file outside": "attempt(lambda: open({canary!r}).read())",
    "write a file outside": "attempt(lambda: open({canary!r}, 'a').write('x'))",
    "truncate a file outside": "attempt(lambda: os.truncate({canary!r}, 0))",
    "make a file beside it": "attempt(lambda: open({canary!r} + '2', 'w'))",
    "delete it": "attempt(lambda: os.unlink({canary!r}))",
    "rename it": "attempt(lambda: os.rename({canary!r}, 'mine'))",
    "list home": "attempt(lambda: os.listdir(os.path.expanduser('~root')))",
    "symbolic link": "os.symlink({canary!r}, 'link')\nattempt(lambda: open('link').read())",
    "symbolic link to the root": "os.symlink('/', 'root')\nattempt(lambda: open('root/etc/passwd').read())",
    "hard link": "attempt(lambda: os.link({canary!r}, 'link'))",
    "dots": "attempt(lambda: open('../../../../../../..' + {canary!r}).read())",
    "shared memory directory": "attempt(lambda: open('/dev/shm/accord-attack', 'w'))",
    "temporary directory": "attempt(lambda: open('/tmp/accord-attack', 'w'))",
    "poison the library": "attempt(lambda: open(os.__file__, 'a'))",
    "poison the cache": "attempt(lambda: open(os.path.dirname(os.__file__) + '/accord_attack.py', 'w'))",
    "memory as a device": "attempt(lambda: open('/dev/mem', 'rb').read(1))",
    "terminal": "attempt(lambda: open('/dev/tty', 'w'))",
    "make a device": "import stat\nattempt(lambda: os.mknod('d', stat.S_IFBLK | 0o600, os.makedev(8, 0)))",
    "leave by chroot": "attempt(lambda: os.chroot('.'))",
    # the network
    "connect": "attempt(lambda: connect(socket.SOCK_STREAM, socket.AF_INET, ('127.0.0.1', {port})))",
    "listen": "attempt(lambda: socket.create_server(('127.0.0.1', 0)))",
    "datagram": "attempt(lambda: connect(socket.SOCK_DGRAM, socket.AF_INET, ('127.0.0.1', {port})))",
    "raw socket": "attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))",
    "packet socket": "attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3))",
    "abstract socket": "attempt(lambda: connect(socket.SOCK_STREAM, socket.AF_UNIX, {abstract!r}))",
    "socket by its number": "attempt(lambda: syscall(41, 198, 2, 1, 0))",
    "io_uring": "attempt(lambda: syscall(425, 425, 8, ctypes.create_string_buffer(120)))",
    # other processes
    "environment of the parent": "attempt(lambda: open('/proc/{pid}/environ', 'rb').read())",
    "environment of the first": "attempt(lambda: open('/proc/1/environ', 'rb').read())",
    "command lines": "attempt(lambda: [open(f'/proc/{{p}}/cmdline').read() for p in os.listdir('/proc')])",
    "memory of the parent": "attempt(lambda: open('/proc/{pid}/mem', 'rb+'))",
    "signal the parent": "attempt(lambda: os.kill({pid}, 0))",
    "kill everything": "attempt(lambda: os.kill(-1, 9))",
    "kill the group": "attempt(lambda: os.killpg(os.getpgrp() or 1, 0))",
    "trace the parent": "attempt(lambda: syscall(101, 117, 16, {pid}, 0, 0))",
    "read the parent's memory": "attempt(lambda: syscall(310, 270, {pid}, None, 0, None, 0, 0))",
    "fork": "attempt(lambda: os.fork() or os._exit(0))",
    "shell": "import subprocess\nattempt(lambda: subprocess.run(['/bin/sh', '-c', 'id'], check=True))",
    "another program": "attempt(lambda: os.execv('/bin/true', ['true']))",
    "another session": "attempt(os.setsid)",
    "limits of the parent": "attempt(lambda: syscall(302, 261, {pid}, 7, None, ctypes.create_string_buffer(16)))",
    # rights
    "another user": "attempt(lambda: os.setuid(4242))",
    "another group": "attempt(lambda: os.setgroups([0]))",
    "namespace of one's own": "attempt(lambda: syscall(272, 97, 0x10000000))",
    "mount": "attempt(lambda: syscall(165, 40, b'none', b'.', b'tmpfs', 0, None))",
    "raise a limit": "import resource\nattempt(lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)))",
    "lift the cpu limit": "import resource\nattempt(lambda: resource.setrlimit(resource.RLIMIT_CPU, (-1, -1)))",
    "set-user-id program": "open('p', 'w').close()\nos.chmod('p', 0o4755)\nattempt(lambda: os.execv('./p', ['p']))",
    # the kernel
    "shared memory": "attempt(lambda: syscall(29, 194, 0, 1 << 20, 0o1600))",
    "memory file": "attempt(lambda: os.memfd_create('m'))",
    "bpf": "attempt(lambda: syscall(321, 280, 0, ctypes.create_string_buffer(64), 64))",
    "keys": "attempt(lambda: syscall(250, 219, 0, -3, 0))",
    "user faults": "attempt(lambda: syscall(323, 282, 1))",
    "performance events": "attempt(lambda: syscall(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0))",
    "host name": "attempt(lambda: socket.sethostname('mine'))",
    "clock": "import time\nattempt(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()))",
    # what was left open
    "inherited descriptors": "attempt(lambda: [os.fstat(d) for d in range(3, 64) if not os.get_inheritable(d)])",
}

# (program, how it ends, what its output or error says)
EXHAUST = {
    "endless loop": ("while True: pass", "timeout", ""),
    "loop in C": ("print(sum(range(10 ** 12)))", "timeout", ""),
    "sleep": ("import time\ntime.sleep(60)", "timeout", ""),
    "no signal is heard": (
        "import signal\nfor s in range(1, 65):\n try: signal.signal(s, signal.SIG_IGN)\n"
        " except (OSError, ValueError): pass\nwhile True: pass",
        "timeout",
        "",
    ),
    "memory": ("b = bytearray(3 << 30)", "error", "MemoryError"),
    "memory by pieces": ("a = []\nwhile True: a.append(bytearray(64 << 20))", "error", "MemoryError"),
    "memory by mmap": ("import mmap\na = [mmap.mmap(-1, 1 << 28) for _ in range(64)]", "error", "memory"),
    "zip bomb": (
        "import zlib\nc = zlib.compress(bytes(1 << 24), 9)\nd = zlib.decompressobj()\n"
        "a = [zlib.decompress(c) for _ in range(99)]",
        "error",
        "MemoryError",
    ),
    "large file": (
        "with open('f', 'wb') as f:\n for _ in range(99): f.write(bytes(1 << 20))",
        "error",
        "File too large",
    ),
    "sparse file": ("open('f', 'wb').truncate(1 << 40)", "error", "File too large"),
    "open files": ("f = [open('/dev/null') for _ in range(999)]", "error", "Too many open files"),
    "output": ("while True: print('x' * 4096)", "flooded", ""),
    "errors": ("import os\nwhile True: os.write(2, b'x' * 4096)", "flooded", ""),
    "deep recursion": ("def f(): f()\nf()", "error", "RecursionError"),
    "recursion without a limit": (
        "import sys\nsys.setrecursionlimit(10 ** 9)\nclass A:\n def __repr__(s): return repr(s)\nrepr(A())",
        "killed",
        "",
    ),
    "fork bomb": ("import os\nwhile True: os.fork()", "error", ""),
    "thread bomb": (
        "import threading, time\nfor _ in range(9999): threading.Thread(target=time.sleep, args=(60,)).start()",
        "error",
        "can't start new thread",
    ),
    "crash": ("import ctypes\nctypes.string_at(0)", "killed", ""),
    "endless handler of exit": ("import atexit\natexit.register(lambda: [0 for _ in iter(int, 1)])", "ok", ""),
    "thread left behind": ("import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()", "ok", ""),
}
