"""The workspace's live keys: three, derived by HKDF from one secret in the user's configuration folder.

One secret, so that there is one file to back up; three keys, so that whoever learns one of them (a gateway's
memory, a token service) does not hold the others. HKDF-SHA256 after RFC 5869.
"""

from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tunewright.backends.key_files import SECRET_BYTES, read_secret, secret_file
from tunewright.live_ports import LiveKeys


def load_live_keys(workspace: Path, config_dir: Path) -> LiveKeys:
    """Read the secret of a workspace and derive its keys; makes the secret for a new workspace only.

    Args:
        workspace: holds the secret's id, in `live_id`.
        config_dir: holds the secret, in `live/<id>.key` with permissions 0600.

    Raises:
        SettingsError: the workspace is known but its secret is not on this machine, or others may read it.
        StorageError: a folder cannot be written or read.
    """
    opens = "traces, feedback tokens and user codes"
    secret = read_secret(secret_file(workspace / "live_id", config_dir / "live", opens=opens))
    return LiveKeys(
        text=_derived(secret, "text"), token=_derived(secret, "token"), unit=_derived(secret, "unit")
    )


def _derived(secret: bytes, purpose: str) -> bytes:
    info = f"tunewright live {purpose} 1".encode()
    return HKDF(algorithm=SHA256(), length=SECRET_BYTES, salt=None, info=info).derive(secret)
