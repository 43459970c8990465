"""Every pipeline through the one suite that says what a pipeline is."""

import pytest

from lima2_tango.core.plugins import available, load
from lima2_tango.testing.pipelines import PipelineContract


class TestEveryPipeline(PipelineContract):
    @pytest.fixture(params=available("processing.pipelines"))
    def plugin(self, request):
        return load("processing.pipelines", request.param)
