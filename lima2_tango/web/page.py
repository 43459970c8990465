"""What every answer of the page is made of, and who may have it."""

from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from lima2_tango.client.errors import UnreachableError
from lima2_tango.core.errors import Lima2Error

from .access import DeniedError, Door, Role, Tokens
from .actions import Actions
from .hub import Hub
from .report import explained
from .threads import Threads

ORDERS = 16
"""Requests that wait for Tango at once; others wait for their turn."""


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that an answer is made of."""

    title: str
    hub: Hub
    actions: Actions
    tokens: Tokens
    door: Door
    secure: bool = False
    """Whether it is spoken to by TLS."""
    in_thread: Threads = field(default_factory=lambda: Threads(ORDERS))
    """Where orders wait for Tango: they hold up no picture."""

    @property
    def cookie(self) -> str:
        """Its name; two pages of one computer share their cookies otherwise."""
        return f"lima2_token_{self.door.port}"


def role_of(page: Page, asked: HTTPConnection) -> Role:
    scheme, _, bearer = asked.headers.get("authorization", "").partition(" ")
    token = bearer.strip() if scheme.lower() == "bearer" else asked.cookies.get(page.cookie, "")
    return page.tokens.role(token)


def check_role(page: Page, asked: HTTPConnection, least: Role) -> None:
    role = role_of(page, asked)
    if role >= least:
        return
    if role is Role.NOBODY:
        raise DeniedError("this page asks for a token: open it by the address that lima2 web printed")
    raise DeniedError("this token may only look: ask for the operator's token to change anything")


def refusal(error: Lima2Error, status: int = 400) -> JSONResponse:
    if isinstance(error, DeniedError):
        status = 403
    elif isinstance(error, UnreachableError):
        status = 503
    path = error.info.get("path")
    return JSONResponse({"error": explained(error.what), "path": path}, status)
