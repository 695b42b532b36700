"""Faults in what judges annotators: agreement, aggregation, Bradley-Terry with annotators, audit, sample sizes."""

from __future__ import annotations

from mutants.mutant import mutants

_PANEL = "unit/test_stats_panel.py golden/test_golden_panel.py"
_BT = (
    "unit/test_stats_annotator_bt.py::test_gradient_and_hessian_are_those_of_finite_differences "
    "unit/test_stats_annotator_bt.py::test_probabilities_of_the_three_results_sum_to_one "
    "unit/test_stats_annotator_bt.py::test_annotators_are_recovered_as_in_the_published_simulation "
    "unit/test_stats_annotator_bt.py::test_gold_and_ties_of_pairs"
)
_QUALITY = (
    "unit/test_collect_quality.py::test_sample_sizes_are_those_published "
    "unit/test_collect_quality.py::test_benjamini_hochberg_by_hand "
    "unit/test_collect_quality.py::test_names_of_the_replies_change_nothing_but_the_second_column "
    "unit/test_collect_quality.py::test_repeats_tell_noise_from_a_lean "
    "unit/test_collect_guessing.py"
)

QUALITY = [
    *mutants(
        "stats/panel.py",
        _PANEL,
        [
            ("alpha forgets the small sample", " / (total.sum(axis=1) - 1)\n", " / total.sum(axis=1)\n"),
            ("units with one vote count", "if len(said) > 1}", "if len(said) > 0}"),
            ("the mirror image is the unit itself", "self.counts[:, image]]", "self.counts]"),
            (
                "the bootstrap draws units, not prompts",
                "cluster=cluster_index([clusters[item] if clusters else item for item in pairable], len(pairable)),",
                "cluster=cluster_index(None, len(pairable)),",
            ),
            ("quadratic weights are linear", '"quadratic": gap**2}', '"quadratic": gap}'),
        ],
    ),
    *mutants(
        "stats/agreement.py",
        "unit/test_stats.py",
        [
            (
                "an item weighs by its couples",
                "agreed.append(sum(pairs) / len(pairs))",
                "agreed.extend(map(float, pairs))",
            )
        ],
    ),
    *mutants(
        "stats/rank_agreement.py",
        _PANEL,
        [("W ignores ties", " - num * ties\n", "\n")],
    ),
    *mutants(
        "stats/em.py",
        "unit/test_stats_consensus.py::test_gold_is_certain_and_teaches",
        [
            ("gold is not clamped", "posterior[gold, self.known[gold]] = 1.0", "posterior[gold] = 0.5"),
        ],
    ),
    *mutants(
        "stats/aggregation.py",
        "unit/test_stats_consensus.py::test_which_reply_comes_first_does_not_matter_with_swap",
        [("the matrices are not symmetric", "(counts + counts[:, image][:, :, image]) / 2", "counts * 1.0")],
    ),
    *mutants(
        "stats/combine.py",
        "unit/test_stats_consensus.py::test_majority_says_what_it_does_with_ties "
        "unit/test_stats_consensus.py::test_few_votes_are_not_certain",
        [
            ("the first of tied labels wins", "if len(leading) == 1:", "if len(leading) >= 1:"),
            (
                "one vote is certain",
                "np.full((len(ballots.items), len(ballots.labels)), pseudo)",
                "np.zeros((len(ballots.items), len(ballots.labels)))",
            ),
        ],
    ),
    *mutants(
        "stats/sequential.py",
        "unit/test_stats_sequential.py",
        [
            (
                "the whole error is spent on the ratio",
                "math.log(test.false_block / 2)) / (per",
                "math.log(test.false_block)) / (per",
            ),
            ("who left early is forgotten", "blocked = 1 - below[0]", "blocked = below[0, -1] - below[0]"),
            ("whoever the items cannot tell passes", "last.missed <= test.false_pass", "last.missed <= 1"),
            ("nobody is blocked at the horizon", "return max(line, _cut(test)) if", "return line if"),
        ],
    ),
    *mutants(
        "stats/bt_outcomes.py",
        _BT,
        [
            (
                "a tie of Davidson is worth nothing",
                "first, second, none = odds / odds.sum(axis=0)",
                "first, second, none = odds / odds[:2].sum(axis=0)",
            ),
            ("Rao-Kupper's threshold helps the first", "up, down = x - eta, -x - eta", "up, down = x + eta, -x - eta"),
        ],
    ),
    *mutants(
        "stats/bt_posterior.py",
        _BT,
        [
            ("nobody leans to a side", "b[self.who] * gap + g[self.who]", "b[self.who] * gap"),
            ("the bilinear part is missing", "bend + mixed + mixed.T + edge", "bend + edge"),
        ],
    ),
    *mutants(
        "stats/annotator_pairs.py",
        _BT,
        [("gold leaves the wrong side", "(_nodes() > 0) != first", "(_nodes() > 0) == first")],
    ),
    *mutants(
        "stats/power.py",
        _QUALITY,
        [
            (
                "the design effect counts the first label",
                "1 + (self.labels_per_prompt - 1) * self.icc",
                "1 + self.labels_per_prompt * self.icc",
            ),
            ("one-sided", "_NORMAL.inv_cdf(1 - how.level / 2) * null + ", "_NORMAL.inv_cdf(1 - how.level) * null + "),
        ],
    ),
    *mutants(
        "stats/multiple.py",
        _QUALITY,
        [("no correction", "p[order] * p.size / np.arange(p.size, 0, -1)", "p[order] * 1.0")],
    ),
    *mutants(
        "collect/quality/judged.py",
        _QUALITY,
        [("the order shown is forgotten", "order = p.order_shown or (0, 1)", "order = (0, 1)")],
    ),
    *mutants(
        "collect/quality/guessing.py",
        "unit/test_collect_guessing.py",
        [
            ("the own vote is believed", "expit(mine - weight)", "expit(mine)"),
            ("repeats are second opinions", "    if j.repeat:\n        return 0.5\n", ""),
            ("hidden tests are as hard as other pairs", "if _told(j) is None else GOOD_ON_GOLD", "if True else 0"),
        ],
    ),
]
"""Faults of the quality of judgements."""
