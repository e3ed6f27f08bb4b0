#!/usr/bin/env bash
# The streaming benchmark: peers installed, everything started, one Markdown table. See README.md.
set -euo pipefail
cd "$(dirname "$0")"
exec "${PYTHON:-../../.venv/bin/python}" bench.py "$@"
