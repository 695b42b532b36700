"""`accord doctor`: is this machine and installation fit to run Accord, and what to do when it is not."""

from __future__ import annotations

import math
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal, cast

from accord import __version__
from accord.terminal import console, size_text

DISTRIBUTION = "accord-rlhf"
GIB = 2**30
_IMPORTED = ("torch", "transformers", "peft")
"""Packages that are not only looked up but loaded: compiled ones can be there and yet not work."""
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Finding:
    """One checked thing."""

    level: Literal["OK", "WARN", "FAIL"]
    """FAIL: Accord will not work. WARN: something will be slow or limited."""
    subject: str
    """What was checked."""
    detail: str
    """What was found."""
    fix: str = ""
    """What to do about it."""


def check() -> bool:
    """Print every finding; return False when one of them is FAIL."""
    out = console()
    out.print(f"accord {__version__} on {platform.platform()}", soft_wrap=True)
    found: list[Finding] = []
    for finding in findings():
        found.append(finding)
        out.print(f"{finding.level:<4}  {finding.subject}: {finding.detail}", soft_wrap=True)
        if finding.fix:
            out.print(f"      to do: {finding.fix}", soft_wrap=True)
    failed = sum(f.level == "FAIL" for f in found)
    warned = sum(f.level == "WARN" for f in found)
    out.print(f"{len(found)} checks, {warned} warnings, {failed} failures")
    return failed == 0


def findings() -> Iterator[Finding]:
    """Run all checks, cheapest first."""
    yield from packages()
    yield disk(Path.cwd())
    yield writable(Path.cwd())
    yield memory()
    yield processors()
    loaded = True
    for name in _IMPORTED:
        finding = loads(name)
        loaded = loaded and finding.level != "FAIL"
        yield finding
    if loaded:
        yield accelerator()
        yield self_test()


def packages() -> Iterator[Finding]:
    """Python and every declared dependency against the ranges in the package's own metadata."""
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ImportError:
        yield Finding("FAIL", "packaging", "not installed", "pip install packaging")
        return
    try:
        about = metadata.metadata(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        yield Finding("WARN", DISTRIBUTION, "not installed, so version ranges are unknown", "pip install -e .")
        return
    version, wanted = platform.python_version(), about["Requires-Python"] or ""
    fits = SpecifierSet(wanted).contains(version, prereleases=True)
    yield Finding(
        "OK" if fits else "FAIL",
        "Python",
        f"{version} (supported {wanted})",
        "" if fits else f"install Python {wanted}",
    )
    for text in metadata.requires(DISTRIBUTION) or ():
        requirement = Requirement(text)
        extra = next((e for e in about.get_all("Provides-Extra") or () if _only_with(requirement.marker, e)), "")
        if extra not in ("dev",):
            yield package(requirement.name, str(requirement.specifier), requirement.specifier.contains, extra)


def _only_with(marker: object, extra: str) -> bool:
    """Whether a requirement's marker asks for this extra."""
    return marker is not None and f'extra == "{extra}"' in str(marker)


def package(name: str, wanted: str, fits: Callable[..., bool], extra: str = "") -> Finding:
    """One installed package against its range.

    Args:
        name: of the distribution.
        wanted: range, for people.
        fits: whether a version is in the range; takes `prereleases`.
        extra: optional extra that needs it; empty = always needed.
    """
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        if extra:
            install = f"pip install '{DISTRIBUTION}[{extra}]' to use it"
            return Finding("OK", name, f"optional, not installed ({install})")
        return Finding("FAIL", name, "not installed", f"pip install '{name}{wanted}'")
    if not fits(version.partition("+")[0], prereleases=True):
        level = "WARN" if extra else "FAIL"
        return Finding(level, name, f"{version}, supported is {wanted}", f"pip install '{name}{wanted}'")
    return Finding("OK", name, f"{version} (supported {wanted})")


def disk(directory: Path) -> Finding:
    """Free space where runs will be written."""
    free = shutil.disk_usage(directory).free
    detail = f"{size_text(free)} free in {directory}"
    if free < GIB // 2:
        return Finding("FAIL", "disk", detail, "free some space: the demo alone writes about 100 MiB")
    if free < 5 * GIB:
        return Finding("WARN", "disk", detail, "enough for the lab; checkpoints of larger models need more")
    return Finding("OK", "disk", detail)


def writable(directory: Path) -> Finding:
    """Whether files can be made here."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".accord-doctor-"):
            pass
    except OSError as error:
        fix = "start in another directory, or set run.dir"
        return Finding("FAIL", "directory", f"{directory} is not writable: {error.strerror}", fix)
    return Finding("OK", "directory", f"{directory} is writable")


def memory() -> Finding:
    """Main memory that a run could take now, container limits included."""
    available = available_memory()
    if available is None:
        return Finding("WARN", "memory", "cannot be read on this system", "2 GiB free are enough for the demo")
    detail = f"{size_text(available)} available"
    if available < GIB:
        return Finding("FAIL", "memory", detail, "close programs: the demo needs about 1 GiB")
    if available < 2 * GIB:
        return Finding("WARN", "memory", detail, "lower token_budget when a stage is killed for memory")
    return Finding("OK", "memory", f"{detail}; `accord plan run.yaml` says what a run needs")


def available_memory(proc: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> int | None:
    """Bytes: the smaller of what the system has available and what the container may still take; None = unknown."""
    limits: list[int] = []
    if proc.is_file():
        for line in proc.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(int(line.split()[1]) * 1024)
    top, used = _first_word(cgroup / "memory.max"), _first_word(cgroup / "memory.current")
    if top.isdecimal() and used.isdecimal():
        limits.append(max(0, int(top) - int(used)))
    return min(limits, default=None)


def processors(cgroup: Path = _CGROUP) -> Finding:
    """Processors that the system shows against those it lets this process use."""
    shown = os.cpu_count() or 1
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else shown)
    quota = cgroup / "cpu.max"
    words = quota.read_text().split() if quota.is_file() else []
    if len(words) == 2 and words[0].isdecimal():
        allowed = min(allowed, int(words[0]) / int(words[1]))
    if allowed < shown:
        fix = f"set run.threads={max(1, math.floor(allowed))}: more threads than processors are slow"
        return Finding("WARN", "processors", f"{shown} shown, {allowed:g} usable", fix)
    return Finding("OK", "processors", f"{shown}")


def _first_word(path: Path) -> str:
    words = path.read_text().split() if path.is_file() else []
    return words[0] if words else ""


def loads(name: str) -> Finding:
    """Whether a package can be imported, not only found."""
    started = time.monotonic()
    try:
        import_module(name)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        fix = f"reinstall it: pip install --force-reinstall {name}"
        return Finding("FAIL", f"import {name}", first, fix)
    return Finding("OK", f"import {name}", f"works, {time.monotonic() - started:.1f} s")


def accelerator() -> Finding:
    """The device that stages will use, threads and bf16."""
    import torch

    threads = f"{torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        about = cast(Any, torch.cuda).get_device_properties(0)
        bf16 = torch.cuda.is_bf16_supported()
        detail = f"{about.name}, {size_text(about.total_memory)}, bf16 {'yes' if bf16 else 'no'}, {threads}"
        more = torch.cuda.device_count() - 1
        return Finding("OK", "device", f"CUDA: {detail}" + (f"; {more} further GPUs are not used" if more else ""))
    if shutil.which("nvidia-smi"):
        fix = "install the torch build for your CUDA version, see pytorch.org"
        return Finding("WARN", "device", f"processor, {threads}: there is an NVIDIA driver, torch has no CUDA", fix)
    return Finding("OK", "device", f"processor, {threads}: right for the lab, slow above some 100 million parameters")


def self_test() -> Finding:
    """A matrix product and one golden number: the DPO loss of a policy that equals its reference is ln 2."""
    import torch

    from accord.functional.pair_logps import PairLogps
    from accord.functional.preference_losses import dpo

    started = time.monotonic()
    eye = torch.eye(64, dtype=torch.float64)
    right = bool(torch.equal(eye @ eye, eye))
    logp_P = torch.tensor([-1.5, -7.25], dtype=torch.float64, requires_grad=True)
    fixed_P = logp_P.detach()
    loss_P = dpo(PairLogps(logp_P, *[fixed_P] * 3, *[torch.ones_like(fixed_P)] * 2), beta=0.1)
    loss_P.sum().backward()  # pyright: ignore[reportUnknownMemberType]
    right = right and bool((loss_P - math.log(2)).abs().max() < 1e-12)
    right = right and logp_P.grad is not None and bool((logp_P.grad + 0.05).abs().max() < 1e-12)
    if not right:
        fix = "reinstall torch: a matrix product, the DPO loss or its gradient is not what mathematics says"
        return Finding("FAIL", "self-test", "wrong numbers", fix)
    return Finding("OK", "self-test", f"DPO loss at the start is ln 2, {time.monotonic() - started:.2f} s")
