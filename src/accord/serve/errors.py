"""Refusals in the form of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`, with their HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A request that is not answered; what its sender is told."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Build it.

        Args:
            status: HTTP status.
            message: what is wrong and what to do, for people.
            param: the field at fault, dotted: `messages.0.content`.
            code: for programs, e.g. `context_length_exceeded`.
            headers: of the response.
        """
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def type(self) -> str:
        """The class of error, as OpenAI names it."""
        known = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        return known.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    def body(self) -> dict[str, Any]:
        """As JSON."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def bad(param: str, message: str, code: str | None = None) -> ApiError:
    """A field that is wrong, or cannot be honoured: 400."""
    return ApiError(400, message, param=param, code=code)


def too_long(param: str, prompt: int, wanted: int, allowed: int) -> ApiError:
    """A request that does not fit the model: 400 with OpenAI's code, how long it is and how long it may be.

    Args:
        param: the field with the prompt.
        prompt: its tokens.
        wanted: tokens asked for.
        allowed: tokens the model has positions for.
    """
    room = allowed - prompt
    asked = f"{prompt} in the prompt" + (f", {wanted} for the reply" if wanted else "")
    fix = f"ask for at most {room} tokens, or leave the limit out" if room > 0 else "shorten the prompt"
    message = f"this model has room for {allowed} tokens, and the request needs {prompt + wanted} ({asked}): {fix}"
    return bad(param, message, "context_length_exceeded")
