"""The Fai pipeline: its graph."""

from .calibration import integration_of
from .graph import Graph, Output
from .nodes.integration import Integration
from .pipelines.fai import IntegrationParams
from .task import Frames, Place
from .tasks import IMAGE, PROTECTION, mask_alone, regions_of


def integration(place: Place, params: IntegrationParams) -> Integration:
    return integration_of(params, place.stream.spec, place.stream.valid)


GRAPH = Graph(
    tasks=(
        *IMAGE,
        Frames(
            name="correction",
            does="0 where masked",
            reads="region",
            params=("$.mask",),
            make=mask_alone,
        ),
        PROTECTION,
        Frames(
            name="integration",
            does="of one channel: average of each bin, and its standard error",
            reads="correction",
            params=("$.fai",),
            make=integration,
        ),
        *regions_of("correction"),
    ),
    outputs=(
        Output(
            label="source",
            stream="correction",
            buffer="$.buffers.nb_frames_buffer",
            info="processed_frame_info",
            saving="$.saving_dense",
            counts=("nb_frames_source",),
            saved="nb_frames_saved",
            tallies={"nb_frames_over_limit": "protection"},
            index="$.frame_idx_enabled",
            rows=("statistics", "profiles"),
        ),
        Output(
            label="integrated",
            stream="integration",
            buffer="$.buffers.nb_frames_buffer",
            info="vector_info",
            saving="$.saving_fai",
            vectors=True,
            counts=("nb_frames_integrated",),
        ),
    ),
)
