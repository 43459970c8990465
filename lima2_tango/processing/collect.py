"""What a pipeline has made, taken out of it as it is committed, and put together frame by frame."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lima2_tango.core.frame import Block
from lima2_tango.core.sparse import unpacked

from .pipeline import Pipeline
from .plugin import PipelinePlugin

MAIN, INPUT = "getFrame", "getInputFrame"
"""Getters of the frames that a pipeline makes, and of those that came in."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a pipeline made of one frame; arrays are the receiver's own."""

    index: int
    """Number of the processed frame: of a sum, the number of the sum."""
    data: dict[str, Any] = field(default_factory=dict)
    """By name, as in `frame` of getter getFrame: images [row, column] (or [channel, row, column]), vectors [bin], and
    sparse frames (`core.sparse.SparseFrame`). A sum so far is with the newest frame in it."""
    rows: dict[str, NDArray[np.void]] = field(default_factory=dict)
    """By name, as in `roi_statistics` of popRoiStatistics: structured arrays, a row for each region or line."""

    @property
    def frame(self) -> NDArray[Any]:
        """The image as the pipeline saves it; KeyError in a pipeline that makes none."""
        image: NDArray[Any] = self.data["frame"]
        return image


class Collector:
    """Takes what is committed out of a pipeline, and puts together what belongs to one frame."""

    def __init__(self, pipeline: Pipeline[Any], plugin: PipelinePlugin) -> None:
        self._pipeline = pipeline
        self._queue: SimpleQueue[tuple[str, Block]] = SimpleQueue()
        images = {command: label for command, label in plugin.frame_commands.items() if command != INPUT}
        self._images = {label: name_of(command) for command, label in images.items() if label in pipeline.histories}
        self._sparse = {label: name_of(command) for command, label in plugin.sparse_commands.items()}
        self._vectors = [(label, at, name_of(one)) for one, (label, at) in plugin.vector_commands.items()]
        self._main = plugin.frame_commands.get(MAIN, next(iter(self._images), ""))
        self._made: dict[int, Result] = {}
        self._newest = -1
        for label in {*self._images, *self._sparse, *(label for label, _, _ in self._vectors)}:
            pipeline.histories[label].on_add = lambda block, label=label: self._queue.put((label, _copied(block)))

    def complete(self, every: bool = False) -> Iterator[Result]:
        """Results that nothing will be added to: those before the newest block, whose rows may still come.

        `every`: all there are.
        """
        while not self._queue.empty():
            label, block = self._queue.get()
            self._take(label, block)
        for name, rows in pop_rows(self._pipeline).items():
            frames, begins = np.unique(rows["frame_idx"], return_index=True)
            for frame, part in zip(frames.tolist(), np.split(rows, begins[1:]), strict=True):
                self._of(frame).rows[name] = part
        ready = sorted(index for index in self._made if every or index < self._newest)
        return iter([self._made.pop(index) for index in ready])

    def _take(self, label: str, block: Block) -> None:
        for number, values in zip(block.index.tolist(), block.data, strict=True):
            result = self._of(number)
            if label in self._images:
                result.data[self._images[label]] = values[0] if len(values) == 1 else values
            if label in self._sparse:
                result.data[self._sparse[label]] = unpacked(values)
            for vectors, channel, name in self._vectors:
                if vectors == label and channel < len(values):
                    result.data[name] = values[channel, 0]
        if label == self._main:
            self._newest = int(block.index[0])

    def _of(self, index: int) -> Result:
        return self._made.setdefault(index, Result(index))


def _copied(block: Block) -> Block:
    return Block(block.data.copy(), block.index.copy(), block.local, block.time, block.lease)


def pop_rows(pipeline: Pipeline[Any]) -> dict[str, NDArray[np.void]]:
    """By name, the rows since the last pop."""
    popped = {command: pipeline.pop(command) for command in pipeline.rows}
    return {
        name_of(command): np.frombuffer(packed, pipeline.rows[command].dtype)
        for command, packed in popped.items()
        if packed
    }


def name_of(command: str) -> str:
    """`fai_averint` of getFaiAverint, `roi_statistics` of popRoiStatistics."""
    letters = command.removeprefix("get").removeprefix("pop")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in letters).lstrip("_")
