"""Requests made from the site's own OpenAPI page: no 5xx, and no answer that the page does not describe."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from collect_site import Site, close, make_site, new_task, submission
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accord.collect.app import create_app

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
PAGE = create_app(cast(Any, None)).openapi()
OPERATIONS = [(path, method) for path, methods in PAGE["paths"].items() for method in methods]
EXAMPLES = 20


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    made = make_site(tmp_path_factory.mktemp("openapi"), items=[new_task(n) for n in range(60)])
    made.client("admin")
    yield made
    close(made)


@pytest.fixture(scope="module")
def api(site: Site) -> Any:
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", site.app)


def bombard(site: Site, operation: Any, examples: int) -> set[int]:
    """Send requests that fit the page and requests that do not, as an admin; the statuses that came back."""
    cases = st.one_of(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)
    headers = {"X-CSRF-Token": site.open_clients[0].headers["X-CSRF-Token"]}
    cookies = {"accord_session": site.tokens["admin"]}
    statuses: set[int] = set()

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def send(case: Any) -> None:
        statuses.add(case.call_and_validate(headers=headers, cookies=cookies, checks=CHECKS).status_code)

    send()
    return statuses


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_no_server_error_and_no_undocumented_answer(site: Site, api: Any, path: str, method: str) -> None:
    statuses = bombard(site, api[path][method], EXAMPLES)
    assert statuses and statuses <= {int(s) for s in PAGE["paths"][path][method]["responses"]}


@pytest.mark.parametrize("store_url", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_no_server_error_on_postgres(tmp_path: Path, store_url: str) -> None:
    """PostgreSQL refuses what SQLite takes: NUL in text, integers that are too large for their column."""
    site = make_site(tmp_path, url=store_url)
    client = site.client("admin")
    api = schemathesis.openapi.from_asgi("/api/v1/openapi.json", site.app)
    for path, method in OPERATIONS:
        statuses = bombard(site, api[path][method], EXAMPLES // 2)
        assert max(statuses) < 500, path
    nul = {"project": "\x00", "verb": "\x00", "actor": "\x00", "after": "\x00", "before": 2**62}
    for path, method in OPERATIONS:
        if method == "get":
            assert client.get(path, params=nul).status_code < 500, path
        else:
            assert client.post(path.replace("{", "%00{"), params=nul, json={}).status_code < 500, path
    close(site)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_route_declares_its_errors(path: str, method: str) -> None:
    responses = PAGE["paths"][path][method]["responses"]
    wanted = {"429"} if path.startswith("/health") else {"400", "401", "403", "413", "422", "429"}
    assert wanted <= responses.keys()
    for status in responses.keys() - {"200", "201", "204", "503"}:
        shape = responses[status]["content"]["application/json"]["schema"]
        assert shape == {"$ref": "#/components/schemas/ErrorBody"}, status
    assert "Retry-After" in responses["429"]["headers"]


def test_the_plain_path_through_the_api_needs_a_key_and_no_csrf_token(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    key = site.key("annotator", "annotate", "read")
    task = key.post("/api/v1/claim", json={}).json()
    assert key.post("/api/v1/submit", json=submission(task)).status_code == 200
    assert key.get("/api/v1/me").json()["csrf"] == ""
    close(site)
