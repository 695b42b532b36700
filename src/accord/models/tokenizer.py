"""A byte-level BPE tokenizer with a chat template, trained on the texts at hand.

Every byte string can be encoded, nothing maps to an unknown token, and decoding is exact. Digits are
tokens of their own, so that small models can learn arithmetic. Training is deterministic: the same texts
give the same files.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from accord.errors import ModelError

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
SPECIALS = (PAD, BOS, END, *ROLES)

CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
    {%- if message['role'] not in ['system', 'user', 'assistant', 'tool'] -%}
        {{- raise_exception('unknown role: ' + message['role']) -}}
    {%- endif -%}
    {{- '<|' + message['role'] + '|>' -}}
    {%- if message['role'] == 'assistant' -%}
        {%- generation -%}
            {{- message['content'] + eos_token -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- message['content'] + eos_token -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>' -}}
{%- endif -%}
"""


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, *, max_length: int = 2048, min_frequency: int = 2
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer (Sennrich et al. 2016; bytes as in GPT-2) with Accord's chat template.

    Args:
        texts: training texts; the order does not matter.
        vocab_size: wanted number of tokens, special tokens included; at least 263 (256 bytes + 7 special
            tokens). Fewer come out when the texts hold fewer merges.
        max_length: `model_max_length` written to the tokenizer, in tokens.
        min_frequency: merges seen less often are not made.

    Returns:
        A tokenizer that transformers loads with `AutoTokenizer`; eos is `<|end|>`, pad is a token of its own.

    Raises:
        ModelError: the vocabulary is too small to hold all bytes and special tokens.
    """
    smallest = 256 + len(SPECIALS)
    if vocab_size < smallest:
        raise ModelError(
            f"vocab_size {vocab_size} cannot hold 256 bytes and {len(SPECIALS)} special tokens",
            fix=f"use at least {smallest}",
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [
            pre_tokenizers.Split(Regex(r"\p{N}"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Sorted: word counts, and so ties between merges, must not depend on the order the texts arrive in.
    backend.train_from_iterator(sorted(texts), trainer=trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=list(ROLES),
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
