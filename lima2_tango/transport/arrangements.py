"""Who streams to whom when there are more than two ranks: chains and trees, a stream for each rank that receives."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from .consumer import Consumer
from .elements import Element
from .producer import Producer
from .spec import StreamSpec

Combine = Callable[[Element], NDArray[Any] | None]
"""What goes on to the next rank for an element that arrived; None for nothing."""


def tree(ranks: Sequence[int], arity: int, spec: StreamSpec) -> dict[int, StreamSpec]:
    """A stream for each rank that has others below it, from those: the first rank is the root, `arity` below each.

    Places as in a heap (J. W. J. Williams, "Algorithm 232", CACM 1964): below place p come arity * p + 1 and the next.
    Raises ValueError for an arity below one.
    """
    if arity < 1:
        raise ValueError(f"a tree needs at least one rank below another, not {arity}")
    streams = {}
    for place, rank in enumerate(ranks):
        below = tuple(ranks[arity * place + 1 : arity * place + arity + 1])
        if below:
            streams[rank] = replace(spec, name=f"{spec.name}/{rank}", producers=below, consumers=(rank,))
    return streams


def linear(ranks: Sequence[int], spec: StreamSpec) -> dict[int, StreamSpec]:
    """A chain in which elements go from the last rank to the first: a tree of arity one."""
    return tree(ranks, 1, spec)


def above(streams: dict[int, StreamSpec], rank: int) -> StreamSpec | None:
    """The stream that a rank sends into; None for the root."""
    return next((spec for spec in streams.values() if rank in spec.producers), None)


def relay(consumer: Consumer, producer: Producer, combine: Combine) -> int:
    """Send on what `combine` makes of each element that arrives, until the end; returns how many arrived."""

    def pass_on(element: Element) -> None:
        made = combine(element)
        if made is not None:
            producer.send_array(made, element.index, element.time, local=element.local, part=element.part)

    return consumer.operate(pass_on)
