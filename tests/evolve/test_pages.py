"""Pages of sessions: what each shows, what is refused, and who may see it."""

from __future__ import annotations

import pytest

from plumbline.evolve import trials
from plumbline.evolve.models import Evolution, Program, Trial
from tests.evolve import laboratory

pytestmark = pytest.mark.django_db
HOME = "/p/alpha/evolve/"


@pytest.fixture
def session(evolution_of, rater):
    evolution = evolution_of()
    laboratory.ranked(evolution, rater, comment="Too long for me.")
    return evolution


def test_the_list_invites_and_then_lists(client_for, alice, project, evolution_of, rater):
    page = client_for(alice)
    said = page.get(HOME).content.decode()
    assert "No sessions yet" in said
    assert 'aria-current="page">Reward programs' in said
    evolution = evolution_of()
    said = page.get(HOME).content.decode()
    assert evolution.name in said
    assert "the seeded writer" in said
    assert "1 of 2" in said


def test_annotators_and_strangers_see_nothing(client_for, session, bob, charlie):
    for address in ("", "new/", f"{session.pk}/", f"{session.pk}/compare/"):
        assert client_for(bob).get(HOME + address).status_code == 403
        assert client_for(charlie).get(HOME + address).status_code == 404


def form(prompt_set, **changed):
    usual = {
        **{"name": "Calm", "task": "Calm answers.", "prompt_set": prompt_set.pk, "writer": ""},
        **{"rubric": "", "rater": "", "overlap": 1, "generations_wanted": 3, "arms": 4},
        **{"chosen_prompts": 4, "spare_prompts": 2, "hidden_prompts": 5, "pool_size": 4},
        **{"fresh_prompts": 3, "least_win_rate": 0.5, "incumbent": "", "matching": "auto"},
        **{"temperature": 1.0, "max_tokens": 32, "seed": 7},
    }
    return {**usual, **changed}


def test_a_session_is_begun_by_its_form(client_for, alice, prompt_set, policy, settings):
    page = client_for(alice)
    assert "What is wanted" in page.get(HOME + "new/").content.decode()
    answer = page.post(HOME + "new/", form(prompt_set))
    made = Evolution.objects.get()
    assert answer.status_code == 302
    assert answer.url == f"{HOME}{made.pk}/"
    assert (made.name, made.writer, made.arms, made.seed) == ("Calm", "seeded", 4, 7)
    said = page.get(answer.url).content.decode()
    assert "Nothing has begun" in said


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": ""}, "The session needs a name."),
        ({"task": ""}, "the writer has nothing else to go by"),
        ({"chosen_prompts": 20}, "15 training and 15 held-out prompts; 22 to rank on"),
        ({"hidden_prompts": 30}, "30 to hide and 3 to keep fresh are wanted"),
        ({"temperature": 0}, "all answers to a prompt are the same"),
        ({"arms": 2}, "must be between 3 and 8"),
        ({"writer": "999"}, "Select a valid choice"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(client_for, alice, prompt_set, changed, words):
    answer = client_for(alice).post(HOME + "new/", form(prompt_set, **changed))
    assert answer.status_code == 422
    assert words in answer.content.decode()
    assert not Evolution.objects.exists()


def test_a_second_session_of_one_name_is_refused(client_for, alice, prompt_set, evolution_of):
    evolution_of(name="Calm")
    answer = client_for(alice).post(HOME + "new/", form(prompt_set))
    assert "There is a session called Calm already." in answer.content.decode()


def test_the_session_says_where_it_stands(client_for, alice, session):
    page = client_for(alice)
    said = page.get(f"{HOME}{session.pk}/").content.decode()
    generation = session.generations.get()
    assert f"Program {generation.good}" in said
    assert "Agrees on hidden pairs" in said
    assert "of resamples" in said
    assert "It rewards calm more." in said
    live = page.get(f"{HOME}{session.pk}/", headers={"HX-Request": "true", "HX-Target": "session"})
    assert "<html" not in live.content.decode()
    assert 'id="session"' in live.content.decode()


def test_while_people_rank_the_cards_and_the_way_to_them_are_shown(
    client_for, alice, evolution_of, rater
):
    evolution = evolution_of()
    laboratory.ranked(evolution, rater)
    evolution.generations.update(stage="rank")
    said = client_for(alice).get(f"{HOME}{evolution.pk}/").content.decode()
    assert "Rank answers" in said
    assert "picked by" in said
    ballot_page = client_for(rater).get(
        f"/p/alpha/campaigns/{evolution.generations.get().campaign_id}/"
    )
    assert "picked by" not in ballot_page.content.decode()


def test_prompts_and_replies_are_readable_and_harmless(client_for, alice, session):
    said = client_for(alice).get(f"{HOME}{session.pk}/generations/1/").content.decode()
    assert "You are &lt;b&gt;bold&lt;/b&gt;." in said
    assert "&lt;script&gt;alert(1)" in said
    assert "<script>alert" not in said
    assert "The reply holds no program." in said
    assert client_for(alice).get(f"{HOME}{session.pk}/generations/9/").status_code == 404


def test_two_programs_are_compared(client_for, alice, session):
    one, other = Program.objects.exclude(status="invalid").order_by("pk")[:2]
    page = client_for(alice)
    said = page.get(f"{HOME}{session.pk}/compare/?a={one.pk}&b={other.pk}").content.decode()
    for heading in ("Traces", "Params", "Code", "Picks"):
        assert f">{heading}</h2>" in said
    assert 'data-kind="added"' in said
    assert "<polyline" in said
    hidden = session.panel.filter(role="hidden").first().prompt
    assert str(hidden) not in said, "what is hidden stays so"
    same = page.get(f"{HOME}{session.pk}/compare/?a={one.pk}&b={one.pk}").content.decode()
    assert "Choose two different programs." in same
    assert page.get(f"{HOME}{session.pk}/compare/?a=x&b=99999").status_code == 200
    csv = page.get(f"{HOME}{session.pk}/programs.csv").content.decode()
    assert csv.startswith("program,status,sha256,component,best of 1")
    assert ",total," in csv
    report = {**one.report, "components": {"=1+1": one.report["components"]["brevity"]}}
    Program.objects.filter(pk=one.pk).update(report=report)
    csv = page.get(f"{HOME}{session.pk}/programs.csv").content.decode()
    assert ",'=1+1," in csv


def test_the_tree_and_its_list_show_the_same(client_for, alice, session, evolution_of):
    said = client_for(alice).get(f"{HOME}{session.pk}/lineage/").content.decode()
    assert said.count('class="name"') == said.count("<li><a") == 4
    empty = evolution_of(name="Other", pooled=False)
    assert "No programs yet" in client_for(alice).get(f"{HOME}{empty.pk}/lineage/").content.decode()
    assert "Nothing to compare" in (
        client_for(alice).get(f"{HOME}{empty.pk}/compare/").content.decode()
    )


def test_a_program_shows_its_report_and_whether_it_may_judge(client_for, alice, session):
    page = client_for(alice)
    good = session.best
    here = f"{HOME}{session.pk}/programs/{good.pk}/"
    said = page.get(here).content.decode()
    assert good.sha256 in said
    assert "def compute_reward" in said
    assert "With people’s order" in said
    answer = page.post(here + "step/", {"do": "try"}, follow=True).content.decode()
    assert "Nobody has voted yet on pairs that this session did not use" in answer
    answer = page.post(here + "step/", {"do": "promote"}, follow=True).content.decode()
    assert "has not passed a trial" in answer
    answer = page.post(here + "step/", {"do": "round"}, follow=True).content.decode()
    assert "Make the program a judge first" in answer
    answer = page.post(here + "step/", {"do": "?"}, follow=True).content.decode()
    assert "Say what is to be done." in answer
    invalid = Program.objects.get(status="invalid")
    said = page.get(f"{HOME}{session.pk}/programs/{invalid.pk}/").content.decode()
    assert "The reply holds no program." in said
    assert 'value="try"' not in said


def test_a_trials_evidence_is_read_on_the_program(client_for, alice, session):
    checks = trials.calibrate.checks([], 1.0, 0.2, {})
    Trial.objects.create(
        program=session.best, number=1, checks=checks, passed=False, temperature=1.0,
        figures={"fit": 0, "heldout": 0, "log_loss": None}, finished_at="2026-01-01T00:00Z",
    )  # fmt: skip
    here = f"{HOME}{session.pk}/programs/{session.best_id}/"
    said = client_for(alice).get(here).content.decode()
    assert "Too few: 0 held-out human pairs" in said
    assert "too little to say" in said
    assert "Try it again" in said


def test_steps_of_a_session_answer_in_sentences(client_for, alice, session):
    page = client_for(alice)
    for do, words in (
        ("retry", "Only a failed session can be tried again."),
        ("enough", "does not wait for rankings"),
        ("pause", "Paused."),
        ("pause", "Only a session that goes on can be paused."),
        ("resume", "Resumed."),
        ("cancel", "Cancelled."),
        ("x", "Say what is to be done."),
    ):
        answer = page.post(f"{HOME}{session.pk}/step/", {"do": do}, follow=True)
        assert words in answer.content.decode(), do
