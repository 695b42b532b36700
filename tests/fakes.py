"""Stand-ins with scripted behaviour that keep the Protocols' promises; conformance tests hold them to that."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accord.engines.base import Caps, Sampling, check_request
from accord.engines.stops import cut
from accord.errors import EngineError
from accord.rng import derive, generator
from accord.types import Completion

Reply = Callable[[Sequence[int], int], Sequence[int]]


def random_reply(vocab_size: int) -> Reply:
    """Return a reply of endless random ids that depends on the request's seed alone."""

    def reply(prompt: Sequence[int], seed: int) -> list[int]:
        return [int(i) for i in generator(seed, "fake").integers(0, vocab_size, size=512)]

    return reply


class FakeEngine:
    """Engine that answers from a script.

    Args:
        reply: (prompt ids, seed of the sample) -> token ids; cut at the first stop and at max_new_tokens.
        stop_ids: ids that end a completion.
        decode: token ids to text; default writes the ids as words.
        logp: log-probability reported for every token.
        max_length: most tokens of prompt and completion together.
        vocab_size: ids a prompt may use are below it.
    """

    def __init__(
        self,
        reply: Reply,
        *,
        stop_ids: tuple[int, ...] = (),
        decode: Callable[[list[int]], str] | None = None,
        logp: float = -1.0,
        max_length: int | None = None,
        vocab_size: int | None = None,
        model_name: str = "fake",
    ) -> None:
        self.caps = Caps(weights="none", logps=True, seeds=True, max_length=max_length)
        self.calls: list[tuple[list[tuple[int, ...]], Sampling]] = []
        self.versions: list[int] = []
        self.closed = False
        self._reply, self._stop_ids, self._logp = reply, stop_ids, logp
        self._decode = decode or (lambda ids: " ".join(str(i) for i in ids))
        self._vocab_size, self._model_name = vocab_size, model_name

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, seeds: Sequence[int] | None = None
    ) -> list[Completion]:
        if self.closed:
            raise EngineError("the engine is closed")
        check_request(prompts, sampling, seeds, vocab_size=self._vocab_size, max_length=self.caps.max_length)
        self.calls.append(([tuple(ids) for ids in prompts], sampling))
        completions = []
        for index, prompt in enumerate(prompts):
            seed = derive(sampling.seed, "prompt", index) if seeds is None else seeds[index]
            for sample in range(sampling.n):
                of_sample = 0 if sampling.temperature == 0 else derive(seed, sample)
                ids = list(self._reply(prompt, of_sample))[: sampling.max_new_tokens]
                kept, text, finish = cut(ids, stop_ids=self._stop_ids, stop=sampling.stop, decode=self._decode)
                completions.append(
                    Completion(
                        token_ids=tuple(ids[:kept]),
                        logps=(self._logp,) * kept,
                        finish=finish,
                        text=text,
                        model=self._model_name,
                    )
                )
        return completions

    def update_weights(self, policy: object, version: int) -> None:
        self.versions.append(version)

    def close(self) -> None:
        self.closed = True
