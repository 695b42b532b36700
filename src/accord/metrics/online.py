"""Metrics of stages in which the policy writes its own training data, and of measurements on held-out prompts."""

from __future__ import annotations

from accord.metrics.records import Metric, Section

SECTIONS: tuple[Section, ...] = (
    Section(
        "On-policy: rollouts",
        about=(
            "Of `ppo`, `reinforce`, `rloo`, `grpo` and their relatives. Once a round, about all replies of the round."
        ),
        metrics={
            "objective/scores": Metric(
                "deviations of the reward model",
                (
                    "mean score as the reward function gave it: normalised by the reward model's mean and deviation, "
                    "before clip and missing-stop penalty"
                ),
                "starts near 0, rises, flattens",
            ),
            "objective/scores_std": Metric(
                "same", "population deviation of these", "above 0; shrinking to 0 = all replies alike"
            ),
            "objective/kl": Metric(
                "nats a reply",
                "sum over a reply of log pi_old - log pi_ref (k1), mean over replies",
                (
                    "0 at the first round up to rounding; grows slowly to a few nats, 10 and more asks for a look at "
                    "`eval/gold` or samples. Clearly negative = the sampled and the scored distribution differ"
                ),
            ),
            "objective/rlhf_reward": Metric(
                "same as scores",
                "mean score after clip and penalty - `objective/kl_coef` x `objective/kl`",
                "rises; this is what is optimised",
            ),
            "objective/kl_coef": Metric(
                "score a nat",
                "beta in this round",
                "constant, or moving by at most 20 % x replies / horizon a round when `kl_target` is set",
            ),
            "objective/rollout_entropy": Metric(
                "nats a token",
                (
                    "entropy of the sampling distribution, mean over the round's tokens; in rounds with "
                    "`sampler/reused` 1 the mean of -log p of the sampled tokens, whose expectation it is"
                ),
                "falls slowly; near 0 = collapse",
            ),
            "completions/mean_length": Metric(
                "tokens",
                "reply with its stop token, mean",
                "no drift without a rise in gold: growth alone is the commonest way of gaming a reward model",
            ),
            "completions/clipped_ratio": Metric(
                "share", "replies that ended without a stop token", "near 0; these get `missing_eos_penalty`"
            ),
            "sampler/mean_abs_dlogp": Metric(
                "nats a token",
                (
                    "mean of abs(learner's log p - engine's log p): of all replies where old log-probs are recomputed, "
                    "of 32 in the rounds of `old_logps_check_rounds`. With `async_steps: 1` and a `sampler_correction` "
                    "the updates in between are in it"
                ),
                "below 1e-4 in float32; more = engine and learner disagree",
            ),
            "sampler/max_abs_dlogp": Metric("nats", "the largest of these", "below 1e-2 in float32"),
            "sampler/reused": Metric(
                "0 or 1",
                "1 = old log-probs of the round are the engine's; 0 = recomputed; absent with `old_logps: recompute`",
                "0 in the first round, then 1; back to 0 = the engine no longer agrees, and the log says by how much",
            ),
            "sampler/staleness": Metric(
                "rounds",
                "updates between the weights that wrote the replies and those that learn from them (`async_steps: 1`)",
                "0 in the first round, then 1",
            ),
            "rewards/errors": Metric(
                "count",
                "replies without a score; they are left out of the round",
                "0; beyond `max_reward_errors` training stops",
            ),
            "rewards/<name>/mean": Metric(
                "as the reward",
                "mean of one of several rewards (`reward_funcs`), or of one part of an ensemble's",
                "shows which reward is being gained, and at whose cost",
            ),
            "reward_std": Metric(
                "same as scores",
                "deviation of the scores of one prompt's replies (n - 1), mean over prompts; after clip and penalties",
                "above 0; falls as the policy settles",
            ),
            "frac_reward_zero_std": Metric(
                "share of prompts",
                "groups whose replies all score the same: their advantages are exactly 0",
                "below about 0.3; near 1 = nothing to learn from, change the prompts or the reward",
            ),
            "sampling/resampled_groups": Metric(
                "count",
                "groups replaced by dynamic sampling in this round",
                "well below tries x prompts; at the limit the round still holds such groups",
            ),
            "round": Metric("count", "index of the rollout round, from 0", "counts up"),
        },
    ),
    Section(
        "On-policy: updates",
        about="Each optimiser step, under the mask of its minibatch. Rows about values belong to PPO.",
        metrics={
            "loss/policy_avg": Metric(
                "-",
                "the policy's loss, for PPO max(-A rho, -A clip(rho, 1 - eps, 1 + eps)), mean over tokens",
                "near 0 and slightly negative; its level means nothing, since advantages are whitened",
            ),
            "loss/value_avg": Metric(
                "reward squared",
                "1/2 max((V - R)^2, (clip(V) - R)^2), mean",
                "falls in the first rounds; a rise later = the critic cannot follow",
            ),
            "policy/approxkl_avg": Metric(
                "nats a token",
                "mean of exp(d) - 1 - d, d = log pi - log pi_old (k3; TRL logs d^2 / 2)",
                "0 at the first step of a round, below about 0.02 after",
            ),
            "policy/clipfrac_avg": Metric(
                "share of tokens",
                "where the clip made the loss strictly worse",
                "0 at the first step of a round, below about 0.2 after",
            ),
            "val/clipfrac_avg": Metric(
                "share of tokens",
                "where the clipped value error is the larger",
                "below about 0.3; more = raise `cliprange_value`",
            ),
            "val/ratio": Metric(
                "-", "rho = pi / pi_old, mean", "1 within 1e-5 at the first step of a round, 0.9 to 1.1 after"
            ),
            "clip_ratio/low_mean": Metric(
                "share of tokens",
                "ratio below 1 - eps where A < 0: the clip stops the gradient",
                "0 at the first step of a round, below about 0.2 after",
            ),
            "clip_ratio/high_mean": Metric("share of tokens", "ratio above 1 + eps where A > 0", "the same"),
            "clip_ratio/region_mean": Metric(
                "share of tokens", "either", "the same; for GSPO 0.1 to 0.2 is usual, its epsilon is tiny"
            ),
            "cispo_clip_ratio": Metric("share of tokens", "ratio above the largest weight (CISPO)", "near 0"),
            "kl": Metric(
                "nats a token",
                "KL term of the loss (`beta`), by its estimator, mean",
                "0 in the first round; grows slowly. Not the KL of a reply: that is `objective/kl`",
            ),
            "sampler/weight": Metric(
                "-",
                "weight pi_old / sampler after its limits (`sampler_correction`), mean over tokens",
                "1; below 0.9 = engine and learner disagree",
            ),
            "sampler/weight_bounded": Metric("share of tokens", "weights that the limits changed", "below about 0.01"),
            "loss/ptx_avg": Metric(
                "nats a token",
                "-log p of the mixed-in text or demonstrations (`ptx_coef`), mean",
                "steady: that is what it is for",
            ),
            "objective/entropy": Metric(
                "nats a token", "entropy of the policy on the minibatch, mean", "as `objective/rollout_entropy`"
            ),
        },
        note=(
            "The values at the first step of a round are the best check of the set-up: they hold for any padding and "
            "any split."
        ),
    ),
    Section(
        "Expert iteration and online DPO: what is chosen",
        about=(
            "Once a round, beside `objective/scores`, `objective/scores_std`, `completions/*`, `rewards/errors` and "
            "`round` of the rollouts. The losses are those of SFT (`nll`) and DPO (`rewards/*`, `logps/*`)."
        ),
        metrics={
            "selection/scores": Metric(
                "as `objective/scores`",
                "mean score of the replies that are imitated, or of the better ones of the pairs",
                "above `objective/scores`; the gap is what a round can teach",
            ),
            "selection/kept": Metric(
                "share",
                "replies that are trained on",
                "1 / `num_generations` for the best of each prompt; 2 / `num_generations` for pairs without ties",
            ),
            "selection/ties": Metric(
                "share of prompts",
                (
                    "where the scores leave the choice open: expert iteration takes the reply drawn first, online DPO "
                    "leaves the prompt out"
                ),
                "below about 0.2; towards 1 the policy repeats itself or the reward cannot tell its replies apart",
            ),
            "selection/incomplete": Metric(
                "share of prompts", "with fewer than two scored replies, so without a pair", "0"
            ),
            "selection/mean_length": Metric(
                "tokens",
                "of the replies that `selection/scores` is about",
                "near `completions/mean_length`; a lasting gap = the score pays for length",
            ),
        },
    ),
    Section(
        "Measurements on held-out prompts",
        about=(
            "Every stage that trains a policy after SFT, with `eval_prompts` set: at step 0, every `eval_steps`, "
            "and at the end. The same prompts and seeds each time. In the final numbers of a stage the prefix is "
            "`eval_`."
        ),
        metrics={
            "eval/kl": Metric("nats a reply", "log pi - log pi_ref summed over a sampled reply, mean", "0 at step 0"),
            "eval/length": Metric("tokens", "reply with its stop token", "steady"),
            "eval/cut_fraction": Metric("share", "replies that hit `max_completion_length`", "near 0"),
            "eval/proxy": Metric("as `objective/scores`", "the reward model's normalised score", "rises"),
            "eval/gold": Metric(
                "utility, at most 1",
                "true utility of the lab (`judge: lab`)",
                "rises with `eval/proxy`. Proxy up and gold down = over-optimisation: stop earlier or raise `kl_coef`",
            ),
            "eval/gold_<part>": Metric(
                "at most 1", "helpful, harmless, honest, concise, calibrated", "no part falls while the others rise"
            ),
        },
    ),
)
