"""The figures of *How many receivers a detector needs* are those that the model gives for the rates on the page."""

from dataclasses import replace

import pytest

from lima2_tango.control.scaling import Answer, Detector, Host, Rates, answer
from lima2_tango.core.acquisition import Sharing
from tests.docs.pages import DOCS

PAGE = DOCS / "explanations" / "scaling.md"
RATES = Rates(1.431e9, 0.1606, 1.631e9, 7.196e9, 11.34e9, 0.95, 2, 0.0)
JUNGFRAU = Detector(4096, 4096, 2, 2000.0)
HOST = Host(64, 512 << 30, 200e9 / 8, 4e9)


def planned(sharing: Sharing) -> Answer:
    return answer(replace(JUNGFRAU, sharing=sharing), HOST, RATES)


def test_the_page_names_the_rates() -> None:
    text = " ".join(PAGE.read_text().split())
    for figure in ("1.431 GB/s", "0.1606", "95 %", "7.196 GB/s", "1.631 GB/s", "11.34 GB/s"):
        assert figure in text


@pytest.mark.parametrize(("resource", "row"), [("cores", "cores"), ("compression", "compression"), ("disk", "disk")])
def test_the_table_says_what_the_model_says(resource: str, row: str) -> None:
    (cells,) = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith(f"| {row} |")]
    both = [planned(sharing) for sharing in (Sharing.FULL_FRAMES, Sharing.PARTIAL_FRAMES)]
    needs = [next(need for need in found.needs if need.resource == resource) for found in both]
    gives = {
        f"{need.gives or 0:.0f}" if need.unit == "frames/s" else f"{(need.gives or 0) / 1e9:.3g}" for need in needs
    }
    assert all(figure in cells[2] for figure in gives)
    assert [int(cell.strip(" *")) for cell in cells[3:5]] == [need.receivers for need in needs]


def test_the_network_is_the_bottleneck_of_a_jungfrau() -> None:
    whole, parts = planned(Sharing.FULL_FRAMES), planned(Sharing.PARTIAL_FRAMES)
    assert (whole.hosts, parts.hosts) == (3, 6)
    assert whole.bottleneck == parts.bottleneck == "network"
    assert answer(replace(JUNGFRAU, compressed=False), HOST, RATES).hosts == 17
    assert "| **3** | **6** |" in PAGE.read_text()
