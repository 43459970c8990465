"""Files that fabio reads: what it only writes to a log about damaged ones is an error here."""

import logging
import threading
from collections.abc import Generator
from contextlib import contextmanager


class _Told(logging.Handler):
    """Keeps what one thread is told."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.told: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.told.append(record.getMessage())


@contextmanager
def undamaged() -> Generator[None]:
    """Read by fabio inside; raises ValueError for a file of which it says, in its log alone, that it is damaged.

    It fills a frame that is cut short with zeros, and goes on where the checksum of the pixels is wrong.
    """
    heard, logger = _Told(), logging.getLogger("fabio")
    logger.addHandler(heard)
    try:
        yield
    except Exception as error:
        if heard.told and not str(error):
            raise ValueError(heard.told[0]) from error
        raise
    finally:
        logger.removeHandler(heard)
    if heard.told:
        raise ValueError(heard.told[0])
