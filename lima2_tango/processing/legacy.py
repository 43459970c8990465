"""The Legacy pipeline: its graph."""

from functools import partial

from .graph import Graph, Output
from .graphed import Graphed
from .pipelines.legacy import LegacyParams
from .task import CAMERA, Frames
from .tasks import IMAGE, PROTECTION, SUMS, correction, regions_of

GRAPH = Graph(
    tasks=(
        *IMAGE,
        Frames(
            name="correction",
            does="(frame - background) / flat field, 0 where masked",
            reads="region",
            params=("$.background", "$.flatfield", "$.mask"),
            make=correction,
        ),
        PROTECTION,
        SUMS,
        *regions_of("accumulation"),
    ),
    outputs=(
        Output(
            label="input",
            stream=CAMERA,
            buffer="$.buffers.nb_input_frames_buffer",
            info="input_frame_info",
            counts=("nb_frames_source", "nb_frames_input"),
            tallies={"nb_frames_over_limit": "protection"},
            index="$.frame_idx_enabled",
        ),
        Output(
            label="processed",
            stream="accumulation",
            buffer="$.buffers.nb_frames_buffer",
            info="processed_frame_info",
            saving="$.saving",
            counts=("nb_frames_processed",),
            saved="nb_frames_saved",
            rows=("statistics", "profiles"),
        ),
    ),
)

Legacy = partial(Graphed[LegacyParams], graph=GRAPH)
"""The pipeline: (parameters, setup) -> what runs."""
