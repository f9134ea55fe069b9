"""The page where one comparison is answered: what it shows, stores and refuses."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from django.urls import reverse
from django.utils import timezone

from plumbline.collect import addresses, queue
from plumbline.collect.addresses import OF_BALLOT, OF_CAMPAIGN
from plumbline.collect.models import Ballot, Completion
from plumbline.collect.votes import preferences
from plumbline.policies.models import Policy
from tests.comparisons import compare, open_campaign

HTMX = {"HX-Request": "true"}


@pytest.fixture
def ballot(campaign, bob):
    return queue.claim_next(bob, campaign)


@pytest.fixture
def bobs(bob, client_for):
    return client_for(bob)


def url(ballot) -> str:
    return f"/p/alpha/ballots/{ballot.pk}/"


def vote(choice: str = "A2", **fields) -> dict:
    return {"choice": choice, "key": str(uuid4()), **fields}


def test_it_shows_the_prompt_and_both_answers_in_the_stored_order(ballot, bobs):
    page = bobs.get(url(ballot)).content.decode()
    texts = [slot.completion.text for slot in ballot.comparison.slots.all()]
    first, second = (page.index(texts[slot]) for slot in ballot.shown)
    assert page.index("Question 0?") < first < second


def test_it_shows_a_conversation_turn_by_turn(campaign, ballot, bobs):
    prompt = ballot.comparison.prompt
    prompt.messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "**Hi**"},
        {"role": "user", "content": "Bye"},
    ]
    prompt.save()
    page = bobs.get(url(ballot)).content.decode()
    assert "<strong>Hi</strong>" in page
    assert page.count('class="speaker"') == 4


def test_it_names_no_policy_and_no_completion(project, campaign, ballot, bobs):
    policy = Policy.objects.create(
        project=project, name="secret-policy-7", weights="lora", base_model="base", path="/weights"
    )
    Completion.objects.update(policy=policy, origin="secret-writer")
    campaign.comparisons.update(strategy="secret-strategy")
    response = bobs.get(url(ballot))
    page = response.content.decode() + str(response.headers)
    assert "secret" not in page
    for completion in Completion.objects.all():
        assert str(completion.pk) not in page
        assert completion.pk.hex not in page
    assert str(policy.pk) not in page


def test_answers_are_rendered_and_harmless(project, bob, bobs):
    campaign = open_campaign(project, comparisons=0)
    prompts = open_campaign(project, comparisons=1).comparisons.get().prompt.set
    compare(campaign, prompts, "<script>q</script>", ["**bold**", "<script>a</script>"])
    page = bobs.get(url(queue.claim_next(bob, campaign))).content.decode()
    assert "<strong>bold</strong>" in page
    assert "<script>q" not in page
    assert "<script>a" not in page


@pytest.mark.parametrize("choice", ["A3", "A1", "B2", "tie", "bad"])
def test_what_is_clicked_is_stored_said_back_and_counted(choice, campaign, ballot, bobs):
    response = bobs.post(url(ballot), vote(choice, active_ms="1500"), follow=True)
    ballot.refresh_from_db()
    assert response.redirect_chain[0][1] == 303
    said = {"tie": "A and B tie", "bad": "Both bad"}.get(choice, f"{choice[0]} ")
    assert f"Saved: {said}" in response.content.decode()
    assert ballot.active_ms == 1500
    if choice[0] in "AB":
        winner = ballot.shown["AB".index(choice[0])]
        assert preferences([ballot]) == [(0, 1, 1.0 if winner == 0 else 0.0, 1.0)]
        assert ballot.strength == int(choice[1])
    else:
        assert ballot.outcome == ("ranked" if choice == "tie" else "all_bad")


def test_htmx_gets_the_next_comparison_with_the_answer(campaign, ballot, bob, bobs):
    response = bobs.post(url(ballot), vote(), headers=HTMX)
    following = queue.claim_next(bob, campaign)
    assert response.status_code == 200
    assert response["HX-Push-Url"] == url(following)
    assert response.content.decode().lstrip().startswith('<div id="ballot"')
    assert "Saved: A better than B" in response.content.decode()


def test_going_back_in_history_gets_a_whole_page(ballot, bobs):
    headers = {**HTMX, "HX-History-Restore-Request": "true"}
    assert b"<!doctype html>" in bobs.get(url(ballot), headers=headers).content


def test_a_retry_gives_one_vote_and_the_same_next_page(ballot, bobs):
    form = vote()
    first, again = bobs.post(url(ballot), form), bobs.post(url(ballot), form)
    assert first["Location"] == again["Location"]
    assert Ballot.objects.exclude(outcome="").count() == 1


def test_another_answer_to_the_same_ballot_is_refused_in_words(ballot, bobs):
    bobs.post(url(ballot), vote("A2"))
    response = bobs.post(url(ballot), vote("B2"), follow=True)
    assert "your first answer stands" in response.content.decode()
    ballot.refresh_from_db()
    assert ballot.ranking[0] == [ballot.shown[0]]


@pytest.mark.parametrize("form", [{}, {"choice": "A9"}, {"choice": "A2", "key": "x"}])
def test_a_form_that_says_nothing_comes_back_with_a_reason(form, ballot, bobs):
    response = bobs.post(url(ballot), form)
    assert response.status_code == 422
    assert 'role="alert"' in response.content.decode()
    ballot.refresh_from_db()
    assert ballot.outcome == ""


def test_after_the_last_comparison_the_page_says_thank_you(project, bob, bobs):
    campaign = open_campaign(project, comparisons=1)
    ballot = queue.claim_next(bob, campaign)
    response = bobs.post(url(ballot), vote(), follow=True)
    assert "Thank you: 1 vote" in response.content.decode()


def test_htmx_is_sent_to_the_campaign_when_nothing_is_left(project, bob, bobs):
    campaign = open_campaign(project, comparisons=1)
    response = bobs.post(url(queue.claim_next(bob, campaign)), vote(), headers=HTMX)
    assert response["HX-Redirect"] == f"/p/alpha/campaigns/{campaign.pk}/"


def test_somebody_elses_ballot_does_not_exist(ballot, carol, alice, client_for):
    for person in (carol, alice):
        assert client_for(person).get(url(ballot)).status_code == 404
        assert client_for(person).post(url(ballot), vote()).status_code == 404
    ballot.refresh_from_db()
    assert ballot.outcome == ""


def test_a_ballot_is_not_found_through_another_project(ballot, bob, charlie, client_for):
    from plumbline.accounts.models import Membership, Project

    beta = Project.objects.get(slug="beta")
    Membership.objects.create(project=beta, user=bob, role="annotator")
    assert client_for(bob).get(f"/p/beta/ballots/{ballot.pk}/").status_code == 404


def test_an_expired_ballot_says_so_and_offers_another(ballot, bobs, let_expire):
    let_expire(ballot)
    page = bobs.get(url(ballot)).content.decode()
    assert "Time ran out" in page
    assert "/claim/" in page


def test_a_late_vote_is_refused_in_words(ballot, campaign, carol, bobs, let_expire):
    let_expire(ballot)
    queue.claim_next(carol, campaign)
    response = bobs.post(url(ballot), vote(), follow=True)
    assert "somebody else has it now" in response.content.decode()


def test_an_answered_ballot_says_what_was_said(ballot, bobs):
    bobs.post(url(ballot), vote("B3"))
    assert "You said: B much better than A." in bobs.get(url(ballot)).content.decode()


def test_three_answers_get_places(project, bob, bobs):
    campaign = open_campaign(project, comparisons=1, answers=3)
    ballot = queue.claim_next(bob, campaign)
    missing = {"key": str(uuid4()), "place_0": 1, "place_1": 2}
    assert bobs.post(url(ballot), missing).status_code == 422
    bobs.post(url(ballot), {"key": str(uuid4()), "place_0": 2, "place_1": 1, "place_2": 2})
    ballot.refresh_from_db()
    assert ballot.ranking == [[ballot.shown[1]], sorted([ballot.shown[0], ballot.shown[2]])]


def test_skipping_asks_why_and_moves_on(ballot, bobs):
    response = bobs.post(url(ballot) + "skip/", {"key": str(uuid4()), "reason": "A text is broken"})
    ballot.refresh_from_db()
    assert (ballot.outcome, ballot.reason) == ("skipped", "A text is broken")
    assert response["Location"] != url(ballot)


def test_a_skip_without_a_reason_stays_on_the_page(ballot, bobs):
    response = bobs.post(url(ballot) + "skip/", {"key": str(uuid4())})
    assert response["Location"] == url(ballot)
    ballot.refresh_from_db()
    assert ballot.outcome == ""


def test_undo_reopens_the_last_answer_with_what_was_chosen(campaign, ballot, bobs):
    bobs.post(url(ballot), vote("B3"))
    undo = f"/p/alpha/campaigns/{campaign.pk}/undo/"
    page = bobs.post(undo, {"ballot": str(ballot.pk)}, follow=True).content.decode()
    assert "Taken back" in page
    assert re.search(r'value="B3" required checked', page)
    assert "Question 0?" in page


def test_undo_sent_twice_takes_back_one_answer(campaign, ballot, bob, bobs):
    bobs.post(url(ballot), vote())
    bobs.post(url(queue.claim_next(bob, campaign)), vote())
    undo, last = f"/p/alpha/campaigns/{campaign.pk}/undo/", queue.last_said(bob, campaign)
    for _ in range(2):
        bobs.post(undo, {"ballot": str(last.pk)})
    assert Ballot.objects.filter(outcome="withdrawn").count() == 1


def test_the_vote_is_stamped_with_the_settings_it_was_made_under(campaign, bob, bobs):
    campaign.settings_version = 4
    campaign.save()
    ballot = queue.claim_next(bob, campaign)
    bobs.post(url(ballot), vote())
    ballot.refresh_from_db()
    assert ballot.settings_version == 4
    assert ballot.cast_at <= timezone.now()


def test_an_outbox_gets_a_sentence_and_sending_again_changes_nothing(ballot, bobs):
    form, wants = vote("B3"), {"Accept": "application/json"}
    for _ in range(2):
        assert bobs.post(url(ballot), form, headers=wants).json() == {
            "saved": "Saved: B much better than A"
        }
    again = bobs.post(url(ballot), vote("A1"), headers=wants)
    assert (again.status_code, list(again.json())) == (409, ["refused"])
    assert Ballot.objects.exclude(outcome="").count() == 1


@pytest.mark.parametrize(
    ("what", "said", "told"),
    [
        ("skip", "skipped", "Skipped. You will not be asked this one again."),
        ("flag", "flagged", "Flagged. A researcher will look at it."),
    ],
)
def test_a_skip_or_a_flag_from_an_outbox_is_taken_once(what, said, told, ballot, bobs):
    form = {"key": str(uuid4()), "reason": "Another reason"}
    wants = {"Accept": "application/json"}
    for _ in range(2):
        assert bobs.post(f"{url(ballot)}{what}/", form, headers=wants).json() == {"saved": told}
    assert Ballot.objects.filter(outcome=said).count() == 1
    assert bobs.post(f"{url(ballot)}{what}/", {"key": "?"}, headers=wants).status_code == 422
    other = {**form, "key": str(uuid4())}
    assert bobs.post(f"{url(ballot)}{what}/", other, headers=wants).status_code == 409


def test_a_skip_sent_after_the_vote_of_the_same_form_says_what_is_stored(ballot, bobs):
    form = vote("A1")
    bobs.post(url(ballot), form)
    sent = {"key": form["key"], "reason": "I cannot decide"}
    answer = bobs.post(f"{url(ballot)}skip/", sent, headers={"Accept": "application/json"})
    assert answer.json() == {"saved": "Saved: A slightly better than B"}


def test_an_undo_from_an_outbox_takes_back_one_answer(campaign, ballot, bobs):
    bobs.post(url(ballot), vote())
    undo = f"/p/alpha/campaigns/{campaign.pk}/undo/"
    for _ in range(2):
        answer = bobs.post(undo, {"ballot": ballot.pk}, headers={"Accept": "application/json"})
        assert answer.json()["saved"].startswith("Taken back.")
    assert Ballot.objects.filter(outcome="withdrawn").count() == 1


def test_a_draft_is_kept_until_the_vote_and_fills_the_form_again(ballot, bobs, carol, client_for):
    sent = {"choice": "B1", "comment": "Half", "key": str(uuid4()), "active_ms": "3"}
    assert bobs.post(url(ballot) + "draft/", sent).status_code == 204
    assert queue.draft(ballot) == {"choice": "B1", "comment": "Half"}
    page = bobs.get(url(ballot)).content.decode()
    assert re.search(r'value="B1" required checked', page)
    assert client_for(carol).post(url(ballot) + "draft/", sent).status_code == 404
    bobs.post(url(ballot), vote())
    assert bobs.post(url(ballot) + "draft/", sent).status_code == 409


def test_a_vote_that_a_round_uses_can_be_revised_and_the_page_says_so(
    project, campaign, ballot, bobs
):
    from plumbline.loop.models import Experiment, Round

    bobs.post(url(ballot), vote("A2"))
    base = Policy.objects.create(project=project, name="base", weights="base", base_model="base")
    experiment = Experiment.objects.create(
        project=project, name="E", algorithm="dpo", start=base,
        prompt_set=ballot.comparison.prompt.set,
    )  # fmt: skip
    used = Round.objects.create(experiment=experiment, number=1, policy_in=base)
    used.ballots.add(ballot)
    page = bobs.get(url(ballot)).content.decode()
    assert "A round has used this answer" in page
    assert "Revise</button>" in page
    again = bobs.post(url(ballot) + "reopen/")
    page = bobs.get(again["Location"]).content.decode()
    assert "a new one counts from now on" in page
    assert re.search(r'value="A2" required checked', page)
    bobs.post(again["Location"], vote("B2"))
    (stands,) = queue.standing(campaign.comparisons.all())
    assert stands.revises == ballot
    assert used.ballots.get() == ballot


def test_training_says_what_was_expected_before_going_on(project, bob, bobs):
    campaign = open_campaign(project, comparisons=1)
    prompts = campaign.comparisons.get().prompt.set
    expected = {"outcome": "ranked", "ranking": [[1], [0]]}
    compare(campaign, prompts, "Train?", ["Wrong", "Right"], kind="training", expected=expected,
            explanation="The second one is true.")  # fmt: skip
    ballot = queue.claim_next(bob, campaign)
    wrong = "A2" if ballot.shown[0] == 0 else "B2"
    right = "B" if wrong == "A2" else "A"
    page = bobs.post(url(ballot), vote(wrong), follow=True).content.decode()
    assert f"Not as expected: {right} better than" in page
    assert "The second one is true." in page


def test_a_campaign_that_takes_no_answers_says_why(campaign, bobs):
    campaign.paused_at = timezone.now()
    campaign.save()
    page = bobs.get(f"/p/alpha/campaigns/{campaign.pk}/").content.decode()
    assert "This campaign is paused for now." in page
    assert "Start comparing" not in page


def test_every_address_on_the_page_is_where_it_says(ballot):
    campaign = ballot.comparison.campaign
    found = addresses.page("alpha", campaign.pk, ballot.pk)
    assert found == {
        **{name: reverse(view, args=["alpha", ballot.pk]) for name, view in OF_BALLOT.items()},
        **{name: reverse(view, args=["alpha", campaign.pk]) for name, view in OF_CAMPAIGN.items()},
    }
    assert found["ballot"] == addresses.ballot("alpha", ballot.pk) == url(ballot)
    assert addresses.page("beta", 7, ballot.pk)["skip"] == f"/p/beta/ballots/{ballot.pk}/skip/"
