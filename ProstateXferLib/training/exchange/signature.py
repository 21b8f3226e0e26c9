# SPDX-License-Identifier: Apache-2.0
"""Who a package comes from: HMAC-SHA256 (RFC 2104) over its record with a key that the centres share.

The record holds the model's SHA-256, so its signature covers the model, too. More than that (a public key for each
centre) would need a third-party package and somebody who vouches for keys; a consortium that has that signs the file as
a whole with its own tool (GPG, minisign). A shared key says "one of us", not who, and nothing to a third party.
"""

import hashlib
import hmac
from pathlib import Path

from ProstateXferLib.errors import ProstateXferError

SHORTEST_KEY, LONGEST_KEY = 16, 4096  # bytes: 128 bits cannot be guessed; a longer file is no key but a mistake
_METHOD = "hmac-sha256"


def read_key(path: Path) -> bytes:
    """The shared key: a file's bytes without blanks and line ends behind them, which editors add.

    Raises:
        ProstateXferError: not there, too short to protect anything, or too long to be a key.
    """
    try:
        with Path(path).open("rb") as stream:
            key = stream.read(LONGEST_KEY + 1).rstrip()
    except OSError as error:
        raise ProstateXferError(f"The key file '{path}' cannot be read ({error.strerror}): check the path.") from error
    if not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise ProstateXferError(
            f"The key file '{path}' must hold {SHORTEST_KEY} to {LONGEST_KEY} bytes: make one with "
            '`python -c "import secrets; print(secrets.token_hex(32))"` and give it to the others by another way.'
        )
    return key


def sign(record: bytes, key: bytes) -> bytes:
    """The content of the package's signature file."""
    return f"{_METHOD} {hmac.new(key, record, hashlib.sha256).hexdigest()}\n".encode("ascii")


def is_signed_with(signature: bytes, record: bytes, key: bytes) -> bool:
    """Whether `signature` was made from this record with this key, in a time that does not depend on the answer."""
    return hmac.compare_digest(signature, sign(record, key))


def site_id(name: str, key: bytes | None = None) -> str:
    """Sixteen hexadecimal digits that stand for a site's name, so that the name itself does not travel.

    With a key they tell nothing to who lacks it. Without one, somebody who guesses the name can check the guess.

    Raises:
        ProstateXferError: an empty name.
    """
    plain = " ".join(name.split()).casefold()
    if not plain:
        raise ProstateXferError("The site's name is empty: give one that you will use for every package of yours.")
    message = b"prostatexfer site\0" + plain.encode()
    digest = hashlib.sha256(message) if key is None else hmac.new(key, message, hashlib.sha256)
    return digest.hexdigest()[:16]
