"""MLflow's application without what a viewer of runs does not need; `mmsearch ui` serves it.

MLflow finds it by its entry point in pyproject.toml. Among what it leaves out is MLflow's
Assistant, through which whoever reaches the port can have this machine run shell commands.
docs/security.md has the list.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from mlflow.server.fastapi_app import app as _mlflow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]

CLOSED = (
    "/ajax-api/2.0/mlflow/webhooks",
    "/ajax-api/3.0/jobs",
    "/ajax-api/3.0/mlflow/assistant",
    "/ajax-api/3.0/mlflow/gateway",
    "/ajax-api/3.0/mlflow/genai",
    "/ajax-api/3.0/mlflow/issues/invoke",
    "/ajax-api/3.0/mlflow/jobs",
    "/ajax-api/3.0/mlflow/mcp-servers",
    "/ajax-api/3.0/mlflow/prompt-optimization",
    "/ajax-api/3.0/mlflow/scorer",
    "/api/2.0/mlflow/webhooks",
    "/api/3.0/mlflow/gateway",
    "/api/3.0/mlflow/mcp-servers",
    "/api/3.0/mlflow/prompt-optimization",
    "/gateway",
    "/v1/metrics",
    "/v1/traces",
)
"""Paths that are answered with 404, and all below them."""


_HEAD = b"""<script>
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true")
</script>
<style>[data-assistant-ui] { display: none !important }</style>
"""
"""Goes into the head of the page: the Assistant, which has no server here, does not show itself."""
VIEW_VARIABLE = "MMSEARCH_COMPARED_VIEW"
"""Environment variable with a key and a value, as JSON, to put into the page's own storage."""


def _head() -> bytes:
    """Return what goes into the head of the page."""
    stored = os.environ.get(VIEW_VARIABLE)
    if not stored:
        return _HEAD
    key, value = (json.dumps(text).replace("<", "\\u003c") for text in json.loads(stored))
    return _HEAD + f"<script>localStorage.setItem({key}, {value})</script>\n".encode()


class _Viewer:
    """An ASGI application; a class, since MLflow takes a function for a factory."""

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer a request, or pass it on to MLflow."""
        path = scope.get("path", "")
        if not any(path == closed or path.startswith(f"{closed}/") for closed in CLOSED):
            await _mlflow(scope, receive, _with_head(send) if path == "/" else send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})


def _with_head(send: Callable[[Message], Awaitable[None]]) -> Callable[[Message], Awaitable[None]]:
    """Return a `send` that adds `_HEAD` to a page."""
    start: Message = {}
    body = bytearray()

    async def send_with_head(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.update(message)
            return
        body.extend(message.get("body", b""))
        if message.get("more_body"):
            return
        page = bytes(body).replace(b"<head>", b"<head>" + _head(), 1)
        headers = [
            (name, b"%d" % len(page) if name.lower() == b"content-length" else value)
            for name, value in start["headers"]
            # The page is not the file that these describe.
            if name.lower() not in {b"etag", b"last-modified"}
        ]
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": page})

    return send_with_head


app = _Viewer()
