"""Who asks: from the Authorization header to a caller with a role."""

from collections.abc import Sequence

from tunewright.deploy.keys import allows
from tunewright.errors import RequestRefused
from tunewright.server.seams import Caller, GatewayRuntime, Role

MAX_KEY_CHARACTERS = 256

_EXPECTED = "expected one header `Authorization: Bearer KEY`; `tunewright keys list` shows which keys exist"


def authenticate(authorizations: Sequence[str], runtime: GatewayRuntime, needed: Role) -> Caller:
    """Find out whose key came with a request, and whether its role suffices.

    Args:
        authorizations: all values of the Authorization header, in order.
        runtime: knows the keys and compares in constant time.
        needed: the lowest role that may do this.

    Raises:
        RequestRefused: 401 for a missing, doubled, malformed, unknown or revoked key; 403 for a lesser role.
    """
    caller = runtime.caller(_secret(authorizations))
    if caller is None:
        raise _refused("the API key is unknown or was revoked")
    if not allows(caller.role, needed):
        raise RequestRefused(
            f"this needs a key of role {needed}; this key's role is {caller.role}", 403, "role_required"
        )
    return caller


def _secret(authorizations: Sequence[str]) -> str:
    if not authorizations:
        raise _refused("no API key was given")
    if len(authorizations) > 1:
        raise _refused(f"{len(authorizations)} Authorization headers were given")
    scheme, _, secret = authorizations[0].partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise _refused("the Authorization header holds no bearer key")
    if len(secret) > MAX_KEY_CHARACTERS or not secret.isascii() or not secret.isprintable():
        raise _refused(f"no key has other than 1 to {MAX_KEY_CHARACTERS} printable ASCII characters")
    return secret


def _refused(what: str) -> RequestRefused:
    return RequestRefused(f"{what}; {_EXPECTED}", 401, "invalid_api_key")
