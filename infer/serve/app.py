"""Says which path does what: the application, without the server around it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException

from conf.version import product_version
from infer.serve.body import check_media_type, read_body, read_json
from infer.serve.connections import LEFT
from infer.serve.deployment import Deployment
from infer.serve.guard import App, Guard
from infer.serve.inputs import answer_body, read_inputs
from infer.serve.measures import MEDIA_TYPE, Measures
from infer.serve.openapi import INFER, PREDICT, PROBLEMS, with_fields
from infer.serve.page import PAGE
from infer.serve.problems import MEDIA_TYPE as PROBLEM
from infer.serve.problems import Problem, broken
from infer.serve.service import Service
from infer.serve.status import status_of
from infer.serve.tensors import JSON_LENGTH, answer_tensors, metadata, read_tensors
from infer.serve.ticket import Ticket
from tracking.printing import strict

JSON = "application/json"


class DescribedApp(FastAPI):
    """Represents the application, whose description has the fields of the switcher that answers now."""

    def __init__(self, service: Service, **options: Any):
        """Takes what answers, and FastAPI's options."""
        super().__init__(**options)
        self._service = service

    def openapi(self) -> dict[str, Any]:
        """Returns the description; before a switcher is loaded, that of any switcher."""
        description, deployment = super().openapi(), self._service.deployment
        return description if deployment is None else with_fields(description, deployment.fields)


def make_app(service: Service, measures: Measures, token: str | None = None) -> App:
    """Returns the application: `service` answers, `measures` counts; with a token, requests must bring it."""
    app = DescribedApp(
        service,
        title="Edgewise",
        version=product_version(),
        description="Answers inputs by a switcher: a small model answers what it is certain of, a larger one the rest.",
        docs_url=None,  # its page asks other servers for scripts
        redoc_url=None,
        redirect_slashes=False,
    )
    settings = service.settings

    def count(ticket: Ticket, bad: int, started: float) -> None:
        measures.answered(ticket, bad, time.perf_counter() - started)
        service.history.add(ticket, bad)

    @contextmanager
    def bad_inputs_counted() -> Iterator[None]:
        try:
            yield
        except Problem as error:
            measures.bad(error.bad)
            service.history.add_bad(error.bad)
            raise

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> Response:
        return Response(error.body(), error.status, dict(error.headers), PROBLEM)

    @app.exception_handler(HTTPException)
    async def no_such_path(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            detail = f"{request.method} is not for this path; expected {allowed}"
            return await problem(
                request, Problem(405, "wrong-method", "Method Not Allowed", detail, {"allow": allowed})
            )
        return await problem(
            request, Problem(404, "no-such-path", "Not Found", "no such path; /openapi.json lists those that there are")
        )

    @app.exception_handler(Exception)
    async def mistake(request: Request, _: Exception) -> Response:
        return await problem(request, broken())  # the guard logs it

    @app.post("/v1/predict", openapi_extra=PREDICT, responses=PROBLEMS, response_class=JSONResponse)
    async def predict(request: Request) -> Response:
        """Answers inputs; one that can't be answered has an error of its own."""
        started = time.perf_counter()
        deployment = service.ready()
        check_media_type(request.headers)
        body = read_json(await read_body(request.receive, request.headers, settings.most_bytes))
        with bad_inputs_counted():
            inputs = read_inputs(body, deployment.fields, settings.most_inputs)
        deadline = inputs.deadline_ms
        ticket = await service.answer(deployment, inputs.columns, deadline, lambda leave: _on_leave(request, leave))
        count(ticket, len(inputs.errors), started)
        return Response(answer_body(inputs, ticket, service.certified(ticket)), media_type=JSON)

    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        started = time.perf_counter()
        deployment = _model(service, name, version)
        length = request.headers.get(JSON_LENGTH)
        if length is None and "content-type" in request.headers:  # tritonclient names none
            check_media_type(request.headers)
        body = await read_body(request.receive, request.headers, settings.most_bytes)
        with bad_inputs_counted():
            asked = read_tensors(body, length, deployment.fields, settings.most_inputs)
        ticket = await service.answer(
            deployment, asked.inputs.columns, asked.inputs.deadline_ms, lambda leave: _on_leave(request, leave)
        )
        count(ticket, len(asked.inputs.errors), started)
        content, json_length = answer_tensors(name, asked, ticket, service.certified(ticket))
        if json_length is None:
            return Response(content, media_type=JSON)
        return Response(content, headers={JSON_LENGTH: str(json_length)}, media_type="application/octet-stream")

    @app.post("/v2/models/{name}/infer", openapi_extra=INFER, responses=PROBLEMS, response_class=JSONResponse)
    async def infer_latest(request: Request, name: str) -> Response:
        """Answers inputs by the Open Inference Protocol."""
        return await infer(request, name)

    @app.post(
        "/v2/models/{name}/versions/{version}/infer",
        openapi_extra=INFER,
        responses=PROBLEMS,
        response_class=JSONResponse,
    )
    async def infer_version(request: Request, name: str, version: str) -> Response:
        """Answers inputs by the Open Inference Protocol, where this version is served."""
        return await infer(request, name, version)

    @app.get("/v2/models/{name}", responses=PROBLEMS)
    async def model(name: str) -> dict[str, Any]:
        """Describes the switcher's inputs and outputs."""
        deployment = _model(service, name, None)
        return metadata(name, [deployment.version], deployment.fields)

    @app.get("/v2/models/{name}/versions/{version}", responses=PROBLEMS)
    async def model_version(name: str, version: str) -> dict[str, Any]:
        """Describes the inputs and outputs of the version that is served."""
        deployment = _model(service, name, version)
        return metadata(name, [deployment.version], deployment.fields)

    @app.get("/v2/models/{name}/ready", responses=PROBLEMS)
    async def model_ready(name: str) -> dict[str, Any]:
        """Tells whether the switcher answers."""
        _model(service, name, None)
        return {"name": name, "ready": True}

    @app.get("/v2/models/{name}/versions/{version}/ready", responses=PROBLEMS)
    async def version_ready(name: str, version: str) -> dict[str, Any]:
        """Tells whether this version of the switcher answers."""
        _model(service, name, version)
        return {"name": name, "ready": True}

    @app.get("/v2", responses={401: PROBLEMS[401]})
    async def server() -> dict[str, Any]:
        """Describes the server."""
        return {"name": "edgewise", "version": product_version(), "extensions": ["binary_tensor_data"]}

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        """Tells that the process runs."""
        return {"live": True}

    @app.get("/v2/health/ready", responses=PROBLEMS)
    async def ready() -> dict[str, Any]:
        """Tells whether inputs are answered, and if not, why."""
        return {"ready": True, "switcher": service.ready().ref}

    @app.get("/v1/status", response_class=JSONResponse, responses=PROBLEMS)
    async def status() -> Response:
        """Returns what the page shows: which switcher answers, its promises, alarms and counts."""
        return Response(json.dumps(strict(status_of(service))), media_type=JSON)

    @app.get("/", response_class=Response, include_in_schema=False)
    async def page() -> Response:
        return Response(PAGE.html, media_type="text/html; charset=utf-8", headers=PAGE.headers)

    @app.get("/metrics", response_class=PlainTextResponse, responses={401: PROBLEMS[401]})
    async def metrics() -> Response:
        """Returns the counts in Prometheus's text format."""
        service.measure(measures)
        return Response(measures.text(), media_type=MEDIA_TYPE)

    paths = {path for route in app.routes if "{" not in (path := getattr(route, "path", "{"))}
    return Guard(app, measures, paths, token, {("POST", "/v1/predict"): predict})


def _model(service: Service, name: str, version: str | None) -> Deployment:
    """Returns what answers; raises Problem where it is not this model, or not this version."""
    deployment = service.ready()
    if name != deployment.policy.name:
        detail = f"no such model; this server has {deployment.policy.name}"
        raise Problem(404, "no-such-model", "Not Found", detail)
    if version not in (None, deployment.version):
        detail = f"no such version of {name}; this server has {deployment.version}"
        raise Problem(404, "no-such-version", "Not Found", detail)
    return deployment


def _on_leave(request: Request, leave: Any) -> None:
    """Has the connection call `leave` where the client closes it before the answer."""
    request.scope[LEFT] = leave
