"""Generation of the next round before this one is trained on, so that learner and engine need not wait for each other.

    round r      take the replies written by the weights of round r - 1
                 give the engine the weights of round r, ask it for the replies of round r + 1
                 score, measure, train on round r          (meanwhile the engine writes)

An engine with weights of its own (another device or process) writes in a thread while the learner trains. One that
shares the learner's weights has to write before they change: nothing overlaps, and what is learned is the same. Either
way the replies are one update old, exactly, so a run is as reproducible as without.

A checkpoint waits for the replies and keeps them: the weights that wrote them are gone after a resume. They cost about
30 bytes a token.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from accord.engines.base import Caps, Engine, Sampling
from accord.errors import TrainingError
from accord.types import Completion


@dataclass(frozen=True)
class Written:
    """Replies that wait for their round."""

    number: int
    """The round they are for."""
    version: int
    """Of the weights that wrote them."""
    completions: list[Completion]

    def with_logps(self, logp_BT: Tensor, mask_BT: Tensor) -> Written:
        """The same replies with other log-probs.

        Args:
            logp_BT: one row a reply, nats.
            mask_BT: True at the tokens of the reply.
        """
        rows = zip(self.completions, logp_BT, mask_BT, strict=True)
        return replace(self, completions=[c.model_copy(update={"logps": tuple(x[m].tolist())}) for c, x, m in rows])


def ahead_of(engine: Engine, async_steps: int, *, adaptive: bool) -> Ahead | None:
    """The engine that writes rounds ahead; None with `async_steps` 0, where they are written when they come.

    Raises:
        TrainingError: the round also needs replies that depend on its scores (`adaptive`).
    """
    if not async_steps:
        return None
    if adaptive:
        raise TrainingError(
            "replies written a round ahead go with neither dynamic sampling nor greedy baselines",
            fix="set async_steps: 0",
        )
    return Ahead(engine)


class Ahead:
    """An engine that can be given one request to answer later; whatever else it is asked waits for that."""

    def __init__(self, engine: Engine) -> None:
        """Wrap `engine`; if it has weights of its own, `update_weights` must have copied them when it returns."""
        self._engine = engine
        self._thread: ThreadPoolExecutor | None = None
        self._job: Future[list[Completion]] | None = None
        self._held: Written | None = None

    @property
    def caps(self) -> Caps:
        """Those of the engine."""
        return self._engine.caps

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seeds: Sequence[int] | None = None
    ) -> list[Completion]:
        """Return `sampling.n` completions per prompt; see `Engine.generate`."""
        self.wait()
        return self._engine.generate(prompts, sampling, seeds=seeds)

    def update_weights(self, policy: object, version: int) -> None:
        """Make later completions come from `policy`."""
        self.wait()
        self._engine.update_weights(policy, version)

    def close(self) -> None:
        """Free what the engine holds."""
        self.wait()
        if self._thread is not None:
            self._thread.shutdown()
        self._engine.close()

    def ask(
        self,
        policy: object,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        *,
        version: int,
        number: int,
    ) -> None:
        """Begin to write the replies of a round with the weights that `policy` has now.

        Args:
            policy: the learner's module.
            prompts: token ids.
            sampling: distribution and length.
            seeds: one per prompt.
            version: of the weights.
            number: the round the replies are for.

        Raises:
            TrainingError: replies are waiting already.
            EngineError: the engine cannot answer; of an engine that writes in a thread, `wait` raises it.
        """
        if self.wait() is not None:
            raise TrainingError("replies of another round are waiting to be taken", where=f"round {number}")
        self._engine.update_weights(policy, version)
        if self._engine.caps.weights == "shared":
            self._held = Written(number, version, self._engine.generate(prompts, sampling, seeds=seeds))
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._job = self._thread.submit(self._engine.generate, prompts, sampling, seeds=seeds)
        self._held = Written(number, version, [])

    def wait(self) -> Written | None:
        """Replies that wait, once they are all there; None when nothing was asked for."""
        if self._job is not None and self._held is not None:
            job, self._job = self._job, None
            held, self._held = self._held, None  # an engine that failed leaves nothing behind
            self._held = Written(held.number, held.version, job.result())
        return self._held

    def take(self, number: int) -> Written | None:
        """Replies for round `number`, which wait no longer; None when nothing was asked for.

        Raises:
            TrainingError: the waiting replies are for another round.
        """
        held = self.wait()
        if held is not None and held.number != number:
            raise TrainingError(f"the waiting replies are for round {held.number}", where=f"round {number}")
        self._held = None
        return held

    def put(self, written: Written | None) -> None:
        """Replace the replies that wait, or drop them."""
        self.wait()
        self._held = written

    def state(self) -> dict[str, Any] | None:
        """The waiting replies as records; None when there are none."""
        held = self.wait()
        if held is None:
            return None
        texts = [c.model_dump_json() for c in held.completions]
        return {"number": held.number, "version": held.version, "completions": texts}

    def restore(self, state: dict[str, Any] | None) -> None:
        """Let these replies wait."""
        if state is None:
            self.put(None)
            return
        completions = [Completion.model_validate_json(text) for text in state["completions"]]
        self.put(Written(int(state["number"]), int(state["version"]), completions))
