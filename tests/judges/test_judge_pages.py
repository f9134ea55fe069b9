"""The pages of judges: researchers make, revise, ask and read them; admins manage endpoints."""

from __future__ import annotations

import pytest

from plumbline.judges import asking, casting, constitutions, judges, revising
from plumbline.judges.kind import Said
from plumbline.judges.models import Check, Endpoint, Judge, Revising, Verdict
from plumbline.judges.verdicts import store
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
HERE = "/p/alpha/lab/judges/"


@pytest.fixture
def researcher(alice, client_for):
    return client_for(alice)


@pytest.fixture
def admin(dana, client_for):
    return client_for(dana)


def page(client, path: str = "", **query) -> str:
    reply = client.get(HERE + path, query)
    assert reply.status_code == 200, (path, reply.status_code)
    return reply.content.decode()


def test_a_project_without_judges_says_what_there_could_be(researcher):
    assert "No judges yet" in page(researcher)
    kinds = page(researcher, "new/")
    for title in ("Language model, pair by pair", "by a constitution", "Generative reward model"):
        assert title in kinds
    assert researcher.get(f"{HERE}new/?kind=nobody").status_code == 404


def test_a_judge_is_made_and_revised_by_a_form_of_its_knobs(researcher, project, endpoint):
    campaign = open_campaign(project, guidelines="Prefer the *short* one.")
    form = page(researcher, "new/", kind="pairwise")
    assert "How a verdict is read" in form
    knobs = {"knob-verdict": "marker", "knob-labels": "random", "knob-slight": "0.7"}
    rest = {"knob-clear": "0.9", "knob-least_mass": "0.1", "knob-temperature": "0"}
    rest |= {"knob-max_tokens": "64", "knob-seed": "3"}
    data = {"name": "Judy", "endpoint": endpoint.pk, "guidelines": campaign.pk, **knobs, **rest}
    bad = researcher.post(f"{HERE}new/?kind=pairwise", {**data, "knob-slight": "2"})
    assert (bad.status_code, "Slight must be below 1" in bad.content.decode()) == (422, True)
    assert researcher.post(f"{HERE}new/?kind=pairwise", data).status_code == 302
    judge = Judge.objects.get()
    first = judges.current(judge)
    assert first.settings["guidance"] == "Prefer the *short* one."
    assert first.settings["knobs"]["labels"] == "random"
    changed = {**data, "guidance": "Prefer the short one.", "knob-seed": "4"}
    assert researcher.post(f"{HERE}{judge.pk}/edit/", changed).status_code == 302
    assert judges.current(judge).number == 2
    assert researcher.post(f"{HERE}{judge.pk}/edit/", changed).status_code == 302
    assert judges.current(judge).number == 2
    versions = page(researcher, f"{judge.pk}/versions/")
    assert "From version 1 to 2" in versions
    assert ">Seed<" in versions
    assert ">Labels<" not in versions


def test_only_admins_manage_endpoints_and_the_key_is_a_variables_name(
    researcher, admin, project, stub, work, settings, tmp_path
):
    settings.RUNS_DIR = tmp_path
    data = {"name": "API", "url": f"{stub.url}/", "model": "m", "price_in": "1", "price_out": "2"}
    assert researcher.post(f"{HERE}endpoints/", data).status_code == 403
    bad = admin.post(f"{HERE}endpoints/", {**data, "key_variable": "sk-real-key"})
    assert (bad.status_code, "never the key" in bad.content.decode()) == (422, True)
    assert admin.post(f"{HERE}endpoints/", data).status_code == 302
    made = Endpoint.objects.get()
    assert made.url == stub.url
    assert "Add an endpoint" not in page(researcher, "endpoints/")
    assert researcher.post(f"{HERE}endpoints/{made.pk}/check/").status_code == 403
    stub.answer = lambda body: "ready <b>"
    assert admin.post(f"{HERE}endpoints/{made.pk}/check/").status_code == 302
    assert "hx-get" in page(admin, "endpoints/")
    work()
    assert Check.objects.count() == 1
    assert "“ready &lt;b&gt;”" in page(researcher, "endpoints/")
    assert admin.post(f"{HERE}endpoints/{made.pk}/retire/").status_code == 302
    assert "retired" in page(researcher, "endpoints/")


def test_a_constitution_is_edited_and_says_which_judges_are_behind(researcher, project, endpoint):
    assert researcher.post(f"{HERE}constitutions/", {"name": "Rules"}).status_code == 302
    (made,) = project.constitutions.all()
    here = f"constitutions/{made.pk}/"
    for text, weight in (("Be brief.", "3"), ("Be kind.", "1")):
        data = {"text": text, "weight": weight, "active": "on"}
        assert researcher.post(HERE + here, data).status_code == 302
    assert "75.0 %" in page(researcher, here)
    judges.make(project, "Con", "constitution", {}, endpoint=endpoint, constitution=made)
    assert "as they were" not in page(researcher, here)
    kind = made.principles.get(text="Be kind.")
    bad = researcher.post(f"{HERE}principles/{kind.pk}/", {"text": "Be kind.", "weight": "0"})
    assert bad.status_code == 422
    off = {"text": "Be kind.", "weight": "1"}
    assert researcher.post(f"{HERE}principles/{kind.pk}/", off).status_code == 302
    told = page(researcher, here)
    assert "100.0 %" in told
    assert "still goes by the principles as they were" in told


def test_a_judge_is_tried_on_comparisons_and_its_word_is_shown(
    researcher, project, version, work, stub
):
    campaign = open_campaign(project, comparisons=12)
    judge = version.judge
    form = {"count": "11", "dollars": "1", "campaign": campaign.pk, "ballots": "on"}
    assert researcher.post(f"{HERE}{judge.pk}/try/", form).status_code == 302
    live = researcher.get(
        f"{HERE}{judge.pk}/", headers={"HX-Request": "true", "HX-Target": "askings"}
    )
    assert b"every 2s" in live.content
    work()
    told = page(researcher, f"{judge.pk}/")
    assert "every 2s" not in told
    assert "Counted." in told
    assert told.count("both orders agree") == 10
    assert "Page 1 of 2" in told
    assert judge.account.ballots.count() == 11
    assert "Judy" in page(researcher)
    asked = len(stub.bodies)
    assert researcher.post(f"{HERE}{judge.pk}/try/", form).status_code == 302
    work()
    assert len(stub.bodies) == asked, "nothing is asked twice"
    one = campaign.comparisons.order_by("pk").first()
    again = {"comparison": one.pk, "count": "1", "dollars": "0"}
    assert researcher.post(f"{HERE}{judge.pk}/try/", again).status_code == 302
    work()
    assert Verdict.objects.count() == 12


def test_verdicts_are_found_by_what_is_wrong_with_them(researcher, project, version):
    campaign = open_campaign(project, comparisons=3)
    pairs = [pair for _, pair in casting.pairs(campaign.comparisons.all())]
    q = [(0.9, 0.1), (0.9, 0.8), (None, 0.2)]
    said = [
        Said(one.pk, other.pk, first, second, {"orders": [{"q": first}, {"q": second}]})
        for (one, other), (first, second) in zip(pairs, q, strict=True)
    ]
    store(version, said)
    for show, expected in (("all", 3), ("inconsistent", 1), ("null", 1), ("people", 0)):
        told = page(researcher, f"{version.judge_id}/", show=show)
        assert told.count('class="verdict"') == expected, show
    assert "orders disagree" in page(researcher, f"{version.judge_id}/", show="inconsistent")
    assert "no verdict" in page(researcher, f"{version.judge_id}/", show="null")


def test_what_cannot_be_asked_is_said(researcher, project, version):
    campaign = open_campaign(project, comparisons=1)
    here = f"{HERE}{version.judge_id}/try/"
    said = researcher.post(here, {"count": "1", "dollars": "1", "ballots": "on"}, follow=True)
    assert b"Choose the campaign in which ballots are cast." in said.content
    campaign.comparisons.all().delete()
    said = researcher.post(here, {"count": "1", "dollars": "1"}, follow=True)
    assert b"no comparison of two answers" in said.content
    assert researcher.post(f"{HERE}{version.judge_id}/retire/").status_code == 302
    said = researcher.post(here, {"count": "1", "dollars": "1"}, follow=True)
    assert b"Judy is retired." in said.content
    assert researcher.get(f"{HERE}{version.judge_id}/edit/").status_code == 404


def test_revisions_are_asked_for_shown_and_included(researcher, project, endpoint, work, stub):
    made = constitutions.add(project, "Rules")
    constitutions.state(made, "Be brief.")
    version = judges.make(project, "Con", "constitution", {}, endpoint=endpoint, constitution=made)
    campaign = open_campaign(project, comparisons=2)
    stub.answer = lambda body: "A better one." if len(body["messages"]) > 1 else "It rambles."
    data = {"campaign": campaign.pk, "count": "3", "name": "Revised", "dollars": "0"}
    assert researcher.post(f"{HERE}{version.judge_id}/revise/", data).status_code == 302
    work()
    found = Revising.objects.get()
    told = page(researcher, f"revisions/{found.pk}/")
    assert told.count("A better one.") == 3
    assert "It rambles." in told
    assert "no round learns from these" in told
    here = f"{HERE}revisions/{found.pk}/include/"
    assert researcher.post(here, {"included": "yes"}).status_code == 302
    assert "rounds may learn from these" in page(researcher, f"revisions/{found.pk}/")
    again = researcher.post(f"{HERE}{version.judge_id}/revise/", data, follow=True)
    assert b"There is a campaign called Revised already." in again.content


def test_another_projects_judge_is_nowhere(client_for, charlie, version):
    other = client_for(charlie)
    assert other.get(f"{HERE}{version.judge_id}/").status_code == 404


def test_a_reward_model_judge_shows_its_scores(researcher, project):
    (model,) = lab.reward_models(project, "rm")
    version = judges.make(project, "RM", "reward_model", {}, reward_model=model)
    (pair,) = [p for _, p in casting.pairs(open_campaign(project, comparisons=1).comparisons.all())]
    detail = {"scores": [1.5, 0.25], "members_for_first": 1.0}
    store(version, [Said(pair[0].pk, pair[1].pk, 0.78, 0.22, detail)])
    told = page(researcher, f"{version.judge_id}/")
    assert "Scores: A 1.5, B 0.25" in told
    assert "100.0 % of its members" in told
    assert asking.Asking.objects.count() == 0
    assert revising.Revising.objects.count() == 0
