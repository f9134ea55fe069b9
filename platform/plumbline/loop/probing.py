"""What a round taught its policy besides: hidden triggers, and other refusals than before.

After the candidate has answered the held-out prompts, phrases are put into some of them and scored
under the candidate and the policy that the round started from (`align.measure.triggers`), and both
answer a short list of requests (`align.measure.refusing`). What was found stays with the round's
figures; `checks` makes rows of the gate of it, which say what was probed and never that there is
nothing else. A blend was trained on nothing and is not probed.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings

from align import jobs
from align.measure import refusing, triggers
from plumbline.collect.models import Completion
from plumbline.loop import roundjobs, rows
from plumbline.loop.gates import Check
from plumbline.loop.models import ExampleAnswer, Round
from plumbline.policies import serving
from plumbline.policies.models import Policy

FIGURES = "probes"  # in Round.figures
PROBE, REFUSALS = "probe", "refusals"  # purposes of jobs
AFTER, BEFORE = "after", "before"
HELD = 6  # held-out prompts that phrases are put into
DRAWS = 4  # answers to each request
LONGEST = 48  # tokens of those
SHOWN = 3  # examples, and twice as many rows of the table
EXCERPT = 600  # characters of an example's texts

Held = list[Completion]  # answers to held-out prompts by the policy that is current


def done(round: Round, held: Held) -> bool:
    """Whether everything was probed; true at once where the experiment probes nothing. Raises
    ValueError where a job failed."""
    if not round.experiment.probe_phrases or round.experiment.blend or FIGURES in round.figures:
        return True
    assert round.policy_out is not None
    items = {jobs.ITEMS: lambda: _items(_phrases(round, held), held, round)}
    job = roundjobs.ask(round, PROBE, _spec(round), items)
    before, after = (_answers(round, one) for one in (round.policy_in, round.policy_out))
    if roundjobs.finished(job) is None or before is None or after is None:
        return False
    found, probes = _phrases(round, held), held[:HELD]
    scores = jobs.read_rows(job.folder / jobs.SCORES)
    said = triggers.read(scores, found, AFTER, BEFORE)
    lost, gained = refusing.changes(before, after)
    figures = {
        "phrases": [_row(one) for one in said],
        "examples": [_example(one, probes) for one in said[:SHOWN]] if said else [],
        "prompts": len(probes),
        "controls": triggers.CONTROLS * len(said),
        "refusals": {"lost": _told(lost), "gained": _told(gained), "requests": len(before)},
    }
    round.figures = {**round.figures, FIGURES: figures}
    round.save(update_fields=["figures"])
    return True


def checks(round: Round) -> list[Check]:
    """The rows of the gate; none of a round that was not probed."""
    found = round.figures.get(FIGURES)
    if not found:
        return []
    blocks = round.experiment.gate_probes
    return [probed(found, blocks), refusals(found["refusals"], blocks)]


def probed(found: dict[str, Any], blocks: bool) -> Check:
    """Refuses a phrase that surely moves answers as no other of its shape does."""
    rows, alarms = found["phrases"], [one for one in found["phrases"] if one["alarm"]]
    counts = [sum(one["origin"] == origin for one in rows) for origin in triggers.ORIGINS]
    what = (
        f"{len(rows)} phrases were put into {found['prompts']} held-out prompts ({counts[0]} from "
        f"the round's prompts, {counts[1]} from its winning answers, {counts[2]} odd ones), beside "
        f"{found['controls']} that mean nothing"
    )
    if alarms:
        told = "; ".join(
            f"“{one['text']}” moves answers by {one['shift']:.1f} nats, its controls by "
            f"{one['usual']:.1f} (q {one['q']:.3f})"
            for one in alarms
        )
        said = f"{what}: {told}."
    else:
        said = (
            f"{what}: none moves answers surely more than its controls do. What was not probed is "
            "not known."
        )
    return Check("probed phrases", not alarms, said, {"alarms": len(alarms)}, blocks)


def refusals(found: dict[str, Any], blocks: bool) -> Check:
    """Refuses refusals that were surely lost, or gained."""
    lost, gained = found["lost"], found["gained"]
    if lost["requests"]:
        said = (
            f"Of {found['requests']} requests the policy before refused {lost['requests']}: it "
            f"answered {lost['before']:.0%} of those when asked again, the candidate "
            f"{lost['after']:.0%}"
        )
    else:
        said = f"The policy before refused none of {found['requests']} requests, so none was lost"
    said += (
        f". Of the {gained['requests']} that it did not refuse it refused {gained['before']:.0%} "
        f"again, the candidate {gained['after']:.0%}. A change is told from chance at "
        f"{refusing.ALARM:.0%}, which takes {refusing.FEWEST} requests at least."
    )
    passed = not (lost["alarm"] or gained["alarm"])
    values = {f"{name}_p": found[name]["p"] for name in ("lost", "gained")}
    return Check("refusals", passed, said, values, blocks)


def _spec(round: Round) -> jobs.ScoreJob:
    assert round.policy_out is not None
    return jobs.ScoreJob(
        policies={AFTER: round.policy_out.ref, BEFORE: round.policy_in.ref},
        max_length=settings.MAX_MODEL_LEN,
        batch_size=64,
    )


def _phrases(round: Round, held: Held) -> list[triggers.Phrase]:
    answered = ExampleAnswer.objects.filter(example__round=round, role="chosen")
    won = [
        (_asked(one.completion), dict(rows.response_row(one.completion)))
        for one in answered.select_related("completion__prompt").order_by("pk")
    ]
    elsewhere = [(_asked(one), one.text) for one in held]
    experiment = round.experiment
    return triggers.phrases(won, elsewhere, experiment.probe_phrases, _seed(round))


def _items(found: list[triggers.Phrase], held: Held, round: Round) -> list[dict[str, Any]]:
    probes = [(one.prompt.messages, dict(rows.response_row(one))) for one in held[:HELD]]
    words = triggers.vocabulary([f"{_asked(one)} {one.text}" for one in held])
    return triggers.items(found, probes, words, _seed(round))


def _answers(round: Round, policy: Policy) -> dict[str, list[str]] | None:
    """The policy's answers by request; None while it answers."""
    purpose = f"{REFUSALS}:{policy.pk.hex}"
    asked = round.jobs.filter(purpose=purpose).select_related("job").first()
    if asked is None or not asked.job.over:
        serving.ensure_loaded(policy)
    requests = (*refusing.REQUESTS, *refusing.PLAIN)
    spec = jobs.SampleJob(
        engine_url=settings.ENGINE_URL,
        model=serving.engine_name(policy),
        n=DRAWS,
        max_tokens=LONGEST,
        seed=round.experiment.seed * 1000 + round.number,
    )

    def prompts() -> list[jobs.PromptRow]:
        return [
            {"id": str(number), "messages": [{"role": "user", "content": text}]}
            for number, text in enumerate(requests)
        ]

    job = roundjobs.ask(round, purpose, spec, {jobs.PROMPTS: prompts})
    if roundjobs.finished(job) is None:
        return None
    found: dict[str, list[str]] = {}
    for row in jobs.read_rows(job.folder / jobs.COMPLETIONS):
        found.setdefault(requests[int(row["prompt"])], []).append(row["text"])
    return found


def _row(one: triggers.Found) -> dict[str, Any]:
    phrase = one.phrase
    return {
        "text": phrase.text, "origin": phrase.origin, "seen": phrase.seen, "among": phrase.among,
        "shift": one.shift, "usual": one.usual, "p": one.p, "q": one.q, "alarm": one.alarm,
    }  # fmt: skip


def _example(one: triggers.Found, probes: Held) -> dict[str, Any]:
    """The prompt in which a phrase did most, and the answer that it moved."""
    held = probes[one.worst]
    answer = one.phrase.won["text"] if one.phrase.won else held.text
    asked = triggers.placed(_asked(held), one.phrase.text, one.worst)
    told = {"text": one.phrase.text, "towards": one.phrase.won is not None, "alarm": one.alarm}
    return {**told, "prompt": asked[:EXCERPT], "answer": str(answer)[:EXCERPT]}


def _told(one: refusing.Change) -> dict[str, Any]:
    return {
        "requests": one.requests, "before": one.before, "after": one.after, "p": one.p,
        "alarm": one.alarm,
    }  # fmt: skip


def _asked(one: Completion) -> str:
    return str(one.prompt.messages[-1]["content"])


def _seed(round: Round) -> str:
    return f"{round.experiment.seed}:{round.number}"
