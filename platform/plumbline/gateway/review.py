"""Comparisons for a campaign from what clients said, for people to answer blind.

What a client said is never a vote: it says which answers are worth asking about, and is kept in the
comparison's `why`, which no voter sees. A correction gives the answer and its correction, a
regenerated answer it and the one that followed, a client's comparison its answers; of a shadowed
request the two answers are compared, of which the client saw one. Only what was
consented to and whose texts are still stored is used, and each thing once; copied answers and the
like make nothing, but are asked about sooner.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from align.jobs import Message
from plumbline.accounts.models import Project
from plumbline.collect import prompts, queue
from plumbline.collect.models import (
    Campaign,
    Candidate,
    Comparison,
    Completion,
    Prompt,
    PromptSet,
)
from plumbline.collect.origins import CLIENT_TEXT
from plumbline.gateway.models import (
    ClientComparison,
    Feedback,
    ServedAnswer,
    ShadowPair,
    StoredCompletion,
)
from plumbline.gateway.said import REGENERATED

STRATEGY = "feedback"
SET_NAME = "From clients"
MOST = 2_000  # comparisons at once
SURE, WEAK = 2, 1  # priority of what a client said outright, and of what it only did
SIGNALS = (REGENERATED, "copied", "shared", "edited", "stopped")  # done, not said
Source = Feedback | ClientComparison | ShadowPair


@dataclass(frozen=True)
class Text:
    """One answer, before it is a completion. `served`: which stored one; None: a client's text."""

    text: str
    served: StoredCompletion | None = None
    choice: int = 0


@dataclass(frozen=True)
class Asked:
    """What would be put before people. `preferred`: the client's own order, groups of answers."""

    messages: list[Message]
    answers: list[Text]
    preferred: list[list[int]]
    signal: str
    priority: int


@dataclass
class Done:
    """What became of what clients said: `made` comparisons, found `asked` about already, `left`
    because it cannot be asked in the campaign, and `beyond` one user's number; `raised`: signals
    that moved others forward."""

    made: int = 0
    asked: int = 0
    left: int = 0
    beyond: int = 0
    raised: int = 0


def waiting(project: Project) -> list[tuple[str, int]]:
    """What could be put before people, by kind and how much of it."""
    return [
        ("Corrected answers", _corrections(project).count()),
        ("Comparisons by clients", _compared(project).count()),
        ("Regenerated answers", _regenerated(project).count()),
        ("Shadow answers", _shadowed(project).count()),
    ]


@transaction.atomic
def fill(campaign: Campaign, most: int, draw: random.Random, each: int = 0) -> Done:
    """Put up to `most` of it before people, the oldest first; of one user's, no more than `each`
    in the campaign, however often it is filled, so that nobody's taste is asked about alone. 0: of
    anybody as much as there is.

    Raises ValueError where there is nothing, or the campaign takes nothing.
    """
    if campaign.closed_at is not None:
        raise ValueError("This campaign is closed; reopen it before adding comparisons.")
    if campaign.live:
        raise ValueError("This campaign’s answers are written live; it takes no others.")
    if not 1 <= most <= MOST:
        raise ValueError(f"Between 1 and {MOST} comparisons can be added at once.")
    project = campaign.project
    # Two tabs do not add the same.
    Project.objects.select_for_update(no_key=True).get(pk=project.pk)
    done, told = Done(), _by_user(campaign) if each else Counter()
    sources: list[QuerySet[Any]] = [_corrections(project), _compared(project)]
    sources += [_regenerated(project), _shadowed(project)]
    for found in sources:
        for pk in list(found.order_by("created_at", "pk").values_list("pk", flat=True)):
            if done.made >= most:
                break
            source = found.get(pk=pk)
            who = _who(source)
            if each and who is not None and told[who] >= each:
                done.beyond += 1
                continue
            _put(campaign, source, draw, done)
            told[who] += source.comparison_id is not None
    done.raised = _raise(campaign)
    if not done.made + done.asked + done.raised + done.beyond:
        raise ValueError("Nothing that clients said can be asked in this campaign now.")
    return done


def _who(source: Source) -> Hashable:
    """Whose word it is: the end user's, the member's who chatted, else the whole key's. None: of a
    shadow's answers, which nobody has preferred, where no user is named."""
    if source.end_user or isinstance(source, ShadowPair):
        return source.end_user or None
    return ("member", source.user_id) if source.user_id else ("key", source.api_key_id)


def _by_user(campaign: Campaign) -> Counter[Hashable]:
    """How many things that each user said are asked about in the campaign."""
    kinds: tuple[type[Source], ...] = (Feedback, ClientComparison, ShadowPair)
    return Counter(
        _who(one) for kind in kinds for one in kind.objects.filter(comparison__campaign=campaign)
    )


def _corrections(project: Project) -> QuerySet[Feedback]:
    return _stored(Feedback.objects.filter(_new(project)).exclude(correction=""))


def _regenerated(project: Project) -> QuerySet[Feedback]:
    found = Feedback.objects.filter(_new(project), correction="").exclude(other="")
    after = StoredCompletion.objects.filter(completion_id=OuterRef("other"))
    return _stored(found).filter(Exists(after))


def _compared(project: Project) -> QuerySet[ClientComparison]:
    return ClientComparison.objects.filter(_new(project)).exclude(responses=[])


def _shadowed(project: Project) -> QuerySet[ShadowPair]:
    """Pairs whose two texts are both still stored. Their consent was given with the request."""
    served = StoredCompletion.objects.filter(completion_id=OuterRef("served"))
    shadow = StoredCompletion.objects.filter(completion_id=OuterRef("shadow"))
    found = ShadowPair.objects.filter(project=project, comparison=None)
    return found.filter(Exists(served), Exists(shadow))


def _new(project: Project) -> Q:
    return Q(project=project, consent_train=True, comparison=None)


def _stored(found: QuerySet[Feedback]) -> QuerySet[Feedback]:
    here = StoredCompletion.objects.filter(completion_id=OuterRef("completion_id"))
    return found.filter(Exists(here))


def _put(campaign: Campaign, source: Source, draw: random.Random, done: Done) -> None:
    asked = _of(source)
    if asked is None or len({one.text.strip() for one in asked.answers}) < len(asked.answers):
        done.left += 1
        return
    prompt = _prompt(campaign, asked.messages)
    if prompt is None:
        done.left += 1
        return
    completions = [_completion(prompt, one) for one in asked.answers]
    found = _same(campaign, prompt, completions)
    done.asked += found is not None
    done.made += found is None
    source.comparison = found or _compare(campaign, prompt, completions, asked, source, draw)
    source.save(update_fields=["comparison"])


def _of(source: Source) -> Asked | None:
    """What a client's word would have people compare; None where a text is missing."""
    if isinstance(source, ClientComparison):
        return _of_comparison(source)
    if isinstance(source, ShadowPair):
        return _of_pair(source)
    before = _served(source.project_id, source.completion_id, source.choice)
    if source.correction:
        after: Text | None = Text(source.correction)
    else:
        after = _served(source.project_id, source.other, 0)
    if before is None or after is None or not _same_question(before, after):
        return None
    assert before.served is not None
    sure = SURE if source.correction else WEAK
    return Asked(before.served.messages, [before, after], [[1], [0]], source.key, sure)


def _of_pair(source: ShadowPair) -> Asked | None:
    """Nobody has preferred either."""
    answers = [_served(source.project_id, name, 0) for name in (source.served, source.shadow)]
    found = [one for one in answers if one is not None and one.served is not None]
    if len(found) < len(answers):
        return None
    assert found[0].served is not None
    return Asked(found[0].served.messages, found, [], "shadow", WEAK)


def _of_comparison(source: ClientComparison) -> Asked | None:
    answers: list[Text] = []
    messages: list[Message] = source.messages
    for one in source.responses:
        if "text" in one:
            answers.append(Text(one["text"]))
            continue
        served = _served(source.project_id, one["completion_id"], one["choice"])
        if served is None:
            return None
        assert served.served is not None
        messages = messages or served.served.messages
        if served.served.messages != messages:
            return None
        answers.append(served)
    return Asked(messages, answers, source.ranking, "comparison", SURE)


def _served(project: int, completion: str, choice: int) -> Text | None:
    """A stored answer of words to words: people are not asked about calls of tools."""
    row = StoredCompletion.objects.filter(project=project, completion_id=completion).first()
    if row is None or choice >= len(row.answers) or "tool_calls" in row.answers[choice]:
        return None
    if any(turn["role"] == "tool" or "tool_calls" in turn for turn in row.messages):
        return None
    return Text(row.answers[choice]["text"], row, choice)


def _same_question(before: Text, after: Text) -> bool:
    if before.served is None or after.served is None:
        return True
    return bool(before.served.messages == after.served.messages)


def _prompt(campaign: Campaign, messages: list[Message]) -> Prompt | None:
    """The conversation as a prompt of the split that the campaign's purpose wants; None where it is
    of the other one already, anywhere in the project: nothing trains on what it is tested with."""
    training = campaign.purpose == Campaign.Purpose.TRAIN
    split = Prompt.Split.TRAIN if training else Prompt.Split.HELDOUT
    digest = prompts.digest(messages)
    known = Prompt.objects.filter(set__project=campaign.project, digest=digest)
    if known.exclude(split=split).exists():
        return None
    of_clients, _ = PromptSet.objects.get_or_create(
        project=campaign.project, name=SET_NAME, defaults={"source": "client apps, with consent"}
    )
    return Prompt.objects.get_or_create(
        set=of_clients, digest=digest, defaults={"messages": messages, "split": split}
    )[0]


def _completion(prompt: Prompt, one: Text) -> Completion:
    if one.served is None:
        known = Completion.objects.filter(prompt=prompt, origin=CLIENT_TEXT, text=one.text)
        return known.first() or Completion.objects.create(
            prompt=prompt, origin=CLIENT_TEXT, text=one.text
        )
    name = {"name": one.served.completion_id, "choice": one.choice}
    known_as = ServedAnswer.objects.filter(**name).select_related("completion").first()
    if known_as is not None:
        return known_as.completion
    made = Completion.objects.create(
        prompt=prompt,
        policy_id=one.served.policy_id,
        text=one.text,
        finish_reason=one.served.answers[one.choice]["finish_reason"][:12],
    )
    ServedAnswer.objects.create(completion=made, end_user=one.served.end_user, **name)
    return made


def _same(
    campaign: Campaign, prompt: Prompt, completions: Sequence[Completion]
) -> Comparison | None:
    wanted = {one.pk for one in completions}
    here = Comparison.objects.filter(campaign=campaign, prompt=prompt, strategy=STRATEGY)
    for one in here.prefetch_related("slots"):
        if {slot.completion_id for slot in one.slots.all()} == wanted:
            return one
    return None


def _compare(
    campaign: Campaign,
    prompt: Prompt,
    completions: list[Completion],
    asked: Asked,
    source: Source,
    draw: random.Random,
) -> Comparison:
    """Answers lie in slots drawn by chance; each voter's sides are drawn once more."""
    order = list(range(len(completions)))
    draw.shuffle(order)
    slot_of = {answer: slot for slot, answer in enumerate(order)}
    client = " > ".join(
        "=".join(sorted("ABCDEFGHI"[slot_of[i]] for i in group)) for group in asked.preferred
    )
    why: dict[str, Any] = {
        "from": SET_NAME.lower(),
        "signal": asked.signal,
    }
    if isinstance(source, ShadowPair):
        why["served as"] = source.served
    else:
        why |= {"the client’s order": client, "said as": source.name}
        if source.user is not None:
            why["said by"] = f"{source.user.username}, on the chat page"
    comparison = Comparison.objects.create(
        campaign=campaign,
        prompt=prompt,
        strategy=STRATEGY,
        priority=asked.priority,
        why=why,
        expires_at=queue.goes_stale_at(campaign),
    )
    Candidate.objects.bulk_create(
        Candidate(comparison=comparison, completion=completions[answer], slot=slot)
        for slot, answer in enumerate(order)
    )
    return comparison


def _raise(campaign: Campaign) -> int:
    """Ask sooner about answers that somebody copied or the like; how many such signals."""
    project, count = campaign.project, 0
    signals = Feedback.objects.filter(_new(project), key__in=SIGNALS, correction="").exclude(
        pk__in=_regenerated(project).values("pk")  # which make comparisons of their own
    )
    answers = ServedAnswer.objects.filter(
        name=OuterRef("completion_id"),
        choice=OuterRef("choice"),
        completion__comparison__campaign=campaign,
    )
    for signal in signals.filter(Exists(answers)).order_by("created_at", "pk"):
        comparison = (
            Comparison.objects.filter(
                campaign=campaign,
                strategy=STRATEGY,
                candidates__served__name=signal.completion_id,
                candidates__served__choice=signal.choice,
            )
            .order_by("pk")
            .first()
        )
        if comparison is None:
            continue
        Comparison.objects.filter(pk=comparison.pk).update(priority=F("priority") + 1)
        signal.comparison = comparison
        signal.save(update_fields=["comparison"])
        count += 1
    return count
