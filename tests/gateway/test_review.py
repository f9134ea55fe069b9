"""What clients said becomes comparisons for people to answer blind; only their votes train."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from plumbline.accounts import keys
from plumbline.accounts.models import ApiKey
from plumbline.collect import prompts, queue
from plumbline.collect.models import Ballot, Comparison, Completion, Prompt, PromptSet
from plumbline.gateway import review
from tests.comparisons import open_campaign, shared_db  # noqa: F401  # a fixture
from tests.gateway.clients import QUESTION, compared, feedback, stored

pytestmark = pytest.mark.django_db


def test_two_researchers_who_add_at_once_ask_nothing_twice(
    shared_db: Any,  # noqa: F811
    project: Any,
) -> None:
    campaigns = [open_campaign(project, comparisons=0) for _ in range(2)]
    for n in range(5):
        feedback(stored(project, "Lyon.", question=f"Question {n}?"), correction="Paris.")
    made: list[int] = []

    def add(campaign: Any) -> None:
        try:
            made.append(fill(campaign).made)
        except ValueError:  # nothing was left
            made.append(0)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=add, args=(one,)) for one in campaigns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [0, 5]
    assert Comparison.objects.count() == 5


@pytest.fixture
def campaign(project: Any) -> Any:
    return open_campaign(project, comparisons=0)


def fill(campaign: Any, most: int = 100, seed: int = 1) -> review.Done:
    return review.fill(campaign, most, random.Random(seed))


def texts(comparison: Comparison) -> list[str]:
    return [slot.completion.text for slot in comparison.slots.select_related("completion")]


def test_a_correction_is_compared_with_what_it_corrects(campaign: Any, project: Any) -> None:
    answer = stored(project, "Lyon.")
    said = feedback(answer, score=0, correction="Paris.")
    assert fill(campaign) == review.Done(made=1)
    (made,) = Comparison.objects.all()
    assert sorted(texts(made)) == ["Lyon.", "Paris."]
    assert made.prompt.messages == answer.messages
    by_text = {one.text: one for one in Completion.objects.all()}
    assert by_text["Lyon."].policy == answer.policy
    assert by_text["Paris."].policy is None
    said.refresh_from_db()
    assert said.comparison == made


def test_filling_twice_asks_nothing_twice(campaign: Any, project: Any) -> None:
    answer = stored(project, "Lyon.")
    feedback(answer, correction="Paris.")
    fill(campaign)
    with pytest.raises(ValueError, match="Nothing that clients said"):
        fill(campaign)
    feedback(answer, correction="Paris.")  # somebody else says the same
    assert fill(campaign) == review.Done(asked=1)
    assert Comparison.objects.count() == 1
    with pytest.raises(ValueError, match="Nothing that clients said"):
        fill(open_campaign(project, comparisons=0))


def test_without_consent_or_without_texts_nothing_is_asked(campaign: Any, project: Any) -> None:
    answer, gone = stored(project, "Lyon."), stored(project, "Nice.")
    feedback(answer, score=0)
    feedback(answer, correction="Paris.", consent_train=False)
    feedback(gone, correction="Paris.")
    compared(project, [[0], [1]], "Lyon.", "Paris.", consent_train=False)
    gone.delete()
    with pytest.raises(ValueError, match="Nothing that clients said"):
        fill(campaign)
    assert not Comparison.objects.exists()
    assert not Completion.objects.exists()
    assert not PromptSet.objects.filter(name=review.SET_NAME).exists()


def test_a_regenerated_answer_is_weak_and_comes_after_what_was_said_outright(
    campaign: Any, project: Any, bob: Any
) -> None:
    first, second = stored(project, "Lyon."), stored(project, "Paris.")
    feedback(first, "regenerated", other=second.completion_id, value=second.completion_id)
    compared(project, [[1], [0]], "Nice.", "It is Paris.")
    assert fill(campaign).made == 2
    weak, sure = Comparison.objects.order_by("priority")
    assert sorted(texts(weak)) == ["Lyon.", "Paris."]
    assert weak.why["signal"] == "regenerated"
    ballot = queue.claim_next(bob, campaign)
    assert ballot is not None
    assert ballot.comparison == sure


def test_answers_to_different_questions_are_not_compared(campaign: Any, project: Any) -> None:
    first, second = stored(project, "Lyon."), stored(project, "Rome.", question="And of Italy?")
    feedback(first, "regenerated", other=second.completion_id)
    with pytest.raises(ValueError, match="Nothing that clients said"):
        fill(campaign)


def test_a_choice_of_an_answer_with_several_is_the_one_that_is_meant(
    campaign: Any, project: Any
) -> None:
    feedback(stored(project, "Lyon.", "Nice."), choice=1, correction="Paris.")
    fill(campaign)
    assert sorted(texts(Comparison.objects.get())) == ["Nice.", "Paris."]


def test_copied_answers_make_no_comparison_but_are_asked_about_sooner(
    campaign: Any, project: Any
) -> None:
    first, second = stored(project, "Lyon."), stored(project, "Nice.", question="And then?")
    feedback(first, correction="Paris.")
    feedback(second, correction="Rome.")
    for _ in range(3):
        feedback(second, "copied")
    assert fill(campaign) == review.Done(made=2, raised=3)
    low, high = Comparison.objects.order_by("priority")
    assert "Nice." in texts(high)
    assert high.priority == low.priority + 3
    feedback(first, "copied")
    assert fill(campaign) == review.Done(raised=1)


def test_a_clients_comparison_keeps_its_answers_and_its_order_as_origin(
    campaign: Any, project: Any
) -> None:
    said = compared(project, [[2], [0, 1]], "a", "b", "c")
    fill(campaign)
    (made,) = Comparison.objects.all()
    shown = texts(made)
    best, rest = made.why["the client’s order"].split(" > ")
    assert shown["ABC".index(best)] == "c"
    assert {shown["ABC".index(one)] for one in rest.split("=")} == {"a", "b"}
    assert made.why["said as"] == said.name
    assert made.expected is None


def test_sides_do_not_tell_which_is_the_correction(project: Any) -> None:
    """Over many, each lies first about half of the time: 20 of 40 +- 12 is four deviations."""
    campaign = open_campaign(project, comparisons=0)
    for n in range(40):
        feedback(stored(project, "wrong", question=f"Question {n}?"), correction="right")
    fill(campaign)
    first = sum(texts(one)[0] == "right" for one in Comparison.objects.all())
    assert 8 <= first <= 32


def test_who_votes_does_not_see_what_the_client_said(
    campaign: Any, project: Any, bob: Any, client_for: Any
) -> None:
    answer = stored(project, "Lyon.")
    feedback(answer, correction="Paris.", comment="Wrong city!", name="the-name")
    fill(campaign)
    ballot = queue.claim_next(bob, campaign)
    assert ballot is not None
    page = client_for(bob).get(f"/p/alpha/ballots/{ballot.pk}/").content.decode()
    assert "Lyon." in page
    assert "Paris." in page
    for secret in ("Wrong city!", "the-name", "a client app", answer.completion_id, "alpha-base"):
        assert secret not in page


def test_a_prompt_that_tests_does_not_train(campaign: Any, project: Any) -> None:
    messages: Any = [{"role": "user", "content": QUESTION}]
    held = PromptSet.objects.create(project=project, name="Held out")
    Prompt.objects.create(
        set=held, split="heldout", messages=messages, digest=prompts.digest(messages)
    )
    feedback(stored(project, "Lyon."), correction="Paris.")
    with pytest.raises(ValueError, match="Nothing that clients said"):
        fill(campaign)
    evaluates = open_campaign(project, comparisons=0, purpose="evaluate")
    assert fill(evaluates).made == 1


def test_no_more_than_asked_for_and_the_oldest_first(campaign: Any, project: Any) -> None:
    for n in range(3):
        feedback(stored(project, f"Answer {n}", question=f"Question {n}?"), correction="Better.")
    assert fill(campaign, most=2).made == 2
    assert {one.prompt.messages[0]["content"] for one in Comparison.objects.all()} == {
        "Question 0?",
        "Question 1?",
    }
    assert fill(campaign, most=2).made == 1


def test_closed_and_live_campaigns_take_none(project: Any) -> None:
    feedback(stored(project, "Lyon."), correction="Paris.")
    closed = open_campaign(project, comparisons=0, closed_at=timezone.now())
    with pytest.raises(ValueError, match="closed"):
        fill(closed)
    live = open_campaign(project, comparisons=0, live={"first": "current"})
    with pytest.raises(ValueError, match="live"):
        fill(live)


def test_no_user_has_more_asked_about_than_the_cap_however_often_it_is_filled(
    campaign: Any, project: Any
) -> None:
    for n in range(6):
        who = {"end_user": "a-prolific-one"} if n < 5 else {"end_user": "another"}
        feedback(stored(project, f"Lyon {n}.", question=f"Q{n}?"), correction="Paris.", **who)
    assert review.fill(campaign, 100, random.Random(1), 2) == review.Done(made=3, beyond=3)
    again = review.fill(campaign, 100, random.Random(1), 2)
    assert again == review.Done(beyond=3), "what was asked about before counts"
    elsewhere = open_campaign(project, comparisons=0)
    assert fill(elsewhere).made == 3, "what is left waits for who wants it"


def test_what_names_no_user_counts_for_its_key(campaign: Any, project: Any, alice: Any) -> None:
    for n, name in enumerate(("app", "app", "site")):
        key = ApiKey.objects.filter(name=name).first()
        key = key or keys.create(project, name, ["feedback"], alice)[0]
        about = stored(project, f"Lyon {n}.", question=f"Q{n}?")
        feedback(about, correction="Paris.", api_key=key)
    assert review.fill(campaign, 100, random.Random(1), 1) == review.Done(made=2, beyond=1)


def test_a_researcher_adds_them_on_the_campaigns_page(
    campaign: Any, project: Any, alice: Any, client_for: Any
) -> None:
    browser, page = client_for(alice), f"/p/alpha/campaigns/{campaign.pk}/feedback/"
    assert "Nothing waits" in browser.get(page).content.decode()
    feedback(stored(project, "Lyon."), score=0, correction="Paris.", comment="<b>Not</b> Lyon!")
    shown = browser.get(page).content.decode()
    assert "Corrected answers" in shown
    assert "thumbs" in shown
    assert "&lt;b&gt;Not&lt;/b&gt; Lyon!" in shown
    done = browser.post(page, {"most": "10"}, follow=True)
    assert "1 comparison is added." in done.content.decode()
    assert Comparison.objects.filter(campaign=campaign).count() == 1
    again = browser.post(page, {"most": "10"})
    assert again.status_code == 422
    assert "Nothing that clients said can be asked" in again.content.decode()
    assert browser.post(page, {"most": "0"}).status_code == 422


def test_filling_casts_no_vote(campaign: Any, project: Any) -> None:
    feedback(stored(project, "Lyon."), score=0, correction="Paris.")
    compared(project, [[0], [1]], "a", "b")
    fill(campaign)
    assert not Ballot.objects.exists()
