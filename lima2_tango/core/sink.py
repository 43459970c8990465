"""Where a pipeline sends the frames that are kept; `saving` implements it, `control` connects it."""

from typing import Any, Protocol

from .frame import Block, FrameSpec
from .meter import Meter
from .sparse import SparseSpec
from .storage import SavingParams


class Sink(Protocol):
    """One stream of frames into files."""

    @property
    def nb_frames_saved(self) -> int:
        """Frames whose bytes were handed to the file system so far."""

    @property
    def written(self) -> Meter:
        """Bytes of images handed to the file system, as they are in the files."""

    def encode(self, block: Block) -> Any:
        """Compress the block's frames; called by several workers at once, in any order."""

    def append(self, encoded: Any) -> None:
        """Write what `encode` returned; called by one thread at a time, in order of local index."""

    def discard(self, encoded: Any) -> None:
        """Give back the buffers of what will not be written."""

    def close(self) -> None:
        """Complete, trim and name the last file; safe twice. After a failure too: what was appended stays readable."""


class OpenSink(Protocol):
    """Opens the sinks of a receiver."""

    def __call__(
        self,
        params: SavingParams,
        spec: FrameSpec,
        json_path: str,
        /,
        *,
        vectors: bool = False,
        sparse: SparseSpec | None = None,
        fewer: bool = False,
    ) -> Sink:
        """Open a sink for frames of this spec; the text is the JSON path of its parameters, for its refusals.

        `vectors`: a frame is (1 or 2, 1, length), a vector and, where there are two, the error of each of its values.
        `sparse`: frames are packed sparse frames, `sparse.packed` is their spec. `fewer`: than the run has frames.
        Raises ParamError where the files cannot be written. Makes the folder; files change from the first `encode` on.
        """
