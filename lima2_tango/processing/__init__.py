"""Pipelines and their parts; `process` is the way in for scripts and notebooks."""

from .collect import Result
from .offline import Array, Source, find_pipeline, process

__all__ = ["Array", "Result", "Source", "find_pipeline", "process"]
