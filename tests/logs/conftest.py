"""A signing key for each test."""

from pathlib import Path

import pytest

from lantern import logs
from lantern.settings import Settings


@pytest.fixture
def keys(tmp_path: Path) -> logs.Keys:
    """The signing key of this process, also of the server in it, from now on."""
    return logs.use(Settings(data_dir=tmp_path))
