"""From the numbers of a run to the page: tables between the marks of docs/results/speed.md, all from speed.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.results import BEGIN, END, table
from benchmarks.speed.curves import of_curve
from benchmarks.speed.numbers import (
    Spread,
    compare_losses,
    decode_step,
    line,
    ratios,
    spread,
    training_flops,
)

TRAINED = ("sft", "reward", "dpo", "kto", "grpo", "rloo")
GOALS: dict[str, tuple[float, float]] = {
    "sft": (2.8, 4.0),
    "reward": (3.5, 5.0),
    "dpo": (6.0, 8.0),
    "grpo": (6.0, 6.0),
    "rloo": (6.0, 6.0),
}
"""Wanted lead over TRL's float32: in float32, in bf16."""
MEMORY_GOAL = 0.4
GPU_GOALS = {"sft": 1.5, "dpo": 1.5, "grpo": 3.0}
"""Wanted lead over TRL on a GPU, both in bf16."""
GPU_MEMORY_GOAL = 0.6
FIRST = {"float32": "accord float32", "bfloat16": "accord bfloat16"}
WORDS = {
    "sft": "SFT",
    "reward": "reward model",
    "dpo": "DPO, reference included",
    "kto": "KTO, reference included",
    "grpo": "GRPO, whole iteration",
    "rloo": "RLOO, whole iteration",
}


def page(results: dict[str, Any]) -> list[str]:
    """All generated lines."""
    lines = [environment(results), ""]
    items = results["items"]
    trained = {name: items[name] for name in items if "contenders" in items[name] and "algorithm" in items[name]}
    for make in (goals, trainers, losses, phases):
        lines += make(trained)
    lines += limits(items) + generation(items) + growth(items.get("curves", {})) + errors(items)
    return lines


def environment(results: dict[str, Any]) -> str:
    """Machine, versions, date, data."""
    seen = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in seen["versions"].items())
    text = f"Measured {seen['date']} on {seen['machine']}, {seen['threads']} threads, {seen['device']}. {versions}. "
    text += f"The whole run took {results['elapsed'] / 60:.1f} minutes."
    made = next((i["workload"] for i in results["items"].values() if "workload" in i), None)
    if made:
        text += f" Data: {made['data']}; {made['pairs']} pairs fit."
    return text + (" **A quick run on a tiny model: the numbers mean nothing.**" if results["quick"] else "")


def times(item: dict[str, Any], name: str) -> list[float]:
    """Seconds of a contender's timed steps; nothing where it is missing or failed."""
    return item["contenders"].get(name, {}).get("seconds", [])


def tokens_a_step(item: dict[str, Any], one: dict[str, Any]) -> list[float]:
    """Real tokens of each timed step."""
    return one.get("tokens") or [b["tokens"] for b in item.get("batches", [])]


def rate(item: dict[str, Any], one: dict[str, Any]) -> Spread | None:
    """Real tokens a second, step by step."""
    pairs = zip(tokens_a_step(item, one), one.get("seconds", []), strict=False)
    return spread([count / seconds for count, seconds in pairs])


def goals(trained: dict[str, Any]) -> list[str]:
    """What was wanted and what was reached."""
    rows: list[list[str]] = []
    for name, item in trained.items():
        if name not in GOALS:
            rows += gpu_goals(name, item)
            continue
        for number, precision in enumerate(FIRST):
            found = ratios(times(item, "trl float32"), times(item, FIRST[precision]))
            wanted = GOALS[name][number]
            if found:
                met = "yes" if found.median >= wanted else "**no**"
                rows.append([WORDS[name], precision, f">= {wanted:g}", found.text(), met])
            share = memory_share(item, FIRST[precision], "trl float32")
            if share is not None:
                met = "yes" if share <= MEMORY_GOAL else "**no**"
                rows.append([f"{WORDS[name]}, peak memory", precision, f"<= {MEMORY_GOAL:g}", f"{share:.2f}", met])
    head = ("work", "Accord's precision", "wanted against TRL in float32", "median [lowest, highest step]", "met")
    return ["### Goals", "", *table(head, rows)] if rows else []


def gpu_goals(name: str, item: dict[str, Any]) -> list[list[str]]:
    """Rows of an item that ran on a GPU."""
    rows: list[list[str]] = []
    found = ratios(times(item, "trl bfloat16"), times(item, "accord bfloat16"))
    wanted = GPU_GOALS.get(item["algorithm"])
    share = memory_share(item, "accord bfloat16", "trl bfloat16")
    if found and wanted:
        met = "yes" if found.median >= wanted else "**no**"
        rows.append([name, "bfloat16", f">= {wanted:g} (TRL in bf16)", found.text(), met])
    if share is not None:
        met = "yes" if share <= GPU_MEMORY_GOAL else "**no**"
        rows.append([f"{name}, peak memory", "bfloat16", f"<= {GPU_MEMORY_GOAL:g} (TRL in bf16)", f"{share:.2f}", met])
    return rows


def memory_share(item: dict[str, Any], ours: str, theirs: str) -> float | None:
    """Peak of one process over that of another; on a GPU its own memory."""
    a, b = (item["contenders"].get(name, {}) for name in (ours, theirs))
    key = "gpu_mib" if "gpu_mib" in a else "peak_mib"
    return a[key] / b[key] if key in a and key in b else None


def trainers(trained: dict[str, Any]) -> list[str]:
    """Every contender of every algorithm."""
    rows: list[list[str]] = []
    for name, item in trained.items():
        size = item["workload"]["sizes"]["name"]
        for who, one in item["contenders"].items():
            seconds = spread(one.get("seconds", []))
            if who == "machine" or seconds is None:
                continue
            real = rate(item, one)
            same = ratios(times(item, f"trl {one['precision']}"), one["seconds"]) if "accord" in who else None
            growth_ = f"{one['growth_mib']:.0f}" if "growth_mib" in one else "-"
            peak = f"{one['peak_mib']:.0f}" if "peak_mib" in one else "-"
            if "gpu_mib" in one:
                peak = f"{one['gpu_mib']:.0f} (GPU)"
            rows.append(
                [
                    WORDS.get(name, f"{WORDS[item['algorithm']]}, {size}"),
                    who,
                    seconds.text(3 if seconds.median < 1 else 2),
                    f"{real.median:.0f} [{real.low:.0f}, {real.high:.0f}]" if real else "-",
                    same.text() if same else "",
                    peak,
                    growth_,
                ]
            )
    head = ("work", "contender", "s a step", "real tokens/s", "times TRL of the same precision")
    head = (*head, "peak, MiB", "above the loaded state, MiB")
    return ["### Training", "", *table(head, rows)] if rows else []


def losses(trained: dict[str, Any]) -> list[str]:
    """Losses and gradients on the same batches with the same weights."""
    rows: list[list[str]] = []
    for name, item in trained.items():
        for who, found in compare_losses(item["contenders"], next(iter(item["contenders"]))).items():
            if who.endswith("float32"):
                same = "yes" if found["same"] else "**no**"
                title = WORDS.get(name, name)
                rows.append([title, who, f"{found['loss']:.1e}", f"{found['grad_norm']:.1e}", same])
    head = ("work", "against Accord in float32", "loss differs by", "gradient norm differs by", "same")
    return ["### Same mathematics", "", *table(head, rows)] if rows else []


def phases(trained: dict[str, Any]) -> list[str]:
    """Where the time of a step goes."""
    order = ("data", "generate", "reward", "score", "reference", "forward", "backward", "optimizer")
    rows: list[list[str]] = []
    for name, item in trained.items():
        for who, one in item["contenders"].items():
            if not one.get("phases"):
                continue
            parts = dict(one["phases"])
            if who.startswith("accord") and "generate" in parts:  # the source's time holds these
                parts["data"] -= sum(parts.get(part, 0.0) for part in ("generate", "reward", "score"))
            if "reference_a_step" in one:
                parts["reference"] = one["reference_a_step"]
            whole = spread(one["seconds"])
            assert whole is not None
            rest = whole.median - sum(parts.values())
            cells = [f"{parts[part]:.3f}" if part in parts else "" for part in order]
            rows.append([WORDS.get(name, name), who, *cells, f"{rest:.3f}"])
    if not rows:
        return []
    return ["### Seconds of a step by phase", "", *table(("work", "contender", *order, "rest"), rows)]


def machine_rates(item: dict[str, Any]) -> dict[str, Any] | None:
    """Medians of what the machine can do, measured between the contenders' turns."""
    laps = item.get("contenders", {}).get("machine", {}).get("rates")
    if not laps:
        return None
    found: dict[str, Any] = {}
    for group in laps[0]:
        found[group] = {}
        for name in laps[0][group]:
            middle = spread([lap[group][name] for lap in laps])
            assert middle is not None
            found[group][name] = middle.median
    return found


def limits(items: dict[str, Any]) -> list[str]:
    """Rates of the machine, and the share of them that is reached."""
    lines: list[str] = []
    for name, item in items.items():
        rates = machine_rates(item)
        if rates is None:
            continue
        lines += [f"### The machine's limit beside {name}", ""]
        for precision in ("float32", "bfloat16"):
            each = ", ".join(f"{k} {v / 1e9:.0f}" for k, v in rates[precision].items())
            lines.append(f"- {precision} matrix products, GFLOP/s: {each}")
        lines.append("- memory, GB/s: " + ", ".join(f"{k} {v / 1e9:.1f}" for k, v in rates["bandwidth"].items()))
        lines += ["", *(shares(item, rates) if "algorithm" in item else roofline(item, rates))]
    return lines


def shares(item: dict[str, Any], rates: dict[str, Any]) -> list[str]:
    """Counted FLOPs of a training step over its time, as a share of the rate of matrix products."""
    rows: list[list[str]] = []
    for who, one in item["contenders"].items():
        if who == "machine" or not one.get("seconds") or item["algorithm"] != "sft":
            continue
        counted = [training_flops(b["lengths"], b["scored"], item["shape"]) for b in item["batches"]]
        reached = spread([f / s for f, s in zip(counted, one["seconds"], strict=False)])
        assert reached is not None
        limit = rates[one["precision"]]
        squares = max(value for key, value in limit.items() if key != "model")
        cells = [f"{reached.median / 1e9:.0f}", f"{reached.median / limit['model']:.0%}"]
        rows.append([who, *cells, f"{reached.median / squares:.0%}"])
    return table(("contender", "GFLOP/s reached", "of the model's products", "of large square products"), rows)


def roofline(item: dict[str, Any], rates: dict[str, Any]) -> list[str]:
    """Time of a decoding step beside the least that bandwidth and arithmetic allow."""
    rows: list[list[str]] = []
    bandwidth = max(rates["bandwidth"].values())
    for who, one in item["contenders"].items():
        if "parts" not in one:
            continue
        step = spread([part["step"] for part in one["parts"]])
        assert step is not None
        size = 4 if one["precision"] == "float32" else 2
        flops, moved = decode_step(item["rows"], item["columns"], item["shape"], size, shared=item.get("shared", 0))
        best = max(value for key, value in rates[one["precision"]].items() if key != "model")
        least = max(flops / best, moved / bandwidth)
        bound = "arithmetic" if flops / best > moved / bandwidth else "bandwidth"
        cells = [f"{1000 * step.median:.1f} [{1000 * step.low:.1f}, {1000 * step.high:.1f}]", f"{1000 * least:.1f}"]
        rows.append([who, *cells, bound, f"{least / step.median:.0%}"])
    return table(("contender", "ms a decoding step", "least possible, ms", "bound by", "reached"), rows)


def generation(items: dict[str, Any]) -> list[str]:
    """Rows of benchmarks/decode.py."""
    found = items.get("decode", {}).get("rows")
    if not found:
        return []
    rows: list[list[str]] = []
    base = 0.0
    for row in found:
        base = row["tokens_per_s"] if row["way"] == "native" else base
        rates = f"{row['tokens_per_s']:.0f} [{row['lowest']:.0f}, {row['highest']:.0f}]"
        lead = f"{base / row['tokens_per_s']:.2f}"
        rows.append([f"{row['size']} ({row['parameters'] / 1e6:.1f} M)", row["lengths"], row["way"], rates, lead])
    head = ("model", "lengths", "way", "real tokens/s", "Accord's engine is so many times as fast")
    return ["### Generation", "", *table(head, rows)]


def growth(found: dict[str, Any]) -> list[str]:
    """Lines through the curves."""
    points = found.get("points")
    if not points:
        return []
    rows: list[list[str]] = []
    for curve in ("length", "rows", "group"):
        of = of_curve(points, curve)
        if len(of) > 1:
            fit = line([p["tokens"] for p in of], [p["seconds"] for p in of])
            span = f"{min(p['tokens'] for p in of):.0f} to {max(p['tokens'] for p in of):.0f}"
            rows.append([curve, span, f"{1e6 * fit.slope:.1f}", f"{1000 * fit.start:.0f}", f"{fit.r2:.4f}"])
    head = ("what grows", "tokens a step", "microseconds a token", "ms a step besides", "R2 of the line")
    lines = ["### Cost curves", "", *table(head, rows)]
    sizes = [
        [
            f"{p['parameters'] / 1e6:.1f} M",
            f"{p['seconds']:.2f}",
            f"{1e9 * p['seconds'] / p['tokens'] / p['parameters']:.2f}",
        ]
        for p in of_curve(points, "model")
    ]
    lines += table(("parameters", "s a step", "ns a token and parameter"), sizes)
    return lines + vocabulary(of_curve(points, "vocabulary"))


def vocabulary(points: list[dict[str, Any]]) -> list[str]:
    """What a further token costs in memory, for growing vocabularies."""
    rows: list[list[str]] = []
    for size in sorted({p["x"] for p in points}):
        few, many = sorted((p for p in points if p["x"] == size), key=lambda p: p["tokens"])
        more = (many["peak_mib"] - few["peak_mib"]) * 2**20 / (many["tokens"] - few["tokens"])
        logits = many["tokens"] * 0.9 * size * 4 / 2**20
        cells = [f"{few['peak_mib']:.0f}", f"{many['peak_mib']:.0f}", f"{more / 1024:.1f}", f"{logits:.0f}"]
        rows.append([f"{size:.0f}", *cells])
    if not rows:
        return []
    few, many = sorted({int(p["tokens"]) for p in points})
    head = ("vocabulary", f"peak at {few} tokens, MiB", f"at {many}", "KiB for a further token")
    return table((*head, "one float32 copy of the logits, MiB"), rows)


def errors(items: dict[str, Any]) -> list[str]:
    """Everything that failed."""
    lines = [f"- {name}: {item['error']}" for name, item in items.items() if "error" in item]
    for name, item in items.items():
        lines += [f"- {name}: {error}" for error in item.get("errors", [])]
        for who, one in item.get("contenders", {}).items():
            lines += [f"- {name}, {who}: {one['error']}"] if "error" in one else []
    return ["### Failed", "", *lines, ""] if lines else []


def write(path: Path, results: dict[str, Any]) -> None:
    """Fill the page between its marks; a page that is not there yet starts with a title only."""
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# Speed and memory\n\n{BEGIN}\n{END}\n"
    before, rest = text.split(BEGIN)
    path.write_text(
        f"{before}{BEGIN}\n\n" + "\n".join(page(results)) + f"\n{END}{rest.split(END)[1]}", encoding="utf-8"
    )
