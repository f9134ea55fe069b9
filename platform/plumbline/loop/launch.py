"""What a researcher decides before the first round: the launch form's fields, told in sentences.

The form itself (`loop/forms.py`) adds the knobs of the algorithm and what the project offers.
"""

from __future__ import annotations

from django import forms

from plumbline.loop.fields import number, real
from plumbline.loop.gate_form import GATES, GateSettings
from plumbline.loop.models import Experiment
from plumbline.loop.rewarding import RewardSettings


class Settings(RewardSettings, GateSettings):
    """The fields, in the groups and the order that people see."""

    name = forms.CharField(
        label="Name",
        max_length=80,
        help_text="What is tried, in a few words.",
        error_messages={"required": "The experiment needs a name."},
    )
    algorithm = forms.ChoiceField(label="Algorithm")
    start = forms.ChoiceField(
        label="Start from",
        required=False,
        help_text="The policy that answers in round 1. Later rounds start from the best so far.",
    )
    prompt_set = forms.ChoiceField(
        label="Prompt set",
        help_text="Rounds draw training prompts from it; held-out prompts are for evaluation only.",
        error_messages={"required": "Choose a prompt set."},
    )
    rounds_wanted = number(
        "Rounds", "How many rounds follow each other by themselves.", least=1, most=100
    )
    seed = number(
        "Seed", "The same seed draws the same prompts and answers.", least=0, most=2**31 - 1
    )

    prompts_per_round = number(
        "Prompts a round", "Those the experiment has seen least often.", least=1, most=100_000
    )
    samples_per_prompt = number(
        "Answers to each prompt", "Drawn from the round's policy.", least=1, most=64
    )
    temperature = real("Temperature", "Higher draws more varied answers.", least=0, most=2)
    other_temperature = real(
        "Other temperature",
        "Half of the answers are drawn at this one: people then say whether what the policy is "
        "surer of is better. Empty draws all alike.",
        least=0,
        most=2,
        required=False,
    )
    max_tokens = number("Longest answer", "Longer answers are cut.", least=1, most=32_768)

    labels = forms.ChoiceField(
        label="Who decides",
        choices=Experiment.Labels.choices,
        help_text="Ballots a prompt set already has need no new votes: an offline round. A judge's "
        "word is calibrated, and people see a random slice of what it labels.",
    )
    labellers = forms.MultipleChoiceField(
        label="Judges that label",
        required=False,
        help_text="Where AI judges label; several are mixed, by weights fitted to people's votes.",
    )
    slice_percent = number(
        "Random slice, in percent",
        "Of the comparisons that judges label, people see so many, drawn blindly: what they say "
        "keeps the judges honest.",
        least=0,
        most=100,
        required=False,
    )
    judge_errors = number(
        "Errors of the judges, in percent, at most",
        "Where judges and people share the work: how often people may contradict what a judge is "
        "believed on. The confidence from which that holds is taken from people's votes.",
        least=1,
        most=50,
        required=False,
    )
    judge_dollars = real(
        "Dollars a judge and round, at most",
        "What a judge that met its cap has not judged goes to people. 0 is no cap.",
        least=0,
        most=1e6,
        required=False,
    )
    votes_at_most = number(
        "People's votes a judged round, at most",
        "The most uncertain comparisons first; what is left goes to nobody. 0 is no cap.",
        least=0,
        most=1_000_000,
        required=False,
    )
    asked_as = forms.ChoiceField(
        label="People are asked as in",
        required=False,
        help_text="Guidelines, questions, criteria, reasons, tests and pay are taken over from "
        "this campaign. Each round's campaign can be changed while it runs; the next one follows.",
    )
    prompts_compared = number(
        "Prompts compared",
        "Of how many prompts people compare answers; the reward model judges the others' alone. "
        "0 is all.",
        least=0,
        most=100_000,
    )
    selection = forms.ChoiceField(
        label="Answers compared",
        help_text="Which two of a prompt's answers people see, and, where they cannot compare "
        "answers to all prompts, which prompts.",
    )
    stale_days = number(
        "Asked for, in days",
        "Answers of a policy that has moved on teach less: people are not asked about them any "
        "more after so long. 0 is for good.",
        least=0,
        most=3650,
    )
    overlap = number("Votes on each comparison", "By different people.", least=1, most=20)
    deadline_minutes = number(
        "Deadline in minutes", "0 waits for every vote.", least=0, most=60 * 24 * 30
    )
    annotator_percent = number(
        "One person's votes, in percent, at most",
        "Of those that a round learns from: of who gave more, some are left out, by chance. With "
        "20, no single account decides what is learned; it takes five people or more. 100 is no "
        "cap.",
        least=1,
        most=100,
        required=False,
    )
    pairs_from = forms.ChoiceField(label="Training pairs from", choices=Experiment.Pairs.choices)
    pair_rule = forms.ChoiceField(
        label="Pair rule", help_text="How one prompt's judged answers become training pairs."
    )
    length_penalty = real(
        "Length penalty",
        "Taken off an answer's score for each token when pairs are chosen; 0 is off.",
        least=0,
        most=1,
    )

    reference = forms.ChoiceField(
        label="Reference",
        choices=Experiment.Reference.choices,
        help_text="The frozen policy that the loss compares with.",
    )
    soup_with = forms.ChoiceField(
        label="Average with",
        required=False,
        help_text="The other policy of an averaged reference, in weight space; else unused.",
    )
    soup_share = real("Its share", "Of an averaged reference.", least=0, most=1)
    replay = forms.ChoiceField(
        label="Replay",
        choices=Experiment.Replay.choices,
        help_text="Which earlier rounds' examples are trained on again.",
    )
    replay_share = real(
        "Replayed share",
        "With a share: from the last round, at most this part of the new examples' number.",
        least=0,
        most=10,
    )
    replay_decay = real(
        "Replay decay",
        "Each round further back gives this much of the next one's.",
        least=0,
        most=1,
    )
    anchor = real(
        "Anchor",
        "Weight of the chosen answers' cross-entropy per token, beside the algorithm's loss "
        "(arXiv:2404.19733 takes 1). It keeps what is chosen from becoming unlikely; 0 is off.",
        least=0,
        most=1000,
    )
    warm_start = forms.BooleanField(
        label="Warm start",
        required=False,
        help_text="Train on from the round's policy. Off, every round starts from the first one.",
    )
    candidates = number(
        "Checkpoints an epoch",
        "To choose the best from, by votes kept apart for that: a quarter of the prompts'. "
        "0 takes the last one and keeps nothing apart.",
        least=0,
        most=20,
    )
    mode = forms.ChoiceField(
        label="Weights",
        choices=[("lora", "LoRA adapter"), ("full", "All weights")],
        help_text="An adapter is small and is loaded while the engine runs.",
    )
    rank = number("LoRA rank", "Size of the adapter; unused with all weights.", least=1, most=512)
    learning_rate = real("Learning rate", "Peak of AdamW's; warm-up, then cosine.", least=0, most=1)
    epochs = number("Epochs", "Passes over a round's pairs.", least=1, most=100)
    batch_size = number("Batch size", "Pairs in an optimiser step.", least=1, most=4096)
    processes = number(
        "Processes",
        "That share a round's training, each on a GPU of its own: each holds a part of what is "
        "trained and computes a part of every batch. 0 takes all GPUs that are free. No result "
        "changes by more than rounding.",
        least=0,
        most=64,
    )
    precision = forms.ChoiceField(
        label="Precision",
        choices=[("auto", "Automatic"), ("fp32", "fp32"), ("bf16", "bf16")],
        help_text="Of matrix products; what is trained and all sums stay fp32. Automatic is bf16 "
        "on a GPU and fp32 on a CPU, where bf16 is faster from some million parameters on and "
        "costs digits.",
    )
    activation_checkpointing = forms.BooleanField(
        label="Activation checkpointing",
        required=False,
        help_text="Compute activations a second time instead of keeping them: a fraction of the "
        "memory for about a third more time, and the same result.",
    )
    micro_batch_tokens = number(
        "Tokens at a time",
        "How many of a step's tokens are in memory at once; prompts that pairs share count once. "
        "It changes no result. 0 takes 16 pairs at a time, and fewer where memory runs out.",
        least=0,
        most=100_000_000,
    )
    heldout_prompts = number(
        "Held-out prompts", "Answered by the candidate and its opponents.", least=1, most=100_000
    )
    judge = forms.ChoiceField(
        label="Judged by",
        choices=Experiment.Judge.choices,
        help_text="Which of two answers is better: by a reward model's scores, blind by people, or "
        "by a judge of another family than those that label.",
    )
    evaluator = forms.ChoiceField(
        label="Judge that evaluates", required=False, help_text="Where an AI judge does."
    )
    face_off_percent = number(
        "People judge, in percent",
        "Of an AI judge's face-offs with the current policy. From ten votes on the win rate is "
        "corrected by them, with an honest interval.",
        least=0,
        most=100,
        required=False,
    )
    gate_win_rate = real(
        "Win rate to clear",
        "The whole 95 % interval against the current policy must lie above it.",
        least=0,
        most=1,
    )
    gate_kl = real(
        "KL to base, at most",
        "Nats a sequence: the budget of checkpoints, and what the gate allows.",
        least=0,
        most=1e6,
    )
    autopilot = forms.BooleanField(
        label="Promote by itself",
        required=False,
        help_text="What passes the gate. Off, each round waits for you. An autopilot's budget and "
        "stop rules are set on the experiment's page.",
    )

    FOLDED = ("Speed and memory",)  # groups that are opened by those who look for them
    GROUPS = (
        (
            "Experiment",
            "What is tried, on which prompts and from which policy.",
            ("name", "prompt_set", "start", "rounds_wanted", "seed"),
        ),
        (
            "Sampling",
            "Fresh answers from the policy the round starts with.",
            (
                "prompts_per_round",
                "samples_per_prompt",
                "temperature",
                "other_temperature",
                "max_tokens",
            ),
        ),
        (
            "Labels",
            "Who compares the answers, and how votes become training pairs.",
            (
                "labels",
                "labellers",
                "slice_percent",
                "judge_errors",
                "judge_dollars",
                "votes_at_most",
                "asked_as",
                "prompts_compared",
                "selection",
                "stale_days",
                "overlap",
                "deadline_minutes",
                "annotator_percent",
                "pairs_from",
                "pair_rule",
                "length_penalty",
            ),
        ),
        (
            "Training",
            "What is trained, and how fast.",
            (
                "mode",
                "rank",
                "reference",
                "soup_with",
                "soup_share",
                "anchor",
                "warm_start",
                "learning_rate",
                "epochs",
                "batch_size",
                "replay",
                "replay_share",
                "replay_decay",
                "candidates",
            ),
        ),
        RewardSettings.REWARD_GROUP,
        (
            "Speed and memory",
            "How training is computed, of policies and of reward models that are trained copies.",
            ("precision", "activation_checkpointing", "micro_batch_tokens", "processes"),
        ),
        (
            "Evaluation and gate",
            "What a candidate must show before it may be promoted.",
            (
                "heldout_prompts",
                "judge",
                "evaluator",
                "face_off_percent",
                "gate_win_rate",
                "gate_kl",
                *GATES,
                "autopilot",
            ),
        ),
    )
