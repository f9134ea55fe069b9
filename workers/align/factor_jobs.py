"""Jobs of judges that ask no language model: measure factors of answers, fit weights to people's
votes, say how relevant an answer is to its question, and pool what several judges said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NotRequired, TypedDict

from align.rows import SCHEMA, Message

FACTORS = "factors.jsonl"  # FactorJob out: FactorRow
COMPARED = "compared.jsonl"  # FitJob in: ComparedRow
RELEVANCE = "relevance.jsonl"  # RelevanceJob out: RelevanceRow
TEXTS = "texts.jsonl"  # RelevanceJob in: TextRow
MEMBERS = "members.jsonl"  # PoolJob in: MembersRow
POOLED = "pooled.jsonl"  # PoolJob out: PooledRow


@dataclass(frozen=True, kw_only=True)
class FactorJob:
    """Measure every row of items.jsonl by the factors of `align.factors`: all of them."""

    kind: ClassVar[str] = "factors"
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class FitJob:
    """Weights of factors by which people's votes in compared.jsonl are likeliest: a logistic model
    of differences, without an intercept (`align.monotone`). `signs`: by factor 1 or -1 where more
    may only help or only harm, 0 where that is to be found. One prompt in five is held out, chosen
    by its hash; intervals resample whole prompts."""

    kind: ClassVar[str] = "fit"
    signs: Mapping[str, int] = field(default_factory=dict)
    ridge: float = 1.0
    resamples: int = 200
    seed: int = 0
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class RelevanceJob:
    """How relevant every text of texts.jsonl is to its question, or to its reference answer: the
    cosine of their embeddings, means of a model's last states over each text's tokens.

    `model` is a folder that transformers' AutoModel loads, without code of its own; `cache` a
    folder where embeddings are kept by model and text, for all jobs that name it.
    """

    kind: ClassVar[str] = "relevance"
    model: str
    cache: str | None = None
    max_length: int = 512
    batch_size: int = 32
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class PoolJob:
    """One soft label out of what several judges said of each pair (`align.pooling`). `smooth`: what
    the label gives to the other side where most judges are against their mean strength. `least`:
    judges that must have said something."""

    kind: ClassVar[str] = "pool"
    smooth: float = 0.2
    least: int = 2
    schema: int = SCHEMA


class FactorRow(TypedDict):
    id: str
    values: dict[str, float]


class ComparedRow(TypedDict):
    """Two answers to a prompt by their factors, and P(the first is better) as people voted."""

    prompt: str
    first: dict[str, float]
    second: dict[str, float]
    p: float
    weight: float


class TextRow(TypedDict):
    """`reference` where the question has an answer that is known to be right."""

    id: str
    messages: list[Message]
    text: str
    reference: NotRequired[str]


class RelevanceRow(TypedDict):
    """`relevance` is the cosine, of the reference where there is one, else of the question."""

    id: str
    relevance: float
    closed: bool


class MembersRow(TypedDict):
    """P(the first is better) by judge, None of one that gave no verdict."""

    id: str
    said: dict[str, float | None]


class PooledRow(TypedDict):
    """`p` is the label, None where fewer judges than asked for said anything; `strength` the mean
    of their log-odds, `spread` its standard deviation (n - 1), `contradicted` the judges whose word
    the others' is against."""

    id: str
    p: float | None
    strength: float
    spread: float
    contradicted: list[str]
