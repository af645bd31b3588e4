from __future__ import annotations

import socket

import pytest
from huggingface_hub import constants

from harness.models.hub import hub_answers


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> socket.socket:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    listener = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
    return listener


def test_a_hub_that_listens_answers(listener: socket.socket) -> None:
    with listener:
        assert hub_answers()
    assert not hub_answers()


def test_a_person_may_say_that_there_is_none(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with listener:
        assert not hub_answers()


def test_behind_a_proxy_it_is_the_proxy_that_must_answer(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", constants.ENDPOINT)
    monkeypatch.setattr(constants, "ENDPOINT", "http://hub.invalid")
    with listener:
        assert hub_answers()
    assert not hub_answers()
