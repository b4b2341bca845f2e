"""make_app: the whole application in one place."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from daemon.errors import MachineError
from daemon.pipeline.pipelines import PIPELINES, Pipeline, all_pipelines
from daemon.settings import Settings
from sidecar.auth import Guard
from sidecar.derived_routes import derived_routes
from sidecar.export_routes import export_routes
from sidecar.job_routes import JobEndpoints
from sidecar.limits import ClientLimits
from sidecar.metrics import Metrics
from sidecar.middleware import CrossOrigin, GuardMiddleware, RequestMiddleware
from sidecar.openapi import describe
from sidecar.pages import PageFiles
from sidecar.problems import Problem, on_http_exception, on_problem
from sidecar.proxies import ProxyMiddleware, TrustedProxies
from sidecar.rejected_routes import RejectedEndpoints
from sidecar.result_routes import ResultEndpoints
from sidecar.resumable_uploads import ResumableUploads
from sidecar.search_routes import SearchEndpoint
from sidecar.service_routes import ServiceEndpoints
from sidecar.state import State
from sidecar.still_routes import StillEndpoint
from sidecar.submissions import Submissions

log = logging.getLogger(__name__)


def make_app(settings: Settings) -> Starlette:
    """Put the application together.

    Args:
        settings: Of the home.

    Raises:
        SettingsError: the address needs a token, or a token or a trusted proxy is malformed.
    """
    guard, proxies, limits = Guard(settings), TrustedProxies(settings.trusted_proxies), ClientLimits(settings)
    metrics, state, pipelines = Metrics(limits), State(settings), _pipelines()
    submissions = Submissions(settings, state, metrics, pipelines, limits.uploads)
    uploads = ResumableUploads(settings, state, submissions, metrics)
    jobs, results, page = JobEndpoints(state, limits), ResultEndpoints(state), PageFiles()
    service = ServiceEndpoints(state, metrics, pipelines, describe(pipelines, settings))

    app = Starlette(
        routes=[
            *(route for prefix in ("/v1", "") for route in _video_routes(prefix, submissions, jobs, results)),
            Route("/v1/uploads", uploads.uploads, methods=["OPTIONS", "POST"]),
            Route("/v1/uploads/{job_id}", uploads.upload, methods=["OPTIONS", "HEAD", "PATCH", "DELETE", "POST"]),
            Route("/v1/jobs", jobs.jobs),
            Route("/v1/jobs/retry-failed", jobs.retry_failed, methods=["POST"]),
            Route("/v1/jobs/{job_id}", jobs.job, methods=["GET", "DELETE"]),
            Route("/v1/jobs/{job_id}/cancel", jobs.cancel, methods=["POST"]),
            Route("/v1/jobs/{job_id}/retry", jobs.retry, methods=["POST"]),
            Route("/v1/jobs/{job_id}/video", results.video),
            Route("/v1/rejected", RejectedEndpoints(settings.data_dir).rejected),
            *derived_routes(state, limits),
            Route("/v1/jobs/{job_id}/frame", StillEndpoint(state, limits).__call__, methods=["GET"]),
            Route("/v1/search", SearchEndpoint(state).__call__, methods=["GET"]),
            *export_routes(state, limits),
            Route("/v1/pipelines", service.pipelines),
            Route("/healthz", service.healthz),
            Route("/readyz", service.readyz),
            Route("/metrics", service.metrics),
            Route("/openapi.json", service.openapi),
            Route("/docs", page, methods=["GET"]),
            Route("/", page, methods=["GET"]),
            Route("/page/{name:path}", page, methods=["GET"]),
        ],
        middleware=[
            Middleware(ProxyMiddleware, trusted=proxies, base_path=settings.base_path),
            Middleware(RequestMiddleware, metrics=metrics),
            *([Middleware(CrossOrigin, origins=guard.origins)] if guard.origins else []),
            Middleware(GuardMiddleware, guard=guard, slots=limits.requests),
        ],
        exception_handlers={Problem: on_problem, HTTPException: on_http_exception},
        lifespan=_lifespan(state, submissions, uploads),
    )
    app.router.redirect_slashes = False
    app.state.stop = state.stop
    return app


def _lifespan(
    state: State, submissions: Submissions, uploads: ResumableUploads
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        state.step(time.monotonic(), force=True)
        await uploads.finish_what_is_whole()
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

    return lifespan


def _video_routes(
    prefix: str, submissions: Submissions, jobs: JobEndpoints, results: ResultEndpoints
) -> Iterator[Route]:
    yield Route(f"{prefix}/video/status/{{job_id}}", jobs.status)
    yield Route(f"{prefix}/video/submit", submissions.receive, methods=["POST"])
    yield Route(f"{prefix}/video/submit/{{filename:path}}", submissions.receive, methods=["PUT"])
    yield Route(f"{prefix}/video/results/{{job_id}}", results.results)


def _pipelines() -> Mapping[str, Pipeline]:
    try:
        return all_pipelines()
    except MachineError as error:
        log.error("%s", error)
        return {pipeline.pipeline_id: pipeline for pipeline in PIPELINES}
