"""One round's page: what is live on it, what it shows of the result, and its buttons."""

from __future__ import annotations

from html import unescape

import pytest

from plumbline.collect.models import Completion
from plumbline.judges.models import Score
from plumbline.loop.models import Round, Stage
from plumbline.policies.models import Deployment, Policy, RewardModel
from tests.comparisons import open_campaign
from tests.lab import laboratory as lab

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def experiment(project):
    return lab.experiment(project, name="Warmer answers")


def address(round: Round) -> str:
    return f"/p/alpha/lab/experiments/{round.experiment_id}/rounds/{round.number}/"


def text(response) -> str:
    return unescape(response.content.decode())


def test_every_stage_is_on_the_timeline_with_its_time(researcher, experiment):
    page = text(researcher.get(address(lab.round_at(experiment, Stage.TRAIN))))
    assert '<li data-state="now" aria-current="step"><span>Train' in page
    assert '<li data-state="done"><span>Sample</span><span class="end">10 s</span>' in page
    assert '<li data-state="todo"><span>Evaluate' in page


def test_a_stage_the_round_did_not_need_says_so(researcher, experiment):
    made = lab.round_at(experiment, Stage.TRAIN)
    made.stages.filter(stage=Stage.SCORE).delete()
    assert "not needed" in text(researcher.get(address(made)))


def test_the_current_stages_job_shows_progress_and_time_left(researcher, experiment):
    made = lab.round_at(experiment, Stage.TRAIN)
    progress = {"done": 10, "total": 40, "unit": "steps", "rate": 0.333, "left": 90.1}
    lab.train_job(made, "running", progress=progress)
    page = text(researcher.get(address(made)))
    assert "Train policy" in page
    assert "10 of 40 steps · about 1 min 30 s left" in page
    assert '<progress value="10" max="40"' in page


def test_training_shows_how_many_tokens_it_reads_in_a_second(researcher, experiment):
    made = lab.round_at(experiment, Stage.TRAIN)
    progress = {"done": 312, "total": 600, "unit": "steps", "rate": 2.4, "left": 120.0}
    lab.train_job(made, "running", progress={**progress, "tokens_per_second": 3900.4})
    page = text(researcher.get(address(made)))
    assert "312 of 600 steps · 3,900 tokens/s · about 2 min left" in page


def test_labelling_shows_votes_given_of_those_wanted(researcher, project, experiment):
    campaign = open_campaign(project, comparisons=3, overlap=2)
    lab.ballot(campaign.comparisons.first())
    made = lab.round_at(experiment, Stage.LABEL, campaign=campaign)
    page = text(researcher.get(address(made)))
    assert "1 of 6 votes" in page
    assert "Close labels early" in page


def test_the_last_lines_of_a_failed_child_are_on_the_page(researcher, experiment):
    made = lab.round_at(experiment, Stage.FAILED, error="The train job failed.\nOutOfMemoryError")
    lab.train_job(made, "failed", error="Traceback:\n  loss.backward()\nOutOfMemoryError")
    page = text(researcher.get(address(made)))
    assert "The round failed" in page
    assert "loss.backward()" in page
    assert "stopped here" in page
    assert "Try again" in page


def test_an_engine_that_is_away_is_said_while_the_round_waits(researcher, experiment):
    made = lab.round_at(experiment, Stage.SAMPLE, error="the engine does not answer")
    page = text(researcher.get(address(made)))
    assert "Waiting for the engine" in page
    assert "the engine does not answer" in page


def test_the_evaluation_is_shown_with_its_interval_in_words_and_as_a_picture(
    researcher, experiment
):
    page = text(researcher.get(address(lab.finished_round(experiment))))
    assert 'aria-label="67.2 %, 95 % interval 55.3 % to 77.0 %"' in page
    for words in ("40 won, 6 tied, 18 lost", "7.43 nats a sequence", "31.2 tokens, opponent 28.4"):
        assert words in page, words


def test_the_gate_shows_each_check_with_its_evidence(researcher, experiment):
    page = text(researcher.get(address(lab.finished_round(experiment))))
    assert "Win rate against current 67.2% (95% interval 55.3% to 77.0%)." in page
    assert '<li data-state="note"><strong>Length' in page


def test_ballots_pairs_and_reward_model_behind_the_policy_are_named(
    researcher, project, experiment
):
    made = lab.finished_round(experiment)
    campaign = open_campaign(project, comparisons=2)
    made.ballots.set([lab.ballot(one) for one in campaign.comparisons.all()])
    made.reward_model = RewardModel.objects.create(
        project=project, name="alpha-reward", path="/r", sha256="", ballots_used=2, accuracy=0.81
    )
    made.save()
    page = text(researcher.get(address(made)))
    assert "<dt>Ballots used</dt><dd>2" in page
    assert "frozen as" in page
    assert "81.0 % of held-out votes predicted" in page


def test_samples_stand_side_by_side_rendered_and_with_their_rewards(
    researcher, project, experiment
):
    made = lab.finished_round(experiment)
    judge = RewardModel.objects.create(
        project=project, name="alpha-reward", path="/r", sha256="", ballots_used=2
    )
    Round.objects.update(reward_model=judge)
    answer = Completion.objects.filter(policy=made.policy_out).order_by("prompt").first()
    Score.objects.create(completion=answer, reward_model=judge, value=1.25)
    page = text(researcher.get(address(made)))
    assert "An old answer to Question 4" in page
    assert "<strong>better</strong> answer to Question 4" in page
    assert "3 tokens, reward 1.25" in page
    assert page.count('class="card sample"') == 5
    assert "Page 1 of 2" in page
    assert text(researcher.get(address(made), {"page": 2})).count('class="card sample"') == 2


def test_a_models_markup_is_harmless(researcher, experiment):
    made = lab.finished_round(experiment)
    Completion.objects.update(text="<script>alert(1)</script><img src=x onerror=alert(1)>")
    page = researcher.get(address(made)).content.decode()
    assert "<script>alert" not in page
    assert "<img" not in page


def test_answers_of_another_round_are_not_mixed_in(researcher, experiment):
    first = lab.finished_round(experiment)
    second = lab.finished_round(experiment)
    for one in (first, second):
        Completion.objects.filter(policy=one.policy_out).update(text=f"Round {one.number} says so")
    page = text(researcher.get(address(second)))
    assert "Round 2 says so" in page
    assert "Round 1 says so" not in page


def test_a_poll_gets_only_what_is_live(researcher, experiment):
    made = lab.round_at(experiment, Stage.TRAIN)
    part = text(researcher.get(address(made), {"seen": "train"}, headers=HTMX))
    assert part.lstrip().startswith('<section class="columns wide-left" id="round-live"')
    assert 'hx-trigger="every 2s"' in part
    assert "hx-swap-oob" not in part


def test_a_poll_that_finds_a_new_stage_brings_buttons_and_results_along(researcher, experiment):
    made = lab.finished_round(experiment)
    part = text(researcher.get(address(made), {"seen": "promote"}, headers=HTMX))
    assert "every 2s" not in part  # over: nothing polls on
    for part_id in ("round-head", "round-results", "round-samples"):
        assert f'id="{part_id}" hx-swap-oob="true"' in part
    assert "67.2 %" in part


def test_nothing_is_polled_on_the_page_of_a_round_that_is_over(researcher, experiment):
    assert "every 2s" not in text(researcher.get(address(lab.finished_round(experiment))))


def test_a_fresh_round_has_words_where_results_will_be(researcher, experiment):
    page = text(researcher.get(address(lab.round_at(experiment, Stage.PROMPTS))))
    for words in (
        "Choose prompts is next.",
        "This round has not asked the fleet for anything yet.",
        "once it is trained",
        "Curves appear with the first training step.",
        "appear with the evaluation",
    ):
        assert words in page, words


def test_charts_have_a_table_for_those_who_do_not_see_them(researcher, experiment):
    page = text(researcher.get(address(lab.finished_round(experiment, steps=3))))
    assert '<th scope="col">rewards/margins</th>' in page
    assert 'role="img" aria-label="Loss: loss 0.' in page


def test_labels_can_be_closed_early(researcher, project, experiment):
    campaign = open_campaign(project)
    made = lab.round_at(experiment, Stage.LABEL, campaign=campaign)
    response = researcher.post(f"{address(made)}close-labels/", follow=True)
    campaign.refresh_from_db()
    assert campaign.closed_at is not None
    assert "the round goes on with the votes it has" in text(response)


def test_a_round_can_be_cancelled_with_its_jobs(researcher, experiment):
    made = lab.round_at(experiment, Stage.TRAIN)
    job = lab.train_job(made, "queued")
    researcher.post(f"{address(made)}cancel/")
    made.refresh_from_db()
    job.refresh_from_db()
    assert (made.stage, made.error) == ("cancelled", "Cancelled by alice.")
    assert job.state == "cancelled"


def test_a_round_that_is_over_stays_as_it_is(researcher, experiment):
    made = lab.finished_round(experiment)
    for button in ("cancel", "close-labels", "retry"):
        researcher.post(f"{address(made)}{button}/")
    made.refresh_from_db()
    assert made.stage == "done"


def test_a_failed_round_can_be_tried_again(researcher, experiment):
    made = lab.round_at(experiment, Stage.FAILED)
    job = lab.train_job(made, "failed")
    researcher.post(f"{address(made)}retry/")
    made.refresh_from_db()
    job.refresh_from_db()
    assert (made.stage, job.state) == ("train", "queued")


def test_a_candidate_can_be_promoted_or_rejected_and_what_is_current_rolled_back(
    researcher, project, experiment
):
    made = lab.finished_round(experiment)
    page = text(researcher.get(address(made)))
    assert "Promote to current" in page
    assert ">Reject</button>" in page
    Policy.objects.filter(pk=made.policy_out.pk).update(state="promoted")
    Deployment.objects.create(project=project, policy=made.policy_out, previous=experiment.start)
    page = text(researcher.get(address(made)))
    assert "Promote to current" not in page
    assert ">Reject</button>" not in page
    assert "Roll current back?" in page


@pytest.mark.parametrize("button", ["", "cancel/", "retry/", "close-labels/"])
def test_another_projects_round_is_not_found(researcher, charlie, button):
    theirs = lab.round_at(lab.experiment(charlie.projects.get()), Stage.TRAIN)
    method = researcher.post if button else researcher.get
    assert method(address(theirs) + button).status_code == 404


def test_an_annotator_may_not_see_where_answers_come_from(bob, experiment, client_for):
    made = lab.finished_round(experiment)
    assert client_for(bob).get(address(made)).status_code == 403
    assert client_for(bob).post(f"{address(made)}cancel/").status_code == 403


def test_a_long_round_needs_no_more_queries(researcher, experiment, django_assert_max_num_queries):
    made = lab.finished_round(experiment, steps=200)
    with django_assert_max_num_queries(22):
        researcher.get(address(made))
    with django_assert_max_num_queries(6):
        researcher.get(address(made), {"seen": "done"}, headers=HTMX)


def test_researchers_see_why_the_rounds_comparisons_were_asked(researcher, experiment):
    campaign = open_campaign(experiment.project)
    by_design = {"part": "informed", "gain": 1.25, "chance": 0.3, "information": 0.125}
    for why, chance in ((by_design, 0.75), (by_design, 0.75), ({"part": "random"}, 0.5)):
        campaign.comparisons.create(
            prompt=experiment.prompt_set.prompts.first(), p_select=chance, why=why
        )
    page = text(researcher.get(address(lab.round_at(experiment, Stage.LABEL, campaign=campaign))))
    rows = page.split("Why these were asked")[1].split("</table>")[0].split("<tr>")
    assert "By what the strategy goes by" in rows[2]
    for figure in (">2<", "75", "70", "0.125", "1.25"):
        assert figure in rows[2]
    assert "Any pair" in rows[3]
    assert rows[3].count("–") == 3
