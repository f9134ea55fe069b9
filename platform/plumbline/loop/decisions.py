"""What was decided about a policy: promoted, held, rejected, rolled back; by whom, when and why.

Moves of an alias are `Flip` rows, written in the transaction that moves it; all other words are
`Decision` rows. A held candidate stays one, and no autopilot promotes it, until somebody goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from plumbline.accounts.models import User
from plumbline.audit.record import record
from plumbline.loop.models import Decision, Round
from plumbline.policies import trials
from plumbline.policies.models import Deployment, Flip, Policy
from plumbline.policies.serving import ROLLED_BACK

REASON = 300  # characters, as Decision.reason and Flip.reason hold
AUTOMATIC = "automatic"  # who decided where no person did
What = Decision.What


@dataclass(frozen=True)
class Line:
    """One decision as it is read. `state` is a badge's."""

    at: datetime
    policy: Policy
    state: str
    words: str
    actor: str
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)


def hold(policy: Policy, *, actor: User, reason: str) -> None:
    """Keep a candidate from being promoted by the autopilot. Raises ValueError with a sentence."""
    _say(policy, What.HOLD, actor, reason, held_now=False)


def resume(policy: Policy, *, actor: User, reason: str) -> None:
    """Let the round go on by its gate. Raises ValueError where the policy is not held."""
    _say(policy, What.RESUME, actor, reason, held_now=True)


def reject(policy: Policy, *, actor: User | None, reason: str) -> bool:
    """Turn a candidate down for good, which ends its canaries and shadows; False where it is no
    candidate any more. What was known of it stays with the decision."""
    known, reason = evidence(policy), reason[:REASON]
    if not trials.reject(policy, actor=actor, reason=reason):
        return False
    Decision.objects.create(
        policy=policy, what=What.REJECT, actor=actor, reason=reason, evidence=known
    )
    return True


def held(policy: Policy) -> bool:
    """Whether the last word on a candidate is to wait."""
    words = Decision.objects.filter(policy=policy, what__in=(What.HOLD, What.RESUME))
    last = words.order_by("-pk").values_list("what", flat=True).first()
    return policy.state == Policy.State.CANDIDATE and last == What.HOLD


def evidence(policy: Policy) -> dict[str, Any]:
    """What is known of a policy at this moment, as it is kept with a decision."""
    found: dict[str, Any] = {}
    round = Round.objects.filter(policy_out=policy).first()
    if round is not None:
        rates = {
            one.against: {"rate": one.rate, "low": one.low, "high": one.high, "kl": one.kl}
            for one in round.evaluations.all()
        }
        found = {"round": round.pk, "gate": round.gate, "win_rates": rates}
    shares = Deployment.objects.filter(canary=policy).values_list("alias", "canary_share")
    if canaries := dict(shares):
        found["canary_share"] = canaries
    return found


def history(policies: Iterable[Policy]) -> list[Line]:
    """All decisions about these policies, the latest first."""
    wanted = {policy.pk: policy for policy in policies}
    lines = [
        Line(
            one.at,
            wanted[one.policy_id],
            {What.HOLD: "hold", What.REJECT: "rejected"}.get(What(one.what), "candidate"),
            one.get_what_display(),
            _name(one.actor),
            one.reason,
            one.evidence,
        )
        for one in Decision.objects.filter(policy__in=wanted).select_related("actor")
    ]
    moves = Flip.objects.filter(Q(before__in=wanted) | Q(after__in=wanted))
    for flip in moves.select_related("deployment", "before", "after", "actor"):
        lines += _moves(flip, wanted)
    return sorted(lines, key=lambda line: line.at, reverse=True)


def _moves(flip: Flip, wanted: dict[UUID, Policy]) -> list[Line]:
    """A move as the policy sees it that an alias came to, and as the one that it left."""
    alias, back = flip.deployment.alias, ROLLED_BACK in flip.evidence
    found: list[tuple[UUID, str, str]] = []
    if flip.after_id in wanted:
        words = f"Rolled back to, as {alias}" if back else f"Promoted to {alias}"
        found.append((flip.after_id, "promoted", words))
    if flip.before_id is not None and flip.before_id in wanted:
        words = f"Rolled back from, as {alias}" if back else f"Replaced as {alias}"
        found.append((flip.before_id, "rejected" if back else "done", words))
    return [
        Line(flip.at, wanted[pk], state, words, _name(flip.actor), flip.reason, flip.evidence)
        for pk, state, words in found
    ]


def _say(policy: Policy, what: What, actor: User, reason: str, *, held_now: bool) -> None:
    reason = reason.strip()[:REASON]
    if not reason:
        raise ValueError("Say why; the reason is kept with your name.")
    with transaction.atomic():
        locked = Policy.objects.select_for_update(of=("self",)).get(pk=policy.pk)
        if locked.state != Policy.State.CANDIDATE or locked.weights == Policy.Weights.BASE:
            raise ValueError(f"{policy.name} is no longer a candidate.")
        if held(locked) != held_now:
            raise ValueError(f"{policy.name} is {'not held' if held_now else 'held already'}.")
        Decision.objects.create(
            policy=policy, what=what, actor=actor, reason=reason, evidence=evidence(policy)
        )
        said = "policy.held" if what == What.HOLD else "policy.let_go"
        record(said, policy, project=policy.project_id, actor=actor)


def _name(actor: User | None) -> str:
    return actor.get_username() if actor else AUTOMATIC
