"""Faults in the diagnosis of reward hacking and in what is done to scores."""

from __future__ import annotations

from mutants.mutant import Mutant, mutants

_LIGHTS = "unit/test_diagnose_lights.py"
_SIGNALS = "unit/test_diagnose_signals.py"

DIAGNOSIS: list[Mutant] = [
    *mutants(
        "diagnose/lights.py",
        _LIGHTS,
        [
            ("one odd reading is an alarm", 'new = min(own["worse"])', 'new = max(own["worse"])'),
            ("an alarm goes out at its limit", "wanted(progress, share=RELEASE)", "wanted(progress)"),
            (
                "warnings become alarms",
                "if progress >= URGENT:\n            new = most",
                "if progress >= URGENT:\n            new = 2",
            ),
        ],
    ),
    *mutants(
        "diagnose/rules.py",
        _LIGHTS,
        [
            ("noise counts as a shift", "if abs(shift) <= noise * error:", "if abs(shift) < 0:"),
            ("one of two signals is enough", "return min(found)", "return max(found)"),
            ("growth from where SFT began", '(lowest if c.since == "lowest" else first)', "(first)"),
        ],
    ),
    *mutants(
        "diagnose/judged.py",
        _LIGHTS,
        [
            (
                "gold that rises is a drop",
                "[b - a for a, b in zip(now.gold, best.gold",
                "[a - b for a, b in zip(now.gold, best.gold",
            ),
            ("a proxy that fell too is a hack", "or proxy.value < -2 * proxy.error", ""),
        ],
    ),
    *mutants(
        "diagnose/readings.py",
        _SIGNALS,
        [
            ("long groups weigh more", "over([sum(v) / len(v) for v in sums.values()])", "over(list(values))"),
            ("the error of a sum", "math.sqrt(variance / n))", "math.sqrt(variance))"),
        ],
    ),
    *mutants(
        "diagnose/features.py",
        _SIGNALS,
        [
            (
                "distances of the replies that were fitted",
                "half, other = table[::2], table[1::2]",
                "half, other = table, table[:4]",
            ),
            ("no shrinkage", "return (1 - shrinkage) * sample + shrinkage * level", "return sample + 0 * level"),
        ],
    ),
    *mutants(
        "rewards/seen.py",
        "unit/test_reward_inputs.py",
        [
            (
                "features in the order of forwards",
                "return np.concatenate(found)[np.argsort(places)]",
                "return np.concatenate(found)",
            ),
            ("distances of other replies", "self.values[row] = distance", "self.values[rows[0]] = distance"),
        ],
    ),
    *mutants(
        "lab/planted.py",
        "unit/test_lab_planted.py",
        [
            ("one annotator judges everything", "pool[k % len(pool)].prefer", "pool[0].prefer"),
            ("annotators are partial to nothing", "{name: slope * strength for name, slope in partial.items()}", "{}"),
        ],
    ),
    *mutants(
        "functional/shaping.py",
        "unit/test_score_shaping.py",
        [
            (
                "PAR against nobody",
                "torch.sigmoid(score_B[:, None] - reference_BM)",
                "torch.sigmoid(score_B[:, None] + 0 * reference_BM)",
            ),
            (
                "free tokens cost",
                "(length_B.to(torch.get_default_dtype()) - free)",
                "(length_B.to(torch.get_default_dtype()))",
            ),
            ("length is paid twice", "return score_B - slope * centred_B", "return score_B + slope * centred_B"),
        ],
    ),
]
"""In the order of what happens to a reply."""
