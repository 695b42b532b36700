"""What is chosen from scored replies: ties, missing scores, cut replies, thresholds, batches, state."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from accord.errors import TrainingError
from accord.models.build import copy_frozen
from accord.train.loop import fit, update
from accord.train.objectives import DPO, NLL
from accord.train.selection import (
    Selected,
    Selection,
    best,
    best_worst,
    forget_moments,
    groups,
    initial_weights,
    row_of,
    utility,
)
from accord.train.sources import with_reference
from accord.types import Completion, Message, Prompt, Rollout, Score
from train_models import PAD, causal, make_learner, on_policy, same_weights, weights

PROMPT = Prompt(id="p", messages=(Message(role="user", content="?"),))


def rollout(group: str, score: float | None, *reply: int, finish: Any = "stop") -> Rollout:
    return Rollout(
        prompt=PROMPT,
        prompt_ids=(1, 5),
        completion=Completion(token_ids=reply or (7, 2), finish=finish),
        group=group,
        score=None if score is None else Score(value=score),
    )


def scores_of(chosen: Selected) -> list[float]:
    return [r.score.value for r in chosen.kept if r.score and r.score.value is not None]


ROUND = [rollout("a", s) for s in (0.5, 2.0, 1.0)] + [rollout("b", s) for s in (-1.0, -3.0, -2.0)]


def test_the_best_reply_to_each_prompt_is_kept() -> None:
    assert scores_of(best(ROUND)) == [2.0, -1.0]
    assert scores_of(best(ROUND, num_keep=2)) == [2.0, 1.0, -1.0, -2.0]


def test_the_first_of_equal_replies_is_kept_and_ties_are_counted() -> None:
    replies = [rollout("a", 1.0, 3, 2), rollout("a", 1.0, 4, 2), rollout("b", 1.0, 5, 2), rollout("b", 0.0, 6, 2)]
    chosen = best(replies)
    assert [e.rows[0].ids[2] for e in chosen.examples] == [3, 5]
    assert chosen.ties == 1
    # The tie is between replies that are both kept: it leaves nothing open.
    assert best([*replies[:2], rollout("a", 0.0)], num_keep=2).ties == 0


def test_thresholds_apply_to_what_is_best_of_its_prompt() -> None:
    assert scores_of(best(ROUND, min_score=0.0)) == [2.0]
    assert scores_of(best(ROUND, num_keep=3, min_score=-1.0)) == [2.0, 1.0, 0.5, -1.0]
    # Scores in order: -3 -2 -1 0.5 1 2; the quantile 0.6 of these six is the fourth.
    assert scores_of(best(ROUND, num_keep=3, min_quantile=0.6)) == [2.0, 1.0, 0.5]
    assert scores_of(best(ROUND, num_keep=3, min_quantile=1.0)) == [2.0]
    assert best(ROUND, min_score=5.0).examples == ()


def test_a_prompt_with_a_single_scored_reply_gives_a_demonstration_but_no_pair() -> None:
    single = [*ROUND[:3], rollout("b", 0.3)]
    assert scores_of(best(single)) == [2.0, 0.3]
    chosen = best_worst(single)
    assert scores_of(chosen) == [2.0, 0.5]
    assert (chosen.incomplete, chosen.ties) == (1, 0)


def test_a_reply_without_a_score_is_never_chosen_from() -> None:
    with pytest.raises(TrainingError, match="without a score"):
        best([*ROUND, rollout("b", None)])
    failed = ROUND[0].model_copy(update={"score": Score(value=None, error="no")})
    with pytest.raises(TrainingError, match="without a score"):
        best_worst([failed, *ROUND])


def test_pairs_are_the_best_against_the_worst_and_ties_are_left_out() -> None:
    even = [rollout("c", 4.0, i, 2) for i in (3, 4, 5)]
    chosen = best_worst([*ROUND[:3], *even, *ROUND[3:]])
    assert scores_of(chosen) == [2.0, 0.5, -1.0, -3.0]
    assert [len(e.rows) for e in chosen.examples] == [2, 2]
    assert chosen.ties == 1 and chosen.incomplete == 0
    assert all(e.target is None for e in chosen.examples)


def test_soft_labels_are_those_of_bradley_terry_in_raw_units() -> None:
    targets = [e.target for e in best_worst(ROUND, scale=0.5).examples]
    assert targets == pytest.approx([1 / (1 + math.exp(-0.75)), 1 / (1 + math.exp(-1.0))], abs=1e-12)
    assert best_worst([rollout("a", 1e9), rollout("a", 0.0)], scale=1.0).examples[0].target == 1.0


def test_a_cut_reply_is_compared_by_its_score_less_the_penalty() -> None:
    cut = rollout("a", 2.5, finish="length")
    assert [utility(cut, p) for p in (None, 0.0, 1.0)] == [2.5, 2.5, 1.5]
    assert utility(ROUND[1], 1.0) == 2.0
    replies = [cut, *ROUND[:3]]
    assert scores_of(best(replies)) == [2.5]
    assert scores_of(best(replies, missing_eos_penalty=1.0)) == [2.0]
    assert scores_of(best_worst([*replies, rollout("a", 1.0, finish="length")], missing_eos_penalty=1.0)) == [2.0, 1.0]


def test_rows_are_the_sampled_tokens_with_the_loss_on_the_reply() -> None:
    row = row_of(rollout("a", 0.0, 9, 8, 2))
    assert row.ids == (1, 5, 9, 8, 2)
    assert row.mask == (False, False, True, True, True)


MODULE = causal()


def selection(choose: Any = best, *, module: nn.Module = MODULE, **options: Any) -> Selection:
    replies = on_policy(_bare(module), n=3, **{k: options.pop(k) for k in ("reward", "num_prompts") if k in options})
    chosen: dict[str, Any] = {"num_epochs": 2, "num_minibatches": 2, "pad_id": PAD, "seed": 3}
    return Selection(replies, choose, **chosen | options)


def _bare(module: Any) -> Any:
    """What `on_policy` wants of a module, without a critic."""

    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.policy = module

    return Bare()


def test_all_kept_replies_come_once_an_epoch_in_a_new_order() -> None:
    source = selection()
    kept: list[Rollout] = []
    source.choose = lambda found: (kept.extend(best(found).kept), best(found))[1]
    batches = list(itertools.islice(source, 4))
    rows = [[tuple(b.ids_BT[i, :n].tolist()) for i, n in enumerate(b.lengths_B.tolist())] for b in batches]
    wanted = sorted((*r.prompt_ids, *r.completion.token_ids) for r in kept)
    assert len(wanted) == 4, "one reply to each of four prompts"
    assert sorted(rows[0] + rows[1]) == sorted(rows[2] + rows[3]) == wanted
    assert rows[0] + rows[1] != rows[2] + rows[3]
    assert source.round == 1 and source.at_boundary


def test_the_report_holds_what_all_replies_and_the_kept_ones_score() -> None:
    source = selection()
    rollouts: list[Rollout] = []

    def choose(found: Sequence[Rollout]) -> Selected:
        rollouts.extend(found)
        return best(found)

    source.choose = choose
    next(iter(source))
    report = source.report()
    values = [r.score.value for r in rollouts if r.score and r.score.value is not None]
    top = [max(r.score.value for r in g if r.score and r.score.value is not None) for g in groups(rollouts)]
    assert report["objective/scores"] == pytest.approx(sum(values) / 12)
    assert report["selection/scores"] == pytest.approx(sum(top) / 4)
    assert report["selection/kept"] == pytest.approx(1 / 3)
    assert report["rewards/errors"] == 0 and report["round"] == 0
    assert source.report() == {}


def test_of_pairs_the_report_tells_the_better_reply() -> None:
    source = selection(best_worst)
    next(iter(source))
    report = source.report()
    kept: list[Rollout] = []
    source.choose = lambda found: (kept.extend(best_worst(found).kept), best_worst(found))[1]
    source.prepare()
    values = [r.score.value for r in kept[0::2] if r.score and r.score.value is not None]
    assert report["selection/scores"] == pytest.approx(sum(values) / len(values))


def test_too_few_examples_are_an_error_that_counts_the_ties() -> None:
    def same(rollouts: list[Rollout]) -> list[Score]:
        return [Score(value=1.0) for _ in rollouts]

    with pytest.raises(TrainingError, match=r"4 ties") as caught:
        next(iter(selection(best_worst, reward=same)))
    assert "round 0" in str(caught.value)


def test_missing_scores_below_the_limit_leave_the_others() -> None:
    def fails_once(rollouts: list[Rollout]) -> list[Score]:
        return [Score(value=None, error="x") if i == 1 else Score(value=float(i)) for i in range(len(rollouts))]

    source = selection(best_worst, reward=fails_once)
    source.rounds.settings = type(source.rounds.settings)(  # type: ignore[attr-defined]
        **{**vars(source.rounds.settings), "max_reward_errors": 0.1}  # type: ignore[attr-defined]
    )
    examples = source.prepare()
    assert source.report()["rewards/errors"] == 1
    assert len(examples) == 4


def test_expert_iteration_draws_from_the_newest_policy_and_trains_the_first() -> None:
    module = causal()
    source = selection(module=module, restart=initial_weights(module), num_epochs=1, num_minibatches=1)
    learner = make_learner(module, kind="constant", steps=9)
    start = weights(module)
    seen: list[dict[str, torch.Tensor]] = []
    collect = source.rounds.collect
    source.rounds.collect = lambda: (seen.append(weights(module)), collect())[1]  # type: ignore[method-assign]
    batches = iter(source)
    after = []
    for _ in range(2):
        batch = next(batches)
        assert same_weights(weights(module), start), "the round is trained from the start"
        update(learner, batch, NLL())
        after.append(weights(module))
        learner.optimizer.state.clear()
    assert same_weights(seen[0], start)
    assert same_weights(seen[1], after[0]), "its replies are those of the policy of the round before"
    assert not same_weights(after[0], start)


def test_the_second_round_of_expert_iteration_is_a_first_step_of_adam() -> None:
    module = causal()
    source = selection(module=module, restart=initial_weights(module), num_epochs=1, num_minibatches=2)
    learner = make_learner(module, kind="constant", steps=9)
    sizes: list[int] = []
    fit(learner, source, NLL(), steps=4, hooks=[forget_moments, lambda i: sizes.append(len(i.learner.optimizer.state))])
    assert [size > 0 for size in sizes] == [True, False, True, False]


def test_online_dpo_starts_at_ln_2_with_the_start_as_reference() -> None:
    module = causal()
    ref = copy_frozen(module)

    def finish(examples: Any) -> Any:
        return with_reference(examples, ref, pad_id=PAD, token_budget=40, device=torch.device("cpu"))

    source = selection(best_worst, module=module, finish=finish, num_epochs=1, num_minibatches=1)
    learner = make_learner(module, steps=9)
    losses: list[float] = []
    fit(learner, source, DPO(beta=0.5), steps=4, hooks=[lambda i: losses.append(i.metrics["loss"])])
    assert losses[0] == pytest.approx(math.log(2), abs=1e-5)
    assert all(abs(loss - math.log(2)) > 1e-4 for loss in losses[1:]), "the reference does not move with the policy"
