"""Identifiers: a prefix that says what it is, then 26 characters that sort by creation time."""

import os
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base32: no i, l, o, u
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new(prefix: str) -> str:
    """`run_06f3...`: 48 bits of milliseconds, 80 random bits (the layout of ULID)."""
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    return f"{prefix}_{_digits(number, _ALPHABET, 26)}"


def secret(prefix: str) -> str:
    """`lnt_` + 32 random bytes in base62 (43 characters); shown once, stored as a hash."""
    return f"{prefix}_{_digits(int.from_bytes(os.urandom(32)), _BASE62, 43)}"


def _digits(number: int, alphabet: str, width: int) -> str:
    base = len(alphabet)
    out = []
    for _ in range(width):
        number, rest = divmod(number, base)
        out.append(alphabet[rest])
    return "".join(reversed(out))
