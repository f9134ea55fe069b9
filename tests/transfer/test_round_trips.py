"""Out and in again: a vote that left comes back equal, whatever is in its texts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from plumbline.accounts.models import Project, User
from plumbline.collect import votes
from plumbline.collect.models import Ballot, Campaign, Candidate, Comparison, Completion, Prompt
from plumbline.loop import rows
from plumbline.transfer import formats, stream
from plumbline.transfer.models import ImportedComparison
from plumbline.transfer.publish import Source, publish
from plumbline.transfer.rows import digest
from plumbline.transfer.staging import BadFile, stage
from tests.comparisons import compare, open_campaign
from tests.transfer.said import exported, exporting, say

# Fields that are of this installation and not of the vote.
OURS = ("id", "comparison", "revises", "annotator", "annotator_kind", "rounds")
NASTY = [
    "\u2028", "\u2029", "\x85", "\r\n", "\n", "\n\n", "\t", "\x0b", "\x1c", "\x7f", "\ufeff",
    "שלום", "مرحبا", "\u202e", "\u200d", "👩‍👩‍👧", "🏳️‍🌈", "e\u0301", "\\", '"', "\\u2028",
    "</script>", "{{ x }}", "Human:", "Assistant:", "$\\frac{1}{2}$", "a", " ",
]  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=5)), max_size=6).map("".join)
storable = texts.filter(lambda text: "\0" not in text and not _surrogates(text))
# A transcript keeps everything but white space around a turn.
spoken = storable.map(str.strip).filter(bool)

thoroughly = settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking writes the rows over and over
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _surrogates(text: str) -> bool:
    return any(0xD800 <= ord(one) < 0xE000 for one in text)


def bring_in(project: Project, name: str, path: Path, into: str = "back") -> None:
    format = formats.find(name)
    with stage(path, format) as staged:
        publish(staged, project, into, Source(name, path.name, 0.0), format)


def send(project: Project, name: str, path: Path, **options: Any) -> list[dict[str, Any]]:
    """The rows that a file written to `path` holds."""
    lines = list(stream.lines(exporting(project, **options), formats.exporter(name)))
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return [json.loads(line) for line in lines]


@contextmanager
def undone() -> Iterator[None]:
    """Whatever is written inside is gone afterwards."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def without(row: dict[str, Any]) -> dict[str, Any]:
    """What must come back equal of a row of ours: all but ids, and who wrote by name or policy."""
    kept = {name: value for name, value in row.items() if name not in OURS}
    kept["revises"] = row["revises"] is not None
    kept["answers"] = [
        {
            **{name: one[name] for name in one if name not in ("id", "policy", "policy_sha256")},
            "origin": one["policy"] or one["origin"],
        }
        for one in row["answers"]
    ]
    kept["campaign"] = {
        name: value for name, value in row["campaign"].items() if name not in ("id", "name")
    }
    kept["guidelines_version"] = None
    kept["prompt"] = {name: row["prompt"][name] for name in ("messages", "split")}
    return kept


@pytest.fixture
def beta(db: None) -> Project:
    return Project.objects.create(name="Beta", slug="beta")


@pytest.fixture
def said(project: Project, bob: User, carol: User, dana: User) -> Campaign:
    """All kinds of votes: a pair, a tie, all bad, a ranking of four, ratings, a changed mind."""
    campaign = open_campaign(
        project,
        comparisons=3,
        asks=["compare", "mark", "rate", "correct", "critique", "spans"],
        criteria=[{"name": "kind", "question": "How kind?", "most": 7}],
    )
    pair, other, third = campaign.comparisons.order_by("pk")
    rated = {"0": {"kind": 2}, "1": {"kind": 7}}
    say(pair, bob, [[1], [0]], strength=3, mark=3, ratings=rated, active_ms=5000)
    say(pair, carol, [[0, 1]], comment="Alike. \u2028 🏳️‍🌈", reasons=["Both clear"])
    say(
        pair,
        dana,
        shown=[0, 1],
        corrections={"1": "Better."},
        spans=[{"slot": 1, "start": 0, "end": 3, "label": "wrong", "note": "no"}],
    )
    first = say(other, bob, [[0], [1]], strength=1)
    say(other, bob, [[1], [0]], revision=2, revises=first, strength=2, settings_version=4)
    say(other, carol, outcome="skipped", reason="Upsetting or unsafe")
    say(third, bob, outcome="absolute", ratings=rated)
    four = compare(
        campaign, project.prompt_sets.get(), "Four?", list("wxyz"), strategy="mixed", p_select=0.25
    )
    say(four, bob, [[2], [0, 3], [1]], mark=2, shown=[3, 1, 0, 2])
    return campaign


def test_our_own_format_comes_back_field_by_field(project, beta, said, tmp_path):
    sent = send(project, "votes", tmp_path / "x.jsonl", revisions=True)
    assert len(sent) == 8
    bring_in(beta, "votes", tmp_path / "x.jsonl")
    back = exported(beta, "votes", revisions=True)
    assert sorted(map(without, back), key=str) == sorted(map(without, sent), key=str)
    # Votes on one comparison are on one again, by as many people, in a closed campaign.
    assert Comparison.objects.filter(campaign__project=beta).count() == 4
    assert len({row["annotator"] for row in back}) == 3
    campaign = beta.campaigns.get()
    assert (campaign.asks, campaign.criteria) == (said.asks, said.criteria)
    assert campaign.closed_at is not None


def test_votes_come_back_once_however_they_are_cut_into_files(project, beta, said, tmp_path):
    sent = send(project, "votes", tmp_path / "x.jsonl", revisions=True)
    lines = [stream.line(row) for row in sent]
    for start in range(0, len(lines), 2):  # the first file's last row comes again, and so on
        (tmp_path / f"{start}.jsonl").write_text("".join(lines[max(0, start - 1) : start + 2]))
        bring_in(beta, "votes", tmp_path / f"{start}.jsonl")
    bring_in(beta, "votes", tmp_path / "x.jsonl")
    back = exported(beta, "votes", revisions=True)
    assert sorted(map(without, back), key=str) == sorted(map(without, sent), key=str)
    seats = list(Ballot.objects.filter(seat__isnull=False).values_list("comparison", "seat"))
    assert len(seats) == len(set(seats))
    assert ImportedComparison.objects.count() == 4


def test_two_different_words_in_one_revision_are_refused(project, said, tmp_path):
    sent = send(project, "votes", tmp_path / "x.jsonl")
    (tmp_path / "y.jsonl").write_text(
        "".join(stream.line(row) for row in (sent[0], {**sent[0], "comment": "changed"}))
    )
    with pytest.raises(BadFile, match="row 2: .* says something else in revision 1"):
        stage(tmp_path / "y.jsonl", formats.find("votes"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("trl_preference", {}),
        ("trl_preference", {"layout": "standard"}),
        ("trl_preference", {"votes": "majority"}),
        ("trl_implicit", {}),
        ("trl_implicit", {"layout": "standard"}),
        ("trl_unpaired", {}),
        ("trl_unpaired", {"layout": "standard", "pairs": True}),
        ("hh_rlhf", {}),
        ("openai_preference", {}),
    ],
)
def test_rows_that_went_in_come_out_again(name, options, project, beta, said, tmp_path):
    sent = send(project, name, tmp_path / "x.jsonl", **options)
    assert sent
    bring_in(beta, name, tmp_path / "x.jsonl")
    back = exported(beta, name, **options)

    def plain(rows: list[dict[str, Any]]) -> list[str]:
        """Without what names votes; a ranking's pairs come back as pairs of their own."""
        kept = ({k: v for k, v in row.items() if k not in ("vote", "weight")} for row in rows)
        return sorted(json.dumps(row, sort_keys=True) for row in kept)

    assert plain(back) == plain(sent)


def test_single_answers_come_in_as_marks_that_a_round_can_read(project, beta, said, tmp_path):
    """ "Good" prefers nothing, and "not good" is "all bad" of one answer."""
    send(project, "trl_unpaired", tmp_path / "x.jsonl", pairs=True)
    bring_in(beta, "trl_unpaired", tmp_path / "x.jsonl")
    ballots = Ballot.objects.filter(comparison__campaign__project=beta).order_by("comparison_id")
    assert {(one.outcome, one.mark) for one in ballots} == {("ranked", 3), ("all_bad", None)}
    assert list(rows.comparison_rows(ballots)) == []
    assert {votes.bad_shares([one]) for one in ballots} == {(0.0, 1), (1.0, 1)}


@pytest.mark.parametrize("name", sorted(set(formats.exporters()) - {"votes"}))
@thoroughly
@given(data=st.data())
def test_any_text_comes_back_as_it_was(
    name: str, data: st.DataObject, project: Project, bob: User
) -> None:
    options = {}
    if "layout" in formats.exporter(name).TAKES:
        options["layout"] = data.draw(st.sampled_from(["conversational", "standard"]))
    exact = options.get("layout") == "conversational" or name == "openai_preference"
    text = storable if exact else spoken
    turns = data.draw(st.lists(storable.filter(str.strip), min_size=1, max_size=3))
    chosen, rejected = data.draw(text.filter(str.strip)), data.draw(text.filter(str.strip))
    if exact:
        messages = [{"role": "user", "content": turns[0]}]
        for turn in turns[1:]:
            messages += [
                {"role": "assistant", "content": f"I said {turn}"},
                {"role": "user", "content": turn},
            ]
    else:
        messages = [{"role": "user", "content": turns[0].strip()}]
    with undone(), TemporaryDirectory() as folder:
        beta = Project.objects.create(name="Beta", slug="beta")
        a_vote(project, bob, messages, [chosen, rejected], mark=3)
        sent = send(project, name, Path(folder) / "x.jsonl", **options)
        if chosen == rejected and name != "trl_unpaired":
            assert not sent
            return
        if not sent:  # a text with a mark in it: refused rather than read back as a turn
            assert not exact
            assert re.search("(Human|Assistant):", str([messages, chosen, rejected]))
            return
        bring_in(beta, name, Path(folder) / "x.jsonl")
        prompt = Prompt.objects.get(set__project=beta)
        assert prompt.messages == messages
        back = Ballot.objects.get(comparison__campaign__project=beta)
        put_first, beaten = order(back)
        assert put_first == chosen
        assert beaten == ([] if name == "trl_unpaired" else [rejected])


def order(ballot: Ballot) -> tuple[str, list[str]]:
    """The text that a ballot puts first, and those that it beats."""
    found = {slot.slot: slot.completion.text for slot in ballot.comparison.slots.all()}
    [[best], *rest] = ballot.ranking
    return found[best], [found[slot] for group in rest for slot in group]


def a_vote(
    project: Project,
    person: User,
    messages: list[dict[str, str]],
    answers: list[str],
    **fields: Any,
) -> Ballot:
    """A vote for the first of two answers."""
    campaign = open_campaign(project, comparisons=0)
    prompt = Prompt.objects.create(
        set=project.prompt_sets.get(), messages=messages, digest=digest(messages)
    )
    comparison = Comparison.objects.create(campaign=campaign, prompt=prompt)
    for slot, text in enumerate(answers):
        completion = Completion.objects.create(prompt=prompt, origin="a test", text=text)
        Candidate.objects.create(comparison=comparison, completion=completion, slot=slot)
    return say(comparison, person, [[0], [1]], **fields)


@thoroughly
@given(
    question=storable.filter(str.strip),
    answers=st.lists(storable, min_size=2, max_size=9),
    words=storable,
    data=st.data(),
)
def test_any_vote_comes_back_in_our_own_format(
    question: str,
    answers: list[str],
    words: str,
    data: st.DataObject,
    project: Project,
    bob: User,
) -> None:
    slots = data.draw(st.permutations(range(len(answers))))
    cuts = data.draw(st.sets(st.integers(1, len(answers) - 1)))
    bounds = [0, *sorted(cuts), len(answers)]
    ranking = [sorted(slots[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)]
    with undone(), TemporaryDirectory() as folder:
        beta = Project.objects.create(name="Beta", slug="beta")
        said = a_vote(project, bob, [{"role": "user", "content": question}], answers)
        said.ranking, said.comment, said.reasons = ranking, words, [words]
        said.shown = data.draw(st.permutations(range(len(answers))))
        said.strength = data.draw(st.sampled_from([None, 1, 2, 3]))
        said.mark = data.draw(st.sampled_from([None, 1, 2, 3]))
        said.corrections = {"0": words}
        said.save()
        sent = send(project, "votes", Path(folder) / "x.jsonl")
        bring_in(beta, "votes", Path(folder) / "x.jsonl")
        assert [without(row) for row in exported(beta, "votes")] == [without(row) for row in sent]


@pytest.mark.parametrize("name", sorted(formats.exporters()))
def test_a_nul_is_refused_on_the_way_in(name, project, said, tmp_path):
    sent = send(project, name, tmp_path / "x.jsonl")
    text = stream.line(sent[0])
    for old in ("Answer 0.1", "Answer 1.1"):
        text = text.replace(old, "a\\u0000b")
    assert "\\u0000" in text
    (tmp_path / "y.jsonl").write_text(text)
    with pytest.raises(BadFile, match="row 1: .*NUL"):
        stage(tmp_path / "y.jsonl", formats.find(name))


def test_a_row_is_known_again_after_rows_learned_to_hold_votes(tmp_path):
    """Else the same preferences would come in twice after an upgrade."""
    from plumbline.transfer.rows import Answer, ImportedRow, user
    from plumbline.transfer.staging import Staged

    with Staged() as staged:
        staged.add(ImportedRow(user("hi"), (Answer("a", "x"), Answer("b", "x")), 1.0, key="7"))
        [[(key, _)]] = staged.chunks(10)
    assert key == "a4498439c26b622234fcb2be30b76a046eef37cfeb6fc364a16bfbaaad3d7a01"


def test_real_human_preferences_go_out_as_they_came_in(project, shared_data, tmp_path):
    path = shared_data / "hh_rlhf" / "harmless_base.jsonl.gz"
    bring_in(project, "hh_rlhf", path, into="hh")
    sent = send(project, "hh_rlhf", tmp_path / "x.jsonl", split="all")
    assert len(sent) > 1290
    beta = Project.objects.create(name="Beta", slug="beta")
    bring_in(beta, "hh_rlhf", tmp_path / "x.jsonl", into="hh")
    prompts = {
        one: set(Prompt.objects.filter(set__project=one).values_list("digest", flat=True))
        for one in (project, beta)
    }
    assert prompts[beta] <= prompts[project]
    assert send(beta, "hh_rlhf", tmp_path / "y.jsonl", split="all") == sent
