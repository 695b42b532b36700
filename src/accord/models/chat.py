"""The only place where conversations become token ids.

A conversation is cut into runs of text: everything up to a reply, the reply, everything up to the next
reply, and so on. Each run is encoded on its own, so the ids of a demonstration are exactly the ids of its
prompt, followed by the ids of its reply, followed by the stop token: what is trained on is what a rollout
looks like, bit for bit. Text before the first reply is encoded in one piece and equals `apply_chat_template`.

What people write never becomes a control token. A run whose contents would add one (a user who types
``<|end|>``) is encoded piece by piece, the contents without looking for special tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

from transformers import GenerationConfig, PreTrainedTokenizerBase

from accord.errors import DataError, ModelError
from accord.models.template import MARK, PROBE, Layout, read_layout, render
from accord.models.text import literal, plain
from accord.types import Message

_Piece = tuple[str, bool]  # (text, True = written by a person or a model, False = written by the template)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Encode a conversation up to, and including, the generation prompt.

    Args:
        tokenizer: a tokenizer with a chat template.
        messages: the turns before the reply.

    Returns:
        Token ids; with the reply's ids behind them, exactly what `encode_conversation` returns.

    Raises:
        DataError: there are no turns.
        ModelError: the template cannot render these turns, or rewrites contents that hold control tokens.
    """
    if not messages:
        raise DataError("a prompt needs at least one turn")
    layout = read_layout(tokenizer)
    texts = _cut(tokenizer, layout, messages)
    if texts is None:
        return _encode_rewritten(tokenizer, layout, messages)
    return _encode_turns(tokenizer, layout, messages, texts)


def encode_completion(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encode a reply: the ids of its text and the stop token.

    Args:
        tokenizer: a tokenizer with a chat template.
        text: the reply, without any special token.

    Returns:
        Token ids; the last one is the stop id.

    Raises:
        ModelError: the template cannot be used.
    """
    layout = read_layout(tokenizer)
    rendered = render(tokenizer, [PROBE, Message(role="assistant", content=text)])
    body = layout.pre + text
    if rendered.startswith(layout.prompt) and rendered.endswith(layout.post):
        # What the template makes of this text, e.g. without the white space around it.
        body = rendered[len(layout.prompt) : len(rendered) - len(layout.post)]
    head = layout.pre if body.startswith(layout.pre) else ""
    pieces = [(head, False), (body[len(head) :], True), (layout.mid, False)]
    ids = _encode_run(tokenizer, layout, pieces, anchor=layout.anchor, control=layout.special)
    return [*ids, layout.stop_id]


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    train_on: Literal["all", "last"] = "all",
) -> tuple[list[int], list[bool]]:
    """Encode a conversation that ends with a reply.

    Args:
        tokenizer: a tokenizer with a chat template.
        messages: the turns; the last one is the assistant's.
        train_on: mark the tokens of every reply, or of the last one only; stop tokens are marked too.

    Returns:
        Token ids, and for each whether it is trained on.

    Raises:
        DataError: the last turn is not the assistant's.
        ModelError: the template writes earlier replies differently from last ones, and `train_on` is "all".
    """
    if not messages or messages[-1].role != "assistant":
        raise DataError("a conversation to train on must end with an assistant turn")
    prompt = encode_prompt(tokenizer, messages[:-1])
    reply = encode_completion(tokenizer, messages[-1].content)
    ids = prompt + reply
    mask = [False] * len(prompt) + [True] * len(reply)
    if train_on == "last":
        return ids, mask
    for turn, message in enumerate(messages[:-1]):
        if message.role != "assistant":
            continue
        start = len(encode_prompt(tokenizer, messages[:turn])) if turn else None
        part = encode_completion(tokenizer, message.content)
        if start is None or ids[start : start + len(part)] != part:
            raise ModelError(
                "the chat template writes an earlier reply differently from a last one",
                where=f"turn {turn} of the conversation",
                fix='train on the last reply only (train_on="last")',
            )
        mask[start : start + len(part)] = [True] * len(part)
    return ids, mask


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return the text of a reply for people, judges and rules: without stop token or other special tokens.

    A NUL character, which byte-level models can write and databases cannot store, becomes U+FFFD.
    """
    text = tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return cast(str, text).replace("\x00", "\ufffd")


def stop_ids(tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig | None = None) -> tuple[int, ...]:
    """Return every id that ends a reply, the one the template writes first.

    Args:
        tokenizer: its end-of-sequence id counts, and the stop token of its chat template, if it has one.
        generation_config: its `eos_token_id`, one or several, counts too.

    Raises:
        ModelError: there is none.
    """
    found: list[int] = []
    if tokenizer.chat_template:
        found.append(read_layout(tokenizer).stop_id)
    eos: Any = tokenizer.eos_token_id
    extra: Any = None if generation_config is None else generation_config.eos_token_id
    for value in (eos, extra):
        if value is not None:
            found.extend([value] if isinstance(value, int) else list(value))
    if not found:
        raise ModelError("nothing ends a reply: no end-of-sequence token", fix="set tokenizer.eos_token")
    return tuple(dict.fromkeys(int(value) for value in found))


def check_template(tokenizer: PreTrainedTokenizerBase, generation_config: GenerationConfig | None = None) -> None:
    """Refuse a tokenizer whose chat template cannot be trained with.

    Args:
        tokenizer: the tokenizer to check.
        generation_config: of the model, for its end-of-sequence ids.

    Raises:
        ModelError: there is no template; it does not end replies with a special token; the prompt is not a
            prefix of the conversation; `add_generation_prompt` does nothing; two BOS tokens; padding is
            missing or ends replies.
    """
    read_layout(tokenizer)
    pad: Any = tokenizer.pad_token_id
    if pad is None or pad in stop_ids(tokenizer, generation_config):
        what = "the tokenizer has no padding token" if pad is None else "the padding token also ends replies"
        raise ModelError(what, fix="give a token of its own: load_tokenizer(..., pad_token=...)")
    ids = encode_prompt(tokenizer, [PROBE])
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise ModelError("the chat template writes the BOS token twice", fix="remove one from the template")


def _cut(tokenizer: PreTrainedTokenizerBase, layout: Layout, messages: Sequence[Message]) -> list[str] | None:
    """Template text and contents in turn; None where the template writes contents in no way known here."""
    roles = tuple(message.role for message in messages)
    real = render(tokenizer, messages, generate=True)
    texts = _filled(layout.frames.get(roles), messages, real)
    if texts is None:  # the first conversation of this form, or a template that writes the time of day
        layout.frames[roles] = _frame(tokenizer, messages)
        texts = _filled(layout.frames[roles], messages, real)
    return texts


def _frame(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[str] | None:
    """Template text around each content; the same for every conversation with these roles."""
    marks = [MARK.format(turn) for turn in range(len(messages))]
    marked = [m.model_copy(update={"content": mark}) for m, mark in zip(messages, marks, strict=True)]
    frame: list[str] = []
    rest = render(tokenizer, marked, generate=True)
    for mark in marks:
        if rest.count(mark) != 1:
            return None
        before, rest = rest.split(mark)
        frame.append(before)
    return [*frame, rest]


def _filled(frame: list[str] | None, messages: Sequence[Message], real: str) -> list[str] | None:
    """The frame with the contents between its parts, when that makes the text `real`."""
    if frame is None:
        return None
    for change in (str, str.strip):  # templates write contents as they are, or without white space around them
        contents = [change(message.content) for message in messages]
        texts = [text for pair in zip(frame[:-1], contents, strict=True) for text in pair] + [frame[-1]]
        if "".join(texts) == real:
            return texts
    return None


def _encode_rewritten(tokenizer: PreTrainedTokenizerBase, layout: Layout, messages: Sequence[Message]) -> list[int]:
    """The fallback: the rendered text as a whole, provided that no content added a control token to it."""
    text = render(tokenizer, messages, generate=True)
    ids = plain(tokenizer, text)
    harmless: list[Message] = []
    for message in messages:
        # Empty contents stay, since templates leave such turns out; so do replies that hold, say, `<think>`.
        kept = message.role == "assistant" and not _only(layout.special, plain(tokenizer, message.content))
        changed = message.content if kept or not message.content.strip() else "Hello"
        harmless.append(message.model_copy(update={"content": changed}))
    expected = plain(tokenizer, render(tokenizer, harmless, generate=True))
    if _only(layout.control, ids) != _only(layout.control, expected):
        raise ModelError(
            "the chat template rewrites a message that holds control tokens",
            where=repr(text[:200]),
            fix="use a chat template that writes the contents as they are",
        )
    return ids


def _encode_turns(
    tokenizer: PreTrainedTokenizerBase, layout: Layout, messages: Sequence[Message], texts: list[str]
) -> list[int]:
    ids: list[int] = []
    run: list[_Piece] = [(texts[0], False)]
    anchor = ""
    end = layout.mid + layout.stop_text
    for turn, message in enumerate(messages):
        content, after = texts[2 * turn + 1], texts[2 * turn + 2]
        if message.role != "assistant" or not after.startswith(end):
            run += [(content, True), (after, False)]
            continue
        before = run.pop()[0]
        head = layout.pre if before.endswith(layout.pre) else ""
        run.append((before[: len(before) - len(head)], False))
        reply = [(head, False), (content, True), (layout.mid, False)]
        ids += _encode_run(tokenizer, layout, run, anchor=anchor, control=layout.control)
        ids += _encode_run(tokenizer, layout, reply, anchor=layout.anchor, control=layout.special)
        ids.append(layout.stop_id)
        run, anchor = [(after[len(end) :], False)], layout.stop_text
    return ids + _encode_run(tokenizer, layout, run, anchor=anchor, control=layout.control)


def _encode_run(
    tokenizer: PreTrainedTokenizerBase,
    layout: Layout,
    pieces: Sequence[_Piece],
    *,
    anchor: str,
    control: frozenset[int],
) -> list[int]:
    pieces = [piece for piece in pieces if piece[0]]
    if not pieces:
        return []
    ids = plain(tokenizer, "".join(text for text, _ in pieces), anchor, _own(tokenizer, layout, anchor))
    apart = [[] if written else _own(tokenizer, layout, text) for text, written in pieces]
    if _only(control, ids) == _only(control, [i for part in apart for i in part]):
        return ids
    ids = []
    for turn, (text, written) in enumerate(pieces):
        before = anchor if turn == 0 and not written else layout.inner
        ids += literal(tokenizer, text, control, before) if written else plain(tokenizer, text, before)
    return ids


def _own(tokenizer: PreTrainedTokenizerBase, layout: Layout, text: str) -> list[int]:
    """Ids of a text of the template."""
    if text not in layout.pieces:
        layout.pieces[text] = plain(tokenizer, text)
    return layout.pieces[text]


def _only(kept: frozenset[int], ids: Sequence[int]) -> list[int]:
    return [i for i in ids if i in kept]
