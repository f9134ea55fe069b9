"""A session from its task to a winner: killed anywhere, with bad programs, with a model as writer,
with a judge as rater. Jobs are processes of their own."""

from __future__ import annotations

import json

import pytest

from align import seeded_writer
from align.icpl import emphases
from align.programs import to_json
from plumbline.collect.models import Ballot, PromptSet
from plumbline.evolve import advance, sessions
from plumbline.evolve.models import Evolution, Program, ProgramScore, Stage
from plumbline.fleet.models import Job
from plumbline.judges import judges
from plumbline.judges.models import Endpoint
from tests.evolve.conftest import fill_pool, programs, run
from tests.scripted import Scripted

pytestmark = pytest.mark.django_db


class Killed(BaseException):
    """The loop's process dies here."""


@pytest.mark.postgres
def test_a_session_killed_in_every_stage_ends_with_the_same_programs(
    evolution_of, rater, monkeypatch, prompt_set
):
    evolution = run(evolution_of(arms=3), rater)
    assert evolution.state == Evolution.State.FINISHED, evolution.ended
    assert evolution.ended == "All 2 generations are done."
    first, second = evolution.generations.order_by("number")
    assert first.stage == second.stage == Stage.DONE
    assert evolution.best == second.good
    assert {one.status for one in first.programs.all()} <= {"good", "bad", "neutral", "invalid"}
    assert second.programs.first().good_parent == first.good
    third = second.messages[2]["content"]
    assert third.index("GOOD") < third.index("BAD")
    assert "hidden" not in third
    assert first.figures["hidden"]["pairs"] > 0
    assert first.campaign.closed_at is not None
    assert first.good.report["points"] == [1, 2, 4, 8]
    assert first.good.report["total"]["rankings"] > 0

    copied = PromptSet.objects.create(project=evolution.project, name="The same questions")
    for one in prompt_set.prompts.all():
        one.pk, one.set = None, copied
        one.save()
    again = evolution_of(name="Killed", prompt_set=copied, arms=3)
    killed = set()
    leave = advance._leave

    def die_first(generation, following, error=""):
        """The work of a stage is done, and its process dies before it is written down."""
        at = (generation.number, generation.stage)
        if at not in killed:
            killed.add(at)
            raise Killed
        return leave(generation, following, error)

    monkeypatch.setattr(advance, "_leave", die_first)
    for _ in range(60):
        try:
            again = run(again, rater)
            break
        except Killed:
            continue
    assert again.state == Evolution.State.FINISHED, again.ended
    assert {stage for _, stage in killed} >= {*Stage.values} - {"pool", *advance.OVER}
    assert programs(again) == programs(evolution)
    assert Program.objects.filter(generation__evolution=again).count() == len(programs(evolution))


HOSTILE = (
    '{"code": "import os\\ndef compute_reward(prompt, response, judge, meta):\\n    return 1"}'
)
ENDLESS = (
    '{"code": "def compute_reward(prompt, response, judge, meta):\\n'
    '    raise ValueError(\\"on purpose\\")"}'
)


@pytest.fixture
def scripted(project, settings):
    """`scripted(answer)`: an endpoint of the project that answers a request's body so."""
    open_ones = []

    def make(answer):
        stub = Scripted(answer)
        open_ones.append(stub)
        settings.PRIVATE_ENDPOINTS = ",".join(one.place for one in open_ones)
        made = Endpoint.objects.create(
            project=project, name=f"Model {len(open_ones)}", url=stub.url, model="m"
        )
        return stub, made

    yield make
    for one in open_ones:
        one.close()


def emphasis(body):
    said = body["messages"][-1]["content"] if len(body["messages"]) == 2 else ""
    said = said or body["messages"][1]["content"]
    return next((name for name, words in emphases.EMPHASES.items() if words in said), "free")


@pytest.mark.sqlite
def test_bad_programs_are_repaired_and_the_session_goes_on(evolution_of, rater, scripted):
    """One arm forbids itself, one fails where it runs, one talks; the others are good."""
    asked = {}

    def answer(body):
        name = emphasis(body)
        asked[name] = asked.get(name, 0) + 1
        repaired = len(body["messages"]) > 2
        if name == "concise" and not repaired:
            return HOSTILE
        if name == "complete" and asked[name] < 4:
            return ENDLESS
        if name == "tone" and asked[name] < 2:
            return "I would rather not."
        program = seeded_writer.write(asked[name], name)
        return f"Certainly:\n```json\n{json.dumps(to_json(program))}\n```"

    stub, writer = scripted(answer)
    evolution = evolution_of(
        writer="endpoint", writer_endpoint=writer, generations_wanted=1, arms=4, hidden_prompts=2
    )
    evolution = run(evolution, rater)
    assert evolution.state == Evolution.State.FINISHED, evolution.ended
    (generation,) = evolution.generations.all()
    by_arm = {}
    for one in generation.programs.all():
        by_arm.setdefault(one.arm, []).append(one)
    assert [one.status == "invalid" for one in by_arm[0]] == [True, False]
    assert by_arm[0][1].repairs == by_arm[0][0]
    assert "os" in by_arm[0][0].problems[0]
    assert [one.status == "invalid" for one in by_arm[1]] == [True, True, True, False]
    assert "on purpose" in by_arm[1][0].problems[0]
    assert by_arm[2][0].program is None
    repaired = [one.repairs for one in by_arm[1]]
    assert repaired == [None, by_arm[1][0], by_arm[1][1], None], "twice, then written anew"
    assert generation.programs.count() <= 4 * evolution.arms
    told = next(body for body in stub.bodies if len(body["messages"]) > 2)
    assert told["messages"][-1]["role"] == "user"
    assert "refused" in told["messages"][-1]["content"]
    assert [one["role"] for one in told["messages"]] == ["system", "user", "assistant", "user"]


@pytest.mark.sqlite
def test_a_writer_that_writes_nothing_fails_the_session_which_can_be_tried_again(
    evolution_of, scripted, rater
):
    words = {"said": "No."}
    _, writer = scripted(lambda body: words["said"])
    evolution = evolution_of(
        writer="endpoint", writer_endpoint=writer, arms=3, generations_wanted=1, hidden_prompts=0
    )
    evolution = run(evolution)
    assert evolution.state == Evolution.State.FAILED
    assert "After 12 calls of the writer only 0 programs are valid" in evolution.ended
    with pytest.raises(ValueError, match="Only a paused"):
        sessions.resume(evolution)
    sessions.retry(evolution)
    evolution.refresh_from_db()
    assert (evolution.state, evolution.ended) == ("active", "")

    made = iter(range(1000))
    _, other = scripted(
        lambda body: seeded_writer.reply(seeded_writer.write(next(made), emphasis(body)))
    )
    Evolution.objects.filter(pk=evolution.pk).update(writer_endpoint=other)
    evolution = run(evolution, rater)
    assert evolution.state == Evolution.State.FINISHED, evolution.ended


def test_an_endpoint_that_refuses_fails_the_session_in_its_own_words(evolution_of, scripted):
    _, writer = scripted(lambda body: (401, {}, {"error": {"message": "no such key"}}))
    evolution = run(evolution_of(writer="endpoint", writer_endpoint=writer))
    assert evolution.state == Evolution.State.FAILED
    assert "refuses the key" in evolution.ended
    assert Job.objects.get(kind="write").state == Job.State.FAILED


@pytest.mark.sqlite
def test_a_judge_ranks_as_itself_and_a_rubric_is_scored(evolution_of, scripted, project, rater):
    def judged(body):
        """Likes thanks; scores rubrics by them too."""
        schema = body.get("response_format")
        said = body["messages"][-1]["content"]
        if schema and "integer" in json.dumps(schema):
            names = schema["json_schema"]["schema"]["properties"]
            return json.dumps(dict.fromkeys(names, 5 if "Thank" in said else 2))
        return "5"

    _, endpoint = scripted(judged)
    program = seeded_writer.build({"politeness": 2.0, "brevity": 0.3}, {})
    version = judges.make(
        project, "Polite", "program", {"temperature": 0.5}, program=to_json(program), by=rater
    )
    evolution = evolution_of(
        rater=version, generations_wanted=1, arms=3, chosen_prompts=3, hidden_prompts=2
    )
    evolution = run(evolution)
    assert evolution.state == Evolution.State.FINISHED, evolution.ended
    ballots = Ballot.objects.filter(outcome="ranked")
    assert {one.annotator for one in ballots} == {version.judge.account}
    assert {one.annotator.kind for one in ballots} == {"ai"}
    assert all(one.seat is None and one.probability is not None for one in ballots)
    assert evolution.best is not None


@pytest.mark.sqlite
def test_the_same_picks_share_a_card_and_twins_are_written_anew(evolution_of, scripted):
    """Every reply is the same program until the endpoint is asked often enough."""
    count = {"n": 0}

    def answer(body):
        count["n"] += 1
        name = "tone" if count["n"] <= 4 else list(emphases.EMPHASES)[count["n"] % 6]
        return seeded_writer.reply(seeded_writer.write(count["n"] // 5, name))

    _, writer = scripted(answer)
    evolution = evolution_of(writer="endpoint", writer_endpoint=writer, hidden_prompts=2)
    evolution = run(evolution, until="rank")
    generation = evolution.generations.get()
    twins = generation.programs.exclude(same_as=None)
    assert twins
    assert all(one.status == "invalid" and "same answers" in one.problems[0] for one in twins)
    for comparison in generation.campaign.comparisons.all():
        answers = [slot.completion for slot in comparison.slots.all()]
        assert len({one.text for one in answers}) == len(answers) >= 2
        assert comparison.strategy == "icpl"
    assert ProgramScore.objects.filter(program__in=twins).exists(), "they ran"


def test_a_session_is_paused_cancelled_and_given_enough(evolution_of, rater, alice):
    evolution = run(evolution_of(generations_wanted=1), until="rank")
    sessions.pause(evolution)
    advance.tick()
    with pytest.raises(ValueError, match="Nobody has ranked anything"):
        sessions.enough(evolution.generations.get())
    evolution.refresh_from_db()
    sessions.resume(evolution)
    sessions.cancel(evolution, alice)
    evolution.refresh_from_db()
    assert evolution.state == Evolution.State.CANCELLED
    assert evolution.ended == "Cancelled by alice."
    generation = evolution.generations.get()
    assert generation.stage == Stage.CANCELLED
    assert generation.campaign.closed_at is not None
    with pytest.raises(ValueError, match="This session is over"):
        sessions.cancel(evolution, alice)
    advance.tick()
    assert evolution.generations.count() == 1


def test_too_few_prompts_are_told_before_anything_is_drawn(evolution_of):
    evolution = evolution_of(pooled=False, chosen_prompts=12, spare_prompts=6)
    advance.tick()
    evolution.refresh_from_db()
    assert evolution.state == Evolution.State.FAILED
    assert "Questions has 15 training and 15 held-out prompts" in evolution.ended


@pytest.mark.sqlite
def test_a_pool_of_one_answer_leaves_nothing_to_rank(evolution_of, monkeypatch):
    monkeypatch.setattr("tests.evolve.conftest.answer", lambda rng: "Yes.")
    evolution = evolution_of(pooled=False, arms=3)
    fill_pool(evolution)
    evolution = run(evolution)
    assert evolution.state == Evolution.State.FAILED
    assert "pool is too narrow" in evolution.ended or "differ" in evolution.ended
