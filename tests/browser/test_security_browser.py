"""A browser walks all pages of all roles, among hostile words, and the content policy has nothing
to refuse; no dialog opens, nothing is asked of another host."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from plumbline.permissions import PUBLIC, TABLE, allows
from tests.security.world import tenant

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
HOSTILE = (
    "\"'><img src=https://evil.example/x.png onerror=alert(1)><script>alert(1)</script>"
    "<p hx-get=/accounts/logout/ hx-trigger=load>![x](https://evil.example/y.png)"
)
WATCH = """addEventListener("securitypolicyviolation", (event) => {
    console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
}, true);"""
LEAVES = ("/accounts/logout/",)


def walk(page, starts):
    """Every kind of page that links lead to from these, each once; paths with # for numbers."""
    waiting, kinds = list(starts), set()
    while waiting:
        path = waiting.pop(0)
        parts = urlsplit(path).path.split("/")
        kind = "/".join("#" if part[:1].isdigit() else part for part in parts)
        if kind in kinds or kind.startswith(LEAVES):
            continue
        kinds.add(kind)
        try:
            page.goto(path)
        except Exception as error:
            if "Download is starting" not in str(error):
                raise
            continue
        links = page.eval_on_selector_all(
            "a[href]:not([download])",
            "all => all.map((one) => new URL(one.getAttribute('href'), location.href).href)",
        )
        here = urlsplit(page.url).netloc
        waiting += [urlsplit(one).path for one in links if urlsplit(one).netloc == here]
    return kinds


def test_no_page_of_any_role_breaks_the_policy_or_runs_anybodys_words(site, browse, chromium):
    made = tenant("alpha", lambda field: f"{field} {HOSTILE}"[:78] if field in SHORT else HOSTILE)
    dialogs, found = [], {}
    for role in ("annotator", "admin", None):
        user = made.people[role] if role else None
        page = browse(user)
        page.add_init_script(WATCH)
        page.on("dialog", lambda one: (dialogs.append(one.message), one.dismiss()))
        starts = [
            made.path(name)
            for name, row in TABLE.items()
            if "GET" in row and (row["GET"] == PUBLIC or role)
            and (row["GET"] not in ("annotator", "researcher", "admin") or allows(role, row["GET"]))
        ]  # fmt: skip
        found[role] = walk(page, starts)
        page.context.close()
    assert not dialogs
    assert len(found["admin"]) > 80
    assert len(found["annotator"]) > 8
    # What a browser writes to its console of pages that are rightly refused or missing.
    browse.troubles[:] = [
        one for one in browse.troubles if "the server responded with a" not in one
    ]


SHORT = {"project", "campaign", "prompt set", "experiment", "endpoint", "judge", "key", "view"}
