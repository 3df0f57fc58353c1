"""How the API answers: JSON with decimals as text, and problems in one form (RFC 9457)."""

from http import HTTPStatus
from typing import Any, Final

import psycopg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException

from admin.connections import AWAY
from admin.errors import AwayError
from admin.gathering import FullError
from admin.http.backpressure import BUSY_SECONDS, BusyError
from admin.http.parts import UnauthorisedError, UncheckedError
from admin.plain import json_text
from ledger.database import uuid7
from ledger.errors import ConflictError, InvalidError, MeterbookError, NotFoundError, StateError
from ledger.intake.events import TooManyError
from ledger.intake.spool import SpoolError

RETRY_AFTER_SECONDS = 2
UTF_8 = "application/json; charset=utf-8"

log = structlog.get_logger(__name__)

STATUS_OF_REFUSAL: dict[type[MeterbookError], HTTPStatus] = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    StateError: HTTPStatus.CONFLICT,
    InvalidError: HTTPStatus.BAD_REQUEST,
}


class TooLargeError(InvalidError):
    """The body of a request is larger than it may be."""


class UnsupportedError(InvalidError):
    """The body of a request has another type than those that are read here."""


class Problem(BaseModel):
    """Why a request was not carried out; `detail` is a sentence with the remedy."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(examples=["Unauthorized"])
    status: int = Field(examples=[401])
    detail: str = Field(examples=["this needs an API key; send the header `Authorization: Bearer mbk_...`"])


Documented = dict[int | str, dict[str, Any]]
"""What an operation documents of its answers, by status."""

WITHOUT_KEY: Final[Documented] = {401: {"model": Problem, "description": "No API key that works."}}
NOT_TAKEN: Final[Documented] = {
    **WITHOUT_KEY,
    429: {"model": Problem, "description": "Too much waits here already; nothing was recorded, send it again."},
    503: {"model": Problem, "description": "The database is away; nothing was recorded, send it again."},
}
"""Why usage is not taken at any of the doors, whatever it says."""


def json_answer(value: object, *, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Answer with a value as JSON."""
    return Response(json_text(value), status_code=status, media_type=UTF_8)


def problem_answer(status: int, detail: str, **headers: str) -> Response:
    """Answer with a problem."""
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(problem.model_dump_json(), status, named, media_type="application/problem+json")


def answer_refusals(application: FastAPI) -> None:
    """Let every expected refusal be answered as a problem with the status that fits it."""
    application.add_exception_handler(UnauthorisedError, _unauthorised)
    application.add_exception_handler(MeterbookError, _refused)
    application.add_exception_handler(RequestValidationError, _invalid)
    application.add_exception_handler(HTTPException, _other)
    for full in (BusyError, FullError):
        application.add_exception_handler(full, _busy)
    for unable in (UncheckedError, SpoolError):
        application.add_exception_handler(unable, _later)
    for away in (AwayError, *AWAY, psycopg.OperationalError, psycopg.InterfaceError):
        application.add_exception_handler(away, _away)
    for failure in (SQLAlchemyError, psycopg.Error):
        application.add_exception_handler(failure, _failed)


def _unauthorised(_: Request, error: Exception) -> Response:
    return problem_answer(HTTPStatus.UNAUTHORIZED, str(error), www_authenticate="Bearer")


def _refused(_: Request, error: Exception) -> Response:
    return problem_answer(_status(error), str(error))


def _invalid(_: Request, error: Exception) -> Response:
    problems = error.errors() if isinstance(error, RequestValidationError) else ()
    named = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in problems)
    return problem_answer(HTTPStatus.UNPROCESSABLE_ENTITY, named)


def _other(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.INTERNAL_SERVER_ERROR
    detail = error.detail if isinstance(error, HTTPException) else "the request failed"
    return problem_answer(status, f"{detail}; see /docs for what there is")


def _busy(_: Request, error: Exception) -> Response:
    return problem_answer(HTTPStatus.TOO_MANY_REQUESTS, str(error), retry_after=str(BUSY_SECONDS))


def _later(_: Request, error: Exception) -> Response:
    return problem_answer(HTTPStatus.SERVICE_UNAVAILABLE, str(error), retry_after=str(RETRY_AFTER_SECONDS))


def _away(request: Request, error: Exception) -> Response:
    """Answer what will pass; the log has PostgreSQL's own reason, such as a full disk, where it gave one."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, psycopg.Error) and cause.sqlstate is not None:
        log.warning(
            "the database broke a request off", reason=str(cause), sqlstate=cause.sqlstate, path=request.url.path
        )
    what = "Temporal" if isinstance(error, AwayError) else "the database"
    return problem_answer(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{what} does not answer now; nothing of this request is recorded, send it again",
        retry_after=str(RETRY_AFTER_SECONDS),
    )


def _failed(request: Request, error: Exception) -> Response:
    """Answer what PostgreSQL failed on, telling nothing of how it was asked; the log tells all, under the same id."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return _away(request, error)
    failure_id = uuid7().hex
    log.error(
        "a request failed at the database",
        failure=failure_id,
        method=request.method,
        path=request.url.path,
        exc_info=error,
    )
    return problem_answer(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        f"the database failed on this request and nothing of it is recorded; the log has the cause under {failure_id}",
    )


def _status(error: Exception) -> HTTPStatus:
    if isinstance(error, TooLargeError | TooManyError):
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if isinstance(error, UnsupportedError):
        return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    return next(
        (status for kind, status in STATUS_OF_REFUSAL.items() if isinstance(error, kind)), HTTPStatus.BAD_REQUEST
    )
