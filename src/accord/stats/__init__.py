"""Statistics with their uncertainty: intervals, calibration, agreement, rankings, best-of-n. No torch."""

from accord.stats.aggregation import DawidSkene, dawid_skene
from accord.stats.agreement import (
    Scale,
    Vote,
    cohen_kappa,
    fleiss_kappa,
    krippendorff_alpha,
    krippendorff_alpha_nominal,
    krippendorff_interval,
    raw_agreement,
)
from accord.stats.best_of_n import best_of_n_gold, best_of_n_kl, best_of_n_kl_exact, best_of_n_win_rate, pass_at_k
from accord.stats.calibration import Bin, accuracy_ties_half, brier, ece, nll, reliability, temperature_mle
from accord.stats.intervals import Interval, bootstrap_mean, bootstrap_means, paired_bootstrap_diff, wilson, win_rate
from accord.stats.length_control import LengthControlled, length_controlled_win_rate
from accord.stats.overoptimisation import Curve, Form, Peak, fit_curve
from accord.stats.ranking import Game, bradley_terry, bradley_terry_intervals, elo, elo_scale, plackett_luce
from accord.stats.ratios import bootstrap_ratio, weighted_share

__all__ = [
    "Bin",
    "Curve",
    "DawidSkene",
    "Form",
    "Game",
    "Interval",
    "LengthControlled",
    "Peak",
    "Scale",
    "Vote",
    "accuracy_ties_half",
    "best_of_n_gold",
    "best_of_n_kl",
    "best_of_n_kl_exact",
    "best_of_n_win_rate",
    "bootstrap_mean",
    "bootstrap_means",
    "bootstrap_ratio",
    "bradley_terry",
    "bradley_terry_intervals",
    "brier",
    "cohen_kappa",
    "dawid_skene",
    "ece",
    "elo",
    "elo_scale",
    "fit_curve",
    "fleiss_kappa",
    "krippendorff_alpha",
    "krippendorff_alpha_nominal",
    "krippendorff_interval",
    "length_controlled_win_rate",
    "nll",
    "paired_bootstrap_diff",
    "pass_at_k",
    "plackett_luce",
    "raw_agreement",
    "reliability",
    "temperature_mle",
    "weighted_share",
    "wilson",
    "win_rate",
]
