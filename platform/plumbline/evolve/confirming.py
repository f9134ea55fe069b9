"""A winner's last hurdle before it may judge: its picks among fresh answers, before people.

The prompts were kept from every generation since the session began, and what is served now answers
them anew. The program picks the answer that it scores highest, and so does the judge that it is to
replace; without one, the seed draws an answer. People see both, blind, in a campaign like any
other, whose votes train nothing. Nothing is remembered between looks but what the database holds.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone

from align import jobs
from align.icpl import calibrate
from align.icpl.traces import picked
from align.judge_jobs import PROGRAM_ITEMS, PROGRAM_SCORES, PROGRAMS
from plumbline.accounts.models import User
from plumbline.collect import queue, votes
from plumbline.collect.models import Campaign, Completion
from plumbline.collect.origins import ICPL
from plumbline.collect.strategy import Picked
from plumbline.evolve import checking, panel, work
from plumbline.evolve.models import Confirmation, Program
from plumbline.judges import asking, verdicts
from plumbline.loop import campaigns, holdout, roundjobs, rows
from plumbline.policies import serving
from plumbline.policies.models import Deployment

LEAST = 10  # prompts that people decided, below which nothing is said
GUIDELINES = "Which answer is better? What is wanted:\n\n"


def begin(program: Program, by: User | None = None) -> Confirmation:
    """A new confirmation. Raises ValueError where one is under way, where the session kept no
    prompts fresh, and for a program that has not run."""
    evolution = program.generation.evolution
    if not evolution.fresh_prompts:
        raise ValueError(
            "This session kept no prompts fresh, so there is nothing to confirm it on."
        )
    if not program.scores.exists():
        raise ValueError(f"Program {program} has not run, so it picks nothing.")
    served = Deployment.objects.filter(project=evolution.project, alias=serving.CURRENT).first()
    last = program.confirmations.aggregate(last=Max("number"))["last"] or 0
    try:
        with transaction.atomic():
            return Confirmation.objects.create(
                program=program,
                number=last + 1,
                policy=served.policy if served else evolution.policy,
                incumbent=evolution.incumbent,
                created_by=by,
            )
    except IntegrityError as error:
        raise ValueError("A confirmation of this program is under way.") from error


def tick() -> None:
    """Take every confirmation as far as it goes now."""
    found = Confirmation.objects.filter(finished_at=None)
    for one in found.select_related("program__generation__evolution", "policy", "incumbent"):
        try:
            step(one)
        except serving.EngineError as error:
            # The engine may be restarting: say so, and look again next tick.
            Confirmation.objects.filter(pk=one.pk).exclude(error=str(error)).update(
                error=str(error)
            )
        except ValueError as error:
            end(one, error=str(error))


def step(one: Confirmation) -> None:
    """The next thing that is not done. Raises ValueError where a job failed."""
    if one.campaign is None:
        if not _sampled(one):
            return
        pools = panel.pools(one.program.generation.evolution, _purpose(one))
        mine, theirs = _picks(one, pools), _incumbents(one, pools)
        if mine is None or theirs is None:
            return
        _open(one, mine, theirs)
    assert one.campaign is not None
    if one.campaign.closed_at is not None or queue.complete(one.campaign):
        _settle(one)


def enough(program: Program) -> None:
    """Go on with what was said. Raises ValueError where nobody is waited for."""
    one = program.confirmations.filter(finished_at=None).select_related("campaign").first()
    if one is None or one.campaign is None:
        raise ValueError("No confirmation waits for votes.")
    Campaign.objects.filter(pk=one.campaign.pk, closed_at=None).update(closed_at=timezone.now())


def must_stand(program: Program) -> None:
    """Raises ValueError unless the last finished confirmation passed. A session that kept no
    prompts fresh asks for none, which its page says."""
    if not program.generation.evolution.fresh_prompts:
        return
    last = program.confirmations.exclude(finished_at=None).order_by("-number").first()
    if last is None:
        raise ValueError("Not confirmed: nobody has compared its picks on fresh answers yet.")
    if not last.passed:
        raise ValueError(last.said)


def end(one: Confirmation, **fields: Any) -> None:
    """Over; its campaign asks nothing more."""
    now = timezone.now()
    Confirmation.objects.filter(pk=one.pk, finished_at=None).update(finished_at=now, **fields)
    Campaign.objects.filter(confirms=one.pk, closed_at=None).update(closed_at=now)


def _purpose(one: Confirmation) -> str:
    return f"fresh:{one.program_id}:{one.number}"


def _sampled(one: Confirmation) -> bool:
    """Whether fresh answers are there; the policy is (re)loaded at every look while they are
    drawn."""
    evolution, purpose = one.program.generation.evolution, _purpose(one)
    asked = evolution.jobs.filter(purpose=purpose).select_related("job").first()
    if asked is None or not asked.job.over:
        serving.ensure_loaded(one.policy)
    fresh = evolution.panel.filter(role=panel.Role.FRESH).select_related("prompt")
    prompts = [row.prompt for row in fresh]
    seed = random.Random(f"{purpose}:{evolution.seed}").randrange(2**31)
    spec = panel.sampling(evolution, one.policy, seed)
    job = work.ask(
        evolution, None, purpose, spec, {jobs.PROMPTS: lambda: rows.prompt_rows(prompts)}
    )
    if roundjobs.finished(job) is None:
        return False
    rows.import_completions(job, one.policy, {prompt.pk for prompt in prompts})
    return True


def _picks(one: Confirmation, pools: list[panel.Pool]) -> dict[int, Completion] | None:
    """By prompt, the answer that the program scores highest; None while it is asked. A prompt
    whose answers it could not score is left out."""
    program, evolution = one.program, one.program.generation.evolution
    answers = [answer for pool in pools for answer in pool.texts]
    made = {
        PROGRAMS: lambda: [{"id": "it", "program": program.program}],
        PROGRAM_ITEMS: lambda: checking.item_rows((str(a.pk), a, a.text) for a in answers),
    }
    purpose = f"confirm:{program.pk}:{one.number}"
    job = work.ask(evolution, None, purpose, checking.spec(evolution), made)
    if roundjobs.finished(job) is None:
        return None
    read = jobs.read_rows(job.folder / PROGRAM_SCORES)
    totals = {row["item"]: row["total"] for row in read if row["total"] is not None}
    if not totals:
        raise ValueError("The program scored no fresh answer.")
    found = {}
    for pool in pools:
        scored = [answer for answer in pool.texts if str(answer.pk) in totals]
        if scored:
            best = picked([totals[str(answer.pk)] for answer in scored])
            found[pool.prompt.pk] = scored[best]
    return found


def _incumbents(one: Confirmation, pools: list[panel.Pool]) -> dict[int, Completion] | None:
    """By prompt, the pick of the judge that the program is to replace, or one of the draws; None
    while the judge is asked. It compares every answer with the first that was drawn, and picks the
    one of the highest probability."""
    judge = one.incumbent
    if judge is None:
        rng = random.Random(f"{_purpose(one)}:incumbent")
        return {pool.prompt.pk: rng.choice(pool.draws) for pool in pools}
    pairs = [(answer, pool.texts[0]) for pool in pools for answer in pool.texts[1:]]
    evolution, purpose = one.program.generation.evolution, f"incumbent:{one.pk}"
    asked = evolution.jobs.filter(purpose=purpose).select_related("job").first()
    if asked is None:
        job = asking.ask(judge, pairs, f"{one}: the incumbent picks")
        if job is not None:
            work.keep(evolution, None, purpose, job)
            return None
    else:
        if roundjobs.finished(asked.job) is None:
            return None
        asking.gather(judge, asked.job)
    said = verdicts.of(judge, pairs)
    found = {}
    for pool in pools:
        first = pool.texts[0]
        chances = [said.get((answer.pk, first.pk)) for answer in pool.texts[1:]]
        if None not in chances:
            ahead = [0.5, *(p for p in chances if p is not None)]
            found[pool.prompt.pk] = pool.texts[picked(ahead)]
    return found


@transaction.atomic
def _open(
    one: Confirmation, mine: Mapping[int, Completion], theirs: Mapping[int, Completion]
) -> None:
    """A campaign of both picks to each prompt, which side is whose drawn anew for every prompt.
    Picks that are the same text are not asked about. Raises ValueError where all are."""
    evolution = one.program.generation.evolution
    both = {prompt: (mine[prompt], theirs[prompt]) for prompt in mine if prompt in theirs}
    differ = {prompt for prompt, (a, b) in both.items() if a.text != b.text}
    if not differ:
        raise ValueError("It picks what the incumbent picks on every fresh prompt.")
    one.campaign = Campaign.objects.create(
        project=evolution.project,
        name=f"Reward programs: {evolution.name}, fresh answers {one.program}.{one.number}"[:120],
        guidelines=GUIDELINES + evolution.task,
        purpose=Campaign.Purpose.EVALUATE,
        overlap=evolution.overlap,
    )
    rng = random.Random(f"{_purpose(one)}:sides")
    for prompt in sorted(differ):
        sides = list(both[prompt])
        rng.shuffle(sides)
        why = {"source": ICPL, "confirms": one.pk, "selection_biased": True}
        campaigns.compare(one.campaign, prompt, Picked(tuple(sides), 1.0, why), ICPL)
    one.picks = [
        {
            "prompt": prompt,
            "program": str(a.pk),
            "incumbent": str(b.pk),
            "same": prompt not in differ,
        }
        for prompt, (a, b) in both.items()
    ]
    one.error = ""
    one.save(update_fields=["campaign", "picks", "error"])


def _settle(one: Confirmation) -> None:
    """The win rate over prompts, raters of one prompt sharing its weight, and whether its interval
    clears the session's level."""
    assert one.campaign is not None
    by_prompt = {row["prompt"]: row for row in one.picks}
    said = campaigns.evidence(one.campaign.comparisons.all())
    said = said.exclude(annotator__kind__in=holdout.ARTIFICIAL).filter(outcome="ranked")
    won, prompts, ballots_read = 0.0, 0, 0
    lengths: list[tuple[int, float]] = []  # tokens that the program's pick is longer by, and p
    for comparison, ballots in rows.by_comparison(said.order_by("comparison_id")):
        slots = [slot.completion for slot in comparison.slots.all()]
        (first,) = votes.preferences(ballots)
        ours = uuid.UUID(by_prompt[comparison.prompt_id]["program"])
        p = first[2] if slots[0].pk == ours else 1 - first[2]
        other = slots[1] if slots[0].pk == ours else slots[0]
        mine = slots[0] if slots[0].pk == ours else slots[1]
        lengths.append((checking.tokens(mine) - checking.tokens(other), p))
        won, prompts, ballots_read = won + p, prompts + 1, ballots_read + len(ballots)
    least = one.program.generation.evolution.least_win_rate
    low, high = calibrate.wilson(won, prompts)
    end(
        one,
        passed=None if prompts < LEAST else low > least,
        error="",
        figures={
            "prompts": prompts,
            "votes": ballots_read,
            "same": sum(row["same"] for row in one.picks),
            "rate": won / prompts if prompts else None,
            **{"low": low, "high": high, "least": least, "needed": LEAST},
            **_by_length(lengths),
        },
    )


def _by_length(pairs: list[tuple[int, float]]) -> dict[str, Any]:
    """How often the program's pick is the longer one, and its win rate where it is not."""
    if not pairs:
        return {"longer": None, "rate_not_longer": None, "not_longer": 0}
    rest = [p for gap, p in pairs if gap <= 0]
    return {
        "longer": sum(gap > 0 for gap, _ in pairs) / len(pairs),
        "not_longer": len(rest),
        "rate_not_longer": sum(rest) / len(rest) if rest else None,
    }
