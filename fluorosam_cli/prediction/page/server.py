"""The page's HTTP interface: opens images, completes phrases, answers prompts, packs downloads."""

import asyncio
import io
import logging
import shutil
import tempfile
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from fluorosam_cli.contracts import Model, Prediction, Prompt
from fluorosam_cli.errors import FluoroError
from fluorosam_cli.geometry.boxes import box_of
from fluorosam_cli.prediction.answers import answer_prompts
from fluorosam_cli.prediction.page import phrases
from fluorosam_cli.prediction.page.guard import Guard, problem
from fluorosam_cli.prediction.page.sessions import (
    IDLE_MAX_S,
    SESSIONS_MAX,
    Gone,
    Session,
    Sessions,
    plain_name,
    stored_name,
)
from fluorosam_cli.prediction.predictor import Predictor
from fluorosam_cli.prediction.prompts import spelt_out
from fluorosam_cli.prediction.write import HEADER, Segmented, header_of, masks_of, rle_of, write_masks

log = logging.getLogger("fluoro")

UPLOAD_MAX_BYTES = 256 << 20
UPLOADS_AT_ONCE = 4
TEXT_MAX, POINTS_MAX, PROMPTS_MAX = 300, 200, 50
EXPIRE_EVERY_S = 60


@dataclass(frozen=True)
class Page:
    """What the server is told by the command line."""

    token: str | None = None
    names: tuple[str, ...] = ()  # of this server, besides localhost and addresses
    command: tuple[str, ...] = ()  # options that make `fluoro predict` use the same checkpoint


class Download(Model):
    kind: Literal["masks", "json"]
    prompts: Annotated[list[Prompt], Field(min_length=1, max_length=PROMPTS_MAX)]


class Show(Model):
    frame: int
    invert: bool | None = None  # as of `fluoro predict`; None: told by the header or the pixels


def create_app(
    predictor: Predictor, page: Page, sessions_max: int = SESSIONS_MAX, idle_s: float = IDLE_MAX_S
) -> ASGIApp:
    """The application. Images live in a temporary folder from its start to its end."""
    sessions: Sessions = None  # pyright: ignore[reportAssignmentType]  # set when the application starts
    uploads = asyncio.Semaphore(UPLOADS_AT_ONCE)
    trained = dict.fromkeys(predictor.checkpoint.structures)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        nonlocal sessions
        with tempfile.TemporaryDirectory(prefix="fluoro-serve-", ignore_cleanup_errors=True) as folder:
            sessions = Sessions(predictor, Path(folder), sessions_max, idle_s)
            expiring = asyncio.create_task(_expire(sessions))
            yield
            expiring.cancel()

    app = FastAPI(title="fluoro", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _answer_errors(app)

    @app.get("/api/about")
    def about() -> dict[str, object]:
        return {"command": page.command, "upload_max_bytes": UPLOAD_MAX_BYTES}

    @app.get("/api/phrases")
    def complete(q: Annotated[str, Query(max_length=TEXT_MAX)] = "") -> list[dict[str, object]]:
        return [asdict(completion) for completion in phrases.complete(q, trained)]

    @app.post("/api/images")
    async def open_image(request: Request, name: Annotated[str, Query(max_length=1000)] = "image") -> dict[str, object]:
        if int(request.headers.get("content-length", "0")) > UPLOAD_MAX_BYTES:
            raise _too_large()
        if uploads.locked():
            raise HTTPException(503, "too many images are being opened; try again in a moment")
        async with uploads:
            path = sessions.new_folder() / stored_name(name)
            try:
                await _receive(request, path)
                session = await run_in_threadpool(sessions.open, path, plain_name(name))
            except FluoroError as error:
                raise _renamed(error, path, plain_name(name)) from error
            finally:
                if not path.exists():
                    shutil.rmtree(path.parent, ignore_errors=True)
        return _as_shown(session)

    @app.post("/api/images/{key}/show")
    def show(key: str, wanted: Show) -> dict[str, object]:
        with sessions.using(key) as session:
            try:
                session.show(wanted.frame, wanted.invert)
            except FluoroError as error:
                raise _renamed(error, session.path, session.name) from error
            return _as_shown(session)

    @app.get("/api/images/{key}/pixels")
    def pixels(key: str) -> Response:
        with sessions.using(key) as session:
            return Response(session.pixels.read_bytes(), media_type="application/octet-stream")

    @app.post("/api/images/{key}/masks")
    def segment(key: str, prompt: Prompt) -> dict[str, object]:
        _check(prompt)
        with sessions.using(key) as session:
            answer = answer_prompts(session.predictor, [prompt])[0]
            pixel_mm2 = session.shown.pixel_mm2
        mask = answer.predicted.mask
        note, instead = phrases.remark(answer, session.predictor)
        return {
            "score": answer.predicted.iou,
            "presence": answer.presence,
            "absent": answer.absent,
            "note": note,
            "instead": instead,
            "area_px": int(mask.sum()),
            "area_mm2": None if pixel_mm2 is None else int(mask.sum()) * pixel_mm2,
            "box_xyxy": box_of(mask),
            "rle": rle_of(mask).model_dump(),
        }

    @app.post("/api/images/{key}/download")
    def download(key: str, wanted: Download) -> Response:
        for prompt in wanted.prompts:
            _check(prompt)
        with sessions.using(key) as session:
            data, kind = _packed(session, wanted)
        return Response(data, media_type=kind)

    @app.delete("/api/images/{key}", status_code=204)
    def close(key: str) -> None:
        sessions.close(key)

    app.mount("/", StaticFiles(directory=str(files("fluorosam_cli.prediction.page") / "static"), html=True))
    return Guard(app, page.token, page.names)


def _as_shown(session: Session) -> dict[str, object]:
    return {"id": session.id, "name": session.name, **asdict(session.shown)}


async def _expire(sessions: Sessions) -> None:
    while True:
        await asyncio.sleep(EXPIRE_EVERY_S)
        await run_in_threadpool(sessions.expire)


async def _receive(request: Request, path: Path) -> None:
    """Write the body as it comes, and stop when it is longer than allowed, whatever its header said."""
    size = 0
    try:
        with open(path, "wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > UPLOAD_MAX_BYTES:
                    raise _too_large()
                file.write(chunk)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    if not size:
        path.unlink()
        raise HTTPException(400, "the file is empty")


def _too_large() -> HTTPException:
    return HTTPException(413, f"the file has more than {UPLOAD_MAX_BYTES >> 20} MB")


def _renamed(error: FluoroError, path: Path, name: str) -> FluoroError:
    """The error with the user's name of the file in place of ours."""
    return FluoroError(error.problem.replace(str(path), name), error.hint.replace(str(path), name))


def _check(prompt: Prompt) -> None:
    if len(prompt.text or "") > TEXT_MAX or len(prompt.points_xy) > POINTS_MAX:
        raise FluoroError(f"prompt: has more than {TEXT_MAX} letters or {POINTS_MAX} points", "make it shorter")
    if prompt.mask is not None:  # would be a file of this machine
        raise FluoroError("prompt: a mask cannot be sent", "use words, points and a box")
    if prompt.text and len(parts := spelt_out([prompt])) > 1:
        raise FluoroError(f"{prompt.text}: names {len(parts)} structures", "add a mask for each")


def _packed(session: Session, wanted: Download) -> tuple[bytes, str]:
    """What `fluoro predict` would have written for these prompts: all of it zipped, or `prediction.json` alone."""
    answers = answer_prompts(session.predictor, wanted.prompts)
    segmented = Segmented(session.path, session.radiograph(), answers, session.predictor.checkpoint_sha256)
    if wanted.kind == "json":
        return _as_json(header_of(segmented, masks_of(segmented)), session), "application/json"
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory(dir=session.path.parent) as folder:
        header = write_masks(Path(folder), segmented)
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # PNGs do not become smaller
            for path in sorted(Path(folder).iterdir()):
                archive.write(path, path.name)
            archive.writestr(HEADER, _as_json(header, session))
    return packed.getvalue(), "application/zip"


def _as_json(header: Prediction, session: Session) -> bytes:
    return (header.model_copy(update={"image": session.name}).model_dump_json(indent=1) + "\n").encode()


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(FluoroError)
    async def _(_: Request, error: FluoroError) -> Response:
        return problem(404 if isinstance(error, Gone) else 400, error.problem, error.hint)

    @app.exception_handler(HTTPException)
    async def _(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def _(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return problem(422, f"{where}: {first['msg']}" if where else str(first["msg"]))

    @app.exception_handler(Exception)
    async def _(_: Request, error: Exception) -> Response:
        log.warning("warning: unexpected %s while answering the page", type(error).__name__)
        log.debug("", exc_info=error)
        return problem(500, f"unexpected {type(error).__name__}", "the terminal says more with --verbose")
