"""Answers side by side: what is shown, in which order, by token, and checked blind."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.utils import timezone

from align import jobs
from plumbline.collect.models import Campaign, Completion, Prompt
from plumbline.fleet.models import Job
from plumbline.judges.models import Score
from plumbline.lab import heat
from plumbline.loop import inspection, spot_checks
from plumbline.loop.models import Inspection, SpotCheck, TokenRewards
from plumbline.policies.models import RewardModel
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
HERE = "/p/alpha/lab/answers/"


@pytest.fixture
def model(project) -> RewardModel:
    return RewardModel.objects.create(
        project=project, name="alpha-reward", objective="bradley_terry", path="/r",
        sha256="ef" * 32, ballots_used=10,
    )  # fmt: skip


@pytest.fixture
def made(project, model):
    """A finished round whose policy gained on most of its seven held-out prompts: the reward of
    prompt n went from 0 to n - 2."""
    found = lab.finished_round(lab.experiment(project))
    found.policy_out.knobs = {"beta": 0.5}
    found.policy_out.save()
    for n, prompt in enumerate(held(found)):
        for policy, value in ((found.experiment.start, 0.0), (found.policy_out, n - 2.0)):
            answer = Completion.objects.get(prompt=prompt, policy=policy)
            Score.objects.create(completion=answer, reward_model=model, value=value)
    return found


def held(round) -> list[Prompt]:
    return list(round.experiment.prompt_set.prompts.filter(split="heldout").order_by("pk"))


def words(response) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.content.decode())).split())


def asked(page: str) -> list[int]:
    """Which of the held-out questions a page shows, in order."""
    return list(dict.fromkeys(int(n) - 4 for n in re.findall(r"Question (\d+) of", page)))


def read_by_token(answer: Completion, reference) -> TokenRewards:
    return TokenRewards.objects.create(
        completion=answer, reference=reference, pieces=["An", " old", "<b>"],
        logps=[-1.0, -2.0, -0.5], reference_logps=[-3.0, -1.5, -0.5],
    )  # fmt: skip


def test_before_any_evaluation_the_page_says_what_it_waits_for(researcher):
    assert "No answers to held-out prompts yet" in words(researcher.get(HERE))


def test_the_newest_policy_stands_beside_the_one_it_came_from(researcher, made):
    page = words(researcher.get(HERE))
    assert page.index("An old answer") < page.index("better answer")
    assert "7 prompts" in page
    assert asked(page) == [0, 1, 2, 3, 4, 5]
    assert asked(words(researcher.get(HERE, {"page": 2}))) == [6]


def test_most_gained_and_most_lost_come_first(researcher, made):
    gained = words(researcher.get(HERE, {"order": "gain"}))
    assert asked(gained) == [6, 5, 4, 3, 2, 1]
    assert "+4" in gained
    assert asked(words(researcher.get(HERE, {"order": "loss"})))[:3] == [0, 1, 2]


def test_only_gains_or_losses_are_shown(researcher, made):
    assert asked(words(researcher.get(HERE, {"show": "lost"}))) == [0, 1]
    assert asked(words(researcher.get(HERE, {"show": "even"}))) == [2]
    assert asked(words(researcher.get(HERE, {"show": "gained"}))) == [3, 4, 5, 6]


def test_prompts_are_found_by_their_words_in_any_case(researcher, made):
    found = words(researcher.get(HERE, {"q": "QUESTION 7"}))
    assert asked(found) == [3]
    odd = held(made)[0]
    odd.messages = [{"role": "user", "content": "Wie heißt das Ärgernis?"}]
    odd.save()
    assert "1 prompt " in words(researcher.get(HERE, {"q": "ÄRGERNIS"}))
    assert "No prompt matches" in words(researcher.get(HERE, {"q": "user"}))


def test_the_newest_answer_of_a_policy_counts(researcher, made, model):
    newer = Completion.objects.create(
        prompt=held(made)[0], policy=made.policy_out, text="Said anew", token_ids=[1]
    )
    Score.objects.create(completion=newer, reward_model=model, value=9.0)
    page = words(researcher.get(HERE, {"order": "gain"}))
    assert "Said anew" in page
    assert asked(page)[0] == 0


def test_scores_of_another_reward_model_are_never_read(researcher, made, project):
    other = RewardModel.objects.create(
        project=project, name="other", objective="bradley_terry", path="/o", sha256="aa" * 32,
        ballots_used=1,
    )  # fmt: skip
    page = words(researcher.get(HERE, {"model": str(other.pk), "order": "gain"}))
    assert asked(page) == [0, 1, 2, 3, 4, 5]
    assert "+4" not in page


def test_four_policies_stand_side_by_side_and_no_more(researcher, made, project):
    more = [lab.policy(project, f"extra-{n}", parent=made.experiment.start) for n in range(4)]
    for one in more:
        Completion.objects.create(prompt=held(made)[0], policy=one, text=f"By {one.name}")
    page = researcher.get(HERE, {"policy": [str(one.pk) for one in [*more, made.policy_out]]})
    assert "By extra-3" in words(page)
    assert 'class="answers-4 side"' in page.content.decode()


def test_what_is_not_the_projects_is_not_found(researcher, made, charlie):
    theirs = lab.finished_round(lab.experiment(charlie.projects.get()))
    assert researcher.get(HERE, {"policy": str(theirs.policy_out.pk)}).status_code == 404
    assert researcher.get(HERE, {"set": theirs.experiment.prompt_set_id}).status_code == 404
    assert researcher.get(HERE, {"set": "x"}).status_code == 404


def test_tokens_are_tinted_by_their_implicit_reward_with_the_figures_beside(researcher, made):
    mine = Completion.objects.get(prompt=held(made)[0], policy=made.policy_out)
    read_by_token(mine, made.experiment.start)
    page = researcher.get(HERE).content.decode()
    assert '<span class="tok p5" title="+1: log π -1, reference -3">An</span>' in page
    assert 'class="tok n' in page
    assert "&lt;b&gt;" in page
    seen = unescape(page)
    assert "3 tokens, implicit reward +0.75 in all; most liked “An” +1" in seen
    assert "+1.5" in seen  # the log-ratio of the answer


def test_a_policy_without_a_beta_shows_the_log_ratio_itself(made):
    made.policy_out.knobs = {}
    answer = Completion.objects.get(prompt=held(made)[0], policy=made.policy_out)
    found, legend = heat.heats(
        [read_by_token(answer, made.experiment.start)], {made.policy_out.pk: made.policy_out}
    )
    assert [token.reward for token in found[answer.pk].tokens] == [2.0, -0.5, 0.0]
    assert [token.tint for token in found[answer.pk].tokens] == ["p5", "n2", ""]
    assert legend.bound == 2.0
    assert [tint for tint, _ in legend.steps][:6] == ["n5", "n4", "n3", "n2", "n1", "p1"]


def test_reading_asks_the_fleet_for_what_is_not_known(researcher, made, model, settings, tmp_path):
    settings.RUNS_DIR = tmp_path
    mine = Completion.objects.get(prompt=held(made)[0], policy=made.policy_out)
    read_by_token(mine, made.experiment.start)
    response = researcher.post(f"{HERE}read/", {"set": made.experiment.prompt_set_id, "page": 1})
    assert response.status_code == 302
    one = Inspection.objects.get()
    assert one.answers == 11
    spec = jobs.from_json(one.job.spec)
    assert isinstance(spec, jobs.ScoreJob)
    assert (spec.by_token, spec.pieces, spec.reward_model) == (True, True, "/r")
    assert len(list(jobs.read_rows(one.job.folder / jobs.ITEMS))) == 11
    page = researcher.get(response["Location"])
    assert 'hx-trigger="every 2s"' in page.content.decode()
    assert "11 answers" in words(page)


def finish(one: Inspection, rows: list[dict] | None, state: str = "succeeded") -> None:
    if rows is not None:
        jobs.write_rows(one.job.folder / jobs.SCORES, rows)
    Job.objects.filter(pk=one.job_id).update(state=state, finished_at=timezone.now(), error="Boom")


def test_results_become_rows_once(researcher, made, model, settings, tmp_path, alice, project):
    settings.RUNS_DIR = tmp_path
    mine = Completion.objects.get(prompt=held(made)[0], policy=made.policy_out)
    one = inspection.ask(project, [mine], made.experiment.start, model, alice)
    assert one is not None
    assert inspection.collect() == 0
    row = {
        "id": str(mine.pk), "reward": 1.0, "members": [1.0], "spread": None, "tokens": 2,
        "logps": {}, "pieces": ["a", "b"],
        "token_logps": {str(made.policy_out.pk): [-1.0, -2.0], "reference": [-2.0, -1.0]},
    }  # fmt: skip
    finish(one, [row])
    assert inspection.collect() == 1
    assert inspection.collect() == 0
    read = TokenRewards.objects.get()
    assert (read.pieces, read.logps, read.reference_logps) == (["a", "b"], [-1, -2], [-2, -1])
    assert inspection.ask(project, [mine], made.experiment.start, model, alice) is None
    assert inspection.under_way(project) == []


@pytest.mark.parametrize(
    ("rows", "state", "said"),
    [(None, "failed", "The job failed. Boom"), ([{"id": "x"}], "succeeded", "cannot be read")],
)
def test_a_reading_that_failed_says_so(
    researcher, made, settings, tmp_path, project, rows, state, said
):
    settings.RUNS_DIR = tmp_path
    mine = Completion.objects.get(prompt=held(made)[0], policy=made.policy_out)
    one = inspection.ask(project, [mine], made.experiment.start, None, None)
    assert one is not None
    finish(one, rows, state)
    inspection.collect()
    assert said in words(researcher.get(HERE))


def test_a_blind_check_opens_a_campaign_of_a_sample(researcher, made):
    ask = {"set": made.experiment.prompt_set_id, "show": "gained", "pairs": 3, "overlap": 2}
    assert researcher.post(f"{HERE}check/", ask).status_code == 302
    check = SpotCheck.objects.get()
    assert (check.policy, check.against) == (made.policy_out, made.experiment.start)
    assert (check.of, check.drawn_from) == (4, "pairs whose score rose")
    campaign = check.campaign
    assert (campaign.purpose, campaign.overlap) == (Campaign.Purpose.EVALUATE, 2)
    assert made.policy_out.name not in campaign.name
    gained = {prompt.pk for prompt in held(made)[3:]}
    comparisons = list(campaign.comparisons.all())
    assert len(comparisons) == 3
    for one in comparisons:
        assert one.prompt_id in gained
        assert one.p_select == pytest.approx(3 / 4)
        assert [s.completion.policy for s in one.slots.all()] == [check.policy, check.against]


def test_its_votes_come_back_with_an_interval_and_what_the_model_missed(researcher, made):
    ask = {"set": made.experiment.prompt_set_id, "pairs": 7, "overlap": 1}
    researcher.post(f"{HERE}check/", ask)
    check = SpotCheck.objects.get()
    for comparison in check.campaign.comparisons.order_by("prompt_id"):
        lab.ballot(comparison)  # for the new policy's answer
    (found,) = spot_checks.results([check])
    assert (found.won.wins, found.votes, found.wanted) == (7, 7, 7)
    assert (found.agree.wins, found.agree.losses) == (4, 2)  # it lost two, and one was even
    assert 0 < found.interval[0] < 1
    page = words(researcher.get(HERE))
    assert "7 won, 0 tied, 0 lost" in page
    assert "on 6 pairs that both decided" in page


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pairs": "0", "overlap": "1"}, "A blind check takes from 1 to 200 pairs, not 0."),
        ({"pairs": "5", "overlap": "x"}, "From 1 to 9 people may judge each pair, not 0."),
        ({"pairs": "5", "overlap": "1", "q": "nowhere"}, "No two answers differ here"),
    ],
)
def test_a_check_that_cannot_be_gets_a_sentence(researcher, made, fields, said):
    response = researcher.post(
        f"{HERE}check/", {"set": made.experiment.prompt_set_id, **fields}, follow=True
    )
    assert said in words(response)
    assert not SpotCheck.objects.exists()


def test_the_page_asks_as_much_of_the_database_whatever_is_on_it(
    researcher, made, django_assert_max_num_queries
):
    for answer in Completion.objects.filter(policy=made.policy_out):
        read_by_token(answer, made.experiment.start)
    with django_assert_max_num_queries(28):
        researcher.get(HERE)
