"""Check where a model may come from: whether a name can be one at all, and whether the hub can be reached, asked before
torch is loaded and before the hub's libraries spend minutes on retries."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from harness.config.names import KNOWN_MODELS
from harness.errors import InputError

HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def check_model_name(name: str) -> None:
    """Raise InputError for what is no known name, no folder that may hold a model, no GGUF file and no hub id."""
    path = Path(name)
    if name in KNOWN_MODELS:
        return
    if path.is_dir():
        try:
            check_model_folder(path)
        except InputError as error:
            raise InputError(f"model.name: {error}") from None
        return
    if name.endswith(".gguf"):
        if not path.is_file():
            raise InputError(f"model.name: no file {name}")
    elif not HUB_ID.fullmatch(name):
        known = ", ".join(KNOWN_MODELS)
        raise InputError(
            f"model.name: no folder {name}; give {known}, a model folder, a .gguf file or a hub id such as org/name"
        )


def check_model_folder(path: Path) -> None:
    """Raise InputError for a folder that holds neither a model nor an adapter."""
    if not any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
        raise InputError(f"{path} holds no model: a config.json or adapter_config.json is missing")


def hub_answers() -> bool:
    """Test whether a connection to the hub, or to the proxy on the way to it, opens within three seconds."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    hub = urlsplit(constants.ENDPOINT)
    proxy = getproxies().get(hub.scheme)
    address = urlsplit(proxy) if proxy and not proxy_bypass(hub.hostname or "") else hub
    try:
        with socket.create_connection((address.hostname, address.port or 443), timeout=3):
            return True
    except OSError:
        return False
