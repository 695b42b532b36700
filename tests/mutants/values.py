"""Faults in the choice of pairs, in groups of annotators and in rules about them."""

from __future__ import annotations

from mutants.mutant import mutants

_CHOICE = "unit/test_collect_selection.py"
_VALUES = "unit/test_collect_values.py"

VALUES = [
    *mutants(
        "collect/selection.py",
        _CHOICE,
        [
            ("both ways of being chosen are added", "random + (1 - random) * _at_least", "random + _at_least"),
            ("one place too many for the order", "rank - active + 1, size - 1", "rank - active, size - 1"),
            ("the slice is drawn from the others too", "size - 1, rank, drawn)", "size, rank, drawn)"),
            ("the random slice is taken off the top", "rng.choice(size, size=drawn", "rng.choice(drawn, size=drawn"),
            (
                "what was drawn can be wanted again",
                "for item, policy in wanted if item not in slice_",
                "for item, policy in wanted",
            ),
            ("every choice counts the same", "return x, 1.0 / p", "return x, np.ones_like(p)"),
            (
                "the random share is of the wanted places",
                'policies.get("random", 0.0) / total',
                'policies.get("random", 0.0)',
            ),
        ],
    ),
    *mutants(
        "collect/priorities.py",
        _CHOICE,
        [
            ("sure items are uncertain", "return 0.5 - np.abs(expit", "return np.abs(expit"),
            ("noise counts as disagreement", "return np.maximum(joint - own, 0.0)", "return joint"),
            (
                "the nearest item covers most",
                "following = int(distance.argmax())",
                "following = int(distance.argmin())",
            ),
            (
                "what is covered is forgotten",
                "distance = np.minimum(distance, away(rows[following]))",
                "distance = away(rows[following])",
            ),
            ("the least wanted comes first", "np.lexsort((ties, -x))", "np.lexsort((ties, x))"),
            (
                "policies take turns alike",
                "shares[n] * (len(found) + 1) / sum(shares.values())",
                "(len(found) + 1) / len(shares)",
            ),
        ],
    ),
    *mutants(
        "collect/values.py",
        _VALUES,
        [
            ("a reply is judged by its place", "value if same else 1 - value", "value"),
            ("a person votes as often as asked", "if value is None or p.annotator in voted", "if value is None"),
            (
                "the worst group is the best",
                "(min(shares.values()) + max(shares.values())) / 2",
                "max(shares.values())",
            ),
            ("smoothing adds to one side", "(len(v) + 2 * smoothing)", "(len(v) + smoothing)"),
            ("ties count for the first reply", "sum(v > 0.5 for v in values)", "sum(v >= 0.5 for v in values)"),
            ("the population is not asked", "1.0 if population is None else population.get(g, 0.0)", "1.0"),
            ("weights are not asked", "told.get(b.annotator, 1.0)", "1.0"),
        ],
    ),
    *mutants(
        "collect/groups.py",
        _VALUES,
        [
            ("permuting single meetings", "drawn = rng.permutation(groups)", "drawn = groups"),
            ("the noise within a group is not taken out", "across / np.sqrt(first * second)", "across"),
        ],
    ),
    *mutants(
        "collect/meetings.py",
        _VALUES,
        [
            ("a tie agrees with a choice", "verdict[one] == verdict[two]", "vote[one] * vote[two] >= 0"),
            ("groups meet in any order", "np.where(swapped, two, one), np.where(swapped, one, two)", "one, two"),
        ],
    ),
    *mutants(
        "collect/splits.py",
        _VALUES,
        [
            (
                "the p-value leaves out what was seen",
                "running += dealt[value]\n        tail[value] = running / total",
                "tail[value] = running / total\n        running += dealt[value]",
            ),
            ("group sizes do not matter", "(y + 2 * z) ** 2 * (unit // size)", "(y + 2 * z) ** 2"),
            (
                "unanimous pairs count as tests",
                "chosen = np.flatnonzero(floor <= rate / max(k, 1))",
                "chosen = np.arange(p.size)",
            ),
            ("no correction for many pairs", "p[order] * chosen.size / np.arange", "p[order] * 1 / np.arange"),
        ],
    ),
    *mutants(
        "collect/labels.py",
        "unit/test_collect_labels.py",
        [
            ("a tie is a vote against the first", "(1 + first - second) / 2", "first"),
            (
                "a tie that nobody gave has its part",
                "(FIRST, SECOND, TIE) if tied else",
                "(FIRST, SECOND, TIE) if True else",
            ),
            ("nameless people are one", 'f"unnamed {number}/{place}"', '"unnamed"'),
        ],
    ),
    *mutants(
        "train/rated.py",
        "e2e/test_groups.py",
        [("every member learns from every group", "float(example.origin[0].group == group)", "1.0")],
    ),
    *mutants(
        "report/groups.py",
        "unit/test_report_groups.py",
        [
            ("a row is taken for the one before it", "row.get(name) == row_before[name]", "row.get(name) is not None"),
            ("a decision for the second follows the first", "1 - share if p < 0.5", "share if p < 0.5"),
            (
                "the configured population is not used",
                "{g: s for g, s in shares.items() if s is not None} if any(shares.values()) else None",
                "None",
            ),
        ],
    ),
]
