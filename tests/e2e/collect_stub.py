"""The labelling pages without a store: the HTTP API of the contract in memory, for work on the pages alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader

APP = Path(__file__).parents[2] / "src" / "accord" / "collect" / "app"
TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".txt": "text/plain",
}
CSP = "default-src 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

ANSWERS = [
    "Bees find their way with three instruments at once: the **sun**, the pattern of *polarised light* in the sky, and "
    "landmarks they learnt on earlier flights.\n\n1. Scouts measure the angle between sun and food.\n2. They keep a running "
    "count of the distance, mostly from how fast the ground streams past their eyes.\n3. Back at the hive they dance it.\n\n"
    "> The waggle dance turns a route into a gesture.\n\nOn cloudy days the polarisation pattern still shows through gaps.",
    "Bees use the sun as a compass. They also remember landmarks such as trees and houses. When a bee has found flowers it "
    "flies back and performs the waggle dance: the direction of the dance gives the direction, and its length gives the "
    "distance.\n\nThey have an internal clock, so they can correct for the movement of the sun during the day.",
    "They just know where to go, it is instinct.",
    "Bees navigate by smell only.\n\n```python\ndef find(flowers):\n    return min(flowers, key=lambda flower: flower.smell_distance_from_the_hive_in_metres)\n```\n\nThat is all there is.",
    "A magnetic sense guides them.",
    "They follow each other.",
    "Bees use vision.",
    "They ask the queen.",
    "Nobody knows.",
]
TALK = [
    {"role": "system", "content": "Answer for a curious ten year old."},
    {"role": "user", "content": "What do bees eat?"},
    {
        "role": "assistant",
        "content": "Nectar for energy, pollen for protein. They turn nectar into honey for the winter.",
    },
    {"role": "user", "content": "How do bees find their way back to a field of flowers, even on a cloudy day?"},
]
FLAGS = [
    "fails_instruction",
    "inappropriate",
    "hallucination",
    "satisfies_constraint",
    "sexual",
    "violent",
    "encourages_harm",
    "denigrates_group",
    "harmful_advice",
    "opinion",
    "moral_judgement",
]
GUIDE = "# What we want\n\nPrefer the reply that **helps this person most**, and is true.\n\n## In this order\n\n1. Truth: a confident mistake is worse than a careful gap.\n2. Help: does it do what was asked?\n3. Clarity: would you send it to a friend?\n\n- Length is not quality.\n- Two equally good replies are a *tie*.\n- When nothing in either should be learnt, choose `both bad`.\n\n> If you have to look something up, do.\n\nSee [the long version](https://example.org/guide)."
STATE: dict[str, Any] = {"n": 0, "done": [], "skipped": [], "submissions": []}


def task(n: int, kind: str, count: int, **more: Any) -> dict[str, Any]:
    view = {
        "assignment": f"a{n}",
        "kind": kind,
        "purpose": "label",
        "messages": TALK[1:] if n % 2 == 0 else TALK[3:],
        "candidates": [{"position": i, "text": ANSWERS[i]} for i in range(count)],
        "flags": FLAGS,
        "scale": {"strength": True, "tie": True, "both_bad": True, "rating": [1, 7], "success": False},
        "require": {"rationale": False, "seen": True, "ratings": False},
        "guideline": {"id": "g", "version": 3},
        "lease_expires_at": "2026-11-27T20:00:00Z",
        "can_undo": n > 0,
        "previous": None,
    }
    return {**view, **more}


KINDS: list[tuple[str, int, dict[str, Any]]] = [
    ("pair", 2, {}),
    ("rank", 4, {}),
    ("edit", 1, {}),
    ("rate", 1, {}),
    (
        "pair",
        2,
        {
            "purpose": "evaluation",
            "scale": {"strength": False, "tie": True, "both_bad": True, "rating": [1, 7], "success": True},
            "require": {"rationale": True, "seen": True, "ratings": True},
        },
    ),
    ("rank", 9, {}),
    (
        "rate",
        3,
        {
            "purpose": "evaluation",
            "scale": {"strength": True, "tie": True, "both_bad": True, "rating": [1, 7], "success": True},
        },
    ),
]


def progress() -> dict[str, Any]:
    done = len(STATE["done"])
    return {
        "done": done + 12,
        "today": done + 4,
        "remaining": 48 - done,
        "eta_seconds": 1520.0,
        "gold_right": 9,
        "gold_total": 10,
    }


def make(order: list[int] | None = None) -> FastAPI:
    app = FastAPI()
    pages = Environment(loader=FileSystemLoader(APP / "templates"), autoescape=True)
    order = order or list(range(len(KINDS)))

    @app.middleware("http")
    async def strict(request: Request, call_next: Any) -> Response:
        response = await call_next(request)
        response.headers["content-security-policy"] = CSP
        return response

    def page(name: str, **more: Any) -> HTMLResponse:
        user = {"handle": "ada", "role": "admin"}
        base = {
            "asset": lambda n: f"/static/0/{n}",
            "csrf": "tok",
            "user": user,
            "project": "default",
            "version": "0",
            "title": "",
        }
        return HTMLResponse(pages.get_template(name).render(**{**base, **more}))

    @app.get("/static/{digest}/{name}")
    def static(digest: str, name: str) -> Response:
        path = APP / "static" / name
        return Response(path.read_bytes(), media_type=TYPES[path.suffix])

    @app.get("/api/v1/me")
    def me() -> Any:
        return {"handle": "ada", "role": "admin", "csrf": "tok", "project": "default", "qualified": True}

    @app.post("/api/v1/claim")
    def claim() -> Any:
        n = STATE["n"]
        STATE["n"] += 1
        kind, count, more = KINDS[order[n % len(order)]]
        return {**task(n, kind, count, **more), "progress": progress()}

    @app.post("/api/v1/submit")
    async def submit(request: Request) -> Any:
        body = await request.json()
        STATE["done"].append(body)
        return {"annotation": "x", "repeated": False, "extra": False, "progress": progress()}

    @app.post("/api/v1/{name}")
    async def other(name: str, request: Request) -> Any:
        if name == "undo":
            last = STATE["done"].pop()
            n = int(last["assignment"][1:])
            kind, count, more = KINDS[order[n % len(order)]]
            return {**task(n, kind, count, **more), "progress": progress(), "previous": last["verdict"]}
        if name == "quiz":
            return {
                "passed": True,
                "right": 2,
                "total": 2,
                "next": "/label",
                "explain": [
                    {"id": "q0", "right": True, "note": "Truth first."},
                    {"id": "q1", "right": False, "note": "A **tie** is right here."},
                ],
            }
        return {"ok": True}

    @app.get("/api/v1/guidelines")
    def guidelines() -> Any:
        return {"id": "g", "version": 3, "markdown": GUIDE}

    @app.get("/api/v1/quiz")
    def quiz() -> Any:
        return {
            "items": [
                {
                    "id": f"q{i}",
                    **{
                        k: v
                        for k, v in task(i, "pair", 2).items()
                        if k in ("kind", "messages", "candidates", "flags", "scale", "require")
                    },
                }
                for i in range(2)
            ],
            "pass": {"right": 2, "of": 2},
            "result": None,
        }

    @app.get("/api/v1/admin/{name}")
    def admin_data(name: str) -> Any:
        return JSONResponse(ADMIN[name])

    @app.get("/login")
    def login(error: str = "") -> Any:
        return page("login.html", user=None, error=error or None, next="/label", handle="")

    @app.get("/join/{token}")
    def join(token: str) -> Any:
        return page("join.html", user=None, error=None, token=token, role="annotator", handle="")

    @app.get("/admin")
    def admin() -> Any:
        return page("admin.html", section="progress")

    @app.get("/admin/{section}")
    def section(section: str) -> Any:
        return page("admin.html", section=section)

    @app.get("/")
    def root() -> Any:
        return RedirectResponse("/label")

    @app.get("/oops")
    def oops() -> Any:
        return page(
            "error.html", status=404, title="Not found", detail="There is no such page.", fix="Check the address."
        )

    @app.get("/{name}")
    def simple(name: str) -> Any:
        return page(f"{name}.html")

    return app


PAIR = {
    "kind": "pair",
    "position": None,
    "strength": None,
    "tie": False,
    "both_bad": False,
    "ranking": None,
    "ratings": None,
    "flags": {},
    "success": None,
    "edit": None,
    "edit_position": None,
    "rationale": "",
    "confidence": None,
}
ADMIN: dict[str, Any] = {
    "progress": {
        "project": "default",
        "tasks": {"total": 3000, "open": 1810, "done": 1150, "adjudicate": 22, "closed": 18},
        "annotations": {"total": 2410, "today": 214},
        "by_kind": [
            {"kind": "pair", "total": 2400, "done": 1000},
            {"kind": "rank", "total": 400, "done": 120},
            {"kind": "edit", "total": 200, "done": 30},
        ],
        "by_day": [
            {"day": f"2026-11-{d:02}", "count": c}
            for d, c in zip(
                range(14, 28), [20, 120, 180, 175, 90, 12, 8, 210, 260, 240, 300, 281, 300, 214], strict=True
            )
        ],
        "skips": {"unclear": 12, "offensive": 3},
        "open_leases": 7,
        "active_annotators": 5,
        "remaining": 1810,
        "eta_seconds": 91000,
    },
    "agreement": {
        "slice": "random",
        "rows": [
            {
                "measure": "raw",
                "label": "Raw agreement",
                "value": 0.72,
                "low": 0.68,
                "high": 0.76,
                "units": 412,
                "swap_symmetrised": False,
                "reason": None,
            },
            {
                "measure": "fleiss",
                "label": "Fleiss kappa",
                "value": 0.44,
                "low": 0.37,
                "high": 0.51,
                "units": 412,
                "swap_symmetrised": True,
                "reason": None,
            },
            {
                "measure": "alpha_o",
                "label": "Krippendorff alpha, ordinal",
                "value": 0.39,
                "low": 0.31,
                "high": 0.47,
                "units": 412,
                "swap_symmetrised": True,
                "reason": None,
            },
            {
                "measure": "kendall",
                "label": "Kendall tau-b, rankings",
                "value": None,
                "low": None,
                "high": None,
                "units": 1,
                "swap_symmetrised": False,
                "reason": "fewer than two rankings of one prompt",
            },
        ],
        "note": None,
    },
    "annotators": {
        "annotators": [
            {
                "id": str(i),
                "handle": n,
                "pseudonym": f"p-{i}7c",
                "role": "annotator",
                "groups": ["experts"] if i % 2 else [],
                "done": d,
                "today": 20,
                "skipped": 3,
                "median_seconds": 41.0,
                "gold_right": r,
                "gold_total": 20,
                "gold_low": r / 20 - 0.2,
                "gold_high": min(1, r / 20 + 0.12),
                "state": s,
                "disabled": False,
                "flags": f,
                "last_seen": "2026-11-27T19:22:00Z",
            }
            for i, (n, d, r, s, f) in enumerate(
                [
                    ("ada", 812, 19, "qualified", []),
                    ("grace", 640, 17, "qualified", ["fast"]),
                    ("linus", 120, 9, "blocked", ["left side 71%", "streaks"]),
                    ("new person", 0, 0, "new", []),
                ]
            )
        ]
    },
    "gold": {
        "items": [
            {
                "task": f"t{i}",
                "kind": "pair",
                "prompt": TALK[3]["content"],
                "candidates": ANSWERS[:2],
                "gold": {**PAIR, "position": 0},
                "answered": 20,
                "right": 17,
                "repeated": 0,
            }
            for i in range(3)
        ]
    },
    "events": {
        "events": [
            {
                "id": 900 - i,
                "ts": "2026-11-27T19:22:00Z",
                "actor": "ada",
                "verb": v,
                "object_type": "task",
                "object_id": f"0191-77{i}",
                "before": None,
                "after": {"state": "done"},
                "hash": "9f" * 32,
            }
            for i, v in enumerate(
                ["annotation.submitted", "annotation.superseded", "user.created", "guideline.published"]
            )
        ],
        "next": 896,
        "intact": None,
    },
    "verify": {"intact": True, "events": 900, "head": "9f", "first_bad": None},
    "adjudication": {
        "items": [
            {
                "task": f"t{i}",
                "kind": "pair",
                "purpose": "label",
                "messages": TALK,
                "candidates": [{"position": p, "text": ANSWERS[p]} for p in range(2)],
                "flags": FLAGS,
                "scale": {"strength": True, "tie": True, "both_bad": True, "rating": [1, 7], "success": False},
                "reason": "majority below 0.7",
                "labels": [
                    {
                        "annotator": "p-07c",
                        "verdict": {**PAIR, "position": 0, "strength": 2, "rationale": "Clearer."},
                        "seconds": 31.0,
                        "created_at": "2026-11-27T19:22:00Z",
                        "guideline": 3,
                    },
                    {
                        "annotator": "p-17c",
                        "verdict": {**PAIR, "position": 1, "strength": 1, "flags": {"0": ["hallucination"]}},
                        "seconds": 55.0,
                        "created_at": "2026-11-27T19:30:00Z",
                        "guideline": 3,
                    },
                    {
                        "annotator": "p-27c",
                        "verdict": {**PAIR, "tie": True},
                        "seconds": 12.0,
                        "created_at": "2026-11-27T19:40:00Z",
                        "guideline": 3,
                    },
                ],
            }
            for i in range(2)
        ],
        "remaining": 2,
    },
    "users": {
        "users": [
            {
                "id": str(i),
                "handle": n,
                "role": r,
                "pseudonym": "p",
                "groups": ["experts"],
                "disabled": n == "linus",
                "created_at": "2026-11-01T09:00:00Z",
                "last_seen": "2026-11-27T19:22:00Z",
            }
            for i, (n, r) in enumerate(
                [("ada", "admin"), ("grace", "annotator"), ("linus", "annotator"), ("trainer", "service")]
            )
        ],
        "invitations": [
            {"id": "i1", "role": "annotator", "groups": [], "expires_at": "2026-12-04T09:00:00Z", "used_by": None}
        ],
        "keys": [
            {
                "id": "k1",
                "handle": "trainer",
                "name": "nightly",
                "prefix": "ak_7d2f",
                "scopes": ["export", "read"],
                "expires_at": None,
                "revoked": False,
            }
        ],
    },
    "guidelines": {
        "versions": [
            {
                "version": v,
                "id": str(v),
                "markdown": GUIDE,
                "sha256": "ab" * 32,
                "created_at": "2026-11-20T09:00:00Z",
                "author": "ada",
            }
            for v in (3, 2, 1)
        ]
    },
    "settings": {
        "kinds": ["pair", "rank", "rate", "edit"],
        "flags": FLAGS,
        "tie": True,
        "both_bad": True,
        "strength": True,
        "require_rationale": False,
        "require_ratings": False,
        "min_seen": True,
        "overlap": 1,
        "random_slice": 0.15,
        "slice_overlap": 3,
        "escalate_overlap": 5,
        "escalate_below": 0.7,
        "adjudicate_below": 0.7,
        "skips_to_adjudicate": 3,
        "gold_rate": 0.1,
        "gold_rate_new": 0.3,
        "gold_new": 10,
        "repeat_rate": 0.04,
        "repeat_after": 10,
        "lease_seconds": 900,
        "max_open": 2,
        "daily_cap": None,
        "gate": "sprt",
        "gate_bad": 0.6,
        "gate_good": 0.85,
        "gate_error": 0.01,
        "gate_miss": 0.05,
        "gate_least": 5,
        "quiz_pass": None,
        "tie_policy": "adjudicate",
    },
}

if __name__ == "__main__":
    order = [int(one) for one in sys.argv[2].split(",")] if len(sys.argv) > 2 else None
    uvicorn.run(make(order), port=int(sys.argv[1]), log_level="warning")
