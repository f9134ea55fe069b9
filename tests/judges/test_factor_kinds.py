"""Judges by factors: a hierarchy, weighed factors, and relevance; each asked through a real job."""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from django.utils import timezone

from align import jobs
from align.hierarchy import Level
from plumbline.accounts.models import User
from plumbline.collect.models import Ballot, Completion
from plumbline.fleet.models import Job
from plumbline.judges import asking, factored, fits, judges, verdicts
from plumbline.judges.models import Verdict
from tests.align.conftest import build_base, do
from tests.comparisons import compare, open_campaign

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(build_base(tmp_path_factory.mktemp("embedder") / "base"))


def finish(job: Job) -> dict[str, Any]:
    """Do a job as a worker's child would."""
    found = do(import_module(jobs.MODULES[job.kind]).work, job.folder)
    job.state, job.result = Job.State.SUCCEEDED, found
    job.save()
    return found


def judged(version, pairs) -> None:
    job = asking.ask(version, pairs, "A test asks")
    assert job is not None
    finish(job)
    assert asking.gather(version, job) == len(pairs)
    assert asking.ask(version, pairs, "A test asks again") is None


def cast(comparison, who, first: bool, **fields) -> Ballot:
    now = timezone.now()
    return Ballot.objects.create(
        comparison=comparison, annotator=who, seat=0, shown=[0, 1], outcome="ranked",
        ranking=[[0], [1]] if first else [[1], [0]], claimed_at=now,
        expires_at=now + timedelta(minutes=1), cast_at=now, **fields,
    )  # fmt: skip


def pair(comparison) -> tuple[Completion, Completion]:
    first, second = (slot.completion for slot in comparison.slots.order_by("slot"))
    return first, second


LONG = "one two three four five six seven eight nine ten"


def test_a_hierarchy_says_which_level_decided_and_nothing_where_none_did(project, alice):
    campaign = open_campaign(project, comparisons=0)
    prompts = project.prompt_sets.get()
    asked = [
        compare(campaign, prompts, "Why?", ["- a\n- b\n- c", LONG]),
        compare(campaign, prompts, "How?", [LONG, "one two three"]),
        compare(campaign, prompts, "What?", ["one two", "two one"]),
    ]
    order = [
        Level(factor="list_items", margin=1.0),
        Level(factor="words", sign=-1, margin=0.5),
    ]
    version = fits.make_hierarchy(project, "Lists first", order, certainty=0.8, by=alice)
    assert version.settings["knobs"]["margins"][0] > 0
    pairs = [pair(one) for one in asked]
    judged(version, pairs)
    lists, words, neither = (
        Verdict.objects.get(version=version, first=min(ids), second=max(ids))
        for ids in ((one.pk, other.pk) for one, other in pairs)
    )
    assert (lists.detail["level"], lists.detail["title"]) == (1, "List items")
    assert (words.detail["level"], words.detail["factor"]) == (2, "words")
    assert verdicts.probability(version, pairs[0][0].pk, pairs[0][1].pk) == pytest.approx(0.8)
    assert verdicts.probability(version, pairs[1][0].pk, pairs[1][1].pk) == pytest.approx(0.2)
    assert verdicts.probability(version, pairs[1][1].pk, pairs[1][0].pk) == pytest.approx(0.8)
    assert lists.consistent
    assert neither.p is None
    assert "No level of the hierarchy decides" in neither.error


def test_a_hierarchy_reads_peoples_ratings_and_refuses_what_it_cannot_measure(project, alice, bob):
    campaign = open_campaign(
        project, comparisons=0, criteria=[{"name": "clear", "least": 1, "most": 5}]
    )
    prompts = project.prompt_sets.get()
    comparison = compare(campaign, prompts, "Why?", ["one", "two"])
    assert "rating:clear" in factored.offered(project)
    order = [Level(factor="rating:clear", margin=0.0)]
    cast(comparison, bob, True, ratings={"0": {"clear": 2}, "1": {"clear": 5}})
    version = fits.make_hierarchy(project, "As rated", order, by=alice)
    judged(version, [pair(comparison)])
    first, second = pair(comparison)
    assert verdicts.probability(version, first.pk, second.pk) == pytest.approx(0.1)
    for levels, said in (
        ([], "at least one factor"),
        ([Level(factor="charm")], "no factor called charm"),
        ([Level(factor="rating:grace")], "known of 0 answers"),
        ([Level(factor="reward", margin=0.0)], "needs a reward model"),
    ):
        with pytest.raises(ValueError, match=said):
            fits.make_hierarchy(project, "Cannot be", levels)


def test_weights_are_fitted_to_peoples_votes_and_become_a_judge(project, alice, bob):
    campaign = open_campaign(project, comparisons=0)
    prompts = project.prompt_sets.get()
    for n in range(60):
        texts = ["word " * (1 + n % 4), "word " * (6 + n % 7)]
        texts = texts if n % 2 else texts[::-1]
        cast(compare(campaign, prompts, f"Question {n}?", texts), bob, bool(n % 2))  # briefer
    with pytest.raises(ValueError, match="People voted on 0 pairs"):
        fits.begin(project, {"words": 0}, left_out=lambda prompt: True)
    with pytest.raises(ValueError, match="at least one factor"):
        fits.begin(project, {})
    job = fits.begin(project, {"words": 0, "list_items": 1})
    with pytest.raises(ValueError, match="found no weights"):
        fits.adopt(project, job, "Too early")
    found = finish(job)
    assert found["accuracy"] == 1
    assert found["weights"]["words"] < 0
    assert fits.fits(project) == [job]
    version = fits.adopt(project, job, "Brief", by=alice)
    assert version.settings["knobs"]["measured"]["job"] == str(job.pk)
    assert fits.adopt(project, job, "Brief").pk == version.pk  # the same weights are no new version
    comparison = compare(campaign, prompts, "New?", ["word " * 9, "word"])
    judged(version, [pair(comparison)])
    long, brief = pair(comparison)
    assert verdicts.probability(version, brief.pk, long.pk) > 0.9
    verdict = Verdict.objects.get(version=version)
    assert set(verdict.detail["parts"]) == {"words", "list_items"}


def test_an_ai_judges_votes_fit_no_weights(project, bob):
    bob.kind = User.Kind.AI
    bob.save()
    campaign = open_campaign(project, comparisons=0)
    prompts = project.prompt_sets.get()
    for n in range(30):
        cast(compare(campaign, prompts, f"Question {n}?", ["a", "b c"]), bob, True)
    with pytest.raises(ValueError, match="People voted on 0 pairs"):
        fits.begin(project, {"words": 0})


def test_weights_against_what_was_declared_are_refused(project):
    knobs = {"weights": {"words": -1.0}, "scales": {"words": 1.0}, "signs": {"words": 1}}
    with pytest.raises(ValueError, match="against what was declared"):
        judges.make(project, "Bad", "features", knobs)
    with pytest.raises(ValueError, match="fit them first"):
        judges.make(project, "Empty", "features", {})


def test_relevance_prefers_an_answer_to_the_question_repeated(project, embedder, settings):
    settings.EMBEDDING_MODEL = embedder
    question = "Please explain why the sky looks blue on a clear day at noon."
    campaign = open_campaign(project, comparisons=0)
    prompts = project.prompt_sets.get()
    good = (
        "Sunlight holds all colours. Air scatters short blue waves far more than long red ones, so "
        "from every side blue reaches your eyes; towards evening the path is long, and red is left."
    )
    comparison = compare(campaign, prompts, question, [" ".join([question] * 10), good])
    closed = compare(campaign, prompts, "Capital of France?", ["Paris", "zzzz qqq 9999"])
    version = judges.make(
        project, "Near", "relevance", {"references": {closed.prompt.digest: "Paris"}}
    )
    pairs = [pair(comparison), pair(closed)]
    judged(version, pairs)
    copied, answer = pairs[0]
    assert verdicts.probability(version, answer.pk, copied.pk) > 0.5
    paris, nonsense = pairs[1]
    assert verdicts.probability(version, paris.pk, nonsense.pk) > 0.5
    told = {row.detail["closed"] for row in Verdict.objects.filter(version=version)}
    assert told == {True, False}
    settings.EMBEDDING_MODEL = "/nowhere"
    with pytest.raises(ValueError, match="holds no model"):
        judges.make(project, "Nowhere", "relevance", {})


def test_several_judges_are_pooled_into_one_soft_label(project, alice):
    campaign = open_campaign(project, comparisons=0)
    prompts = project.prompt_sets.get()
    pairs = [
        pair(compare(campaign, prompts, "Why?", ["- a\n- b", "one two three four"])),
        pair(compare(campaign, prompts, "How?", ["one", "one two three"])),
        pair(compare(campaign, prompts, "What?", ["a b", "b a"])),
    ]
    names = ("list_items", "words")
    versions = [
        fits.make_hierarchy(
            project, name, [Level(factor=name, sign=-1, margin=0.0)], certainty=certainty
        )
        for name, certainty in zip(names, (0.7, 0.9), strict=True)
    ]
    for one in versions:
        judged(one, pairs)
    members = [one.pk for one in versions]
    pool = judges.make(project, "Both", "pool", {"members": members}, by=alice)
    judged(pool, pairs)
    first, second = pairs[0]  # one against it with 0.7, one for it with 0.9
    found = verdicts.probability(pool, first.pk, second.pk)
    assert found == pytest.approx(0.6626, abs=1e-4)
    assert set(Verdict.objects.get(version=pool, p__isnull=False).detail["contradicted"]) == {
        str(one) for one in members
    }
    assert verdicts.probability(pool, pairs[1][0].pk, pairs[1][1].pk) is None  # one judge alone
    told = Verdict.objects.filter(version=pool, p=None).values_list("error", flat=True)
    assert all("Fewer than 2 judges" in one for one in told)
    for chosen, said in (([members[0]], "two judges or more"), ([*members, 10**6], "is gone")):
        with pytest.raises(ValueError, match=said):
            judges.make(project, "Not so", "pool", {"members": chosen})
