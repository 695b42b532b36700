"""A PostgreSQL server for tests: temporary data directory, free port, gone afterwards.

    python tests/postgres_server.py -- COMMAND ...   run a command with ACCORD_TEST_POSTGRES set
    python tests/postgres_server.py                  print the URL, serve until interrupted

Nothing is synchronised to the disk (fsync off) unless `--durable` is given: tests need no power-cut safety, benchmarks
of commit times do. The binaries are found on the PATH or where Debian puts them; ACCORD_POSTGRES_BIN names another
place. Root may not run PostgreSQL, so root becomes the user `postgres` for it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "ACCORD_TEST_POSTGRES"
SETTINGS = ("max_connections=200", "shared_buffers=128MB", "listen_addresses=127.0.0.1", "timezone=UTC")
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


def binaries() -> Path:
    """Directory of initdb and postgres, newest version first."""
    named = os.environ.get("ACCORD_POSTGRES_BIN")
    if named:
        return Path(named)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]), reverse=True)
    if found:
        return found[0].parent
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    sys.exit("PostgreSQL is not installed: apt-get install postgresql, or set ACCORD_POSTGRES_BIN")


def as_server(command: list[str]) -> list[str]:
    """The command, run by the user `postgres` when this is root."""
    return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else command


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(*, durable: bool = False) -> Generator[str]:
    """Run a server for the block and give its URL.

    Args:
        durable: commit to the disk as a real server does.
    """
    root = Path(tempfile.mkdtemp(prefix="accord-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(root, "postgres")
    data, log, port = root / "data", root / "log", free_port()
    quiet = {"stdout": subprocess.DEVNULL, "cwd": "/"}
    initdb = [str(binaries() / "initdb"), "-D", str(data), "-U", "accord", "-A", "trust", "-E", "UTF8", "--no-sync"]
    process: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(as_server([*initdb, "--locale=C.UTF-8"]), check=True, **quiet)
        options = [part for setting in (*SETTINGS, *(() if durable else FAST)) for part in ("-c", setting)]
        command = [str(binaries() / "postgres"), "-D", str(data), "-p", str(port), "-k", str(root), *options]
        with log.open("wb") as output:
            process = subprocess.Popen(
                as_server(command), stdout=output, stderr=output, cwd="/", start_new_session=True
            )
        _wait(port, process, log)
        createdb = [str(binaries() / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "accord", "accord"]
        subprocess.run(as_server(createdb), check=True, **quiet)
        yield f"postgresql+psycopg://accord@127.0.0.1:{port}/accord"
    finally:
        if process is not None:
            _stop(process, data)
        shutil.rmtree(root, ignore_errors=True)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            sys.exit(f"PostgreSQL did not start:\n{log.read_text(errors='replace')}")
        done = subprocess.run(
            [str(binaries() / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode == 0:
            return
        time.sleep(0.1)
    sys.exit(f"PostgreSQL does not answer on port {port}")


def _stop(process: subprocess.Popen[bytes], data: Path) -> None:
    pid = data / "postmaster.pid"
    if pid.exists():
        stop = [str(binaries() / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop"]
        subprocess.run(as_server(stop), stdout=subprocess.DEVNULL, check=False, cwd="/")
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--durable", action="store_true", help="synchronise commits to the disk")
    parser.add_argument("command", nargs="*", help="what to run, after --")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with server(durable=options.durable) as url:
        if not options.command:
            sys.stdout.write(f"{VARIABLE}={url}\n")
            sys.stdout.flush()
            signal.pause()
        environment = {**os.environ, VARIABLE: url}
        return subprocess.run(options.command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
