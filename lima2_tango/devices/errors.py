"""The one place where our errors become Tango's."""

import logging
from collections.abc import Generator
from contextlib import contextmanager

from tango import DevError, DevFailed, ErrSeverity

from lima2_tango.core.errors import Lima2Error, as_lima2

log = logging.getLogger(__name__)

REASON = "LIMA_Exception"


@contextmanager
def as_dev_failed(origin: str) -> Generator[None]:
    """Turn whatever is raised inside into a Tango error whose description is our JSON payload."""
    try:
        yield
    except DevFailed:
        raise
    except Lima2Error as error:
        log.warning("%s refused: %s", origin, error.what)
        raise _dev_failed(error, origin) from error
    except Exception as error:
        log.exception("%s failed", origin)
        raise _dev_failed(as_lima2(error), origin) from error


def _dev_failed(error: Lima2Error, origin: str) -> DevFailed:
    entry = DevError()
    entry.reason, entry.desc, entry.origin, entry.severity = REASON, error.payload(), origin, ErrSeverity.ERR
    return DevFailed(entry)


def text_of(error: Exception | None) -> str:
    """A `last_error` as the clients parse it: `No error`, or our JSON payload."""
    if error is None:
        return "No error"
    return (
        error.payload() if isinstance(error, Lima2Error) else Lima2Error(f"{type(error).__name__}: {error}").payload()
    )


def as_tango_text(text: str) -> str:
    """Text of any language as PyTango takes it: UTF-8 bytes that look like latin-1."""
    return text.encode().decode("latin-1")


def as_utf8(text: str) -> str:
    """Clients send UTF-8 bytes that PyTango shows as latin-1 text: take that back (contract R12)."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
