"""Values as bytes and back, between the process of the code under test and that of its test.

Only values of the types built into Python cross, and a few containers of its library as the built-in type they extend.
What arrives is therefore never an object with methods of the sender's: an `__eq__` that is always true stays at home.
Frames are four bytes of length and then JSON, where lists and texts stand for themselves and everything that JSON lacks
is an object with one key.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Any

MAX_FRAME = 16 << 20
"""Bytes; a longer value is refused."""
_MAX_DIGITS = 4000
"""Longer integers are written in base 16, which Python reads without a limit."""
# By identity: a type may say of itself that it equals another.
_PLAIN = {id(kind) for kind in (type(None), bool, float, str)}
_AS_DICT = {id(kind) for kind in (dict, OrderedDict, defaultdict, Counter)}
_AS_LIST = {id(tuple): "tuple", id(set): "set", id(frozenset): "frozenset", id(deque): "deque"}


_WRITTEN: tuple[tuple[str, str, Any], ...] = (
    ("fractions", "Fraction", lambda x: [encode(x.numerator), encode(x.denominator)]),
    ("decimal", "Decimal", str),
    ("datetime", "date", lambda x: [x.year, x.month, x.day]),
    ("datetime", "datetime", lambda x: _naive(x, [x.year, x.month, x.day])),
    ("datetime", "time", lambda x: _naive(x, [])),
    ("datetime", "timedelta", lambda x: [x.days, x.seconds, x.microseconds]),
)
"""Types of the library with a value of its own: module, name, arguments that make it again."""


class ForeignTypeError(TypeError):
    """A value is of a type that does not cross."""


class BrokenFrameError(ValueError):
    """Bytes that no `encode` wrote."""


def encode(value: Any) -> Any:
    """What JSON can write of a value.

    Raises:
        ForeignTypeError: a type of the sender's own, or one that has no value (a function, a generator, a file).
        RecursionError: nested too deeply, or in itself.
    """
    kind = type(value)
    if id(kind) in _PLAIN:
        return value
    if kind is int:
        return value if value.bit_length() < _MAX_DIGITS else {"int": hex(value)}
    if kind is list:
        return [encode(item) for item in value]
    if id(kind) in _AS_LIST:
        return {_AS_LIST[id(kind)]: [encode(item) for item in value]}
    if id(kind) in _AS_DICT:
        return {"dict": [[encode(key), encode(item)] for key, item in dict.items(value)]}
    if kind is range:
        return {"range": [encode(part) for part in (value.start, value.stop, value.step)]}
    if kind is bytes or kind is bytearray:
        return {kind.__name__: value.hex()}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    for module, name, written in _WRITTEN:
        # A module that nobody has imported has no values, and importing it here would cost every run its time.
        if module in sys.modules and kind is getattr(sys.modules[module], name, None):
            return {f"{module}.{name}": written(value)}
    raise ForeignTypeError(kind.__name__)


def _naive(x: Any, before: list[int]) -> list[int]:
    if x.tzinfo is not None:
        raise ForeignTypeError(f"{type(x).__name__} with a time zone")
    return [*before, x.hour, x.minute, x.second, x.microsecond]


def _library(module: str, name: str) -> Any:
    def make(x: Any) -> Any:
        made = getattr(importlib.import_module(module), name)
        return made(x) if isinstance(x, str) else made(*_items(x))

    return make


def decode(value: Any) -> Any:
    """The value again.

    Raises:
        BrokenFrameError: this was not made by `encode`.
        RecursionError: nested too deeply.
    """
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        raise BrokenFrameError(f"an object with keys {sorted(value)}")
    ((kind, inner),) = value.items()
    try:
        return _READ[kind](inner)
    except KeyError as error:
        raise BrokenFrameError(f"a value of the kind {kind!r}") from error
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise BrokenFrameError(f"{inner!r:.100} is no {kind}") from error


def _items(made: Any) -> list[Any]:
    if not isinstance(made, list):
        raise TypeError(type(made).__name__)
    return [decode(item) for item in made]


_READ: dict[str, Any] = {
    "int": lambda x: int(x, 16),
    "tuple": lambda x: tuple(_items(x)),
    "set": lambda x: set(_items(x)),
    "frozenset": lambda x: frozenset(_items(x)),
    "deque": lambda x: deque(_items(x)),
    "range": lambda x: range(*_items(x)),
    "dict": lambda x: dict(_items(x)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda x: complex(*_items(x)),
    **{f"{module}.{name}": _library(module, name) for module, name, _ in _WRITTEN},
}


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Write a frame.

    Raises:
        ForeignTypeError: it is longer than `MAX_FRAME`; nothing was written.
        OSError: the other side is gone.
    """
    body = json.dumps(message).encode("ascii")
    if len(body) > MAX_FRAME:
        raise ForeignTypeError(f"{len(body)} bytes long")
    data = memoryview(len(body).to_bytes(4, "big") + body)
    while data:
        data = data[os.write(descriptor, data) :]


def receive(descriptor: int) -> dict[str, Any] | None:
    """Read a frame; None = the other side is gone.

    Raises:
        BrokenFrameError: what came is no frame.
    """
    head = _exactly(descriptor, 4)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    if length > MAX_FRAME:
        raise BrokenFrameError(f"a frame of {length} bytes")
    body = _exactly(descriptor, length)
    if body is None:
        return None
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BrokenFrameError("no JSON") from error
    if not isinstance(message, dict):
        raise BrokenFrameError("no message")
    return message


def _exactly(descriptor: int, count: int) -> bytes | None:
    parts: list[bytes] = []
    while count:
        part = os.read(descriptor, min(count, 1 << 16))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
