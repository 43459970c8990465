"""Whatever a page points at exists."""

import re
from pathlib import Path

import pytest
from pages import DOCS, ROOT

PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / "servers").rglob("*.md"), ROOT / "README.md"])
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def _text(page: Path) -> str:
    """Without code, where brackets mean something else."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """Names of the headings as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in HEADING.findall(_text(page))
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(_text(page)):
        found = (page.parent / target).resolve() if target else page
        assert found.exists(), f"{page}: {target}"
        assert not anchor or anchor in _anchors(found), f"{page}: {target}#{anchor}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "README.md"], ids=lambda page: page.name)
def test_every_page_can_be_reached(page: Path) -> None:
    others = [other for other in PAGES if other != page]
    linked = {
        (other.parent / target).resolve() for other in others for target, _ in LINK.findall(_text(other)) if target
    }
    assert page.resolve() in linked


def test_decisions_are_numbered_without_a_gap_and_have_the_same_parts() -> None:
    decisions = sorted((DOCS / "explanations/decisions").glob("0*.md"))
    assert [int(page.name[:4]) for page in decisions] == list(range(1, len(decisions) + 1))
    for page in decisions:
        assert HEADING.findall(_text(page))[1:] == ["Context", "Decision", "Why", "Consequences"], page.name
