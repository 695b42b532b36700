"""Who may use the server and when: keys, host names, a full queue, a model that loads, or cannot, or only completes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from serve_world import CHAT, NAME, TEXT, answer, chat, client_of, error_of, make_model, text

from accord.errors import ModelError
from accord.listening import address_of, listen
from accord.serve import running
from accord.serve.app import Settings, create_app
from accord.serve.model import Place
from accord.serve.running import Capacity, serving
from accord.serve.worker import Worker

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / NAME)


def test_a_page_in_a_browser_cannot_use_a_server_without_a_key_by_a_name_of_its_own(place: Path) -> None:
    with client_of(place, hosts=running.check_reach("127.0.0.1", "", open_to_all=False)) as client:
        assert client.get("/models").status_code == 200
        response = client.get("/models", headers={"Host": "evil.example:8000"})
        assert response.status_code == 403 and "evil.example" in error_of(response)["message"]
        assert client.get("/models", headers={"Host": "localhost:1"}).status_code == 200


def test_a_key_is_asked_for_and_a_wrong_one_refused(place: Path) -> None:
    with client_of(place, key="sk-right") as client:
        answer(client, CHAT, chat(max_tokens=1))
        for headers, words in (
            ({"Authorization": "Bearer sk-wrong"}, "is wrong"),
            ({"Authorization": "Basic sk-right"}, "is wrong"),
            ({"Authorization": "Bearer sk-r\u00e4ght".encode("latin-1").decode("latin-1")}, "is wrong"),
            ({"Authorization": ""}, "no API key was sent"),
        ):
            for path in (CHAT, TEXT):
                sent = {name: value.encode("latin-1") for name, value in headers.items()}
                response = client.post(path, content=b"{", headers=sent)  # type: ignore[arg-type]
                assert response.status_code == 401 and response.headers["www-authenticate"] == "Bearer"
                assert words in error_of(response)["message"] and error_of(response)["code"] == "invalid_api_key"
        root = str(client.base_url).removesuffix("/v1/")
        assert httpx.get(f"{root}/health/live").status_code == 200


def test_a_full_queue_is_429_and_says_when_to_come_again(place: Path) -> None:
    with client_of(place, capacity=Capacity(max_batch=1, max_queue=2)) as client:
        response = client.post(CHAT, json=chat(n=3))
        assert response.status_code == 400 and "at most 2" in error_of(response)["message"]


def test_a_model_that_is_being_loaded_is_503_and_alive(place: Path) -> None:
    go = threading.Event()

    def load() -> Any:
        assert go.wait(60)
        raise ModelError("never mind")

    worker = Worker(load, max_batch=1, max_queue=1)
    worker.start()
    server = uvicorn.Server(uvicorn.Config(create_app(worker, Settings(NAME)), log_level="error"))
    taken = listen("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
    thread.start()
    root = address_of(taken)
    assert httpx.get(f"{root}/health/live", timeout=60).status_code == 200
    ready = httpx.get(f"{root}/health/ready")
    assert ready.status_code == 503 and ready.json() == {"status": "loading"}
    response = httpx.post(f"{root}/v1{CHAT}", json=chat())
    assert response.status_code == 503 and response.headers["retry-after"] == "2"
    assert error_of(response)["type"] == "server_error"
    go.set()
    server.should_exit = True
    thread.join(60)
    worker.close()


def test_a_model_without_a_template_completes_texts_only(tmp_path: Path) -> None:
    with client_of(make_model(tmp_path / "base", template=False)) as client:
        assert answer(client, TEXT, text(max_tokens=2))["usage"]["completion_tokens"] <= 2
        response = client.post(CHAT, json=chat())
        assert response.status_code == 400 and error_of(response)["code"] == "no_chat_template"


def test_a_model_that_cannot_be_loaded_is_an_error_and_not_a_server(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"), serving(Place(str(tmp_path / "none"), "x"), Settings("x")):
        pass
