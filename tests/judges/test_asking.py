"""Judges and their versions; what they say is asked for once and turns around exactly."""

from __future__ import annotations

from decimal import Decimal

import pytest

from plumbline.accounts.models import Membership, User
from plumbline.judges import asking, casting, endpoints, judges, kind, verdicts, watch
from plumbline.judges.models import Asking, JudgeVersion, Verdict
from tests.comparisons import open_campaign
from tests.judges.conftest import KEY
from tests.scripted import shown

pytestmark = pytest.mark.django_db


def pairs_of(campaign):
    return [pair for _, pair in casting.pairs(campaign.comparisons.all())]


def test_a_judge_has_an_account_that_nobody_can_sign_in_as(version, project):
    account = version.judge.account
    assert (account.kind, account.is_active) == (User.Kind.AI, False)
    assert not account.has_usable_password()
    assert Membership.objects.get(user=account).project == project


def test_a_change_is_a_version_and_going_back_is_the_version_that_was(version, endpoint):
    same = judges.revise(version.judge, {"verdict": "marker"}, endpoint=endpoint)
    assert same == version
    other = judges.revise(version.judge, {"verdict": "schema"}, endpoint=endpoint)
    assert (other.number, other.sha256 != version.sha256) == (2, True)
    again = judges.revise(version.judge, {"verdict": "marker"}, endpoint=endpoint)
    assert (again, JudgeVersion.objects.count()) == (version, 2)
    with pytest.raises(AssertionError):
        version.save()


@pytest.mark.parametrize(
    ("name", "kind_name", "knobs", "sentence"),
    [
        ("Judy", "pairwise", {}, "There is a judge called Judy already."),
        ("", "pairwise", {}, "A judge needs a name."),
        ("New", "pairwise", {"slight": 0.99, "clear": 0.9}, "Slightly better cannot be surer"),
        ("New", "pairwise", {"clear": 2}, "clear must be below 1"),
        ("New", "pairwise", {"tone": 1}, "no setting called tone"),
        ("New", "constitution", {}, "needs a constitution"),
        ("New", "reward_model", {}, "needs a reward model"),
        ("New", "nobody", {}, "no kind 'nobody'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    version, project, endpoint, name, kind_name, knobs, sentence
):
    with pytest.raises(ValueError, match=sentence):
        judges.make(project, name, kind_name, knobs, endpoint=endpoint)
    assert User.objects.filter(kind="ai").count() == 1


def test_pairs_are_asked_once_and_stored_once(version, project, work, stub):
    pairs = pairs_of(open_campaign(project, comparisons=3))
    turned = [(other, one) for one, other in pairs]
    job = asking.ask(version, [*pairs, *turned], "Three pairs")
    (done,) = work()
    assert done == job
    assert len(stub.bodies) == 6
    assert asking.gather(version, done) == 0
    assert asking.ask(version, turned, "Again") is None
    said = verdicts.of(version, pairs)
    assert list(said.values()) == pytest.approx([0.05] * 3)
    for one, other in pairs:
        p = verdicts.probability(version, one.pk, other.pk)
        assert p == said[one.pk, other.pk]
        assert p + verdicts.probability(version, other.pk, one.pk) == 1.0
        assert verdicts.of(version, [(other, one)]) == {(other.pk, one.pk): 1 - p}
    found = Asking.objects.get()
    assert found.cost == pytest.approx(Decimal(done.result["tokens_in"]) / 10_000)
    assert all(row.consistent and row.tokens_in for row in Verdict.objects.all())


def test_a_judge_that_always_says_a_is_even_and_inconsistent(version, project, work, stub):
    stub.answer = lambda body: "[[A>>B]]"
    pairs = pairs_of(open_campaign(project, comparisons=1))
    asking.ask(version, pairs, "A pair")
    work()
    row = Verdict.objects.get()
    assert (row.p, row.consistent) == (0.5, False)


def test_no_half_of_a_verdict_is_kept_and_it_can_be_asked_again(version, project, work, stub):
    answer = stub.answer
    stub.answer = lambda body: "Hm." if shown(body)[0][1].endswith(".0") else answer(body)
    pairs = pairs_of(open_campaign(project, comparisons=1))
    asking.ask(version, pairs, "A pair")
    work()
    row = Verdict.objects.get()
    assert (row.q_first, row.q_second, row.p, row.consistent) == (None, None, None, None)
    assert row.error.startswith("The judge's reply")
    stub.answer = answer
    assert asking.ask(version, pairs, "A pair") is None
    assert asking.ask(version, pairs, "A pair", again=True) is not None
    work()
    row = Verdict.objects.get()
    assert (row.p is not None, row.error) == (True, "")


def test_a_cap_leaves_pairs_for_the_next_time(version, project, work):
    pairs = pairs_of(open_campaign(project, comparisons=40))
    asking.ask(version, pairs, "Many", max_tokens=5000)
    (job,) = work()
    left = job.result["unasked"]
    assert 0 < left < 40
    assert Verdict.objects.count() == 40 - left
    asking.ask(version, pairs, "The rest")
    (job,) = work()
    assert (job.result["pairs"], Verdict.objects.count()) == (left, 40)


def test_the_key_reaches_the_endpoint_and_stands_nowhere(version, project, work, stub, settings):
    asking.ask(version, pairs_of(open_campaign(project, comparisons=1)), "A pair")
    work()
    assert stub.headers[0]["authorization"] == f"Bearer {KEY}"
    files = [path for path in settings.RUNS_DIR.rglob("*") if path.is_file()]
    assert files
    assert not any(KEY.encode() in path.read_bytes() for path in files)


def test_pairs_of_two_prompts_or_of_one_answer_are_refused(version, project):
    (one, other), (third, _) = pairs_of(open_campaign(project, comparisons=2))
    with pytest.raises(ValueError, match="answers to the same prompt"):
        asking.ask(version, [(one, third)], "No")
    with pytest.raises(ValueError, match="not one with itself"):
        asking.ask(version, [(one, one)], "No")


def test_a_version_of_another_wording_says_so(version, project, monkeypatch):
    monkeypatch.setattr("align.judging.WORDING", "other")
    with pytest.raises(ValueError, match="worded differently"):
        asking.ask(version, pairs_of(open_campaign(project, comparisons=1)), "No")


def test_a_judges_ballots_take_nobodys_seat_and_are_cast_once(version, project, work, endpoint):
    campaign = open_campaign(project, comparisons=2, overlap=1)
    asking.ask(version, pairs_of(campaign), "Two pairs", campaign=campaign)
    work()
    found = list(version.judge.account.ballots.all())
    assert [(one.seat, one.probability, one.ranking) for one in found] == [
        (None, pytest.approx(0.05), [[1], [0]])
    ] * 2
    assert not campaign.comparisons.filter(full=True).exists()
    assert casting.cast(version, campaign.comparisons.all()) == 0
    watch.finish(Asking.objects.get())
    assert version.judge.account.ballots.count() == 2
    newer = judges.revise(version.judge, {"verdict": "schema"}, endpoint=endpoint)
    assert casting.vote(newer, campaign.comparisons.first().pk, 0.5)
    last = version.judge.account.ballots.get(revision=2)
    assert (last.ranking, last.revises.probability) == ([[0, 1]], pytest.approx(0.05))


def test_every_kind_is_found_with_knobs_a_form_can_be_made_of():
    found = kind.discover()
    assert {"pairwise", "constitution", "reward_model", "generative"} <= found.keys()
    for one in found.values():
        assert one.title
        assert one.what
        assert all(knob.help for knob in one.knobs())


def test_what_a_job_learned_of_an_endpoint_is_kept_and_the_next_job_is_not_refused(
    project, endpoint, work, stub
):
    stub.answer = particular_judge
    check = endpoints.check(endpoint)
    work()
    check.job.refresh_from_db()
    assert check.job.result["manners"] == {
        "limit": "max_completion_tokens", "own_temperature": True
    }  # fmt: skip
    assert endpoints.learn() == 1
    assert endpoints.learn() == 0
    endpoint.refresh_from_db()
    assert (endpoint.limit, endpoint.own_temperature) == ("max_completion_tokens", True)
    asked = len(stub.bodies)
    endpoints.check(endpoint)
    work()
    assert len(stub.bodies) == asked + 1
    assert "temperature" not in stub.bodies[-1]
    version = judges.make(project, "Jo", "pairwise", {"verdict": "marker"}, endpoint=endpoint)
    assert kind.asked(version).own_temperature is True


def particular_judge(body):
    """As an endpoint answers that wants its limit under another name, and no temperature."""
    for name in ("max_tokens", "temperature"):
        if name in body:
            words = f"'{name}' is not supported with this model. Use 'max_completion_tokens'."
            return 400, {}, {"error": {"message": words, "param": name}}
    return "ready"
