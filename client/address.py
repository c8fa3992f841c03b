"""Where a server is and what opens it, checked before anything is sent: what is wrong here stays wrong when repeated.

Invariant: no text made here holds a key or a password.
"""

import ipaddress

import httpx

from client.errors import InvalidSetting


def checked_url(url: str) -> str:
    """A server's URL without a slash at its end. Raises `InvalidSetting`."""
    url = url.strip()
    if "@" in url:
        raise InvalidSetting("The server's URL must not hold a user or a password; the key goes into BNLAB_API_KEY")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidSetting(f"The server's URL {url!r} cannot be used: {error}") from None
    wrong_port = not 0 < (parsed.port or 80) < 65_536
    if parsed.scheme not in ("http", "https") or not parsed.host or wrong_port or parsed.query or parsed.fragment:
        raise InvalidSetting(f"The server's URL {url!r} is not of the form http://host:port or https://host")
    return url.rstrip("/")


def checked_key(key: str | None) -> str | None:
    """A key without the white space around it, such as the end of the line it was read from; None if nothing is left.

    Raises `InvalidSetting`.
    """
    key = (key or "").strip()
    wrong = next((at for at, char in enumerate(key, 1) if not "!" <= char <= "~"), None)
    if wrong is not None:
        raise InvalidSetting(
            f"The API key cannot be used: of its {len(key)} characters the one at {wrong} is none that a key has"
        )
    return key or None


def checked_idempotency_key(key: str) -> str:
    """A header's value that HTTP can carry. Raises `InvalidSetting`."""
    if not key.strip() or not (key.isascii() and key.isprintable()):
        raise InvalidSetting(f"The idempotency key {key!r} is not text of printable ASCII characters")
    return key


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
