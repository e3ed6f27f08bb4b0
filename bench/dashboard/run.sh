#!/usr/bin/env bash
# The dashboard's pages over much data: a server of its own. See README.md.
set -euo pipefail
cd "$(dirname "$0")"
exec "${PYTHON:-../../.venv/bin/python}" bench.py "$@"
