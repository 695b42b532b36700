"""From what a model wrote to a program that can be tested: code in fences, a whole function, or its body alone."""

from __future__ import annotations

import re
import textwrap
import warnings

STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint(", "\nassert ", "\n```")
"""Where the body of a function is over, for a model that writes on (the first five: Chen et al. 2021, section 2.1)."""
_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})[^\n`]*\n(.*?)(?:^[ \t]*\2[`~]*[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_CODE_BEGINS = re.compile(r"^(?:from\s|import\s|def\s|async\s+def\s|class\s|@|[A-Za-z_]\w*\s*=[^=])", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)
_MOST_TRAILING = 400
"""Lines after the code that are tried as prose."""


def program(reply: str, prompt: str, entry: str) -> str:
    """The program that a reply means.

    A fenced block is preferred, the first that defines the function, else the first. Code that defines the function
    follows the imports and helpers of the prompt; other code is taken for the body and follows the whole prompt, cut at
    `STOPS` or indented where it is no Python otherwise. The reply is never changed further: code that does not compile
    is tested as it is, and fails.

    Args:
        reply: of a model; what files of the official format call the completion.
        prompt: the code that it was to complete, up to the body of the function; may be empty.
        entry: name of the function.
    """
    defines = re.compile(rf"^(?:async\s+)?def\s+{re.escape(entry)}\s*\(", re.MULTILINE)
    blocks = [textwrap.dedent(match[3]) if match[1] else match[3] for match in _FENCE.finditer(reply)]
    whole = [block for block in blocks if defines.search(block)]
    code = whole[0] if whole else blocks[0] if blocks else reply
    if defines.search(code):
        return _after_preamble(code if blocks else _without_prose(code), prompt, defines)
    return _completed(code, prompt)


def _after_preamble(code: str, prompt: str, defines: re.Pattern[str]) -> str:
    found = defines.search(prompt)
    preamble = prompt[: found.start()] if found else ""
    if not compiles(preamble):  # a decorator above the function
        preamble = ""
    future = "".join(_FUTURE.findall(preamble + code))
    return future + _FUTURE.sub("", preamble) + "\n" + _FUTURE.sub("", code)


def _without_prose(text: str) -> str:
    """Code without what a model says before and after it."""
    if compiles(text):
        return text
    found = _CODE_BEGINS.search(text)
    lines = text[found.start() if found else 0 :].splitlines(keepends=True)
    for end in range(len(lines), max(0, len(lines) - _MOST_TRAILING), -1):
        code = "".join(lines[:end])
        if compiles(code):
            return code
    return text


def _completed(code: str, prompt: str) -> str:
    cut = min((at for stop in STOPS if (at := code.find(stop)) > 0), default=len(code))
    indented = textwrap.indent(textwrap.dedent(code), "    ")
    tried = (code, code[:cut], indented, "\n" + code, "\n" + indented)
    programs = [prompt + body for body in tried]
    return next((made for made in programs if compiles(made)), programs[0])


def compiles(source: str) -> bool:
    """Whether a text is Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the dialect of strangers
            compile(source, "candidate.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False
    return True


def runnable(prompt: str) -> str | None:
    """The code before a function's body as code that runs by itself, for what a test needs beside the function.

    A body that is only a docstring is one; a prompt may also end in the middle of the function. None = it is no Python
    in either way.
    """
    return next((code for code in (prompt, prompt.rstrip() + "\n    pass\n") if compiles(code)), None)
