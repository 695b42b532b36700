"""Measure Accord beside TRL, a plain loop and the machine, and write docs/results/speed.{json,md,svg}.

    python -m benchmarks.speed --data DIR --out docs/results        # make bench: about 24 minutes on two quiet cores
    python -m benchmarks.speed --data DIR --out DIRECTORY --quick   # a tiny model: does everything run?
    python -m benchmarks.speed --data DIR --out DIRECTORY --only sft dpo
    python -m benchmarks.speed --gpu --out docs/results             # make bench-gpu: speed-gpu.*
    python -m benchmarks.speed --list                               # items and their seconds

Results are kept after every item, and an item or a contender that fails does not stop the others. `--only` adds to the
numbers that --out holds already.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.speed.items import GPU_ITEMS, ITEMS, Item, Run, budget
from benchmarks.speed.workload import HOW_TO_GET

PACKAGES = ("torch", "transformers", "trl", "accelerate")
VARIABLE = "ACCORD_BENCH_DATA"


def arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="directory of speed.json, .md and .svg")
    parser.add_argument("--data", type=Path, default=os.environ.get(VARIABLE), help=f"hh-rlhf; or set {VARIABLE}")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="items; see --list")
    parser.add_argument("--quick", action="store_true", help="a tiny model and few steps; the numbers mean nothing")
    parser.add_argument("--gpu", action="store_true", help="the items of one GPU")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads of each contender")
    parser.add_argument("--peer-python", help="interpreter of an environment with TRL, when it is not this one")
    parser.add_argument("--list", action="store_true", help="print the items and how long they take")
    return parser.parse_args()


def environment(given: argparse.Namespace) -> dict[str, Any]:
    """What the numbers hold for."""
    versions = {"accord": importlib.metadata.version("accord-rlhf"), "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in PACKAGES}
    device = "no GPU"
    if given.gpu:
        import torch

        device = torch.cuda.get_device_name(0)
    return {
        "versions": versions,
        "date": f"{datetime.date.today():%d %B %Y}",
        "machine": f"{platform.system()} {platform.machine()}, {processor()}, {os.cpu_count()} cores",
        "threads": given.threads,
        "device": device,
        "load_before": os.getloadavg()[0],
    }


def processor() -> str:
    """Name of the processor where Linux says it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def chosen(given: argparse.Namespace) -> tuple[Item, ...]:
    """The items asked for."""
    known = GPU_ITEMS if given.gpu else ITEMS
    names = [item.name for item in known]
    for name in given.only or ():
        if name not in names:
            raise SystemExit(f"there is no item '{name}'; choose among {', '.join(names)}")
    return tuple(item for item in known if given.only is None or item.name in given.only)


def main() -> None:
    """Measure, keep, report."""
    given = arguments()
    items = chosen(given)
    if given.list:
        print(budget(items))
        return
    if given.gpu:
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("make bench-gpu needs a CUDA device, and torch sees none; `make bench` needs only CPUs")
    stem = "speed-gpu" if given.gpu else "speed"
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"{stem}.json"
    begun = time.monotonic()

    def log(text: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {text}", flush=True)

    results: dict[str, Any] = {"environment": environment(given), "quick": given.quick, "elapsed": 0.0, "items": {}}
    if given.only and path.is_file():
        results["items"] = json.loads(path.read_text(encoding="utf-8"))["items"]
    if given.data is None:
        log(HOW_TO_GET)
    with tempfile.TemporaryDirectory() as work:
        data = None if given.data is None else Path(given.data).resolve()
        device = "cuda" if given.gpu else "cpu"
        run = Run(Path(work), data, given.threads, device, given.quick, given.peer_python, log)
        for number, item in enumerate(items, 1):
            log(f"{number} of {len(items)}: {item.title}, about {item.seconds} s")
            started = time.monotonic()
            try:
                found = item.measure(run)
            except Exception as error:  # whatever a peer raises must not cost the other items
                traceback.print_exc()
                found = {"error": f"{type(error).__name__}: {error}"}
            results["items"][item.name] = found | {"took": round(time.monotonic() - started, 1)}
            results["elapsed"] = time.monotonic() - begun
            path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    finish(results, given.out, stem)
    log(f"wrote {path}, {stem}.md and {stem}.svg")


def finish(results: dict[str, Any], out: Path, stem: str) -> None:
    """Write page and figure."""
    from benchmarks.speed import figure, report

    report.write(out / f"{stem}.md", results)
    figure.draw(results, out / f"{stem}.svg")


if __name__ == "__main__":
    main()
