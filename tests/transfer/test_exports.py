"""What leaves, in which shape, and what stays: gold, repeats, training, replaced votes, names."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from plumbline.accounts.models import Project, User
from plumbline.collect import queue
from plumbline.collect.models import Ballot, Campaign, CampaignVersion, Comparison, Prompt
from plumbline.loop.models import Experiment, Round
from plumbline.policies.models import Policy
from plumbline.transfer import formats, stream
from plumbline.transfer.options import Options
from tests.comparisons import compare, open_campaign
from tests.transfer.said import exported, left_out, say

ASKED = [{"role": "user", "content": "Question 0?"}]
PLAIN = "\n\nHuman: Question 0?\n\nAssistant:"


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture
def campaign(project: Project) -> Campaign:
    return open_campaign(project, comparisons=1)


@pytest.fixture
def comparison(campaign: Campaign) -> Comparison:
    return campaign.comparisons.get()


@pytest.fixture
def preferred(comparison: Comparison, bob: User) -> Ballot:
    """Bob prefers the second answer, which he saw on the left."""
    return say(comparison, bob, [[1], [0]], strength=3, mark=3)


@pytest.fixture
def round(project: Project, campaign: Campaign) -> Round:
    base = Policy.objects.create(project=project, name="base-1", weights="base", base_model="b")
    experiment = Experiment.objects.create(
        project=project,
        name="Warmer",
        algorithm="dpo",
        start=base,
        prompt_set=project.prompt_sets.get(),
    )
    return Round.objects.create(experiment=experiment, number=4, policy_in=base)


def test_trl_gets_messages_with_an_explicit_prompt(project, preferred):
    assert exported(project, "trl_preference") == [
        {
            "prompt": ASKED,
            "chosen": answer("Answer 0.1"),
            "rejected": answer("Answer 0.0"),
            "weight": 1.0,
            "vote": str(preferred.pk),
        }
    ]


def test_trl_gets_plain_text_with_the_turns_marked(project, preferred):
    assert exported(project, "trl_preference", layout="standard", extras=False) == [
        {"prompt": PLAIN, "chosen": " Answer 0.1", "rejected": " Answer 0.0"}
    ]


def test_trl_gets_whole_conversations_for_a_reward_model(project, preferred):
    assert exported(project, "trl_implicit", extras=False) == [
        {"chosen": ASKED + answer("Answer 0.1"), "rejected": ASKED + answer("Answer 0.0")}
    ]
    assert exported(project, "trl_implicit", layout="standard", extras=False) == [
        {"chosen": f"{PLAIN} Answer 0.1", "rejected": f"{PLAIN} Answer 0.0"}
    ]


def test_trl_gets_single_answers_that_are_good_or_bad(project, comparison, preferred, carol):
    say(comparison, carol)
    rows = exported(project, "trl_unpaired", extras=False)
    assert sorted(rows, key=lambda row: (row["label"], row["completion"][0]["content"])) == [
        {"prompt": ASKED, "completion": answer("Answer 0.0"), "label": False},
        {"prompt": ASKED, "completion": answer("Answer 0.1"), "label": False},
        {"prompt": ASKED, "completion": answer("Answer 0.1"), "label": True},
    ]
    plain = exported(project, "trl_unpaired", layout="standard", extras=False)
    assert {"prompt": PLAIN, "completion": " Answer 0.1", "label": True} in plain


def test_hh_rlhf_gets_two_transcripts_and_no_other_field(project, preferred):
    assert exported(project, "hh_rlhf") == [
        {"chosen": f"{PLAIN} Answer 0.1", "rejected": f"{PLAIN} Answer 0.0"}
    ]


def test_openai_gets_one_assistant_message_each(project, preferred):
    assert exported(project, "openai_preference") == [
        {
            "input": {"messages": ASKED, "tools": [], "parallel_tool_calls": True},
            "preferred_output": answer("Answer 0.1"),
            "non_preferred_output": answer("Answer 0.0"),
        }
    ]


def test_our_own_format_keeps_what_the_others_drop(
    project, campaign, comparison, preferred, round, bob
):
    policy = Policy.objects.create(
        project=project, name="warm-r3", weights="base", base_model="b", sha256="abc"
    )
    completion = comparison.slots.get(slot=1).completion
    completion.policy, completion.sampling = policy, {"temperature": 0.7, "max_tokens": 96}
    completion.finish_reason = "stop"
    completion.save()
    preferred.ratings = {"0": {"kind": 2}, "1": {"kind": 5}}
    preferred.corrections = {"0": "Better."}
    preferred.spans = [{"slot": 0, "start": 0, "end": 6, "label": "wrong", "note": "no"}]
    preferred.reasons, preferred.comment = ["Clearer"], "It says why."
    preferred.active_ms, preferred.settings_version = 4321, 3
    preferred.claimed_at = datetime(2026, 11, 21, 9, tzinfo=UTC)
    preferred.save()
    comparison.strategy, comparison.p_select, comparison.why = "mixed", 0.25, {"entropy": 0.6}
    comparison.save()
    for number, guidelines in enumerate(["Be kind.", "Be brief.", "Be brief."], 1):
        CampaignVersion.objects.create(
            campaign=campaign, number=number, settings={"guidelines": guidelines}
        )
    round.ballots.add(preferred)
    [row] = exported(project, "votes")
    assert row["shown"] == [1, 0]
    assert [(one["slot"], one["position"], one["side"]) for one in row["answers"]] == [
        (0, 1, "right"),
        (1, 0, "left"),
    ]
    written = row["answers"][1]
    assert (written["policy"], written["policy_sha256"]) == ("warm-r3", "abc")
    assert (written["sampling"], written["finish_reason"]) == (completion.sampling, "stop")
    assert (row["ranking"], row["strength"], row["mark"]) == ([[1], [0]], 3, 3)
    assert (row["ratings"], row["corrections"]) == (preferred.ratings, preferred.corrections)
    assert (row["spans"], row["reasons"]) == (preferred.spans, ["Clearer"])
    assert (row["comment"], row["active_ms"]) == ("It says why.", 4321)
    assert (row["settings_version"], row["guidelines_version"]) == (3, 2)
    assert row["claimed_at"] == "2026-11-21T09:00:00+00:00"
    assert (row["strategy"], row["p_select"], row["why"]) == ("mixed", 0.25, {"entropy": 0.6})
    assert row["rounds"] == [{"id": round.pk, "number": 4, "experiment": "Warmer"}]
    assert row["campaign"]["name"] == campaign.name
    assert row["prompt"]["messages"] == ASKED


def test_ties_and_all_bad_stay_apart_in_our_own_format(project, comparison, bob, carol):
    say(comparison, bob, [[0, 1]])
    say(comparison, carol)
    said = [(row["outcome"], row["ranking"]) for row in exported(project, "votes")]
    assert sorted(said) == [("all_bad", []), ("ranked", [[0, 1]])]


@pytest.mark.parametrize("name", sorted(formats.exporters()))
def test_gold_repeats_and_training_comparisons_are_never_training_data(
    name: str, project: Project, campaign: Campaign, comparison: Comparison, bob: User
) -> None:
    prompts = comparison.prompt.set
    known = {"expected": {"outcome": "ranked", "ranking": [[1], [0]]}}
    for kind, fields in {
        "gold": known,
        "training": known,
        "repeat": {"repeats": comparison, "only_for": bob},
    }.items():
        hidden = compare(campaign, prompts, f"{kind}?", ["x", "y"], kind=kind, **fields)
        say(hidden, bob, [[1], [0]], mark=3)
    assert exported(project, name) == []
    assert left_out(project, name) == {
        f"{kind} comparisons: never training data": 1 for kind in ("gold", "repeat", "training")
    }
    say(comparison, bob, [[1], [0]], mark=3)
    live = compare(campaign, prompts, "live?", ["x", "y"], kind="live")
    say(live, bob, [[1], [0]], mark=3)
    assert len(exported(project, name)) == 2


def test_a_study_of_quality_may_have_them(project, campaign, comparison, bob):
    gold = compare(
        campaign, comparison.prompt.set, "?", ["x", "y"], kind="gold", expected={"ranking": [[0]]}
    )
    say(gold, bob, [[0], [1]])
    assert [row["kind"] for row in exported(project, "votes", quality=True)] == ["gold"]
    for name in set(formats.exporters()) - {"votes"}:
        with pytest.raises(ValueError, match="no place for the option 'quality'"):
            Options(quality=True).check(formats.exporter(name).TAKES, (), name)


def test_held_out_prompts_stay_unless_asked_for(project, comparison, preferred):
    Prompt.objects.update(split="heldout")
    assert exported(project, "hh_rlhf") == []
    assert left_out(project, "hh_rlhf") == {"comparisons on held out prompts": 1}
    assert len(exported(project, "hh_rlhf", split="heldout")) == 1
    assert len(exported(project, "hh_rlhf", split="all")) == 1


def test_only_the_vote_that_stands_leaves(project, comparison, preferred, bob):
    withdrawn = say(
        comparison, bob, outcome="withdrawn", revision=2, revises=preferred, idempotency_key=None
    )
    assert exported(project, "hh_rlhf") == []
    reason = "comparisons whose votes were skipped or taken back"
    assert left_out(project, "hh_rlhf") == {reason: 1}
    say(comparison, bob, [[0], [1]], revision=3, revises=withdrawn)
    [row] = exported(project, "hh_rlhf")
    assert row["chosen"].endswith("Answer 0.0")


def test_all_revisions_leave_when_asked_for(project, comparison, preferred, bob, carol):
    again = say(comparison, bob, [[0], [1]], revision=2, revises=preferred)
    say(comparison, carol, outcome="skipped", reason="I do not know this topic")
    say(comparison, carol, outcome="", cast_at=None, revision=2)  # a claim, not yet a word
    rows = exported(project, "votes", revisions=True)
    assert [(row["revision"], row["outcome"], row["standing"]) for row in rows] == [
        (1, "ranked", False),
        (2, "ranked", True),
        (1, "skipped", False),
    ]
    assert [row["revises"] for row in rows] == [None, str(preferred.pk), None]
    assert [row["id"] for row in exported(project, "votes")] == [str(again.pk)]


def test_a_rounds_export_is_exactly_what_it_trained_on(project, comparison, preferred, round, bob):
    round.ballots.add(preferred)
    say(comparison, bob, [[0], [1]], revision=2, revises=preferred)  # changed afterwards
    [row] = exported(project, "votes", round=round.pk)
    assert (row["id"], row["standing"]) == (str(preferred.pk), False)


def test_what_is_clicked_on_a_side_is_the_row_that_leaves(project, campaign, bob, carol, dana):
    """From the order on the screen to the stored ranking to the exported text."""
    campaign.overlap = 3
    campaign.save()
    clicked = {}
    for person in (bob, carol, dana):
        ballot = queue.claim_next(person, campaign)
        left, right = ballot.shown
        queue.cast(ballot, queue.Verdict("ranked", [[left], [right]]), uuid4())
        clicked[str(ballot.pk)] = f"Answer 0.{left}"
    rows = exported(project, "trl_preference")
    assert {row["vote"]: row["chosen"][0]["content"] for row in rows} == clicked
    for row in exported(project, "votes"):
        [best] = row["ranking"][0]
        assert row["answers"][best]["side"] == "left"
        assert row["answers"][best]["text"] == clicked[row["id"]]


def test_campaigns_can_be_chosen_and_other_projects_never_leak(project, preferred, charlie, bob):
    other = open_campaign(project, comparisons=1)
    say(other.comparisons.get(), bob, [[0], [1]])
    beta = Project.objects.get(slug="beta")
    theirs = open_campaign(beta, comparisons=1)
    say(theirs.comparisons.get(), charlie, [[0], [1]])
    assert len(exported(project, "votes")) == 2
    assert len(exported(project, "votes", campaigns=(other.pk,))) == 1
    assert exported(project, "votes", campaigns=(theirs.pk,)) == []


def test_names_leave_only_when_asked_for(project, comparison, preferred, carol):
    say(comparison, carol, [[1], [0]])
    rows = exported(project, "votes")
    assert len({row["annotator"] for row in rows}) == 2
    assert rows == exported(project, "votes")  # the same made-up names every time
    assert "bob" not in json.dumps(rows)
    named = exported(project, "votes", names=True)
    assert {row["annotator"] for row in named} == {"bob", "carol"}


def test_a_made_up_name_says_nothing_across_projects(project, comparison, preferred, bob):
    beta = Project.objects.create(name="Beta", slug="beta")
    say(open_campaign(beta, comparisons=1).comparisons.get(), bob, [[0], [1]])
    [here], [there] = exported(project, "votes"), exported(beta, "votes")
    assert here["annotator"] != there["annotator"]


def test_what_a_transcript_cannot_hold_is_left_out_and_counted(project, bob):
    campaign = open_campaign(project, comparisons=0)
    prompts = project.prompt_sets.get()
    for question, text in (
        ("plain?", "Yes.\n\nHuman: and?\n\nAssistant: Also yes."),
        ("mark\n\nAssistant: sure", "Yes."),
    ):
        say(compare(campaign, prompts, question, [text, "No."]), bob, [[0], [1]])
    system = compare(campaign, prompts, "with a system message", ["Yes.", "No."])
    system.prompt.messages = [{"role": "system", "content": "Be brief."}, *system.prompt.messages]
    system.prompt.save()
    say(system, bob, [[0], [1]])
    for name, options in (
        ("hh_rlhf", {}),
        ("trl_preference", {"layout": "standard"}),
        ("trl_implicit", {"layout": "standard"}),
    ):
        assert exported(project, name, **options) == []
        assert sum(left_out(project, name, **options).values()) == 3
    assert len(exported(project, "trl_preference")) == 3


def test_every_line_passes_its_own_validator(project, comparison, bob):
    completion = comparison.slots.get(slot=0).completion
    completion.text = " "
    completion.save()
    say(comparison, bob, [[1], [0]])
    assert exported(project, "openai_preference") == []
    reason = "rows that the format refuses: non_preferred_output[0].content: is empty"
    assert left_out(project, "openai_preference") == {reason: 1}


def test_no_line_has_a_second_end(project, comparison, bob):
    completion = comparison.slots.get(slot=0).completion
    completion.text = "a\u2028b\u2029c\x85d\r\ne\x0bf\x0cg\x1ch\x1ei"
    completion.save()
    say(comparison, bob, [[0], [1]])
    for name in formats.exporters():
        options = {"pairs": True} if name == "trl_unpaired" else {}
        lines = [stream.line(row) for row in exported(project, name, **options)]
        assert any("\\u2028" in line for line in lines)
        assert all(line.splitlines(keepends=True) == [line] for line in lines)
