"""The lines of the files in a run directory, as both sides of the seam read and write them."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

SCHEMA = 2  # bump when a field changes its meaning; a worker refuses what it does not know


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: str


class ResponseRow(TypedDict):
    """An answer as the trainer sees it. `token_ids` (end-of-turn included when the answer ended)
    are the sampled ones; None for imported text, which the trainer tokenizes and closes itself."""

    id: str
    text: str
    token_ids: list[int] | None
    finish_reason: str | None  # "stop", one of CUT_OFF, or None for imported text


class PromptRow(TypedDict):
    id: str
    messages: list[Message]


class CompletionRow(TypedDict):
    prompt: str
    draw: int  # 0..n-1, unique per prompt within the job
    text: str
    token_ids: list[int]
    finish_reason: str


class ItemRow(TypedDict):
    id: str
    messages: list[Message]
    response: ResponseRow


class ScoreRow(TypedDict):
    id: str
    reward: float | None
    members: list[float]  # each member's of an ensemble, on one scale; the reward of a single model
    spread: float | None  # their standard deviation (n - 1); None of fewer than two
    logps: dict[str, float]  # policy name -> sum of response-token log-probabilities, nats
    token_logps: dict[str, list[float]]  # the same by token, if the job asks for it
    pieces: NotRequired[list[str]]  # each response token's text, if the job asks for it
    tokens: int  # response tokens counted in logps


class ContrastRow(TypedDict):
    """Ids of two answers to one prompt."""

    first: str
    second: str


class FeatureRow(TypedDict):
    id: str
    features: list[float]  # as many for each answer of a job


class VoteRow(TypedDict):
    """One voter's ballot on a comparison."""

    rater: str
    ranking: list[list[int]]  # groups of equal responses by index, best first; [] where none
    strength: int | None  # 1 slightly, 2 clearly, 3 much better
    p: float | None  # P(0 beats 1), where the voter said how sure it was
    human: bool
    age: int  # in rounds; 0 is the newest
    ratings: NotRequired[list[tuple[int, str, float]]]  # (response, criterion, 0-1)


class ComparisonRow(TypedDict):
    """All that people said of one comparison: responses once, preferences between them by index.

    `votes` is what the preferences were counted from, for a job that counts them its own way
    (`align.labels`); `ratings` are judgements of single responses, from 0 to 1.
    """

    id: str
    messages: list[Message]
    responses: list[ResponseRow]
    preferences: list[tuple[int, int, float, float]]  # (i, j, P(i > j), weight)
    heldout: bool
    votes: NotRequired[list[VoteRow]]
    counts: NotRequired[float]  # what each vote counts, where it is not 1
    ratings: NotRequired[list[tuple[int, str, float, float]]]  # (response, criterion, 0-1, weight)


class ExampleRow(TypedDict):
    """One training example: responses by role ("chosen", "rejected", ...) and what is known of
    them. `p` is the soft label P(chosen > rejected); `facts` are figures that some losses read,
    such as "win.chosen" (see `align.algorithm`)."""

    id: str
    messages: list[Message]
    responses: dict[str, ResponseRow]
    p: float
    facts: dict[str, float]
    weight: float
