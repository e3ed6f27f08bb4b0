"""The pages, one module each; importing one registers its routes. nav.py says what is in the bar."""

from lantern.dashboard.pages import (
    agents,
    credits,
    find,
    health,
    keys,
    logs,
    models,
    overview,
    routing,
    run,
    runs,
    sign_in,
    tenants,
)

__all__ = [
    "agents",
    "credits",
    "find",
    "health",
    "keys",
    "logs",
    "models",
    "overview",
    "routing",
    "run",
    "runs",
    "sign_in",
    "tenants",
]
