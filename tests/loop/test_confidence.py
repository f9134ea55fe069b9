"""A policy's stated confidence becomes votes of an AI account, on prompts of their own."""

from __future__ import annotations

import hashlib
import json
from html import unescape

import pytest

from align import jobs
from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Campaign, Completion, Prompt, PromptSet
from plumbline.fleet.models import Job
from plumbline.loop import campaigns, confidence, rows
from plumbline.policies import serving
from tests.lab import laboratory as lab
from tests.loop.conftest import run_jobs

pytestmark = pytest.mark.django_db
PAGE = "/p/alpha/lab/judges/confidence/"
SAID = (
    "It is Paris.\nConfidence: 90%",
    "Rome.\nConfidence: 95%",
    "Paris\nConfidence: 20%",
    "Rome, perhaps",
)


@pytest.fixture
def capitals(project, settings, tmp_path) -> PromptSet:
    settings.RUNS_DIR = tmp_path / "runs"
    found = PromptSet.objects.create(project=project, name="Capitals")
    for text in ("Capital of France?", "Capital of Italy?"):
        prompt = Prompt.objects.create(
            set=found,
            messages=[{"role": "user", "content": text}],
            digest=hashlib.sha256(text.encode()).hexdigest(),
        )
        answer = "Paris" if "France" in text else "Lyon"  # nothing that is said has it
        Completion.objects.create(prompt=prompt, origin="an atlas", text=answer)
    return found


def finished(job: Job, texts=SAID) -> Job:
    """The job as if an engine had said these."""
    asked = [row["id"] for row in jobs.read_rows(job.folder / jobs.PROMPTS)]
    drawn = [
        {"prompt": prompt, "draw": draw, "text": text, "token_ids": [1], "finish_reason": "stop"}
        for prompt in asked
        for draw, text in enumerate(texts)
    ]
    jobs.write_rows(job.folder / jobs.COMPLETIONS, drawn)
    job.state, job.result = Job.State.SUCCEEDED, {"completions": len(drawn)}
    job.save()
    return job


@pytest.fixture
def asked(project, capitals, monkeypatch) -> Job:
    monkeypatch.setattr(serving, "ensure_loaded", lambda policy: None)  # no engine is up
    return confidence.begin(serving.base_policy(project), capitals, "an atlas", n=4)


def test_what_is_right_and_sure_is_voted_for_and_nothing_is_made_twice(project, asked):
    with pytest.raises(ValueError, match="no answers yet"):
        confidence.gather(asked)
    made = confidence.gather(finished(asked))
    assert (made.pairs, made.new, made.untold) == (3, 3, 0)  # of France alone
    assert made.classes == {"T&C": 1, "F&C": 3, "T&U": 1, "F&U": 3}
    again = confidence.gather(asked)
    assert (again.pairs, again.new) == (3, 0)
    assert Completion.objects.filter(batch=asked.pk).count() == 8
    for ballot in Ballot.objects.select_related("comparison"):
        (chosen,), (rejected,) = ballot.ranking
        slots = {one.slot: one.completion for one in ballot.comparison.slots.all()}
        assert slots[chosen].text == SAID[0]
        assert slots[rejected].text in SAID[1:]
        assert ballot.comparison.strategy == "confidence"
        assert ballot.probability == pytest.approx(0.95 if chosen == 0 else 0.05)
        assert ballot.annotator.kind == User.Kind.AI
    assert made.campaign.closed_at is not None


def test_its_votes_are_learned_from_and_are_nobodys(project, asked):
    confidence.gather(finished(asked))
    made = PromptSet.objects.get(name="Capitals, with confidence")
    assert made.prompts.first().messages[0]["role"] == "system"
    experiment = lab.experiment(project, prompt_set=made)
    found = list(campaigns.evidence(campaigns.offline(experiment)))
    assert len(found) == 3
    learned = list(rows.comparison_rows(found))
    assert all(not vote["human"] for row in learned for vote in row["votes"])


def test_people_may_say_what_is_right(project, capitals, bob, monkeypatch):
    monkeypatch.setattr(serving, "ensure_loaded", lambda policy: None)
    job = confidence.begin(serving.base_policy(project), capitals, "rating:right", n=4)
    made = confidence.gather(finished(job))
    assert (made.campaign, made.untold) == (None, 8)


def test_what_cannot_be_asked_is_refused(project, capitals):
    base = serving.base_policy(project)
    with pytest.raises(ValueError, match="two answers or more"):
        confidence.begin(base, capitals, "an atlas", n=1)
    with pytest.raises(ValueError, match="nothing says what is right"):
        confidence.begin(base, capitals, "nobody", n=2)


def test_the_page_asks_and_makes_pairs(alice, client_for, project, asked):
    researcher = client_for(alice)
    page = unescape(researcher.get(PAGE).content.decode())
    assert "Confidence of alpha-base" in page
    assert "Imported answers of an atlas" in page
    refused = researcher.post(PAGE, {"n": "2", "limit": "9"})
    assert "Choose a policy and a prompt set." in unescape(refused.content.decode())
    early = researcher.post(f"{PAGE}{asked.pk}/gather/", follow=True)
    assert "there are no answers yet" in unescape(early.content.decode())
    finished(asked)
    made = researcher.post(f"{PAGE}{asked.pk}/gather/", follow=True)
    said = unescape(made.content.decode())
    assert "3 new pairs, 3 in all: 1 T&C, 3 F&C, 1 T&U, 3 F&U." in said
    assert Campaign.objects.filter(name__startswith="Confidence of").count() == 1


@pytest.mark.sqlite
def test_a_real_engine_is_asked_and_what_states_nothing_is_unsure(
    project, capitals, engine, settings
):
    settings.ENGINE_URL = engine.url
    job = confidence.begin(serving.base_policy(project), capitals, "an atlas", n=2)
    run_jobs()
    job.refresh_from_db()
    assert job.state == Job.State.SUCCEEDED, job.error
    made = confidence.gather(job)
    assert sum(made.classes.values()) == 4
    assert made.classes["T&C"] + made.classes["F&C"] <= 4
    assert json.loads((job.folder / confidence.ASKED).read_text())["truth"] == "an atlas"
