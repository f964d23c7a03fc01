"""Who may use the endpoint: checked before a request's body is read.

On the loopback interface every program of this machine may. A web page may not, though the browser
that shows it runs here: browsers send `Origin` or `Sec-Fetch-Site`, and a page that reaches this
address by a name of its own (DNS rebinding) sends that name as `Host`. On other interfaces a token
is needed.
"""

import hmac
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from r1ci_jax.errors import UserError
from r1ci_jax.tools.serve.chat_request import RequestError

TOKEN_VARIABLE: Final = "R1CI_SERVE_TOKEN"
MIN_TOKEN: Final = 16
"""Characters of the shortest token."""
_HOST: Final = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::[0-9]+)?")
"""A Host header: an address in brackets, or a name or address without, and a port."""
_LOOPBACK_NAMES: Final = ("localhost", "ip6-localhost")


def read_token(file: Path | None) -> str | None:
    """Read the token from its file, else from the environment; None: there is none.

    Raises:
        UserError: It is too short, or not printable ASCII without blanks.
    """
    if file is not None:
        source, token = str(file), file.read_bytes().decode("utf-8", "replace").strip()
    elif TOKEN_VARIABLE in os.environ:
        source, token = TOKEN_VARIABLE, os.environ[TOKEN_VARIABLE].strip()
    else:
        return None
    if len(token) < MIN_TOKEN or not all("!" <= character <= "~" for character in token):
        raise UserError(
            f"{source} holds no token: it must have at least {MIN_TOKEN} printable ASCII "
            "characters and no blanks; make one with: openssl rand -hex 32"
        )
    return token


def is_loopback(host: str) -> bool:
    """True if only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in _LOOPBACK_NAMES


def require_token(host: str, token: str | None) -> None:
    """Refuse an address that other machines reach without a token.

    Raises:
        UserError: There is none.
    """
    if token is None and not is_loopback(host):
        raise UserError(
            f"--host {host} is reached by other machines, and whoever reaches it runs scripts "
            f"here: name a token with --token-file FILE or {TOKEN_VARIABLE}"
        )


def check(headers: Mapping[str, str], *, host: str, token: str | None) -> None:
    """Check the headers of a request, with lower-case names, to the address `host`.

    Raises:
        RequestError: It may not use the endpoint.
    """
    if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
        raise RequestError(
            "web pages may not use this endpoint; call it from a program",
            status=403,
            kind="permission_error",
        )
    if is_loopback(host) and not _is_local_name(headers.get("host", "")):
        raise RequestError(
            "the Host header names another machine; use http://localhost or 127.0.0.1",
            status=403,
            kind="permission_error",
        )
    if token is not None and not _has_token(headers.get("authorization", ""), token):
        raise RequestError(
            "the token is missing or wrong; send it as `Authorization: Bearer TOKEN` (api_key)",
            status=401,
            kind="authentication_error",
            code="invalid_api_key",
        )


def _is_local_name(host: str) -> bool:
    found = _HOST.fullmatch(host)
    return found is not None and is_loopback(found[1] or found[2])


def _has_token(authorization: str, token: str) -> bool:
    scheme, _, given = authorization.partition(" ")
    # Compared in constant time, so that its duration says nothing about the token.
    is_same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())
    return scheme.lower() == "bearer" and is_same
