"""Every sink, in every compression and both layouts, keeps the contract of sinks."""

from itertools import count, product

import pytest

from lima2_tango.core.storage import Compression, NbDimensions, SavingParams
from lima2_tango.saving.writer import opener
from lima2_tango.testing.sinks import METADATA, SPEC, SinkContract


class TestSeriesWriter(SinkContract):
    @pytest.fixture(params=product(Compression, NbDimensions), ids="-".join)
    def open_sink(self, request, tmp_path):
        compression, dimensions = request.param
        number = count()

        def open_one():
            params = SavingParams(
                base_path=str(tmp_path / str(next(number))),
                nb_frames_per_file=3,
                compression=compression,
                nb_dimensions=dimensions,
            )
            return opener(0, METADATA, None)(params, SPEC, "$.saving")

        return open_one
