"""Attributes as generic clients show them: none without a label and a description."""

from typing import Any

import tango.server


def attribute(*, label: str, **declared: Any) -> Any:
    """`tango.server.attribute`; `label` is what a person reads in a panel, `doc` or the docstring explains it."""
    return tango.server.attribute(label=label, **declared)
