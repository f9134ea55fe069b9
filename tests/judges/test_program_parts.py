"""Factors that a reward program tells: a rubric's criteria, weighed by people's votes."""

from __future__ import annotations

import json
import random

import pytest

from align.hierarchy import Level
from align.programs import to_json
from plumbline.collect.models import Completion
from plumbline.judges import asking, factored, fits, judges, program_parts, verdicts
from plumbline.judges.models import Endpoint
from tests.comparisons import compare, open_campaign
from tests.judges.test_factor_kinds import cast, finish, pair
from tests.judges.test_program_kind import HYBRID, worked
from tests.scripted import Scripted

pytestmark = pytest.mark.django_db


def kindness(body) -> str:
    """How many times the answer says "friend", which its fences hold."""
    said = body["messages"][-1]["content"].count("friend")
    return json.dumps({"kind": min(5, 1 + said), "good": 3, "new": 3})


@pytest.mark.usefixtures("bubble")
def test_criteria_of_a_rubric_are_weighed_by_votes_and_judge_what_nobody_saw(project, alice, bob):
    campaign = open_campaign(project, comparisons=0)
    prompts = project.prompt_sets.get()
    draw = random.Random(1)
    texts = [[f"friend {n} " * draw.randint(0, 4), f"well {n}"] for n in range(40)]
    asked = [compare(campaign, prompts, f"Question {n}?", both) for n, both in enumerate(texts)]
    for comparison, (first, _) in zip(asked, texts, strict=True):
        cast(comparison, bob, "friend" in first)
    with Scripted(kindness) as server:
        endpoint = Endpoint.objects.create(project=project, name="e", url=server.url, model="m")
        program = judges.make(
            project, "Kind", "program", {}, endpoint=endpoint, program=to_json(HYBRID)
        )
        job = asking.ask(program, [pair(one) for one in asked], "Asked")
        worked(job, PLUMBLINE_PRIVATE_ENDPOINTS=server.place)
        asking.gather(program, job)
        name = f"part:{program.judge.pk}:kind"
        assert name in factored.offered(project)
        assert factored.title(name) == "Kind: kind"
        known = program_parts.stored([one.pk for one in pair(asked[0])], [name])
        assert sorted(row[name] for row in known.values())[0] == 1.0
        fit = fits.begin(project, {name: 1, "words": 0})
        assert finish(fit)["weights"][name] > 0
        version = fits.adopt(project, fit, "Weighed", by=alice)
        assert version.endpoint == endpoint
        assert version.settings["program"] == to_json(HYBRID)
        prompt = pair(asked[0])[0].prompt
        new = [
            Completion.objects.create(prompt=prompt, text=text, draw=10 + at)
            for at, text in enumerate(["my friend, friend", "my own, own"])
        ]
        job = asking.ask(version, [(new[0], new[1])], "Asked")
        worked(job, PLUMBLINE_PRIVATE_ENDPOINTS=server.place)
        asking.gather(version, job)
    assert verdicts.probability(version, new[0].pk, new[1].pk) > 0.6
    order = fits.make_hierarchy(project, "Kind first", [Level(factor=name, margin=0.0)], by=alice)
    assert order.endpoint == endpoint
    for names, said in (
        ([name, "reward"], "do not mix"),
        ([name, f"part:{program.judge.pk + 1}:kind"], "parts of one program"),
        ([f"part:{program.judge.pk + 1}:kind"], "no reward program of this project"),
    ):
        with pytest.raises(ValueError, match=said):
            fits.make_hierarchy(project, "No", [Level(factor=one, margin=0.0) for one in names])
