"""Python client of the collection site's API: `Client("https://labels.example.org", key=...)`.

Every call that changes something can be sent again without harm, so lost connections, 429 and 503 are retried; submits
carry a key made once for the answer.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from accord.collect.records import NewTask, Skip, SkipReason, Submission, TaskView, Verdict
from accord.errors import AccordError, ConfigError, DataError
from accord.storage import io_errors

if TYPE_CHECKING:
    import httpx

API = "/api/v1"
PAGE = 500
"""Tasks sent at once by `add_tasks`."""


class ApiFailure(DataError):  # noqa: N818  (the word of HTTP)
    """The site refused; `status` and `code` say how."""

    def __init__(self, status: int, what: str, *, code: str, where: str | None = None, fix: str | None = None) -> None:
        """Keep what the site said.

        Args:
            status: HTTP status.
            what: its message.
            code: its word for programs.
            where: field or thing.
            fix: what it advises.
        """
        super().__init__(what, where=where, fix=fix)
        self.status = status
        self.code = code


class Client:
    """A connection to one site, as the owner of one API key; use it as a context manager."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        project: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 5,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            url: address of the site.
            key: API key.
            project: name of the project; None takes the site's.
            timeout_s: seconds without an answer after which an attempt has failed.
            retries: further attempts after a failed one.
            transport: how requests travel; None = over the network.
            sleep: waits between attempts.

        Raises:
            ConfigError: the address is not HTTP.
        """
        import httpx  # it brings rich along, which nothing else here needs

        if not url.startswith(("http://", "https://")):
            raise ConfigError("the address of a site starts with http:// or https://", where=url)
        headers = {"Authorization": f"Bearer {key}", "Accept": "application/json"}
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout_s, transport=transport)
        self._project = {"project": project} if project else {}
        self._retries = retries
        self._sleep = sleep

    def __enter__(self) -> Self:
        """The client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request to a path below /api/v1, again when the network or the site asks for it.

        Args:
            method: GET or POST.
            path: below /api/v1.
            options: of `httpx.Client.request`.

        Raises:
            ApiFailure: the site refused.
            DataError: the site did not answer.
        """
        from httpx import TransportError

        for attempt in range(self._retries + 1):
            last = attempt == self._retries
            try:
                answer = self._http.request(method, API + path, **options)
            except TransportError as error:
                if last:
                    raise unreachable(error, self._http.base_url) from error
                self._sleep(min(0.1 * 2**attempt, 5.0))
                continue
            if answer.status_code in (429, 503) and not last:
                self._sleep(_seconds(answer))
                continue
            if answer.is_error:
                raise failure(answer)
            return answer
        raise AssertionError("the last attempt returns or raises")

    def _get(self, path: str, **query: Any) -> Any:
        return self.request("GET", path, params={**self._project, **query}).json()

    def _post(self, path: str, body: Any, **query: Any) -> httpx.Response:
        return self.request("POST", path, json=body, params={**self._project, **query})

    def me(self) -> dict[str, Any]:
        """Who this key belongs to."""
        return self._get("/me")

    def claim(self, *, prefetch: bool = False) -> TaskView | None:
        """A task to label, or None when nothing is free now."""
        answer = self.request("POST", "/claim", json={**self._project, "prefetch": prefetch})
        return None if answer.status_code == 204 else TaskView.model_validate_json(answer.content)

    def submit(self, task: TaskView, verdict: Verdict, *, dwell_ms: int = 0, key: str | None = None) -> dict[str, Any]:
        """Hand in a verdict, in the positions of the task as it was served.

        Args:
            task: from `claim`.
            verdict: the answer.
            dwell_ms: milliseconds it took.
            key: idempotency key; None makes one.
        """
        submission = Submission(
            assignment=task.assignment,
            key=key or str(uuid.uuid4()),
            verdict=verdict,
            dwell_ms=dwell_ms,
            seen_ms=dwell_ms,
        )
        return self._post("/submit", submission.model_dump(mode="json")).json()

    def skip(self, task: TaskView, reason: SkipReason, comment: str = "") -> None:
        """Give a task back for good."""
        skip = Skip(assignment=task.assignment, key=str(uuid.uuid4()), reason=reason, comment=comment)
        self._post("/skip", skip.model_dump(mode="json"))

    def undo(self) -> TaskView:
        """Open one's last verdict again."""
        return TaskView.model_validate_json(self._post("/undo", {}).content)

    def release(self, task: TaskView) -> None:
        """Give a task back for somebody else, or for later."""
        self._post("/release", {"assignment": task.assignment})

    def progress(self) -> dict[str, Any]:
        """The project's progress (needs the scope read and a role that sees it)."""
        return self._get("/admin/progress")

    def add_tasks(self, tasks: Iterable[NewTask | Mapping[str, Any]]) -> dict[str, int]:
        """Add tasks; those that are there already change nothing.

        Args:
            tasks: records, or dictionaries with their fields.

        Returns:
            Counts: added, repeated, refused.

        Raises:
            ApiFailure: a page was refused as a whole.
        """
        counts = {"added": 0, "repeated": 0, "refused": 0}
        page: list[Any] = []

        def send() -> None:
            done = self._post("/admin/tasks", {"items": page}).json()
            for name in ("added", "repeated"):
                counts[name] += done[name]
            counts["refused"] += len(done["refused"])
            page.clear()

        for task in tasks:
            page.append(task.model_dump(mode="json") if isinstance(task, NewTask) else dict(task))
            if len(page) == PAGE:
                send()
        if page:
            send()
        return counts

    def upload(
        self, path: Path, *, format: str = "auto", kind: str = "auto", overlap: int | None = None
    ) -> dict[str, Any]:
        """Import a file of tasks in any format the site reads.

        Args:
            path: the file.
            format: name of the reader; "auto" looks at the file.
            kind: of the tasks.
            overlap: labels a task; None = the project's rule.

        Raises:
            ApiFailure: the site refused the file.
            ArtifactError: the file cannot be read.
        """
        query = {"name": path.name, "format": format, "kind": kind, **({"overlap": overlap} if overlap else {})}
        with io_errors("read", path):
            content = path.read_bytes()
        headers = {"Content-Type": "application/octet-stream"}
        query = {**self._project, **query}
        return self.request("POST", "/admin/tasks/upload", params=query, content=content, headers=headers).json()

    def export(self, target: Path, *, kind: str = "preferences", format: str = "jsonl") -> Path:
        """Download an export into a file, completely or not at all.

        Args:
            target: the file to write.
            kind: preferences, demonstrations, unpaired, annotations.
            format: jsonl, parquet or hf.

        Raises:
            ApiFailure: the site refused.
            DataError: the connection broke.
            ArtifactError: the file cannot be written.
        """
        from httpx import TransportError

        query = {**self._project, "kind": kind, "format": format}
        partial = target.with_name(f"{target.name}.partial")
        with io_errors("write", target):
            try:
                with self._http.stream("GET", f"{API}/export", params=query) as answer, partial.open("wb") as file:
                    if answer.is_error:
                        answer.read()
                        raise failure(answer)
                    for chunk in answer.iter_bytes():
                        file.write(chunk)
            except TransportError as error:
                partial.unlink(missing_ok=True)
                raise unreachable(error, self._http.base_url) from error
            except AccordError:
                partial.unlink(missing_ok=True)
                raise
            partial.replace(target)
        return target


def failure(answer: httpx.Response) -> ApiFailure:
    """The site's refusal as an error."""
    try:
        said = answer.json()["error"]
        return ApiFailure(
            answer.status_code, said["message"], code=said["code"], where=said.get("where"), fix=said.get("fix")
        )
    except (ValueError, KeyError, TypeError):
        where = str(answer.request.url)
        return ApiFailure(answer.status_code, f"the site answered {answer.status_code}", code="unknown", where=where)


def unreachable(error: httpx.TransportError, url: httpx.URL) -> DataError:
    """No answer, as an error with advice."""
    reason = str(error) or type(error).__name__
    return DataError(
        f"the site does not answer: {reason}", where=str(url), fix="is `accord collect serve` running there?"
    )


def _seconds(answer: httpx.Response) -> float:
    value = answer.headers.get("retry-after", "1")
    return min(float(value), 60.0) if value.isdecimal() else 1.0
