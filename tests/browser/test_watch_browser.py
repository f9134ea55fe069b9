"""Watching a run in a real Chromium: curves by keyboard, a log that follows, answers by token."""

from __future__ import annotations

import pytest

from align.jobs import STDERR
from plumbline.collect.models import Completion
from plumbline.fleet import presence
from plumbline.fleet.models import Worker
from plumbline.loop.models import RoundStage, Stage, TokenRewards
from tests.lab import laboratory as lab
from tests.lab.test_workers_page import FACTS

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
ACROSS = [(1280, False), (390, True)]
ANSWERS = "/p/alpha/lab/answers/"
PIECES = ["The", " capital", " of", " France", " is", " Paris", ",", " as", " you", " know"]
PIECES += [".", "\n"]
RATIOS = [0.05, 0.4, 0.02, 0.3, 0.1, 1.9, -0.2, -0.8, -1.6, -1.1, 0.7, 0.0]


def address(round) -> str:
    return f"/p/alpha/lab/experiments/{round.experiment_id}/rounds/{round.number}/"


def watched(project):
    """A round in training, the second of its experiment, with curves so far."""
    experiment = lab.experiment(project, name="Warmer answers", autopilot=True)
    before = lab.finished_round(experiment, steps=5)
    made = lab.round_at(experiment, Stage.TRAIN)
    progress = {"done": 300, "total": 600, "unit": "steps", "rate": 2.4, "left": 120.0}
    job = lab.train_job(made, "running", progress=progress)
    lab.log_training(job, 300)
    assert RoundStage.objects.filter(round=before).exists()
    return made, job


def read(project):
    """A finished round whose first answers were read by token."""
    made = lab.finished_round(lab.experiment(project, name="Warmer answers"))
    made.policy_out.knobs = {"beta": 0.5}
    made.policy_out.save()
    for answer in Completion.objects.filter(policy__isnull=False):
        sign = 1 if answer.policy_id == made.policy_out.pk else 0
        TokenRewards.objects.create(
            completion=answer,
            reference=made.experiment.start,
            pieces=PIECES,
            logps=[-1.0] * len(PIECES),
            reference_logps=[-1.0 - sign * ratio for ratio in RATIOS],
        )
    return made


def test_curves_are_read_and_zoomed_by_keyboard(browse, project, alice):
    made, _ = watched(project)
    page = browse(alice)
    page.goto(address(made))
    page.wait_for_selector(".plot canvas")
    plot = page.locator(".plot").first
    plot.focus()
    says = page.locator("figure.chart").first.locator("output").first
    newest = says.text_content()
    for _ in range(20):
        page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_function("([e, t]) => e.textContent !== t", arg=[says.element_handle(), newest])
    scale = "() => { const {min, max} = [...plots.values()][0].plot.scales.x; return max - min; }"
    whole = page.evaluate(scale)
    page.keyboard.press("+")
    page.wait_for_function(f"w => ({scale})() < w", arg=whole)
    page.keyboard.press("0")
    page.wait_for_function(f"w => ({scale})() === w", arg=whole)


def test_smoothing_is_remembered(browse, project, alice):
    made, _ = watched(project)
    page = browse(alice)
    page.goto(address(made))
    page.wait_for_selector(".plot canvas")
    loss = "() => [...plots.values()][0].plot.data[1].slice(0, 40).join()"
    raw = page.evaluate(loss)
    page.get_by_label("Smoothing").fill("0.9")
    page.wait_for_function(f"raw => ({loss})() !== raw", arg=raw)
    page.reload()
    page.wait_for_selector(".plot canvas")
    assert page.get_by_label("Smoothing").input_value() == "0.9"
    assert page.evaluate(loss) != raw


def test_a_chart_has_its_figures_as_a_file(browse, project, alice):
    made, _ = watched(project)
    page = browse(alice)
    page.goto(address(made))
    with page.expect_download() as got:
        page.get_by_role("link", name="CSV of Loss, Training").click()
    with open(got.value.path()) as file:
        lines = file.read().splitlines()
    assert lines[0] == "step,loss"
    assert len(lines) == 301


def test_a_log_follows_and_rests_while_one_reads(browse, project, alice):
    made, job = watched(project)
    job.folder.mkdir(parents=True)
    log = job.folder / STDERR
    log.write_text("".join(f"line {n}\n" for n in range(150)))
    page = browse(alice)
    page.goto(f"/p/alpha/lab/jobs/{job.pk}/")
    with log.open("a") as more:
        more.write("what came then\n")
    page.get_by_text("what came then").wait_for()
    page.evaluate("document.querySelector('.log.tail').scrollTop = -900")
    page.get_by_text("Paused while you read").wait_for()
    with log.open("a") as more:
        more.write("unseen\n")
    page.wait_for_timeout(4500)  # two polls that must not come
    assert page.get_by_text("unseen").count() == 0
    page.evaluate("document.querySelector('.log.tail').scrollTop = 0")
    page.get_by_text("unseen").wait_for()


def test_tokens_tell_their_figures_to_the_pointer_and_the_keys(browse, project, alice):
    read(project)
    page = browse(alice)
    page.goto(ANSWERS)
    heat = page.locator(".heat").nth(1)
    says = page.locator(".heat-says").nth(1)
    heat.locator(".tok", has_text="Paris").hover()
    assert "“Paris” +0.95" in says.text_content()
    heat.focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert "“.” +0.35" in says.text_content()
    page.get_by_label("Show as text").check()
    assert heat.is_hidden()


def test_axe_finds_nothing_serious_where_one_watches(browse, project, alice, faults):
    made, job = watched(project)
    presence.report("node-a:17", ["cpu", "gpu"], job.pk)
    Worker.objects.update(facts=FACTS, host="node-a")
    for width, dark in ACROSS:
        page = browse(alice, width=width, dark=dark)
        for where in (address(made), f"/p/alpha/lab/jobs/{job.pk}/", "/p/alpha/lab/workers/"):
            assert page.goto(where).status == 200
            page.wait_for_load_state("load")
            assert faults(page) == [], (where, width, dark)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), where
        page.context.close()


def test_axe_finds_nothing_serious_among_answers(browse, project, alice, faults):
    read(project)
    for width, dark in ACROSS:
        page = browse(alice, width=width, dark=dark)
        assert page.goto(ANSWERS).status == 200
        assert faults(page) == [], (width, dark)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.context.close()
