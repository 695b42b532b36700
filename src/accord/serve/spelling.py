"""How tokens are spelled: the bytes of one token, and the text of growing token ids, of which nothing is taken back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from accord.engines.stops import Decode

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_UNFINISHED = "\ufffd"


def _byte_letters() -> dict[str, int]:
    """The letters by which byte-level tokenizers write bytes (GPT-2): printable ones stand for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


class Spelling:
    """The bytes of each token of a tokenizer, special tokens included."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Look at how the tokenizer writes bytes.

        Args:
            tokenizer: any.
        """
        backend: Any = getattr(tokenizer, "backend_tokenizer", None)
        decoder = None if backend is None else backend.decoder
        self._letters = _byte_letters() if decoder is not None and b"ByteLevel" in decoder.__getstate__() else None
        self._added = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items()}
        self._special = frozenset(tokenizer.all_special_ids)
        self._tokenizer, self._size = tokenizer, len(tokenizer)
        self._texts: dict[int, str] = {}

    def is_special(self, token: int) -> bool:
        """Whether the token is none of the text."""
        return token in self._special

    def bytes_of(self, token: int) -> bytes:
        """The bytes a token stands for; empty for an id beyond the vocabulary."""
        if token in self._added:
            return self._added[token].encode()
        piece: Any = self._tokenizer.convert_ids_to_tokens(token) if token < self._size else None
        if not isinstance(piece, str):
            return b""
        if self._letters is not None:
            return bytes(self._letters[letter] for letter in piece if letter in self._letters)
        if found := _BYTE_TOKEN.fullmatch(piece):
            return bytes([int(found[1], 16)])
        return piece.replace("\u2581", " ").encode()  # how SentencePiece writes a space

    def text_of(self, token: int) -> str:
        """The token as text; bytes that are no text alone are written as OpenAI's API writes them, `bytes:\\xe4`."""
        if token not in self._texts:
            spelled = self.bytes_of(token)
            try:
                self._texts[token] = spelled.decode()
            except UnicodeDecodeError:
                self._texts[token] = "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelled)
        return self._texts[token]


class TextStream:
    """The text of one reply in pieces: characters are whole, and nothing that may belong to a stop text is let out."""

    def __init__(self, decode: Decode, stop: Sequence[str]) -> None:
        """Begin.

        Args:
            decode: token ids to text.
            stop: texts that end the reply and are not part of it.
        """
        self._decode, self._stop = decode, stop
        self._sent = ""
        self._held = ""
        """Text that may be the beginning of a stop text."""
        self._context = 0
        """Tokens from here on are decoded: those of the last piece and the new ones. A token's text may depend on the
        token before it, and decoding all of them for each new one would take quadratic time."""
        self._read = 0
        """Tokens before this are in `_sent` and `_held`."""

    def push(self, ids: Sequence[int]) -> str:
        """Text that can be sent now.

        Args:
            ids: all token ids of the reply so far.
        """
        whole = self._decode(list(ids[self._context :]))
        if whole.endswith(_UNFINISHED):  # perhaps the first bytes of a character
            return ""
        known = self._decode(list(ids[self._context : self._read]))
        self._context, self._read = self._read, len(ids)
        self._held += whole[len(known) :]
        safe = self._held[: len(self._held) - self._doubtful()]
        self._held = self._held[len(safe) :]
        self._sent += safe
        return safe

    def finish(self, text: str) -> str:
        """What is left to send.

        Args:
            text: the whole reply, ended where it ends.
        """
        return text[len(self._sent) :] if text.startswith(self._sent) else ""

    def _doubtful(self) -> int:
        """Characters at the end that may become a stop text, or are one."""
        held = self._held
        starts = [at for stop in self._stop if (at := held.find(stop)) >= 0]
        if starts:
            return len(held) - min(starts)
        lengths = (n for stop in self._stop for n in range(min(len(stop), len(held)), 0, -1) if held.endswith(stop[:n]))
        return max(lengths, default=0)
