"""What a chat template does: rendering, and how it frames a reply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

from jinja2.exceptions import TemplateError, TemplateSyntaxError, UndefinedError
from transformers import PreTrainedTokenizerBase

from accord.errors import ModelError
from accord.models.text import plain
from accord.types import Message

PROBE = Message(role="user", content="Hello.")
"""A turn to look at the template with."""
MARK = "(accord-content-{}-mark)"
"""Stands for a content, by number, while the text of the template is taken apart."""
_TEMPLATE_FIX = "use a tokenizer with a chat template (an instruct model), or set tokenizer.chat_template"


@dataclass(frozen=True)
class Layout:
    """What one chat template does around a reply."""

    template: str
    """The template this was read from; a changed template makes a new layout."""
    prompt: str
    """The probe rendered with the generation prompt."""
    pre: str
    """Text between the generation prompt and the reply; mostly empty."""
    mid: str
    """Text between the reply and the stop token; mostly empty."""
    post: str
    """Everything after the reply when it is the last turn."""
    stop_id: int
    """The token that ends a reply."""
    stop_text: str
    """Its text."""
    anchor: str
    """Text put in front of a reply while encoding, and removed again, so that it is seen as mid-text."""
    inner: str
    """The same for any other piece in the middle of a run."""
    special: frozenset[int]
    """Ids that no content may produce."""
    control: frozenset[int]
    """`special`, and the ordinary added tokens the template itself uses; only a reply may hold the latter."""
    frames: dict[tuple[str, ...], list[str] | None] = field(default_factory=dict[tuple[str, ...], list[str] | None])
    """What `chat` has found before: the template's text around the contents, by the roles of a conversation."""
    pieces: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    """Ids of the template's own texts; they are the same in every conversation, and encoded once."""


_LAYOUTS: WeakKeyDictionary[PreTrainedTokenizerBase, Layout] = WeakKeyDictionary()


def read_layout(tokenizer: PreTrainedTokenizerBase) -> Layout:
    """Return how the template of a tokenizer frames a reply; read once a tokenizer.

    Raises:
        ModelError: there is no template, or it cannot be trained with (see `chat.check_template`).
    """
    if not tokenizer.chat_template:
        raise ModelError("the tokenizer has no chat template", fix=_TEMPLATE_FIX)
    template = tokenizer.get_chat_template()
    known = _LAYOUTS.get(tokenizer)
    if known is None or known.template != template:
        known = _read(tokenizer, template)
        _LAYOUTS[tokenizer] = known
    return known


def _read(tokenizer: PreTrainedTokenizerBase, template: str) -> Layout:
    mark = MARK.format(0)
    prompt = render(tokenizer, [PROBE], generate=True)
    full = render(tokenizer, [PROBE, Message(role="assistant", content=mark)])
    if full.count(mark) != 1:
        raise ModelError(
            "the chat template does not write replies as they are",
            where=repr(full),
            fix="use a template that writes the content of assistant turns unchanged",
        )
    if not full.startswith(prompt):
        raise ModelError(
            "the chat template is not prefix-preserving: the prompt is not the beginning of the conversation",
            where=repr(full),
            fix="use a template that writes a turn the same way whether or not a reply follows",
        )
    pre, post = full[len(prompt) :].split(mark)
    if pre.strip() and prompt == render(tokenizer, [PROBE]):
        raise ModelError(
            "the chat template has no generation prompt: add_generation_prompt changes nothing",
            where=repr(pre),
            fix="let the template write the assistant header when add_generation_prompt is true",
        )
    added: dict[int, Any] = tokenizer.added_tokens_decoder
    special = {index for index, token in added.items() if token.special} | set(tokenizer.all_special_ids)
    used = {i for i, t in added.items() if t.content in template + full and not t.content.isspace()}
    ends = [i for i in plain(tokenizer, post) if i in special or i in used]
    if not ends:
        raise ModelError(
            "the chat template writes no special token after a reply, so nothing can be learned to end it",
            where=repr(post),
            fix="let the template write the end-of-sequence token after assistant turns",
        )
    stop_text = cast(str, tokenizer.convert_ids_to_tokens(ends[0]))
    last = plain(tokenizer, prompt)[-1]
    tokens = cast(list[str], tokenizer.convert_ids_to_tokens(plain(tokenizer, "a")))
    # SentencePiece puts a space before whatever it encodes; a line break in front takes it instead.
    inner = "\n" if tokens[0].startswith("\u2581") else ""
    anchor = cast(str, tokenizer.convert_ids_to_tokens(last)) if last in special | used else inner
    return Layout(
        template=template,
        prompt=prompt,
        pre=pre,
        mid=post[: post.index(stop_text)],
        post=post,
        stop_id=ends[0],
        stop_text=stop_text,
        anchor=anchor,
        inner=inner,
        special=frozenset(special),
        control=frozenset(special | used),
    )


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, generate: bool = False) -> str:
    """Return the text the template makes of a conversation.

    Args:
        tokenizer: a tokenizer with a chat template.
        messages: the turns.
        generate: end with the generation prompt.

    Raises:
        ModelError: the template is broken, or refuses these roles or this order of turns.
    """
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return cast(str, tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generate))
    except (TemplateSyntaxError, UndefinedError) as error:
        raise ModelError(
            f"the chat template cannot be used: {error}",
            fix="mend the template, or set the special tokens it uses in tokenizer_config.json",
        ) from error
    except TemplateError as error:
        raise ModelError(
            f"the chat template refuses the conversation: {error}",
            where="roles " + ", ".join(message.role for message in messages),
            fix="use the roles and the order of turns the template allows",
        ) from error
