"""What a round would trip over later and the launch form can already tell, each as a sentence.

Pure reading: nothing here changes anything. A check is skipped while a field it reads is itself
wrong, so that one mistake gives one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings

from align.objective import Objective
from plumbline.accounts.models import Project
from plumbline.collect import asking, selection
from plumbline.collect.models import Campaign, Comparison, PromptSet
from plumbline.loop import campaigns
from plumbline.loop.models import FRESH, Experiment

Found = Iterator[tuple[str, str]]


def of(project: Project, data: Mapping[str, Any], prompts: PromptSet | None) -> Found:
    """(field, sentence) for everything wrong with an experiment's settings taken together.

    `data` holds the fields that are fine by themselves; `prompts` carries the counts `train` and
    `heldout` of its prompts.
    """
    if Experiment.objects.filter(project=project, name=data.get("name", "")).exists():
        yield "name", "An experiment of this name is here already; choose another name."
    yield from _answers(data)
    yield from _pairs(data)
    yield from _weights(data)
    if prompts is not None:
        yield from _prompts(data, prompts)
    for name in ("learning_rate", "reward_learning_rate"):
        if data.get(name) == 0:
            yield name, "At a learning rate of 0 nothing is learned."


def of_questions(
    data: Mapping[str, Any],
    objective: type[Objective],
    prompts: PromptSet | None,
    asked_as: Campaign | None,
) -> Found:
    """(field, sentence) where people would not be asked for what is to be learned from. `data` has
    the objective's knobs as `reward_knobs`."""
    asks = asked_as.asks if asked_as is not None else [asking.COMPARE]
    fresh = data.get("labels") in FRESH
    if fresh and asking.COMPARE not in asks and data.get("pairs_from") == Experiment.Pairs.VOTES:
        yield "asked_as", f"{asked_as} does not ask which answer is better; no pair would be voted."
    reward_model = Experiment.Pairs.REWARD_MODEL
    if reward_model not in (data.get("pairs_from"), data.get("judge")):
        return
    if objective.reads != "ratings" or objective.build(data["reward_knobs"]).votes_for_ratings:
        return
    if fresh and asking.RATE not in asks:
        where = "Choose a campaign that asks for them under “People are asked as in”"
    elif not fresh and prompts is not None and not _rated(prompts):
        where = f"Nobody has rated answers of {prompts.name}"
    else:
        return
    yield (
        "reward_objective",
        f"{objective.title} learns from people's ratings by criteria. {where}, or let it learn "
        "from votes.",
    )


def _rated(prompts: PromptSet) -> bool:
    """Whether ballots that are already there hold ratings."""
    there = Comparison.objects.filter(prompt__set=prompts, campaign__purpose=Campaign.Purpose.TRAIN)
    return campaigns.evidence(there).exclude(ratings={}).exists()


def _answers(data: Mapping[str, Any]) -> Found:
    if data.get("labels") in FRESH:
        if data.get("samples_per_prompt", 2) < 2:
            yield "samples_per_prompt", "A comparison needs at least two answers to each prompt."
        if data.get("temperature") == 0:
            yield (
                "temperature",
                "At temperature 0 all answers to a prompt are the same; raise the temperature.",
            )
        yield from _selection(data)
    elif _selects(data):
        yield "selection", "Ballots that are already there say what was compared; leave it."
    if data.get("max_tokens", 0) >= settings.MAX_MODEL_LEN:
        yield (
            "max_tokens",
            f"The engine holds {settings.MAX_MODEL_LEN} tokens, prompt and answer together; "
            "leave room for the prompt.",
        )


def _selection(data: Mapping[str, Any]) -> Found:
    """Has the strategy something to choose among, and something to choose by?"""
    if not _selects(data):
        return
    needs = selection.find(data["selection"]).needs
    prompts = data.get("prompts_per_round", 0)
    some = 0 < data.get("prompts_compared", 0) < prompts and "contrast" not in needs
    if data.get("samples_per_prompt", 3) < 3 and not some:
        yield (
            "selection",
            "Of two answers there is nothing to select; draw three or more.",
        )
    if needs == {"members"} and not _doubts(data):
        yield (
            "selection",
            "Only a reward model of two members or more can disagree, in a round that trains "
            "one: make pairs or judge by it, and ask for more members.",
        )


def _selects(data: Mapping[str, Any]) -> bool:
    return bool(data.get("selection", "random") != "random")


def _doubts(data: Mapping[str, Any]) -> bool:
    """Whether rounds train a reward model that has members."""
    trained = Experiment.Pairs.REWARD_MODEL in (data.get("pairs_from"), data.get("judge"))
    return trained and data.get("reward_members", 1) > 1


def _pairs(data: Mapping[str, Any]) -> Found:
    by_model = data.get("pairs_from") == Experiment.Pairs.REWARD_MODEL
    if by_model and data.get("pair_rule") == "voted":
        yield (
            "pair_rule",
            "The rule “voted” knows only the pairs people compared. To pair all samples by the "
            "reward model's scores, choose another rule.",
        )
    compared = data.get("prompts_compared", 0)
    prompts = data.get("prompts_per_round", compared)
    if compared and data.get("labels") == Experiment.Labels.BALLOTS:
        yield (
            "prompts_compared",
            "Ballots that are already there are all read; nobody compares anything. Leave this at "
            "0.",
        )
    elif compared > prompts:
        yield (
            "prompts_compared",
            f"A round has {prompts} prompts; people cannot compare answers to {compared}.",
        )
    elif 0 < compared < prompts and not by_model:
        yield (
            "prompts_compared",
            "Prompts whose answers nobody compares train nothing when pairs come from votes. Take "
            "the pairs from the reward model, or let all prompts be compared (0).",
        )


def _weights(data: Mapping[str, Any]) -> Found:
    if data.get("reference") == Experiment.Reference.SOUP and not data.get("soup_with", "-"):
        yield "soup_with", "An averaged reference needs a second policy; choose one."
    if data.get("mode") == "full" and settings.ENGINE == "vllm":
        yield (
            "mode",
            "vLLM can load LoRA adapters while it runs, but no other full weights. Train a LoRA "
            "adapter, or run the transformers engine.",
        )


def _prompts(data: Mapping[str, Any], prompts: PromptSet) -> Found:
    train, heldout = prompts.train, prompts.heldout  # type: ignore[attr-defined]  # annotated
    if train < data.get("prompts_per_round", 0):
        yield (
            "prompts_per_round",
            f"{prompts.name} has {train} training prompts; a round cannot draw "
            f"{data['prompts_per_round']}.",
        )
    if heldout < data.get("heldout_prompts", 0):
        yield (
            "heldout_prompts",
            f"{prompts.name} has {heldout} held-out prompts; the evaluation cannot use "
            f"{data['heldout_prompts']}.",
        )
    if data.get("labels") == Experiment.Labels.BALLOTS:
        compared = Comparison.objects.filter(
            prompt__set=prompts, campaign__purpose=Campaign.Purpose.TRAIN
        )
        if not campaigns.evidence(compared).exists():
            yield (
                "labels",
                f"{prompts.name} has no ballots yet. Import some, or let people compare answers.",
            )
