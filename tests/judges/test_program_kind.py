"""A judge that is a reward program: what its versions hold, and its verdicts end to end."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys

import pytest

from align import jobs, rubric
from align.judge_jobs import PROGRAM_SCORES
from align.programs import Criterion, RewardProgram, from_json, to_json
from plumbline.collect.models import Completion, Prompt, PromptSet
from plumbline.fleet.models import Job
from plumbline.judges import asking, judges, kind, verdicts
from plumbline.judges.models import Endpoint, Verdict
from tests.align.hostile import inside
from tests.scripted import Scripted

CODE = RewardProgram(
    kind="code",
    code=inside("n = len(response)\nreturn {'total': n / 10, 'components': {'length': n}}"),
)
CRITERIA = tuple(Criterion(id=name, question=f"Is it {name}?") for name in ("kind", "good", "new"))
HYBRID = RewardProgram(
    code=inside("return {'total': judge['kind'] * 1.0, 'components': {'kind': judge['kind']}}"),
    rubric=CRITERIA,
)


@pytest.fixture
def answers(project):
    prompts = PromptSet.objects.create(project=project, name="set")
    prompt = Prompt.objects.create(
        set=prompts, messages=[{"role": "user", "content": "Hello?"}], digest="d"
    )
    return [
        Completion.objects.create(prompt=prompt, text="word " * place, draw=place)
        for place in range(1, 5)
    ]


def worked(job: Job, **environment: str) -> None:
    """The job's program, as a worker runs it."""
    done = subprocess.run(
        [sys.executable, "-m", jobs.MODULES[job.kind], str(job.folder)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    job.state, job.result = Job.State.SUCCEEDED, json.loads((job.folder / jobs.RESULT).read_text())
    job.save()


def test_a_version_holds_the_whole_program_and_its_temperature(project):
    version = judges.make(project, "Short", "program", {"temperature": 2.5}, program=to_json(CODE))
    assert from_json(version.settings["program"]) == CODE
    assert version.settings["knobs"] == {"temperature": 2.5}
    assert version.endpoint is None
    warmer = judges.revise(version.judge, {"temperature": 3}, program=to_json(CODE))
    assert warmer.sha256 != version.sha256
    again = judges.revise(version.judge, {"temperature": 2.5}, program=to_json(CODE))
    assert again == version


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (None, "needs a program"),
        ({"magic": 1}, "That is no reward program"),
        (
            to_json(RewardProgram(kind="code", code=inside("return hash(prompt)"))),
            "Line 2: the name",
        ),
        (to_json(HYBRID), "has a rubric; its judge needs an endpoint"),
    ],
)
def test_what_is_no_program_makes_no_judge(project, program, said):
    with pytest.raises(ValueError, match=said):
        judges.make(project, "Bad", "program", {}, program=program)


def test_probability_is_sigma_of_the_difference_over_the_temperature(project, answers, tmp_path):
    version = judges.make(project, "Long", "program", {"temperature": 2}, program=to_json(CODE))
    pairs = [(answers[3], answers[0]), (answers[1], answers[2])]
    spec, inputs = kind.of(version).job(version, pairs)
    assert (spec.kind, spec.check, spec.asked) == ("programs", False, None)
    assert {row["id"] for row in inputs["items.jsonl"]} == {str(one.pk) for one in answers}
    job = Job.objects.create(project=project, kind="programs", queue="cpu", title="", spec={})
    rows = [
        {
            "program": "judge",
            "item": str(one.pk),
            "total": len(one.text) / 10,
            "components": {"length": len(one.text)},
            "judge": {},
            "error": "",
        }
        for one in answers
    ]
    job.folder.mkdir(parents=True, exist_ok=True)
    jobs.write_rows(job.folder / PROGRAM_SCORES, rows)
    one, other = kind.of(version).said(version, job, pairs)
    assert one.q_first == pytest.approx(1 / (1 + math.exp(-(2.0 - 0.5) / 2)))
    assert one.detail["totals"] == [2.0, 0.5]
    assert one.detail["components"] == [{"length": 20}, {"length": 5}]
    for said in (one, other):
        assert said.q_second == 1 - said.q_first, "the order in which they are shown is nothing"
    (turned,) = kind.of(version).said(version, job, [(answers[0], answers[3])])
    assert abs(turned.q_first + one.q_first - 1) < 1e-12


@pytest.mark.usefixtures("bubble")
def test_verdicts_end_to_end_by_code_alone(project, answers):
    version = judges.make(project, "Long", "program", {}, program=to_json(CODE))
    pairs = [(answers[3], answers[0]), (answers[1], answers[2])]
    job = asking.ask(version, pairs, "Asked")
    worked(job)
    assert asking.gather(version, job) == 2
    assert verdicts.probability(version, answers[3].pk, answers[0].pk) == pytest.approx(
        1 / (1 + math.exp(-1.5))
    )
    total = sum(
        verdicts.probability(version, *ids)
        for ids in ((answers[1].pk, answers[2].pk), (answers[2].pk, answers[1].pk))
    )
    assert abs(total - 1) < 1e-12
    assert all(Verdict.objects.values_list("consistent", flat=True))
    assert asking.ask(version, pairs, "Again") is None


@pytest.mark.usefixtures("bubble")
def test_a_rubric_is_asked_of_the_judges_endpoint_and_a_missing_score_is_no_verdict(
    project, answers
):
    def answer(body):
        words = len(re.findall("word", body["messages"][-1]["content"]))
        return "no" if words == 3 else json.dumps({"kind": words, "good": 1, "new": 1})

    with Scripted(answer) as server:
        endpoint = Endpoint.objects.create(
            project=project, name="e", url=server.url, model="m", price_in=1
        )
        version = judges.make(
            project, "Kind", "program", {}, endpoint=endpoint, program=to_json(HYBRID)
        )
        assert version.endpoint == endpoint
        assert version.settings["wording"] == rubric.WORDING
        pairs = [(answers[3], answers[0]), (answers[1], answers[2])]
        job = asking.ask(version, pairs, "Asked")
        worked(job, PLUMBLINE_PRIVATE_ENDPOINTS=server.place)
    assert asking.gather(version, job) == 2
    assert verdicts.probability(version, answers[3].pk, answers[0].pk) == pytest.approx(
        1 / (1 + math.exp(-3.0))
    )
    lost = Verdict.objects.get(p=None)
    assert "asked for twice" in lost.error
    assert asking.cost(job) > 0


@pytest.mark.usefixtures("bubble")
def test_what_a_cap_leaves_unasked_is_asked_by_the_next_job(project, answers):
    reply = json.dumps({"kind": 2, "good": 1, "new": 1})
    with Scripted(lambda body: reply) as server:
        endpoint = Endpoint.objects.create(project=project, name="e", url=server.url, model="m")
        version = judges.make(
            project, "Kind", "program", {}, endpoint=endpoint, program=to_json(HYBRID)
        )
        many = [
            Completion.objects.create(prompt=answers[0].prompt, text=f"word {place}", draw=place)
            for place in range(10, 40)  # more than are asked at a time
        ]
        pairs = list(zip(many[::2], many[1::2], strict=True))
        stored = []
        for max_tokens in (1, 0):
            job = asking.ask(version, pairs, "Asked", max_tokens=max_tokens)
            worked(job, PLUMBLINE_PRIVATE_ENDPOINTS=server.place)
            stored.append(asking.gather(version, job))
    assert stored[0] < 15
    assert sum(stored) == 15
    assert len(server.bodies) == 30, "no answer is paid for twice"
    assert {row.p for row in Verdict.objects.all()} == {0.5}
