"""Shows the OpenAPI document in a browser; script and style sheet come from this service, not from the internet."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from service.dependencies import PathPrefixDep

FILES = "/docs/files"

# Swagger UI's published files; the rest of the package, an application that serves them, is not used.
files = StaticFiles(packages=[("fastapi_offline", "static")])

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def show_documentation(request: Request, prefix: PathPrefixDep) -> HTMLResponse:
    """Show every route, with forms to try them."""
    return get_swagger_ui_html(
        openapi_url=f"{prefix}{request.app.openapi_url}",
        title=request.app.title,
        swagger_js_url=f"{prefix}{FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{prefix}{FILES}/swagger-ui.css",
        swagger_favicon_url="data:,",
    )
