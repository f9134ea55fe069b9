"""Which rounds went into which: from votes to all that they shaped, and back.

A round builds on the rounds that made the policy it starts from, the policies it is held to and,
where it replays examples or trains a reward model on all votes so far, on the earlier rounds of its
experiment. The whole project's graph is small (a row a round), so it is walked in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Count, QuerySet

from plumbline.accounts.models import Project
from plumbline.collect.models import Ballot
from plumbline.loop import retractions
from plumbline.loop.models import Experiment, Rebuild, Retraction, Round
from plumbline.policies.models import Mixture, Policy

STARTS = "starts from its policy"
HELD = "is held to its policy"
REPLAYS = "trains on its examples again"
REWARD = "its reward model learned from it"
BLENDS = "blends its policy"


@dataclass
class Graph:
    """The rounds of a project, and for each those it builds on with the reason."""

    rounds: dict[int, Round]
    onto: dict[int, dict[int, str]] = field(default_factory=dict)

    def upstream(self, first: int) -> list[Round]:
        """A round and all it builds on, the latest first."""
        return self._walk([first], self.onto)

    def downstream(self, first: Iterable[int]) -> list[Round]:
        """Rounds and all that build on them, the earliest first."""
        return self._walk(first, self._turned())[::-1]

    def _walk(self, first: Iterable[int], edges: Mapping[int, Mapping[int, str]]) -> list[Round]:
        seen = set(first)
        waiting = deque(seen)
        while waiting:
            for other in edges.get(waiting.popleft(), {}):
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return [self.rounds[pk] for pk in sorted(seen, reverse=True)]

    def _turned(self) -> dict[int, dict[int, str]]:
        turned: dict[int, dict[int, str]] = {}
        for later, earlier in self.onto.items():
            for one, why in earlier.items():
                turned.setdefault(one, {})[later] = why
        return turned


@dataclass(frozen=True)
class Taint:
    """A round that retracted votes went into: `votes` of them directly, or by way of others."""

    round: Round
    votes: int
    by: list[tuple[str, Round]]


def graph(project: Project) -> Graph:
    """Three queries, however many rounds there are."""
    found = Round.objects.filter(experiment__project=project).order_by("pk")
    rounds = {one.pk: one for one in found.select_related("experiment", "policy_out")}
    made = {one.policy_out_id: pk for pk, one in rounds.items() if one.policy_out_id}
    numbered: dict[int, dict[int, int]] = {}
    for pk, one in rounds.items():
        numbered.setdefault(one.experiment_id, {})[one.number] = pk
    originals = dict(
        Rebuild.objects.filter(experiment__project=project).values_list("experiment", "of")
    )
    whole = Graph(rounds)
    for pk, one in rounds.items():
        earlier = dict(numbered.get(originals.get(one.experiment_id, 0), {}))
        earlier |= numbered[one.experiment_id]
        before = [at for number, at in earlier.items() if number < one.number]
        whole.onto[pk] = _onto(one, made, before)
        whole.onto[pk].pop(pk, None)
    return whole


def _onto(round: Round, made: Mapping[UUID, int], before: list[int]) -> dict[int, str]:
    experiment = round.experiment
    found: dict[int, str] = {}
    if experiment.blend:
        parts = experiment.blend["points"][round.number - 1]["parts"]
        return {made[UUID(pk)]: BLENDS for pk in parts if UUID(pk) in made}
    if experiment.replay != Experiment.Replay.NONE:
        found |= dict.fromkeys(before, REPLAYS)
    if round.reward_model_id or round.validator_id:
        found |= dict.fromkeys(before, REWARD)
    for policy in (experiment.start_id, experiment.soup_with_id):
        if policy is not None and policy in made:
            found[made[policy]] = HELD
    if round.policy_in_id in made:
        found[made[round.policy_in_id]] = STARTS
    return found


def tainted(
    project: Project, retracted: QuerySet[Retraction] | None = None, whole: Graph | None = None
) -> list[Taint]:
    """The rounds that retracted votes went into, the earliest first; by default those of all
    retractions that stand."""
    if retracted is None:
        retracted = retractions.standing(project)
    if not retracted.exists():
        return []
    whole = whole or graph(project)
    through = Round.ballots.through.objects.filter(
        round__experiment__project=project,
        ballot__in=retractions.among(Ballot.objects.order_by(), retracted).values("pk"),
    )
    direct = dict(through.order_by().values_list("round").annotate(n=Count("pk")))
    hit = whole.downstream(direct)
    names = {one.pk for one in hit}
    return [
        Taint(
            round=one,
            votes=direct.get(one.pk, 0),
            by=[
                (why, whole.rounds[other])
                for other, why in whole.onto.get(one.pk, {}).items()
                if other in names
            ],
        )
        for one in hit
    ]


def policies(project: Project, rounds: Iterable[Round]) -> list[Policy]:
    """What these rounds made, averages with it included; the oldest first."""
    wanted = {one.policy_out_id for one in rounds if one.policy_out_id}
    names = {str(pk) for pk in wanted}
    for mixture in Mixture.objects.filter(project=project):
        if mixture.policy_id is not None and names & mixture.parts.keys():
            wanted.add(mixture.policy_id)
    return list(Policy.objects.filter(pk__in=wanted).order_by("created_at"))
