"""A Tango device as the client uses it: our errors, and no call without a bound."""

import os
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar

import tango

from lima2_tango.core.errors import StateError

from .errors import UnreachableError, from_dev_failed
from .proxies import bounded

T = TypeVar("T")

READ_TIMEOUT = 3000
"""Longest wait for an attribute [ms]; a server that answers later is taken for lost by every client."""
COMMAND_TIMEOUT = 100_000
"""Longest wait for a command [ms]: the control gives its receivers 90 s for a Prepare, which may wait for kernels to
compile, and then releases those that are prepared."""
CONNECT_TIMEOUT = 3.0
"""Longest wait for the Tango database [s]."""
PATIENCE = 5.0
"""How long a device that answered before may be silent until it is taken for lost [s]."""
RETRY = 0.2
"""Between two questions to a silent device [s]."""


class Device(Protocol):
    """What the client asks of the control device."""

    @property
    def name(self) -> str: ...

    def read(self, *names: str) -> dict[str, Any]:
        """Attributes by name; None for one that has no value now. Raises RefusedError, UnreachableError."""

    def write(self, name: str, value: object) -> None:
        """Raises RefusedError, UnreachableError."""

    def command(self, name: str, argument: object = None) -> Any:
        """Raises RefusedError, UnreachableError."""

    def ask(self, name: str, argument: object = None) -> Any:
        """A command that changes nothing. Raises RefusedError, UnreachableError."""

    def close(self) -> None:
        """Nothing can be asked after this; safe twice."""


class TangoDevice:
    """A device by its Tango name."""

    def __init__(self, name: str, reader: tango.DeviceProxy, caller: tango.DeviceProxy) -> None:
        """Two proxies of one device: what is read is answered at once, what is called may take its time."""
        self.name = name
        self._reader, self._caller = reader, caller
        self._closed = False

    @classmethod
    def connect(cls, name: str, tango_host: str | None) -> Self:
        """Raises UnreachableError where nobody answers under this name."""
        host = (tango_host or os.environ.get("TANGO_HOST")) if "://" not in name else None
        full = f"tango://{_listening(name, host)}/{name}" if host else name
        try:
            reader = bounded(tango.DeviceProxy(full), READ_TIMEOUT)
            return cls(name, reader, bounded(tango.DeviceProxy(full), COMMAND_TIMEOUT))
        except tango.DevFailed as error:
            raise from_dev_failed(error, name, "connect") from error

    def read(self, *names: str) -> dict[str, Any]:
        """Asks again for `PATIENCE` seconds where the device is silent."""
        found = self._insist(f"read {', '.join(names)}", lambda: self._reader.read_attributes(list(names)))
        return {name: self._value(name, answer) for name, answer in zip(names, found, strict=True)}

    def write(self, name: str, value: object) -> None:
        def call() -> None:
            self._reader.ping()  # a silent device is found out within the shorter of the two timeouts
            write_attribute(self._caller, name, value)

        self._once(f"write {name}", call)

    def command(self, name: str, argument: object = None) -> Any:
        """Once only: a command that was lost on the way may have been carried out."""
        return self._once(name, lambda: self._caller.command_inout(name, *_given(argument)), COMMAND_TIMEOUT / 1000)

    def ask(self, name: str, argument: object = None) -> Any:
        """Asks again as `read` does."""
        return self._insist(name, lambda: self._reader.command_inout(name, *_given(argument)))

    def close(self) -> None:
        self._closed = True

    def _value(self, name: str, answer: tango.DeviceAttribute) -> Any:
        if answer.has_failed:
            raise from_dev_failed(tango.DevFailed(*answer.get_err_stack()), self.name, f"read {name}")
        return answer.value

    def _insist(self, action: str, call: Callable[[], T]) -> T:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._once(action, call)
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(RETRY)

    def _once(self, action: str, call: Callable[[], T], timeout_s: float | None = None) -> T:
        if self._closed:
            raise StateError(f"this connection to {self.name} is closed: connect again")
        try:
            return call()
        except tango.DevFailed as error:
            raise from_dev_failed(error, self.name, action, timeout_s) from error


def write_attribute(proxy: tango.DeviceProxy, name: str, value: object) -> None:
    """Write an attribute; raises DevFailed also where PyTango does not: at the first write to a silent device.

    It asks such a device for the type of the attribute, and raises TypeError where there is no answer.
    """
    try:
        proxy.write_attribute(name, value)
    except TypeError:
        proxy.ping()
        proxy.write_attribute(name, value)


def _given(argument: object) -> tuple[object, ...]:
    return () if argument is None else (argument,)


def _listening(name: str, tango_host: str) -> str:
    """The first of the databases `host:port,host:port` that takes a connection.

    Tango itself may wait for minutes where a computer is switched off.
    """
    failures = []
    for one in tango_host.split(","):
        host, _, port = one.rpartition(":")
        if not host or not port.isdigit():
            raise UnreachableError(f"{one!r} is no Tango database: give HOST:PORT, such as localhost:10000")
        try:
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
        except (OSError, OverflowError) as error:
            failures.append(str(error))
        else:
            return one
    raise UnreachableError(
        f"{name} cannot be looked up: no Tango database answers at {tango_host} ({'; '.join(failures)}); start it, or "
        "correct TANGO_HOST"
    )
