"""The demo's project is made once, and a start that was killed is completed by the next."""

from __future__ import annotations

import random

import pytest

from align.demo import prompts, raters
from plumbline.accounts import keys
from plumbline.accounts.models import Membership, User
from plumbline.collect import live
from plumbline.collect.models import Ballot, Prompt
from plumbline.demo import raters as raters_at_work
from plumbline.demo import seed
from plumbline.policies import serving
from plumbline.policies.models import Deployment


@pytest.mark.django_db
def test_seeding_twice_makes_everything_once() -> None:
    for _ in range(2):
        demo = seed.project()
        questions = seed.prompt_set(demo)
        seed.experiment(demo, questions)
        seed.live(demo, questions)
    assert demo.campaigns.count() == 1
    assert demo.experiments.count() == 1
    assert questions.prompts.count() == len(prompts.questions())
    people = Membership.objects.filter(user__kind=User.Kind.PERSON)
    assert dict(people.values_list("user__username", "role")) == {
        "ada": "admin",
        "rosa": "researcher",
        "anna": "annotator",
    }
    assert User.objects.filter(kind=User.Kind.SIMULATED).count() == len(raters.PANEL)


@pytest.mark.django_db
def test_nobody_in_the_demo_has_a_password() -> None:
    seed.project()
    assert not any(user.has_usable_password() for user in User.objects.all())


@pytest.mark.django_db
def test_a_role_that_was_changed_stays_changed() -> None:
    demo = seed.project()
    Membership.objects.filter(user__username="anna").update(role="researcher")
    seed.project()
    assert Membership.objects.get(project=demo, user__username="anna").role == "researcher"


@pytest.mark.django_db
def test_the_api_key_is_shown_once_and_works() -> None:
    demo = seed.project()
    secret = seed.api_key(demo)
    assert secret is not None
    assert keys.verify(secret).project == demo
    assert seed.api_key(demo) is None


@pytest.mark.django_db
def test_heldout_prompts_are_never_training_prompts() -> None:
    questions = seed.prompt_set(seed.project())
    by_split = {
        split: set(questions.prompts.filter(split=split).values_list("digest", flat=True))
        for split in Prompt.Split.values
    }
    assert len(by_split["heldout"]) == len(prompts.texts("heldout"))
    assert not by_split["train"] & by_split["heldout"]


def test_every_member_of_the_panel_can_be_found_by_name() -> None:
    from plumbline.demo.raters import BY_NAME

    messages = [{"role": "user", "content": prompts.texts("train")[0]}]
    for rater in raters.PANEL:
        vote = BY_NAME[rater.name.lower()].vote(messages, ["a", "b"], random.Random(0))
        assert sorted(slot for group in vote.ranking for slot in group) == [0, 1]


@pytest.mark.django_db
def test_a_visitor_begins_a_live_comparison_that_no_round_learns_from() -> None:
    demo = seed.project()
    campaign = seed.live(demo, seed.prompt_set(demo))
    Deployment.objects.create(project=demo, alias=serving.CURRENT, policy=serving.base_policy(demo))
    begun = live.begin(User.objects.get(username="anna"), campaign)
    assert begun is not None
    assert begun.comparison.prompt.split == "heldout"
    assert campaign.purpose == "evaluate"
    raters_at_work.vote_once()
    assert not Ballot.objects.exclude(annotator__username="anna").exists()
