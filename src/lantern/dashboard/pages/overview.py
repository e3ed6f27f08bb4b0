"""Overview."""
from starlette.responses import Response
from lantern.dashboard.routes import page
from lantern.dashboard.view import View


@page("")
async def overview(view: View) -> Response:
    """What needs a person today."""
    return view.page("tenants.html", tenants=[])
