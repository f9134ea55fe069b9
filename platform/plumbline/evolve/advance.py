"""Sessions of ICPL. Read this first.

`tick` is called every second by the loop's process. For each session that goes on it looks at the
database and does the next thing if its condition holds: one small function per stage, each
returning the next stage or None for "not yet". Nothing is remembered between ticks, so the process
may be killed anywhere; a stage that ran half is simply run again, and every stage can be.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import transaction
from django.utils import timezone

from align import program_diff
from align.icpl import prompt
from align.jobs import read_rows
from align.judge_jobs import CALLS, WRITTEN
from plumbline.evolve import (
    asking,
    checking,
    confirming,
    judging,
    panel,
    ranking,
    telling,
    trials,
    work,
    writing,
)
from plumbline.evolve.models import OVER, Evolution, Generation, Program, Stage
from plumbline.fleet.models import Job
from plumbline.policies import serving

log = logging.getLogger(__name__)

MORE_PROMPTS = 3  # at a time, where the first two programs are not told apart
UNCHANGED = 2  # generations in a row with the same good program, after which a session ends
FELL = 2  # falls of the hidden agreement in a row, after which it ends
LEAST_HIDDEN = 10  # voted pairs, below which a fall says nothing


class Watch:
    """What the loop's process looks at."""

    def look(self) -> None:
        tick()


def tick() -> None:
    for evolution in Evolution.objects.filter(state=Evolution.State.CONFIRM):
        confirmed(evolution)
    for evolution in Evolution.objects.filter(state=Evolution.State.ACTIVE):
        generation = evolution.generations.exclude(stage__in=OVER).first()
        if generation is None:
            generation = begin(evolution)
        if generation is not None:
            advance(generation)
    trials.tick()
    confirming.tick()


def advance(generation: Generation) -> None:
    """Move a generation through as many stages as are ready. What is wrong ends up on it."""
    while generation.stage in STAGES:
        try:
            following = STAGES[Stage(generation.stage)](generation)
        except serving.EngineError as error:
            # The engine may be restarting: say so, stay in this stage, look again next tick.
            here = Generation.objects.filter(pk=generation.pk).exclude(error=str(error))
            here.update(error=str(error))
            return
        except ValueError as error:
            _fail(generation, str(error))
            return
        if following is None or not _leave(generation, following):
            return
        generation.refresh_from_db()


def begin(evolution: Evolution) -> Generation | None:
    """The next generation, unless the session is to end here, which is then written down."""
    last = evolution.generations.order_by("-number").first()
    if last is not None and (why := stops(evolution)):
        finish(evolution, why)
        return None
    if last is None:
        return Generation.objects.create(evolution=evolution, number=1)
    return Generation.objects.create(evolution=evolution, number=last.number + 1, stage=Stage.WRITE)


def sample_pool(generation: Generation) -> Stage | None:
    """The prompts, drawn once, and the answers that all programs of the session pick from."""
    panel.draw(generation.evolution)
    return Stage.WRITE if panel.sampled(generation.evolution) else None


def write(generation: Generation) -> Stage | None:
    """A program for every arm that lacks one, while calls are left; then on with what is valid."""
    if generation.programs.filter(status=Program.Status.DRAFT).exists():
        return Stage.CHECK  # stored before the process died
    todo = writing.wanted(generation)
    if todo:
        return Stage.CHECK if writing.written(generation, todo) else None
    valid = writing.valid(generation)
    if len(valid) < min(writing.LEAST, generation.evolution.arms):
        raise ValueError(
            f"After {generation.programs.count()} calls of the writer only {len(valid)} programs "
            f"are valid and differ; {writing.LEAST} are needed. The last good program is kept."
        )
    return Stage.ASK


def check(generation: Generation) -> Stage | None:
    """The drafts through the ladder, and the scores of those that pass."""
    return Stage.MERGE if checking.checked(generation) else None


def merge(generation: Generation) -> Stage | None:
    """Drop programs that pick what others pick; their arms are written anew."""
    checking.drop_the_same(generation)
    return Stage.WRITE


def ask(generation: Generation) -> Stage | None:
    """Put the different picks before raters; in the first generation the hidden pairs as well."""
    asking.opened(generation)
    asking.open_hidden(generation.evolution)
    return Stage.RANK


def rank(generation: Generation) -> Stage | None:
    """Wait for the rankings, or for a researcher who has seen enough."""
    rater, hidden = generation.evolution.rater, generation.evolution.hidden_campaign
    if rater is not None and hidden is not None and not _judged(generation):
        return None
    return Stage.AGGREGATE if asking.ranked(generation) else None


def aggregate(generation: Generation) -> Stage | None:
    """Good and bad; or more prompts, while the first two are not told apart and some are left."""
    if asking.pending(generation):
        return Stage.ASK  # decided before the process died
    now = ranking.standing(generation)
    if not now.prompts:
        raise ValueError("Nobody ranked anything, so no program is better than another.")
    assert generation.campaign is not None
    may_ask = not now.sure and generation.campaign.closed_at is None
    if may_ask and asking.ask_more(generation, MORE_PROMPTS):
        return Stage.ASK
    ranking.settle(generation, now)
    return Stage.REPORT


def report(generation: Generation) -> Stage | None:
    """How the good program came about, in a diff and a sentence; what hidden pairs say of it."""
    good = generation.good
    assert good is not None
    last = telling.before(generation)
    changed = last is not None and last.good_id != good.pk
    if changed and not generation.sentence:
        assert last is not None
        assert last.good is not None
        generation.difference = program_diff.as_text(
            program_diff.difference(last.good.reward, good.reward)
        )
        sentence = _sentence(generation, last)
        if sentence is None:
            return None
        generation.sentence = sentence
    found = ranking.hidden_accuracy(good, generation.evolution.hidden_campaign)
    hidden = {"right": found[0], "pairs": found[1]} if found else None
    with transaction.atomic():
        generation.figures = {**generation.figures, "hidden": hidden}
        generation.save(update_fields=["difference", "sentence", "figures"])
        Evolution.objects.filter(pk=generation.evolution_id).update(best=good)
    asking.close([generation.campaign])
    return Stage.DONE


STAGES: dict[Stage, Callable[[Generation], Stage | None]] = {
    Stage.POOL: sample_pool,
    Stage.WRITE: write,
    Stage.CHECK: check,
    Stage.MERGE: merge,
    Stage.ASK: ask,
    Stage.RANK: rank,
    Stage.AGGREGATE: aggregate,
    Stage.REPORT: report,
}


def stops(evolution: Evolution) -> str:
    """Why no further generation begins; "" where one does."""
    done = list(evolution.generations.filter(stage=Stage.DONE).order_by("number"))
    if len(done) >= evolution.generations_wanted:
        return f"All {evolution.generations_wanted} generations are done."
    same = [one.good_id for one in done[-UNCHANGED - 1 :]]
    if len(same) > UNCHANGED and len(set(same)) == 1:
        return f"The good program stayed the same for {UNCHANGED} generations."
    told = [one.figures.get("hidden") for one in done[-FELL - 1 :]]
    shares = [one["right"] / one["pairs"] for one in told if one and one["pairs"] >= LEAST_HIDDEN]
    if len(shares) > FELL and all(b < a for a, b in zip(shares, shares[1:], strict=False)):
        return f"Agreement on hidden pairs fell {FELL} times in a row."
    return ""


def finish(evolution: Evolution, why: str) -> None:
    """No further generation begins; the best program is the one that the hidden pairs do not speak
    against: where it stopped because they fell, the good one before they did. A session that kept
    prompts fresh goes on to confirm it on them, and is over then."""
    if why.startswith("Agreement on hidden"):
        done = evolution.generations.filter(stage=Stage.DONE).order_by("-number")
        before = done[FELL]
        Evolution.objects.filter(pk=evolution.pk).update(best=before.good)
    state = Evolution.State
    going = Evolution.objects.filter(pk=evolution.pk, state=state.ACTIVE)
    if evolution.fresh_prompts:
        going.update(state=state.CONFIRM, ended=why)
    else:
        going.update(state=state.FINISHED, ended=why, finished_at=timezone.now())
    asking.close([evolution.hidden_campaign])


def confirmed(evolution: Evolution) -> None:
    """Have the best program confirmed; the session is over once that has come to an end."""
    best = evolution.best
    assert best is not None
    last = best.confirmations.order_by("-number").first()
    if last is None:
        confirming.begin(best)
        return
    if last.finished_at is None:
        return
    Evolution.objects.filter(pk=evolution.pk, state=Evolution.State.CONFIRM).update(
        state=Evolution.State.FINISHED,
        ended=f"{evolution.ended} {last.said}"[:300],
        finished_at=timezone.now(),
    )


def _sentence(generation: Generation, last: Generation) -> str | None:
    """The writer's own words for the change; None while it is asked, "–" where it says nothing:
    a sentence is not worth a session."""
    assert last.good is not None
    assert generation.good is not None
    programs = [last.good.program, generation.good.program]
    call = {
        "id": "sentence",
        "messages": prompt.describe(generation.difference),
        "emphasis": "free",
        "good": [one for one in programs if one is not None],
        "bad": None,
        "seed": generation.evolution.seed,
        "wants": "sentence",
    }
    spec = writing.spec(generation.evolution)
    job = work.ask(generation.evolution, generation, "sentence", spec, {CALLS: lambda: [call]})
    if not job.over:
        return None
    if job.state != Job.State.SUCCEEDED:
        return "–"
    return next((row["reply"][:300] for row in read_rows(job.folder / WRITTEN)), "") or "–"


def _judged(generation: Generation) -> bool:
    """Whether a judge that ranks has also answered the hidden pairs."""
    evolution = generation.evolution
    assert evolution.rater is not None
    assert evolution.hidden_campaign is not None
    return judging.ranked(generation, evolution.hidden_campaign, evolution.rater)


def _fail(generation: Generation, why: str) -> None:
    """The generation fails and its session stops there, the last good program kept."""
    with transaction.atomic():
        stage = generation.stage
        if not _leave(generation, Stage.FAILED, why):
            return
        Generation.objects.filter(pk=generation.pk).update(failed_at=stage)
        Evolution.objects.filter(pk=generation.evolution_id).update(
            state=Evolution.State.FAILED, ended=why[:300], finished_at=timezone.now()
        )


def _leave(generation: Generation, following: Stage, error: str = "") -> bool:
    """Compare-and-swap the stage; False if someone else moved it first."""
    finished = timezone.now() if following in OVER else None
    return bool(
        Generation.objects.filter(pk=generation.pk, stage=generation.stage).update(
            stage=following, error=error, finished_at=finished
        )
    )
