"""The application: routes, answers and errors. Imports FastAPI, so it is imported on demand."""

from __future__ import annotations

import asyncio
import sys
import traceback
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from clipseg_ws import __version__
from clipseg_ws.adapters.label_studio import Backend
from clipseg_ws.segmenter import Segmenter
from clipseg_ws.service.asked import Asked, answer, picture, record
from clipseg_ws.service.gate import Gate, Limits

MOST_TASKS = 100  # of Label Studio in one request


class Found(BaseModel):
    """One class that occurs, or one thing where things are told apart; box: x0, y0, x1, y1 in pixels, ends exclusive;
    rle: COCO's compressed run lengths."""

    name: str
    label: int
    score: float | None
    confidence: float
    pixels: int
    share: float
    box: list[int]
    rle: dict[str, Any]


class Answer(BaseModel):
    """What was found in a picture."""

    width: int
    height: int
    names: list[str]
    setting: str
    objects: list[Found]
    seconds: float
    warnings: list[str]


class Problem(BaseModel):
    """Why there is no answer."""

    error: str


class About(BaseModel):
    """The model behind the service, and how much a request may hold."""

    model: str
    version: str
    device: str
    known_names: list[str]
    limits: dict[str, float]


ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text}
    for code, text in (
        (400, "what was asked cannot be answered"), (403, "asked under another name, or by another site's page"),
        (413, "too many bytes"), (422, "a field is missing or of another kind"), (503, "too many are waiting"),
    )
}  # fmt: skip


class Service:
    """One model behind a lock: requests are answered one at a time, in the order in which they came."""

    def __init__(self, segmenter: Segmenter, limits: Limits, backend: Backend | None = None) -> None:
        self.segmenter, self.limits, self.backend = segmenter, limits, backend
        self.lock = asyncio.Lock()

    async def segment(
        self,
        image: Annotated[UploadFile, File(description="JPEG, PNG, WebP, ...")],
        classes: Annotated[str, Form(description="cat; person, people (; between classes, , between synonyms)")] = "",
        tags: Annotated[str, Form(description="cat; dog: what is known to be in the picture")] = "",
        points: Annotated[str, Form(description='[["cat", x, y], ...] in pixels; "background" marks background')] = "",
        boxes: Annotated[str, Form(description='[["cat", x0, y0, x1, y1], ...] in pixels, ends exclusive')] = "",
        format: Annotated[str, Form(description="json, png (labels), overlay (a picture)")] = "json",
    ) -> Response:
        """Segment one picture by names, tags, points and boxes."""
        data, asked = await image.read(), Asked(classes, tags, points, boxes, format)
        async with self.lock:
            found = await run_in_threadpool(
                answer, self.segmenter, data, image.filename or "", asked, self.limits
            )  # fmt: skip
        if format == "json":
            return JSONResponse(record(found))
        return Response(await run_in_threadpool(picture, found, format), media_type="image/png")

    async def about(self) -> About:
        """The model, the names that it knows (none: it has no list), and the limits."""
        backbone = self.segmenter.backbone
        return About(
            model=backbone.name, version=__version__, device=str(backbone.device),
            known_names=list(backbone.card.known_classes), limits=vars(self.limits),
        )  # fmt: skip

    async def health(self) -> dict[str, str]:
        """{"status": "UP"} while the service runs."""
        return {"status": "UP", "model": self.segmenter.backbone.name, "version": __version__}

    # ---- Label Studio ------------------------------------------------------------------------------------------------

    async def setup(self, request: Request) -> dict[str, str]:
        """What Label Studio asks when it is connected."""
        assert self.backend is not None
        return {"model_version": self.backend.version}

    async def predict(self, request: Request) -> dict[str, Any]:
        """Brush masks for Label Studio's tasks."""
        assert self.backend is not None
        body = await request.json()
        tasks, config = (body.get("tasks"), body.get("label_config")) if isinstance(body, dict) else (None, None)
        if not isinstance(tasks, list) or not 0 < len(tasks) <= MOST_TASKS or not isinstance(config, str):
            raise ValueError(f"tasks (1 to {MOST_TASKS}) and label_config are needed, as Label Studio sends them")
        if not all(isinstance(task, dict) for task in tasks):
            raise ValueError("a task is a mapping with id and data")
        params = body.get("params")
        context = params.get("context") if isinstance(params, dict) else None
        if context is not None and not isinstance(context, dict):
            raise ValueError("params.context is a mapping with a list of what was drawn under result")
        async with self.lock:
            made = await run_in_threadpool(self.backend.predict, tasks, config, context)
        return {"results": made, "model_version": self.backend.version}


def make_app(
    segmenter: Segmenter, hosts: set[str], limits: Limits | None = None, backend: Backend | None = None
) -> FastAPI:
    """The application with its gate.

    Args:
        hosts: names under which it answers, see ``web.guard.allowed_hosts``. backend: also Label Studio's, below
            /label-studio.
    """
    limits = limits or Limits()
    service = Service(segmenter, limits, backend)
    # the pages that FastAPI makes of the description load scripts from elsewhere
    app = FastAPI(
        title="clipseg_ws", version=__version__, docs_url=None, redoc_url=None,
        description="Semantic segmentation with a frozen CLIP: pictures and names in, masks out.",
    )  # fmt: skip
    app.add_middleware(Gate, hosts=hosts, limits=limits)
    png: dict[int | str, dict[str, Any]] = {
        200: {"model": Answer, "content": {"image/png": {}}, "description": "the answer, or a PNG"}
    }
    app.post("/segment", responses=png | ERRORS, response_model=None)(service.segment)
    app.get("/about")(service.about)
    app.get("/health")(service.health)
    if backend is not None:
        for path in ("", "/", "/health"):
            app.get(f"/label-studio{path}", include_in_schema=path == "/health")(service.health)
        app.post("/label-studio/setup", responses=ERRORS)(service.setup)
        app.post("/label-studio/predict", responses=ERRORS)(service.predict)
    _answer_errors(app)
    return app


def _answer_errors(app: FastAPI) -> None:
    """All errors as {"error": text}."""

    def said(status: int, text: str) -> JSONResponse:
        return JSONResponse({"error": text}, status)

    @app.exception_handler(ValueError)
    async def unusable(request: Request, error: ValueError) -> JSONResponse:
        return said(400, str(error))

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()[:5]]
        return said(422, "; ".join(parts))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        return said(error.status_code, f"{request.method} {request.url.path}: {error.detail}")

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        traceback.print_exception(error, file=sys.stderr)
        return said(500, f"something went wrong ({type(error).__name__}); the terminal of the service says more")
