"""Commands that do not hold their device: whoever reads an attribute meanwhile is answered (contract R2).

Tango runs with one lock for each device (decision 7). It guards the values of attributes, and nothing else here waits
for it: attributes are answered with it, commands and the questions whether they are allowed without.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import tango
import tango.server

D = TypeVar("D", bound=tango.server.Device)
P = ParamSpec("P")
R = TypeVar("R")


def released(body: Callable[Concatenate[D, P], R]) -> Callable[Concatenate[D, P], R]:
    """`body` without the lock of its device, which may be held already or not."""

    @wraps(body)
    def run(device: D, /, *arguments: P.args, **named: P.kwargs) -> R:
        with tango.AutoTangoAllowThreads(device):
            return body(device, *arguments, **named)

    return run


def command(**kinds: Any) -> Callable[[Callable[..., Any]], Any]:
    """`tango.server.command` of a released body.

    Tango tells clients of its arguments only: where it has none, they read there what it does.
    """

    def declare(body: Callable[..., Any]) -> Any:
        does = " ".join((body.__doc__ or "").split())
        return tango.server.command(released(body), **{"doc_in": does, "doc_out": does} | kinds)

    return declare
