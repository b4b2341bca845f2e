"""make_app: the whole application in one place."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import AsyncIterator, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from daemon.errors import MachineError
from daemon.pipeline.pipelines import PIPELINES, Pipeline, all_pipelines
from daemon.settings import Settings
from sidecar.auth import Guard
from sidecar.metrics import Metrics
from sidecar.middleware import RequestMiddleware
from sidecar.openapi import describe
from sidecar.problems import Problem, on_http_exception, on_problem
from sidecar.routes import Endpoints
from sidecar.state import State
from sidecar.submissions import Submissions

log = logging.getLogger(__name__)


def make_app(settings: Settings) -> Starlette:
    """Put the application together.

    Args:
        settings: Of the home.

    Raises:
        SettingsError: the address needs a token, or a token is malformed.
    """
    guard, metrics, state, pipelines = Guard(settings), Metrics(), State(settings), _pipelines()
    submissions = Submissions(settings, state, metrics, pipelines)
    on = Endpoints(state, submissions, metrics, pipelines, describe(pipelines, settings))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        state.step(time.monotonic(), force=True)
        # A hundred thousand records live as long as the process; looking through them for garbage takes long.
        gc.freeze()
        tasks = [asyncio.create_task(state.main_loop()), asyncio.create_task(submissions.sweep_loop())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            submissions.close()
            state.close()

    app = Starlette(
        routes=[
            Route("/v1/video/status/{job_id}", on.status),
            Route("/v1/video/submit", on.submit, methods=["POST"]),
            Route("/v1/video/submit/{filename:path}", on.submit, methods=["PUT"]),
            Route("/v1/video/results/{job_id}", on.results),
            Route("/video/status/{job_id}", on.status),
            Route("/video/submit", on.submit, methods=["POST"]),
            Route("/video/submit/{filename:path}", on.submit, methods=["PUT"]),
            Route("/video/results/{job_id}", on.results),
            Route("/v1/jobs", on.jobs),
            Route("/v1/jobs/retry-failed", on.retry_failed, methods=["POST"]),
            Route("/v1/jobs/{job_id}", on.status),
            Route("/v1/jobs/{job_id}/cancel", on.cancel, methods=["POST"]),
            Route("/v1/jobs/{job_id}/retry", on.retry, methods=["POST"]),
            Route("/v1/jobs/{job_id}/video", on.video),
            Route("/v1/pipelines", on.pipelines),
            Route("/healthz", on.healthz),
            Route("/readyz", on.readyz),
            Route("/metrics", on.metrics),
            Route("/openapi.json", on.openapi),
            Route("/docs", on.page),
            Route("/", on.page),
            Route("/page/{name}", on.page),
        ],
        middleware=[
            Middleware(RequestMiddleware, guard=guard, metrics=metrics, max_requests=settings.max_requests),
        ],
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.stop = state.stop
    return app


def _pipelines() -> Mapping[str, Pipeline]:
    try:
        return all_pipelines()
    except MachineError as error:
        log.error("%s", error)
        return {pipeline.pipeline_id: pipeline for pipeline in PIPELINES}
