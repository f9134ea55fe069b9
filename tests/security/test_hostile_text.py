"""What people, models and files write is shown as words, wherever it is shown."""

from __future__ import annotations

import csv
import io
import itertools
import re
from pathlib import Path

import pytest
from django.db import transaction

from plumbline.accounts.models import User
from plumbline.collect.render import markdown
from plumbline.permissions import TABLE
from tests.security.payloads import HOST, Page, corpus
from tests.security.tenants import stranger
from tests.security.world import ROLES, tenant

ROOT = Path(__file__).resolve().parents[2]
SEED, SIZE = 20261123, 6000
# The only places that may call text safe, each of which escapes what it is given.
TRUSTED = {
    "platform/plumbline/collect/render.py",
    "platform/plumbline/collect/templatetags/rendering.py",
    "platform/plumbline/judges/templatetags/programs.py",
    "platform/plumbline/lab/cells.py",
}


def troubles(texts):
    found = {}
    for text in texts:
        if wrong := Page(str(markdown.__wrapped__(text)), part=True).troubles:
            found[text] = wrong
    return found


def test_the_renderer_makes_no_text_act():
    texts = corpus(SIZE, SEED)
    assert len(set(texts)) == SIZE >= 5000
    found = troubles(texts)
    assert not found, f"seed {SEED}: {list(found.items())[:3]}"


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(8))
def test_the_renderer_makes_no_text_of_other_seeds_act(seed):
    assert not troubles(corpus(10_000, seed))


def test_two_hostile_texts_make_no_third():
    """Pieces that are harmless alone, side by side in one text."""
    texts = corpus(1500, SEED + 1)
    joined = [f"{one}\n{other}\n\n{one}" for one, other in itertools.pairwise(texts)]
    assert not troubles(joined)


def test_the_reader_of_pages_sees_what_acts():
    """The check itself: each of these is found where nothing cleans it."""
    for text in (
        "<script>alert(1)</script>",
        "<img src=https://evil.example/x.png>",
        "<p onclick=alert(1)>",
        "<a href='java\nscript:alert(1)'>",
        "<p style='x'>",
        "<p hx-get=//evil.example>",
        "<p data-hx-get=/x>",
        "<iframe></iframe>",
        "<form action=//evil.example>",
        "<meta http-equiv=refresh content=0>",
    ):
        assert Page(text).troubles, text
        assert Page(text, part=True).troubles, text
    assert not Page("<p>alert(1)</p><a href='https://x.example'>x</a>", part=True).troubles


@pytest.fixture
def pages(db):
    """`pages(words)`: every page that anybody of a tenant sees whose texts are these."""

    def all_pages(words, slug, wanted=lambda name: True):
        made = tenant(slug, words)
        for user in made.people.values():
            User.objects.filter(pk=user.pk).update(
                first_name=words("name")[:150], username=f"{user.username} {words('user')}"[:150]
            )
        for role in ROLES:
            browser = stranger()
            browser.force_login(made.people[role], backend="plumbline.accounts.backends.ByPassword")
            for name, methods in TABLE.items():
                for method in methods if wanted(name) else ():
                    if role != "researcher" and methods[method] != role:
                        continue
                    for headers in ({}, {"HX-Request": "true"}) if method == "GET" else ({},):
                        with transaction.atomic():
                            path = made.path(name)
                            posted = {one: words(one) for one in FIELDS} if method == "POST" else {}
                            ask = browser.post if method == "POST" else browser.get
                            response = ask(path, posted, headers=headers)
                            transaction.set_rollback(True)
                        if name == "account_logout":
                            browser.force_login(
                                made.people[role],
                                backend="plumbline.accounts.backends.ByPassword",
                            )
                        yield name, method, response

    return all_pages


FIELDS = (
    *("name", "text", "task", "reason", "comment", "guidelines", "set_name", "campaign", "url"),
    *("model", "source", "format", "query", "do", "guidance", "licence", "search", "q"),
)


@pytest.mark.sqlite
@pytest.mark.parametrize(
    "turn", [0, *(pytest.param(turn, marks=pytest.mark.nightly) for turn in range(1, 6))]
)
def test_no_stored_or_returned_text_acts_on_any_page(turn, pages):
    """Names, prompts, answers, comments, judges' words, guidelines, errors, what a form gives back:
    each text of the world is another payload."""
    drawn = iter(corpus(4000, SEED + 10 + turn))
    used, found, shown = [], {}, 0

    def words(field):
        used.append(next(drawn).replace("\x00", ""))
        return used[-1]

    for name, method, response in pages(words, "alpha"):
        assert response.status_code < 500, (name, method)
        if not response.get("Content-Type", "").startswith("text/html"):
            continue
        page = response.content.decode()
        shown += HOST in page or "alert" in page
        if wrong := Page(page).troubles:
            found[name, method] = wrong[:3]
    assert not found, f"seed {SEED + 10 + turn}"
    assert len(used) > 100
    assert shown > 60, "they are on the pages, as words"


def test_queries_come_back_as_words(pages, db):
    """What stands in an address is shown by searches, filters and refusals."""
    made = tenant("alpha", lambda field: field)
    browser = stranger()
    browser.force_login(made.people["admin"], backend="plumbline.accounts.backends.ByPassword")
    drawn = iter(corpus(4000, SEED + 20))
    found = {}
    for name, methods in TABLE.items():
        if "GET" in methods:
            given = {
                one: next(drawn)
                for one in ("q", "search", "page", "sort", "columns", "baseline", "kind", "vote",
                            "a", "b", "judge", "policy", "state", "metric", "name", "next")
            }  # fmt: skip
            response = browser.get(made.path(name), given)
            assert response.status_code < 500, (name, given)
            shown = response.get("Content-Type", "").startswith("text/html")
            if shown and (wrong := Page(response.content.decode()).troubles):
                found[name] = wrong[:3]
    assert not found


FORMULAS = ("=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\t=1", "\r=1", "=HYPERLINK(1)")


def test_no_cell_of_a_download_is_a_formula(pages, db):
    turning = itertools.cycle(FORMULAS)
    found, cells = {}, 0
    made = pages(
        lambda field: f"{next(turning)} {field}", "alpha", re.compile("csv|load|cur").search
    )
    for name, _, response in made:
        if not response.get("Content-Type", "").startswith("text/csv"):
            continue
        written = b"".join(response) if response.streaming else response.content
        for row in csv.reader(io.StringIO(written.decode(), newline="")):
            for cell in row:
                cells += 1
                if cell.startswith(("=", "+", "-", "@", "\t", "\r")) and not NUMBER.fullmatch(cell):
                    found[name] = cell
    assert not found
    assert cells > 100


NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-](inf|nan)")


def test_only_these_places_call_text_safe():
    """A template never does; of Python, the renderer and what escapes for itself."""
    in_templates = [
        str(path)
        for path in (ROOT / "templates").rglob("*.html")
        if re.search(r"\|\s*(safe|safeseq)\b|autoescape\s+off|\|\s*unescape", path.read_text())
    ]
    assert not in_templates
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "platform").rglob("*.py")
        if re.search(r"\bmark_safe\(|\bSafeString\(|\.__html__|SafeData", path.read_text())
    }
    assert found == TRUSTED


def test_no_script_of_ours_makes_html_of_text():
    """They set texts, or put in what the server rendered."""
    acts = r"\beval\(|new Function|document\.write|insertAdjacentHTML|outerHTML\s*=|javascript:"
    for path in (ROOT / "static").glob("*.js"):
        assert not re.search(acts, path.read_text()), path.name
    writers = {p.name for p in (ROOT / "static").glob("*.js") if "innerHTML" in p.read_text()}
    assert writers <= INNER, writers - INNER


# They put in HTML that the server made of text, by its renderer.
INNER = {"chat_view.js", "live.js"}
