"""What a series is: a snapshot of the parameters at arm, and its numbers."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

from .frames import Ring
from .values import Value

BASE = 50_000_000
"""Ticks of the detector's clock [1/s]."""
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(eq=False)
class Series:
    """From arm to disarm."""

    number: int
    """Its sequence id, from 1 again when the detector is initialised."""
    order: int
    """Arms since the simulator began."""
    config: Mapping[str, Value]
    """The detector's parameters; nobody changes these."""
    stream: Mapping[str, Value]
    channels: Sequence[str]
    ring: Ring
    nb_images: int
    """Images where all triggers come."""
    unique_id: str = field(default_factory=lambda: "".join(secrets.choice(CROCKFORD) for _ in range(26)))
    armed: datetime = field(default_factory=lambda: datetime.now(UTC))
    begun: datetime | None = None
    """When the first exposure began."""
    stopped: Event = field(default_factory=Event)
    """No more exposures."""
    discarded: Event = field(default_factory=Event)
    """What is not sent yet will not be."""
    exposed: int = 0
    """Images whose exposure is over, or in progress, or planned."""

    def value(self, key: str) -> Any:
        return self.config[key].value

    @property
    def legacy(self) -> bool:
        return "format" not in self.stream or self.stream["format"].value == "legacy"


@dataclass(frozen=True, slots=True)
class Image:
    """One exposure on its way."""

    number: int
    """From 0, in the series."""
    start: int
    """Since the first exposure of the series began [tick]."""
    stop: int
    """[tick]"""
    series_number: int
    """That of its series, unless a fault is asked for."""


def date_text(moment: datetime) -> str:
    """RFC 3339 with milliseconds: always as long."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def ticks(seconds: float) -> int:
    return round(seconds * BASE)


def moment_of(series: Series, tick: int) -> datetime:
    """When a tick of a series is."""
    return (series.begun or series.armed) + timedelta(seconds=tick / BASE)
