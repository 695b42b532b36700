"""The speed benchmark's arithmetic: medians, ratios of the same steps, lines, FLOPs, tables; nothing is timed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.results import BEGIN, END
from benchmarks.speed import figure, items, report
from benchmarks.speed.contest import Contender, FailedError, Plan, Process, contest, digest
from benchmarks.speed.numbers import compare_losses, decode_step, line, ratios, spread, training_flops
from benchmarks.speed.worker import scripted


def test_ratios_are_made_step_by_step() -> None:
    found = ratios([4.0, 9.0, 2.0], [2.0, 3.0, 2.0])
    assert found is not None
    assert (found.median, found.low, found.high, found.n) == (2.0, 1.0, 3.0, 3)
    assert ratios([], [1.0]) is None
    assert spread([]) is None


def test_a_line_is_found_again_and_a_curve_is_not_one() -> None:
    xs = [1.0, 2.0, 4.0, 8.0, 16.0]
    straight = line(xs, [3.0 + 0.5 * x for x in xs])
    assert straight.slope == pytest.approx(0.5)
    assert straight.start == pytest.approx(3.0)
    assert straight.r2 == pytest.approx(1.0)
    assert line(xs, [x * x for x in xs]).r2 < 0.97
    with pytest.raises(ValueError, match="two different x"):
        line([2.0, 2.0], [1.0, 3.0])


def test_flops_of_training_are_six_a_weight_and_token_plus_attention_and_head() -> None:
    shape = {"hidden": 4, "layers": 2, "intermediate": 8, "vocab": 16}
    trunk = 2 * (4 * 16 + 3 * 4 * 8)
    attention = 6 * 4 * 2 * (3 * 3 + 5 * 5)
    assert training_flops([3, 5], 2, shape) == 6 * trunk * 8 + attention + 6 * 4 * 16 * 2


def test_a_decoding_step_reads_weights_and_cache_once() -> None:
    shape = {"hidden": 4, "layers": 2, "intermediate": 8, "vocab": 16}
    weights = 2 * (4 * 16 + 3 * 4 * 8) + 64
    flops, moved = decode_step(3, 10, shape, 2)
    cached = 2 * 2 * 4 * 10 * 3
    assert moved == (weights + cached) * 2
    assert flops == 2 * weights * 3 + 2 * cached
    assert decode_step(3, 10, shape, 2, shared=12) == (flops, (weights + 2 * 2 * 4 * 18) * 2)


def test_losses_are_compared_with_the_first_contender() -> None:
    base = [{"loss": 2.0, "grad_norm": 1.0}, {"loss": 1e-8, "grad_norm": 0.5}]
    near = [{"loss": 2.0001, "grad_norm": 1.0}, {"loss": 3e-8, "grad_norm": 0.5}]
    far = [{"loss": 2.0, "grad_norm": 1.0}, {"loss": 1e-8, "grad_norm": 0.55}]
    silent = [{"loss": None, "grad_norm": None}]
    every = {n: {"checked": c} for n, c in {"a": base, "near": near, "far": far, "machine": silent}.items()}
    found = compare_losses(every, "a")
    assert set(found) == {"near", "far"}
    assert found["near"]["same"]
    assert not found["far"]["same"]  # an on-policy loss is near 0: only the gradient tells


def test_checks_are_not_timed_and_the_reference_is_shared_by_the_steps() -> None:
    steps = [{"seconds": s, "loss": s, "grad_norm": 1.0, "phases": {"forward": s / 2}} for s in (9.0, 8.0, 1.0, 2.0)]
    found = digest(
        {"steps": steps, "reference_rows": 64, "reference_seconds": [4.0, 4.0]}, Plan(rounds=2, check=1, warm=1)
    )
    assert found["seconds"] == [2.0, 3.0]
    assert found["checked"] == [{"loss": 9.0, "grad_norm": 1.0}]
    assert found["phases"] == {"forward": 0.75}
    assert found["reference_a_step"] == 1.0


def test_scripted_replies_depend_on_the_prompt_alone() -> None:
    replies = [scripted([5, 6, 7], number, 16, 300, 2) for number in range(6)]
    assert replies == [scripted([5, 6, 7], number, 16, 300, 2) for number in range(6)]
    assert scripted([5, 6, 8], 0, 16, 300, 2) != replies[0]
    assert [reply[-1] == 2 for reply in replies] == [False, True, True, False, True, True]
    assert all(1 <= len(reply) <= 16 and 2 not in reply[:-1] and max(reply) < 300 for reply in replies)


def test_the_whole_is_planned_to_take_at_most_25_minutes() -> None:
    assert sum(item.seconds for item in items.ITEMS) <= 25 * 60


def test_contenders_that_fail_are_reported_and_do_not_stop_the_others(tmp_path: Path) -> None:
    lines: list[str] = []
    job = {"item": "sft", "directory": str(tmp_path), "threads": 1, "device": "cpu", "sizes": {}}
    found = contest((Contender("accord float32", "no_such_module"),), job, Plan(rounds=1), lines.append)
    assert "No module named" in found["contenders"]["accord float32"]["error"]
    process = Process(Contender("x", "no_such_module"), {**job}, sys.executable)
    with pytest.raises(FailedError, match="No module named"):
        process.ask(go=1)
    process.end()


def results() -> dict[str, Any]:
    """Numbers as a run writes them."""

    def one(seconds: list[float], loss: float, precision: str = "float32", peak: float = 100.0) -> dict[str, Any]:
        found: dict[str, Any] = {"precision": precision, "seconds": seconds, "peak_mib": peak, "growth_mib": peak / 2}
        return found | {"checked": [{"loss": loss, "grad_norm": 1.0}], "phases": {"forward": 0.1}}

    rates = {"bandwidth": {"copy": 1e10}, **{p: {"model": 1e11, "2048": 2e11} for p in ("float32", "bfloat16")}}
    sft = {
        "algorithm": "sft",
        "workload": {"data": "rows", "pairs": 3, "sizes": {"name": "13M"}},
        "shape": {"hidden": 4, "layers": 2, "intermediate": 8, "vocab": 16},
        "batches": [{"lengths": [3, 5], "tokens": 8, "scored": 2}] * 2,
        "contenders": {
            "accord float32": one([1.0, 1.0], 2.0, peak=30.0),
            "trl float32": one([2.5, 3.5], 2.0),
            "accord bfloat16": one([0.5, 0.5], 2.01, "bfloat16", 20.0),
            "machine": {"precision": "float32", "seconds": [1.0], "rates": [rates, rates]},
        },
    }
    points = [
        {
            "curve": "length",
            "x": x,
            "length": x,
            "tokens": 8 * x,
            "seconds": x / 100,
            "peak_mib": 1,
            "parameters": 10**6,
        }
        for x in (64, 128, 1024)
    ]
    points += [
        {"curve": "vocabulary", "x": v, "tokens": t, "seconds": 1, "peak_mib": t / 64, "parameters": 10**6, "length": 1}
        for v in (1024, 4096)
        for t in (1024, 4096)
    ]
    decode = {"size": "m", "lengths": "full", "parameters": 10**6, "lowest": 1.0, "highest": 3.0, "tokens_per_s": 2.0}
    rows = [{**decode, "way": "native"}, {**decode, "way": "generate", "tokens_per_s": 1.0}]
    seen = {"versions": {"torch": "2"}, "date": "today", "machine": "here", "threads": 2, "device": "no GPU"}
    measured = {
        "sft": sft,
        "curves": {"points": points, "errors": []},
        "decode": {"rows": rows},
        "kto": {"error": "no"},
    }
    return {"environment": seen, "quick": False, "elapsed": 60.0, "items": measured}


def test_the_page_is_written_between_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "speed.md"
    path.write_text(f"Before.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n", encoding="utf-8")
    report.write(path, json.loads(json.dumps(results())))
    text = path.read_text(encoding="utf-8")
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "old" not in text
    assert "| SFT | float32 | >= 2.8 | 3.00 [2.50, 3.50] | yes |" in text
    assert "| SFT, peak memory | float32 | <= 0.4 | 0.30 | yes |" in text
    assert "| SFT | bfloat16 | >= 4 | 6.00 [5.00, 7.00] | yes |" in text
    assert "| SFT | trl float32 | 0.0e+00 | 0.0e+00 | yes |" in text
    assert "| length | 512 to 8192 | 1250.0 | 0 | 1.0000 |" in text
    logits = 4 * 0.9 * 4096 * 4096 / 2**20  # MiB of one copy: 4 bytes, 90 % of 4,096 tokens scored
    assert f"| 4096 | 16 | 64 | 16.0 | {logits:.0f} |" in text
    assert "- kto: no" in text


def test_a_gpu_item_has_goals_of_its_own() -> None:
    one = {"precision": "bfloat16", "seconds": [1.0], "gpu_mib": 50.0, "peak_mib": 1.0}
    item = {"algorithm": "grpo", "contenders": {"accord bfloat16": one}}
    item["contenders"]["trl bfloat16"] = one | {"seconds": [3.5], "gpu_mib": 100.0}
    rows = report.gpu_goals("grpo-0.5B", item)
    assert [row[3:] for row in rows] == [["3.50 [3.50, 3.50]", "yes"], ["0.50", "yes"]]
    assert report.gpu_goals("sft-large", {"algorithm": "sft", "contenders": {}}) == []


def test_the_figure_is_drawn_with_and_without_numbers(tmp_path: Path) -> None:
    figure.draw(results(), tmp_path / "a.svg")
    figure.draw({"items": {}}, tmp_path / "b.svg")
    assert "seconds a step" in (tmp_path / "a.svg").read_text(encoding="utf-8")
