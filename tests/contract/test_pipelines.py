"""Every pipeline through the one suite that says what a pipeline is."""

import pytest

from lima2_tango.core.plugins import available, load
from lima2_tango.testing.matrices import write_rings
from lima2_tango.testing.pipelines import SPEC, PipelineContract


class TestEveryPipeline(PipelineContract):
    @pytest.fixture(params=available("processing.pipelines"))
    def plugin(self, request):
        return load("processing.pipelines", request.param)

    def parameters(self, plugin, folder):
        if "fai" not in plugin.params.model_fields:
            return plugin.params()
        files = write_rings(folder, (SPEC.height, SPEC.width), 7)
        known = plugin.params().fai.model_dump()
        return plugin.params.model_validate({"fai": {name: path for name, path in files.items() if name in known}})
