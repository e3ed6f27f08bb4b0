"""The dashboard: pages for people, drawn by the server, on the same services as the API.

URLs: /dashboard. Tables: none; sessions are the gate's. docs/dashboard.md says how to add a page.
"""

from lantern.dashboard import pages  # each module registers its routes
from lantern.dashboard.door import mount
from lantern.dashboard.nav import HOME

__all__ = ["HOME", "mount", "pages"]
