"""How the gateway says no: OpenAI's error shape, by the name of the parameter that is wrong."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}

# On every answer: if a browser ever shows one as a page, it is a page that can do nothing.
SAFE = {
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class ApiError(Exception):
    """An answer other than the one asked for, in OpenAI's shape."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
        kind: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        usual = "server_error" if status >= 500 else "invalid_request_error"
        kind = kind or TYPES.get(status, usual)
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    def response(self, headers: Mapping[str, str]) -> JSONResponse:
        extra = {"retry-after": str(self.retry_after)} if self.retry_after else {}
        if self.status == 401:
            extra["www-authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers={**SAFE, **headers, **extra})


def bad(name: str, trouble: str) -> ApiError:
    return ApiError(400, f"Invalid {name!r}: it {trouble}.", param=name)


def missing(name: str) -> ApiError:
    return ApiError(400, f"Missing required parameter: {name!r}.", param=name)


def unknown(name: str, param: str | None = None) -> ApiError:
    """`param`: where a client should look, if that is not the parameter itself."""
    said = f"Unknown parameter: {name!r}."
    return ApiError(400, said, param=param or name, code="unknown_parameter")
