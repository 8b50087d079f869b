"""Feedback tokens: whoever got an answer may speak about it, and nobody else. Pure.

A token is the URL-safe base64 of eight bytes of expiry (Unix seconds, big-endian) and an HMAC-SHA256 over
trace, tenant and expiry. It holds no name and no text, and it is good for one trace of one tenant only.
"""

import base64
import binascii
import hmac
from datetime import datetime

from tunewright.errors import RequestRefused

FORBIDDEN = 403
INVALID = "feedback_token_invalid"
EXPIRED = "feedback_token_expired"

NUM_CHARS = 54
"""Length of every token: 40 bytes in base64 without padding."""

_NUM_EXPIRY_BYTES = 8
_PURPOSE = b"tunewright feedback token 1"


def make_token(key: bytes, trace: str, tenant: str, expires: datetime) -> str:
    """Make the token that lets its holder give feedback on one trace.

    Args:
        key: `LiveKeys.token`.
        trace: the trace it is good for.
        tenant: the tenant the trace belongs to.
        expires: the last second it is good for, aware; fractions of a second are cut off.
    """
    expiry = int(expires.timestamp()).to_bytes(_NUM_EXPIRY_BYTES, "big")
    return base64.urlsafe_b64encode(expiry + _mac(key, trace, tenant, expiry)).decode().rstrip("=")


def check_token(key: bytes, token: str, *, trace: str, tenant: str, now: datetime) -> None:
    """Refuse a token that is malformed, forged, expired, or made for another trace or tenant.

    Raises:
        RequestRefused: 403, `feedback_token_expired` for a genuine token after its time, else
            `feedback_token_invalid`; the message never says which part of a token is wrong.
    """
    expiry, mac = _parts(token)
    if not hmac.compare_digest(mac, _mac(key, trace, tenant, expiry)):
        raise _invalid()
    expires_s = int.from_bytes(expiry, "big")
    if now.timestamp() > expires_s:
        raise RequestRefused(
            "this feedback token is no longer good: its answer is no longer kept; "
            "feedback can be given until the time to keep the answer is over.",
            FORBIDDEN,
            EXPIRED,
            "token",
        )


def _parts(token: str) -> tuple[bytes, bytes]:
    """Take a token apart into expiry and code; one that is longer or shorter is not looked at."""
    if len(token) != NUM_CHARS or not token.isascii():
        raise _invalid()
    try:
        data = base64.b64decode(token + "==", altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise _invalid() from error
    return data[:_NUM_EXPIRY_BYTES], data[_NUM_EXPIRY_BYTES:]


def _mac(key: bytes, trace: str, tenant: str, expiry: bytes) -> bytes:
    """Sign all parts, each kept apart from its neighbours by its length."""
    parts = (_PURPOSE, trace.encode(errors="surrogatepass"), tenant.encode(errors="surrogatepass"), expiry)
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.digest(key, framed, "sha256")


def _invalid() -> RequestRefused:
    return RequestRefused(
        "this feedback token does not belong to this answer; expected the `feedback_token` that came with "
        "the answer of this trace, unchanged.",
        FORBIDDEN,
        INVALID,
        "token",
    )
