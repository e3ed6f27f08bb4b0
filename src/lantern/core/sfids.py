"""Salesforce ids: the 15-character form and the 18-character form name the same record."""

import re

_FIFTEEN = re.compile(r"[A-Za-z0-9]{15}")
_CHECK = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def record_key(text: str) -> str:
    """What two ids are compared by: exactly 15 letters and digits brought to 18, all else as is."""
    if not _FIFTEEN.fullmatch(text):
        return text
    return text + "".join(_checksum(text[start : start + 5]) for start in (0, 5, 10))


def _checksum(five: str) -> str:
    # One bit a character, the first one lowest: which of them are capitals.
    return _CHECK[sum(1 << place for place, letter in enumerate(five) if "A" <= letter <= "Z")]
