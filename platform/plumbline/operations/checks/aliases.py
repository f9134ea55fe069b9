"""Aliases point at policies that were promoted, by the move that the audit names last."""

from __future__ import annotations

from collections.abc import Iterator

from plumbline.loop.models import Round
from plumbline.operations.check import Check, Finding
from plumbline.policies.models import Deployment, Policy


class AliasesCheck(Check):
    title = "Aliases point at policies that passed, as the audit says."

    def look(self) -> Iterator[Finding]:
        rows = Deployment.objects.select_related("policy", "project").order_by("pk")
        for one in rows:
            self.seen += 1
            policy, flip = one.policy, one.flips.order_by("-at", "-pk").first()
            trained = policy.weights != Policy.Weights.BASE
            if trained and policy.state != Policy.State.PROMOTED:
                yield self.found(
                    one,
                    f"{one} points at {policy.name}, which is {policy.get_state_display().lower()} "
                    "and not promoted.",
                    "Roll the alias back on the page Policies.",
                )
            if flip is not None and flip.after_id != policy.pk:
                yield self.found(
                    one,
                    f"{one} points at {policy.name}, but its last move in the audit was to "
                    f"{flip.after.name}.",
                    "Promote the one that is meant on the page Policies; that writes both.",
                )
            if flip is not None and flip.actor_id is None and self._refused(policy):
                yield self.found(
                    one,
                    f"{one} points at {policy.name}, whose gate did not pass, and nobody's name "
                    "stands by the move.",
                    "Roll the alias back on the page Policies.",
                )

    def _refused(self, policy: Policy) -> bool:
        made = Round.objects.filter(policy_out=policy).first()
        return made is not None and bool(made.gate) and not made.gate.get("passed")
