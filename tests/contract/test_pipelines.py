"""Every pipeline through the one suite that says what a pipeline is."""

import pytest

from lima2_tango.core.plugins import available, load
from lima2_tango.testing.matrices import ring_matrix, write_matrix
from lima2_tango.testing.pipelines import SPEC, PipelineContract


class TestEveryPipeline(PipelineContract):
    @pytest.fixture(params=available("processing.pipelines"))
    def plugin(self, request):
        return load("processing.pipelines", request.param)

    def parameters(self, plugin, folder):
        if "fai" not in plugin.params.model_fields:
            return plugin.params()
        matrix = ring_matrix((SPEC.height, SPEC.width), 7)
        fai = {"csr_path": write_matrix(folder / "csr.h5", matrix)}
        return plugin.params.model_validate({"fai": fai})
