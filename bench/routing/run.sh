#!/usr/bin/env bash
# The routing benchmark: a server of its own, everything measured in one run. See README.md.
set -euo pipefail
cd "$(dirname "$0")"
exec "${PYTHON:-../../.venv/bin/python}" bench.py "$@"
