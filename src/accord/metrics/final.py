"""Final numbers: what each stage puts under `metrics` in its manifest."""

from __future__ import annotations

FINAL: dict[tuple[str, ...], str] = {
    ("split",): "`train`, `test`, `unused` (rows), `train_prompts`, `test_prompts`",
    ("pretrain",): (
        "`eval_loss` (nats a token), `eval_perplexity` = exp of it, `documents`, `corpus_tokens`, `vocab_size`"
    ),
    ("sft",): "`eval_loss`, `demonstrations`, `left_out` (rows listed in `dropped.tsv`)",
    ("sample",): (
        "`prompts` (written), `prompts_without_two_different_replies`, `replies`, `mean_length` (tokens), "
        "`cut_fraction`"
    ),
    ("collect",): (
        "`num`, `rows` (written), `earlier` (of them from the rounds before), `num_pairs`, `num_annotators`, `ties`, "
        "`both_bad`; `agreement` = share of annotator pairs that say the same of an item, with interval; "
        "`agreement_on`: the random slice, where it was measured there alone; `notes` on how labels were combined; per "
        "annotator `n`, in the lab `group` and `gold_agreement`"
    ),
    ("reward",): (
        "`pairs`, `left_out`, `accuracy`, `gold_accuracy` (lab), `score_mean`, `score_std` of raw scores on training "
        "replies, `fit_to_optimise` (verdict of the report card), `tie_parameter`"
    ),
    ("ensemble",): "`pairs`, `left_out`, `form`, `accuracy`, `accuracy_<member>`, `scalar_is`",
    ("attributes",): "`examples`, `left_out`, `loss_type`, `<attribute>_rmse` (rating units) or `<attribute>_accuracy`",
    ("odin",): "`pairs`, `left_out`, `accuracy` and `length_correlation` of the quality head on held-out prompts",
    ("warm",): "`models`, `pairs`, `head_cosine_min`, `accuracy` on `dataset`, `score_mean`, `score_std`",
    ("process",): "`replies`, `left_out`, `eval_loss`, `eval_step_accuracy`",
    ("ppo", "reinforce", "reinforce_pp", "remax", "rloo", "opo", "grpo", "dr_grpo", "dapo", "gspo", "cispo", "sapo"): (
        "`rounds`, `kl_coef`, `alarms` (of `max_kl`), `light` and `hack_alarms` (of the diagnosis), `rolled_back_to` "
        "(step, after a rollback), `eval_*`"
    ),
    ("dpo", "ipo", "simpo", "cpo", "orpo"): "`pairs`, `left_out`, `eval_*`",
    ("kto",): "`replies`, `left_out`, `eval_*`",
    ("best_of_n",): (
        "`prompts`, `replies`, `reward_errors`, `n`; `kl` = log n - (n - 1) / n, nats, an upper bound; `proxy`, "
        "`judged` of the best of n and `proxy_of_one`, `judged_of_one` of one reply; `win_rate` (by the judge) and "
        "`proxy_win_rate` of the kept reply against one more draw, with intervals; `mean_length`, `cut_fraction`. By n "
        "in `curve.json`"
    ),
    ("expert", "online_dpo"): "`rounds`, `light` and `hack_alarms` (of the diagnosis), `eval_*`",
    ("attacker",): (
        "`rounds`, `kl_coef`, `alarms`; of one attack a request, `_before` and `_after` training: `asr` (share that "
        "the target complied with, `asr_low`, `asr_high`: 95 %), `self_bleu` (1 = all alike), `novelty`"
    ),
    ("redteam",): (
        "`attempts`, `asr` (ASR@1 over all attacks), `worst_asr` (of the strongest attack), `over_refusal`, "
        "`weaknesses` (attack families), `pairs`, `successes`, `guards` (pairs on harmless requests), "
        "`refusals_<source>`, `held_out_attempts`"
    ),
    ("evaluate",): "`utility_<model>`, `win_rate_<model>`, `prompts`",
}
"""Stages that give the same numbers -> their names, with unit or meaning; Markdown."""
