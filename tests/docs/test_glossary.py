"""The glossary speaks of the code that exists."""

import re

import pytest
from pages import DOCS, ROOT

ROWS = re.findall(
    r"^\| (?!Word)([^|]+) \| [^|]+ \| (?:`([^`]+)`)? ?\|$",
    (DOCS / "explanations/glossary.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_words_are_in_order_and_unique() -> None:
    words = [word for word, _ in ROWS]
    assert len(words) > 40
    assert words == sorted(set(words))


@pytest.mark.parametrize(("word", "place"), [(word, place) for word, place in ROWS if place])
def test_a_word_is_used_where_the_glossary_says(word: str, place: str) -> None:
    path = ROOT / "lima2_tango" / place
    sources = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    text = "\n".join(source.read_text(encoding="utf-8") for source in sources).lower()
    assert re.sub(r" \(.*\)", "", word).split()[0] in text
