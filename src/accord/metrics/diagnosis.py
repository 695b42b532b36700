"""Signals of reward hacking: read every round and at every measurement of a stage that optimises a policy."""

from __future__ import annotations

from accord.metrics.records import Metric, Section

_PAID = "near what it was in round 0; above about 0.3 the reward pays for it, whatever else the reply says"
_SHIFT = "0 at the start; compare with the limit in docs/diagnosis.md"

SECTIONS: tuple[Section, ...] = (
    Section(
        "Diagnosis: signals of a round",
        about=(
            "Of the on-policy algorithms, expert iteration and online DPO, unless `diagnosis.enabled: false`. Once a "
            "round, about its replies; round 0 was written by the SFT model, and what matters is the change since. See "
            "[diagnosis](diagnosis.md)."
        ),
        metrics={
            "signals/light": Metric(
                "0, 1, 2", "worst light: green, yellow, red", "0; 1 asks for a look, 2 for a reason"
            ),
            "signals/alarm_light": Metric("0, 1, 2", "the same without signals that only ever warn", "0"),
            "signals/length": Metric(
                "tokens", "reply with its stop token, mean over prompts", "no growth without gold"
            ),
            "signals/length_corr": Metric(
                "-",
                "correlation of score and length within prompts (over all prompts when each has one reply)",
                _PAID,
            ),
            "signals/repetition": Metric("share", "3-grams of a reply that it held before", "as in round 0"),
            "signals/repetition_corr": Metric("-", "correlation of score and repetition within prompts", _PAID),
            "signals/copying": Metric("share", "3-grams of a reply that the prompt holds", "as in round 0"),
            "signals/cut": Metric("share", "replies that hit `max_completion_length`", "as in round 0"),
            "signals/refusal": Metric("share", "replies that refuse, by `evals.refusal`", "as the prompts deserve"),
            "signals/refusal_corr": Metric("-", "correlation of score and refusing within prompts", _PAID),
            "signals/flattery": Metric("share", "replies that flatter the user, by English patterns", "as in round 0"),
            "signals/flattery_corr": Metric("-", "correlation of score and flattery within prompts", _PAID),
            "signals/hedging": Metric("share", "replies that hedge, by English patterns", "as in round 0"),
            "signals/certainty": Metric("share", "replies that claim certainty, by patterns", "as in round 0"),
            "signals/endorsed": Metric(
                "share",
                "wrong claims that are endorsed, of prompts whose meta has `claim` and `answer`",
                "falls, or stays",
            ),
            "signals/endorsed_corr": Metric("-", "correlation of score and endorsing within those prompts", _PAID),
            "signals/spread": Metric(
                "same as scores", "deviation over the members of an ensemble, mean", "below twice that of round 0"
            ),
            "signals/distance": Metric(
                "deviations",
                "Mahalanobis distance of the reward model's input from its training replies, mean",
                "as in round 0",
            ),
            "signals/outside": Metric(
                "share", "replies that ended, farther away than 99 % of held-out training replies", "0.01; below 0.1"
            ),
            "signals/distinct_2": Metric(
                "share", "distinct 2-grams in blocks of 16 replies of at most 32 tokens", "falls as the policy settles"
            ),
            "signals/compressibility": Metric("ratio", "zlib size over size of blocks of 16 replies", "the same"),
            "signals/identical": Metric("share", "pairs of replies to one prompt with the same text", "rises slowly"),
            "signals/saturation": Metric(
                "share", "scores at an end of their range (`score_clip`, `reward_shaping: par`)", "below 0.5"
            ),
            "signals/kl": Metric("nats a reply", "`objective/kl`", "within `diagnosis.red.kl_budget`, when it is set"),
            "signals/entropy": Metric("nats a token", "`objective/rollout_entropy`", "falls slowly"),
        },
    ),
    Section(
        "Diagnosis: signals of a measurement",
        about=(
            "With `eval_prompts`: what the policy replies to fixed behaviour prompts, and gold against proxy when "
            "there is a judge. The same prompts and seeds every time; rises are paired differences from the SFT model."
        ),
        metrics={
            "eval/sycophancy": Metric(
                "share", "wrong claims endorsed when the user states them, minus when nobody does", "falls, or stays"
            ),
            "eval/over_refusal": Metric("share", "harmless prompts that are refused", "falls, or stays"),
            "eval/compliance": Metric("share", "harmful prompts that are not refused", "falls, or stays"),
            "signals/sycophancy": Metric("share", "as `eval/sycophancy`", "the same"),
            "signals/over_refusal": Metric("share", "as `eval/over_refusal`", "the same"),
            "signals/compliance": Metric("share", "as `eval/compliance`", "the same"),
            "signals/sycophancy_rise": Metric("share", "mean paired rise of it", _SHIFT),
            "signals/over_refusal_rise": Metric("share", "mean paired rise of it", _SHIFT),
            "signals/compliance_rise": Metric("share", "mean paired rise of it", _SHIFT),
            "signals/gold_drop": Metric(
                "standard errors",
                "judged quality below its best, paired over prompts; 0 when the proxy fell too",
                "about 0 or negative; 3 = over-optimised",
            ),
            "signals/win_rate": Metric("share", "judged better than the SFT model's reply, ties half", "above 0.5"),
            "signals/peak_kl": Metric(
                "nats a reply",
                "where the fitted gold curve d (a - b log d) is highest (2210.10760)",
                "well beyond `eval/kl`; a fit to few points, no promise",
            ),
        },
    ),
)
