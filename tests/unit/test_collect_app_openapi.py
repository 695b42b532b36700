"""Requests made from the site's own OpenAPI page: no 5xx, and no answer that the page does not describe."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
import schemathesis
from collect_site import Site, close, make_site, new_task, submission
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Generator[Site]:
    made = make_site(tmp_path_factory.mktemp("openapi"), items=[new_task(n) for n in range(60)])
    yield made
    close(made)


@pytest.fixture(scope="module")
def api(site: Site) -> Any:
    return schemathesis.openapi.from_asgi("/api/v1/openapi.json", site.app)


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_server_error_and_no_undocumented_answer(case: Any, site: Site) -> None:
    site.client("admin")
    headers = {"X-CSRF-Token": site.open_clients[-1].headers["X-CSRF-Token"]}
    site.open_clients.pop().close()
    cookies = {"accord_session": site.tokens["admin"]}
    case.call_and_validate(headers=headers, cookies=cookies, checks=CHECKS)


def test_every_route_declares_its_errors(site: Site) -> None:
    page = site.client().get("/api/v1/openapi.json").json()
    for path, methods in page["paths"].items():
        for method, operation in methods.items():
            declared = set(operation["responses"])
            wanted = {"429"} if path.startswith("/health") else {"400", "401", "403", "413", "422", "429"}
            assert wanted <= declared, (path, method)
            for status in declared - {"200", "201", "204", "503"}:
                shape = operation["responses"][status]["content"]["application/json"]["schema"]
                assert shape == {"$ref": "#/components/schemas/ErrorBody"}, (path, method, status)


def test_examples_of_the_page_work(site: Site) -> None:
    """The plain path through the API, as the page describes it, for a program with a key."""
    key = site.key("annotator", "annotate", "read")
    task = key.post("/api/v1/claim", json={}).json()
    assert key.post("/api/v1/submit", json=submission(task)).status_code == 200
    assert key.get("/api/v1/me").json()["csrf"] == ""
