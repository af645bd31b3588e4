"""Whether the Hugging Face hub can be reached, asked before its libraries spend minutes on retries."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def hub_answers() -> bool:
    """Whether a connection to the hub, or to the proxy on the way to it, opens within three seconds."""
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
