"""The Ed25519 key that signs exports, erasures and checkpoints."""

import base64
import binascii
import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from lantern.core import ids
from lantern.core.errors import BadRequest, Unavailable
from lantern.settings import Settings

FILE = "log-signing.key"
_SIZE = 32


class Keys:
    """The key of this process, and those it trusts besides."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        secret = self._settings.logs.signing_key
        if secret is None:
            return Ed25519PrivateKey.from_private_bytes(_seed_of(self._settings.data_dir / FILE))
        seed = _decode(secret.get_secret_value())
        if len(seed) != _SIZE:
            raise Unavailable("logs.signing_key: not 32 bytes in base64")
        return Ed25519PrivateKey.from_private_bytes(seed)

    @cached_property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        """A short name of the public key."""
        return key_id(self.public)

    @cached_property
    def _trusted(self) -> dict[str, bytes]:
        keys = [self.public, *(read_public(text) for text in self._settings.logs.trusted_keys)]
        return {key_id(key): key for key in keys}

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(message)

    def knows(self, name: str) -> bool:
        """Whether that key is ours or trusted."""
        return name in self._trusted

    def verify(self, name: str, message: bytes, signature: bytes) -> bool:
        """Whether a key that this process trusts signed it."""
        key = self._trusted.get(name)
        return key is not None and holds(key, message, signature)


def holds(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is that key's over that message."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def message(kind: str, fields: dict[str, Any]) -> bytes:
    """What is signed: the kind on a line of its own, so that no signature serves for two, then JSON."""
    return f"lantern-{kind}-1\n".encode() + orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def key_id(public: bytes) -> str:
    """`lk_` and 16 hexadecimal digits of the key's SHA-256."""
    return f"lk_{hashlib.sha256(public).hexdigest()[:16]}"


def read_public(text: str) -> bytes:
    """A public key from base64. Raises BadRequest."""
    key = _decode(text)
    if len(key) != _SIZE:
        raise BadRequest.field("public_key", "must be 32 bytes in base64")
    return key


def encode(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def decode(text: str) -> bytes:
    """From base64; empty where it is none."""
    return _decode(text)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _seed_of(path: Path) -> bytes:
    """The seed in the file, made on first use; of two that make it at once, one wins."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        making = path.with_name(f"{path.name}.{ids.new('part')}")
        making.touch(mode=0o600)
        try:
            making.write_text(encode(os.urandom(_SIZE)) + "\n", "ascii")
            os.link(making, path)
        except FileExistsError:
            pass  # the other's
        finally:
            making.unlink()
    seed = _decode(path.read_text("ascii"))
    if len(seed) != _SIZE:
        raise Unavailable(f"{path} holds no signing key")
    return seed


_process: list[Keys] = []


def use(settings: Settings) -> Keys:
    """Make the keys of these settings those of this process, also for jobs."""
    _process[:] = [Keys(settings)]
    return _process[0]


def keys() -> Keys:
    """The keys of this process."""
    if not _process:
        raise RuntimeError("signing.use() has not been called")
    return _process[0]
