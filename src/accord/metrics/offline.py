"""Metrics of stages that learn from data as it is: language, reward models, preferences."""

from __future__ import annotations

from accord.metrics.records import Metric, Section

SECTIONS: tuple[Section, ...] = (
    Section(
        "Every training stage",
        metrics={
            "loss": Metric(
                "nats; for PPO none",
                "the objective's summed loss / its denominator (tokens, or weights of pairs)",
                "falls for pretrain, SFT, reward, DPO; PPO's level means nothing",
            ),
            "grad_norm": Metric(
                "-",
                "global L2 norm of the gradient before clipping",
                "same order of magnitude throughout; spikes above 10 x its median are a warning",
            ),
            "learning_rate": Metric("-", "rate of the first parameter group at this step", "follows warm-up and decay"),
            "epoch": Metric(
                "passes",
                "examples drawn / examples there are (offline sources)",
                "1 to 3 for preferences; more overfits",
            ),
        },
        note="A loss or gradient that is not finite ends training with an error.",
    ),
    Section(
        "Pretrain and SFT",
        metrics={
            "nll": Metric("nats a token", "-log p of the response tokens, mean", "equals `loss`"),
            "eval/loss": Metric(
                "nats a token",
                "the same on held-out rows, at the start and the end",
                (
                    "close to `loss`; rising while `loss` falls = overfitting. An untrained model starts near "
                    "ln(vocabulary)"
                ),
            ),
        },
    ),
    Section(
        "Reward model",
        about="Per pair; pairs labelled a tie do not count for accuracy.",
        metrics={
            "accuracy": Metric(
                "share",
                "pairs scored in the labelled order, equal scores half",
                (
                    "starts at 0.5; noisy labels put a ceiling on it, so 0.65 to 0.80 is usual. Near 1.0 on training "
                    "pairs = memorised"
                ),
            ),
            "margin": Metric("score", "mean of score(chosen) - score(rejected)", "above 0 and growing slowly"),
            "mean_reward": Metric(
                "score", "mean raw score of all replies", "near 0 when `center_rewards_coefficient` is above 0"
            ),
            "tie_parameter": Metric(
                "-",
                "theta of `rao_kupper` (above 1) or nu of `davidson`, learnt or fixed",
                "starts where equals tie as often as the data's pairs do; settles within an epoch",
            ),
            "tie_probability": Metric(
                "share",
                "mean probability of a tie that the model gives the pairs",
                "near the share of ties in the data",
            ),
        },
        note="`loss` starts at ln 2 = 0.693 plus the centring term.",
    ),
    Section(
        "Reward models with several outputs",
        about=(
            "`accuracy`, `margin` and `mean_reward` are those of the mean over members (`ensemble`) or of the quality "
            "head (`odin`); `attributes` with `bradley_terry` counts every attribute of a pair."
        ),
        metrics={
            "disagreement": Metric(
                "score",
                "`ensemble`: population deviation over members of score(chosen) - score(rejected), mean over pairs",
                "above 0; near 0 the members are one model",
            ),
            "squared_error": Metric(
                "deviations squared",
                "`attributes`: mean over known ratings of the squared error, in deviations of the rating",
                "starts above 1, falls below 1",
            ),
            "length_correlation": Metric(
                "-",
                "`odin`: correlation of the quality head with the length of the reply, over the optimiser step",
                "near 0",
            ),
            "length_head_correlation": Metric("-", "`odin`: the same of the length head", "rises towards 1"),
            "head_overlap": Metric("-", "`odin`: cosine of the weights of the two heads, without sign", "near 0"),
            "step_accuracy": Metric(
                "share",
                "`process`: steps on the side of 0 that their label says",
                "above the share of the commoner label",
            ),
        },
    ),
    Section(
        "DPO and its kin, KTO",
        about=(
            "Implicit reward = beta x (log pi - log pi_ref), summed over the reply; with other losses beta x what the "
            "(first) loss compares: means per token, or log pi alone. KTO: chosen = replies marked desirable, rejected "
            "= undesirable ones."
        ),
        metrics={
            "rewards/chosen": Metric(
                "nats x beta",
                "implicit reward of the better reply",
                "may fall below 0; a steep fall together with `rewards/rejected` is likelihood displacement",
            ),
            "rewards/rejected": Metric("nats x beta", "implicit reward of the worse reply", "falls"),
            "rewards/margins": Metric("nats x beta", "chosen - rejected; pairs only", "starts at 0, grows, flattens"),
            "rewards/accuracies": Metric(
                "share",
                (
                    "pairs with a positive margin, zero margins half; KTO: replies on the right side of what they are "
                    "compared with"
                ),
                "starts at 0.5 (TRL counts strict wins and starts at 0)",
            ),
            "logps/chosen": Metric(
                "nats a reply", "log pi of the better reply, mean", "slow fall; compare with `eval/length`"
            ),
            "logps/rejected": Metric(
                "nats a reply", "log pi of the worse reply, mean", "falls faster than `logps/chosen`"
            ),
            "nll_loss": Metric(
                "nats a token",
                "negative log-likelihood of the chosen replies, where the loss has that term (`sft`, `cpo`, `orpo`)",
                "falls slowly",
            ),
            "eval/loss": Metric(
                "as `loss`",
                "the same on held-out judgements (`eval_fraction`)",
                "close to `loss`; rising = overfitting",
            ),
            "eval/accuracy": Metric(
                "share",
                "`rewards/accuracies` on held-out judgements",
                "starts at 0.5; ends below that of the training pairs",
            ),
            "kl": Metric(
                "nats a reply",
                "KTO's z0: max(0, mean log-ratio of replies to other prompts), one number a step",
                "0 at the start, then small; tens of nats = too far from the reference",
            ),
        },
        note=(
            "`loss` of DPO is ln 2 at the first step, when the policy is the reference; of KTO with weights of 1 it is "
            "1/2."
        ),
    ),
)
