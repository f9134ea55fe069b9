"""The autopilot on the experiment's page: read, switched, refused, and a round begun by hand."""

from __future__ import annotations

from html import unescape

import pytest

from plumbline.loop import autopilot
from plumbline.loop.models import Autopilot, Experiment, PilotChange
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db


@pytest.fixture
def found(project) -> Experiment:
    made = lab.experiment(project, name="Warmer answers", rounds_wanted=3)
    lab.finished_round(made, steps=1)
    return made


def address(experiment: Experiment, what: str = "") -> str:
    return f"/p/alpha/lab/experiments/{experiment.pk}/{what}"


def sent(**changed) -> dict[str, object]:
    fields = {
        "rounds_wanted": 3, "most_votes": "", "most_gpu_hours": "", "most_money": "",
        "no_gain_rounds": 2, "most_kl": "", "noise_floor": "on",
    }  # fmt: skip
    form = {f"pilot-{name}": value for name, value in (fields | changed).items()}
    return form | {"switch": "on"}


def text(response) -> str:
    return unescape(response.content.decode())


def test_without_one_the_page_says_what_happens(researcher, found):
    assert "Rounds follow each other up to 3, without a budget" in text(
        researcher.get(address(found))
    )


def test_switching_it_on_stores_the_budget_and_says_who_did(researcher, found):
    response = researcher.post(
        address(found, "autopilot/"), sent(most_votes=40, most_kl=8.5), follow=True
    )
    page = text(response)
    assert "The autopilot is on." in page
    assert "alice: " in page
    assert "Votes, at most from none to 40" in page
    row = Autopilot.objects.get(experiment=found)
    assert (row.most_votes, row.most_kl, row.noise_floor) == (40, 8.5, True)
    researcher.post(address(found, "autopilot/"), sent(most_votes=40, most_kl=8.5))
    assert PilotChange.objects.count() == 1


def test_a_decision_is_shown_with_its_evidence(researcher, found, alice):
    rules = {"most_gpu_hours": 0.0, "most_votes": 10, "most_kl": 8.5}
    autopilot.change(found, alice, {"on": True, **rules})
    autopilot.goes_on(found, found.rounds.get())
    for page in (researcher.get(address(found)), researcher.get(address(found, "autopilot/"))):
        assert "0 votes are given of 10; a round like the last one takes 0 more" in text(page)
        assert "1 of the 2 measured rounds that this rule looks at have ended" in text(page)
        for name in ("Votes", "GPU hours", "KL to base"):
            assert f"<strong>{name}</strong>" in text(page), name


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"rounds_wanted": 0}, "Rounds must be between 1 and 100."),
        ({"most_votes": -1}, "Votes cannot be fewer than 0."),
        ({"most_votes": "many"}, "Votes must be a whole number."),
        ({"most_money": 50}, "Nothing here has a price"),
        ({"no_gain_rounds": ""}, "Rounds without a gain is missing."),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(researcher, found, changed, sentence):
    response = researcher.post(address(found, "autopilot/"), sent(**changed))
    assert response.status_code == 422
    assert sentence in text(response)
    assert not Autopilot.objects.exists()


def test_money_may_be_bounded_where_there_is_a_price(researcher, found, settings):
    settings.GPU_HOUR_PRICE = "2.00"
    researcher.post(address(found, "autopilot/"), sent(most_money="12.50"))
    assert str(Autopilot.objects.get().most_money) == "12.50"


def test_rounds_that_have_begun_cannot_be_planned_away(researcher, found):
    lab.finished_round(found, steps=1)
    response = researcher.post(address(found, "autopilot/"), sent(rounds_wanted=1))
    assert "2 rounds have begun; there cannot be fewer." in text(response)


def test_a_round_is_begun_by_hand_and_only_one_at_a_time(researcher, found):
    assert "Begin round 2 now" in text(researcher.get(address(found)))
    page = text(researcher.post(address(found, "next-round/"), follow=True))
    assert "Round 2 has begun." in page
    assert "Begin round" not in page
    again = text(researcher.post(address(found, "next-round/"), follow=True))
    assert "Round 2 of Warmer answers is still in progress." in again


def test_an_annotator_or_a_stranger_may_not_touch_it(bob, charlie, found, client_for):
    for user, status in ((bob, 403), (charlie, 404)):
        client = client_for(user)
        assert client.post(address(found, "autopilot/"), sent()).status_code == status
        assert client.get(address(found, "autopilot/")).status_code == status
        assert client.post(address(found, "next-round/")).status_code == status


def test_the_rounds_page_shows_what_was_recorded_and_how_to_do_it_again(researcher, found):
    made = found.rounds.get()
    job = made.jobs.get(purpose="train").job
    job.result = {"ran": {"commit": "c0ffee", "data_sha256": "da7a", "packages": {"torch": "2"}}}
    job.save()
    here = address(found, "rounds/1/")
    page = text(researcher.get(here))
    for words in ("c0ffee", "da7a", "torch 2", f"manage.py launch alpha-e{found.pk}-r1.json"):
        assert words in page, words
    assert f"?like_round={made.pk}" in page
    assert "python -m align.gpu.train again" in page
    taken = researcher.get(f"{here}settings.json")
    assert taken["Content-Disposition"] == f'attachment; filename="alpha-e{found.pk}-r1.json"'
    told = taken.json()
    assert told["settings"]["algorithm"] == "dpo"
    assert told["round"]["jobs"][0]["ran"]["commit"] == "c0ffee"
