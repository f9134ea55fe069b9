"""A reward program as it is read on a page: all of it, in its own words, and nothing that runs."""

from __future__ import annotations

from dataclasses import replace

from django.template.loader import render_to_string

from align.program_diff import difference
from align.programs import Criterion, RewardProgram, to_json
from tests.align.hostile import inside

CRITERIA = (
    Criterion(id="kind", question="Is it <b>kind</b>?", anchors={"1": "rude", "5": "warm"}),
    Criterion(id="good", question="Is it good?", weight=2.5),
)
PROGRAM = RewardProgram(
    code=inside("text = '''<script>\n\n</script>'''\nreturn {'total': 1.0, 'components': {}}"),
    rubric=CRITERIA,
    params={"items": 0.25, "b": 1e-9},
)


def page(program) -> str:
    return render_to_string("lab/program.html", {"program": program})


def test_a_page_shows_code_by_line_rubric_and_params():
    html = page(PROGRAM)
    assert html == page(to_json(PROGRAM)), "a program and its JSON look the same"
    assert html.count('class="program-line"') == len(PROGRAM.code.splitlines())
    assert '<span class="k">def</span>' in html
    assert "<dt>1</dt><dd>rude</dd>" in html
    assert '<td data-label="Weight" class="num">2.5</td>' in html
    assert '<th scope="row" class="mono">items</th><td class="num">0.25</td>' in html
    assert "1e-09" in html


def test_whatever_a_program_says_is_text():
    html = page(PROGRAM)
    assert "<script" not in html
    assert "<b>kind" not in html
    changed = replace(PROGRAM, code="</td><script>", rubric=(replace(CRITERIA[0], id="<i>"),))
    told = render_to_string("lab/program_diff.html", {"difference": difference(PROGRAM, changed)})
    assert "<script" not in told
    assert "<i>" not in told


def test_parts_that_a_program_has_not_are_not_shown():
    html = page(RewardProgram(kind="rubric", rubric=CRITERIA))
    assert "Code" not in html
    assert "It has none." in html


def test_a_difference_shows_lines_with_both_numbers_and_figures_before_and_after():
    new = replace(
        PROGRAM,
        kind="code",
        code=PROGRAM.code.replace("1.0", "2.0"),
        rubric=CRITERIA[1:],
        params={"items": 0.5, "b": 1e-9},
    )
    html = render_to_string("lab/program_diff.html", {"difference": difference(PROGRAM, new)})
    assert '<tr data-kind="removed"><td class="number">5</td><td class="number"></td>' in html
    assert '<tr data-kind="added"><td class="number"></td><td class="number">5</td>' in html
    assert '<td class="num">0.25</td><td class="num">0.5</td>' in html
    assert "1e-09" not in html, "what is the same is left out"
    assert "<del>rude</del>" in html
    assert "from <code>hybrid</code> to <code>code</code>" in html


def test_equal_programs_are_said_to_be_equal():
    found = difference(PROGRAM, PROGRAM)
    html = render_to_string("lab/program_diff.html", {"difference": found})
    assert "The two programs are the same." in html
    assert "<table" not in html
