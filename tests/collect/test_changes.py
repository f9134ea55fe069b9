"""What changed between two texts, for people to see."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from plumbline.collect.changes import pieces

texts = st.text(alphabet="ab c\n.é", max_size=60)


@given(texts, texts)
def test_the_pieces_are_both_texts_whole(before, after):
    found = pieces(before, after)
    assert "".join(p.text for p in found if p.kind != "in") == before
    assert "".join(p.text for p in found if p.kind != "out") == after


def test_a_changed_word_is_one_change():
    found = pieces("It swings in two seconds.", "It swings in three seconds.")
    assert [(p.kind, p.text) for p in found] == [
        ("same", "It swings in "),
        ("out", "two"),
        ("in", "three"),
        ("same", " seconds."),
    ]


def test_a_long_text_is_compared_by_lines():
    before = "word " * 3000 + "\nlast line"
    found = pieces(before, before.replace("last", "final"))
    assert [p.kind for p in found] == ["same", "out", "in"]
