"""What is trained on: real conversations, a tokenizer trained on them, and a Llama of the wanted size from a seed.

Everything is written to one directory, from which every contender reads the same files. Without the data of hh-rlhf the
embedded lab's conversations stand in; they are shorter, and the report says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

HOW_TO_GET = (
    "no conversations given: pass --data DIR (or set ACCORD_BENCH_DATA), where DIR holds *.jsonl or *.jsonl.gz of "
    "github.com/anthropics/hh-rlhf, e.g. harmless-base/test.jsonl.gz; using the embedded lab's instead"
)


@dataclass(frozen=True)
class Sizes:
    """A model and the shape of a step."""

    name: str
    hidden: int
    layers: int
    heads: int
    vocab: int
    max_length: int = 512
    positions: int = 1024
    batch: int = 8
    """Rows (SFT, KTO) or pairs (reward model, DPO) an optimiser step."""
    prompts: int = 4
    """Prompts a round of on-policy training."""
    group: int = 8
    """Replies a prompt."""
    new_tokens: int = 64
    token_budget: int = 8192
    """Accord's micro-batches; its default."""
    shortest_prompt: int = 20
    """Tokens. Without the one-line questions a row of hh-rlhf has about 165 tokens, 42 of them reply."""


TINY = Sizes(
    "tiny",
    64,
    2,
    2,
    1024,
    max_length=256,
    batch=4,
    prompts=2,
    group=4,
    new_tokens=16,
    token_budget=512,
    shortest_prompt=1,
)
SMALL = Sizes("13M", 320, 8, 5, 8192)
LARGE = Sizes("95M", 768, 12, 12, 12288)
GPU_HALF = Sizes("0.5B", 1024, 32, 16, 32000, max_length=1024, positions=2048, batch=16, token_budget=16384)
GPU_BIG = Sizes("1.5B", 1792, 38, 14, 32000, max_length=1024, positions=2048, batch=16, token_budget=16384)


def conversations(data: Path | None, work: Path) -> tuple[list[Any], str]:
    """Preferences over replies, and where they come from.

    Args:
        data: directory or file of hh-rlhf; None = the embedded lab.
        work: rows that cannot be read (a few replies are empty) are listed there.
    """
    from accord.data import read
    from accord.types import Preference

    if data is None:
        return _lab(), HOW_TO_GET
    files = sorted(p for p in ([data] if data.is_file() else data.rglob("*.jsonl*")) if p.is_file())
    if not files:
        raise SystemExit(f"{data} holds no *.jsonl or *.jsonl.gz")
    found: list[Any] = []
    for file in files:
        found += read(file, Preference, max_bad_rows=100, rejects=work / f"refused-{file.name}.jsonl").records
    return found, f"{len(found)} pairs of {', '.join(file.name for file in files)}"


def _lab() -> list[Any]:
    from accord.lab import demonstrations
    from accord.types import Candidate, Preference, Prompt

    found: list[Any] = []
    for number, (a, b) in enumerate(zip(demonstrations(0, 600), demonstrations(1, 600), strict=True)):
        replies = tuple(Candidate(text=d.messages[-1].content) for d in (a, b))
        if replies[0] != replies[1]:
            prompt = Prompt(id=str(number), messages=a.messages[:-1])
            found.append(Preference(id=str(number), prompt=prompt, candidates=replies, choice=0))
    return found


def prepare(directory: Path, sizes: Sizes, data: Path | None, *, long: bool = False) -> dict[str, Any]:
    """Write model, tokenizer and data sets; return what was written.

    Args:
        directory: created if needed; files are replaced.
        sizes: model and step.
        data: see `conversations`.
        long: put conversations together until a row is nearly max_length (the GPU's sequences of 1,024).
    """
    from accord.models.build import new_causal
    from accord.models.checkpoint import model_card, save_model
    from accord.models.policy import CausalModel
    from accord.models.tokenizer import train_tokenizer

    directory.mkdir(parents=True, exist_ok=True)
    records, source = conversations(data, directory)
    texts = [m.content for r in records for m in r.prompt.messages] + [c.text for r in records for c in r.candidates]
    tokenizer = train_tokenizer(texts, sizes.vocab)
    model: Any = new_causal(
        tokenizer,
        hidden_size=sizes.hidden,
        num_layers=sizes.layers,
        num_heads=sizes.heads,
        max_positions=sizes.positions,
    )
    if len(tokenizer) < sizes.vocab:
        model.resize_token_embeddings(sizes.vocab, mean_resizing=False)  # few texts hold few merges
    card = model_card(title="m", body="Random weights, for measurements.")
    save_model(CausalModel(model), tokenizer, directory / "model", card)
    rows = _fitting(records, tokenizer, sizes, long=long)
    _write(directory / "sft.jsonl", [{"messages": [*p, _said(chosen)]} for p, chosen, _ in rows])
    _write(directory / "pairs.jsonl", [{"prompt": p, "chosen": [_said(c)], "rejected": [_said(r)]} for p, c, r in rows])
    _write(directory / "prompts.jsonl", [{"prompt": p} for p, _, _ in rows])
    found = {
        "data": source,
        "pairs": len(rows),
        "sizes": asdict(sizes),
        "parameters": sum(p.numel() for p in model.parameters()),
        "embedding_parameters": model.get_input_embeddings().weight.numel(),
        "stop_id": cast(int, tokenizer.eos_token_id),
        "vocab": len(tokenizer),
        "intermediate": model.config.intermediate_size,
    }
    (directory / "workload.json").write_text(json.dumps(found), encoding="utf-8")
    return found


Conversation = tuple[list[dict[str, str]], str, str]
"""Prompt messages, chosen reply, rejected reply."""


def _fitting(records: Sequence[Any], tokenizer: Any, sizes: Sizes, *, long: bool) -> list[Conversation]:
    """The conversations whose longer side fits, with room for a sampled reply too."""
    from accord.models import chat

    kept: list[Conversation] = []
    history: list[Any] = []
    for record in records:
        chosen = record.candidates[record.choice]
        rejected = record.candidates[1 - record.choice]
        if not chosen.text.strip() or not rejected.text.strip() or chosen.text == rejected.text:
            continue
        messages = [*history, *record.prompt.messages]
        replies = [chat.encode_completion(tokenizer, c.text) for c in (chosen, rejected)]
        prompt = len(chat.encode_prompt(tokenizer, messages))
        size = prompt + max(sizes.new_tokens, *map(len, replies))
        if prompt < sizes.shortest_prompt or size > sizes.max_length:
            history = []
            continue
        if long and size < 0.75 * sizes.max_length:
            history = [*messages, type(messages[0])(role="assistant", content=chosen.text)]
            continue
        kept.append(([m.model_dump() for m in messages], chosen.text, rejected.text))
        history = []
    return kept


def _said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
