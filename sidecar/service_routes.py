"""ServiceEndpoints: what Dropframe says of itself: pipelines, health, metrics and the description of its calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from daemon.ipc.health import works
from daemon.pipeline.pipelines import Pipeline
from sidecar.files import NO_STORE, REVALIDATE
from sidecar.metrics import CONTENT_TYPE, Metrics
from sidecar.problems import Problem
from sidecar.state import State

HOW_TO_ADD = "Put an Ultralytics .pt into data/models/, or run dropframe models pull yolo11n; no restart is needed."
LACKS_WEIGHTS = f"It needs object weights and there are none, so its jobs fail. {HOW_TO_ADD}"
FINDS_TEXT_ALONE = f"There are no object weights, so it finds text alone. {HOW_TO_ADD}"


class ServiceEndpoints:
    """Endpoints for monitors and programs.

    Args:
        state: What is known of the daemon.
        metrics: Counts.
        pipelines: Those there are.
        openapi: Body of ``/openapi.json``.
    """

    def __init__(
        self, state: State, metrics: Metrics, pipelines: Mapping[str, Pipeline], openapi: Mapping[str, Any]
    ) -> None:
        self._state = state
        self._metrics = metrics
        self._pipelines = pipelines
        self._openapi = openapi

    async def pipelines(self, request: Request) -> Response:
        """List the pipelines."""
        default = self._state.settings.default_pipeline
        heartbeat = self._state.heartbeat
        lacking = heartbeat is not None and heartbeat.lacks_object_weights(datetime.now(UTC))
        fetching = heartbeat.weights_note if heartbeat is not None else ""
        listed = [
            {
                "pipeline_id": name,
                "description": p.description,
                "default": name == default,
                "problem": _with(LACKS_WEIGHTS, fetching) if p.needs_objects and lacking else None,
                "note": _with(FINDS_TEXT_ALONE, fetching) if p.wants_objects and lacking else None,
            }
            for name, p in self._pipelines.items()
        ]
        return JSONResponse({"pipelines": listed}, headers=NO_STORE)

    async def healthz(self, request: Request) -> Response:
        """Say that this process is alive."""
        return JSONResponse({"status": "alive"}, headers=NO_STORE)

    async def readyz(self, request: Request) -> Response:
        """Say whether everything works, and what does not."""
        health = self._state.health()
        parts = {name: asdict(part) for name, part in health.items()}
        if works(health):
            return JSONResponse({"status": "ready", "parts": parts}, headers=NO_STORE)
        problems = " ".join(part.detail for part in health.values() if not part.ok)
        raise Problem(503, problems, "not-ready", {"retry-after": "5"}, parts=parts)

    async def metrics(self, request: Request) -> Response:
        """Send the metrics that Prometheus reads."""
        return PlainTextResponse(self._metrics.page(self._state), headers=NO_STORE, media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        """Describe the calls for programs."""
        here = {**self._openapi["servers"][0], "url": request.scope["prefix"] or "/"}
        return JSONResponse({**self._openapi, "servers": [here]}, headers=REVALIDATE)


def _with(sentence: str, fetching: str) -> str:
    return f"{fetching} {sentence}" if fetching else sentence
