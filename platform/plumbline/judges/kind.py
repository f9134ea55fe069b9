"""What a kind of judge is: its knobs, what it needs, the job that asks it, and how to read that.

A subclass is one file in `judges/kinds/`. Its fields are its knobs, declared as an algorithm's are,
so the form, its help, its checks and the stored JSON derive from them. What a judge's word depends
on is frozen into a version's settings, and a job is made of these alone.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Self

from django.conf import settings

from align import discovery, jobs
from align.judge_jobs import PAIRS, VERDICTS, Asked, PairRow
from align.knobs import Declared
from plumbline.collect.models import Completion
from plumbline.fleet.models import Job
from plumbline.judges.models import Constitution, Endpoint, JudgeVersion
from plumbline.policies.models import RewardModel

Pair = tuple[Completion, Completion]
Inputs = Mapping[str, Iterable[Mapping[str, Any]]]

ENDPOINT, CONSTITUTION = "endpoint", "constitution"
REWARD_MODEL, PROGRAM = "reward_model", "program"


@dataclass(frozen=True)
class Parts:
    """What a version is made from beside its knobs; a kind takes those it `needs`."""

    endpoint: Endpoint | None = None
    constitution: Constitution | None = None
    reward_model: RewardModel | None = None
    program: Mapping[str, Any] | None = None  # `align.programs.to_json`
    guidance: str = ""  # guidelines or criteria to judge by


@dataclass(frozen=True)
class Said:
    """What a version said of two answers, in the order in which the pair was asked."""

    first: uuid.UUID
    second: uuid.UUID
    q_first: float | None
    q_second: float | None
    detail: dict[str, Any] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Kind(Declared):
    """Base of all kinds.

    Attributes:
        what: one sentence for the page on which a kind is chosen.
        needs: which of "endpoint", "constitution", "reward_model" and "program" a judge has.
        page: the name of the URL where such a judge is made, of one that no form of knobs can make.
        guided: whether it reads guidelines or criteria.
    """

    what: ClassVar[str] = ""
    needs: ClassVar[frozenset[str]] = frozenset()
    page: ClassVar[str] = ""
    guided: ClassVar[bool] = False

    @classmethod
    def of(cls, version: JudgeVersion) -> Self:
        """The kind with a version's knobs."""
        return cls.build(version.settings["knobs"])

    def freeze(self, parts: Parts) -> dict[str, Any]:
        """A version's settings, JSON. Raises ValueError with a sentence for what is missing."""
        missing = sorted(name for name in self.needs if not getattr(parts, name))
        if missing:
            words = " and ".join(name.replace("_", " ") for name in missing)
            raise ValueError(f"A judge of this kind needs a {words}.")
        frozen: dict[str, Any] = {"knobs": asdict(self)}
        if ENDPOINT in self.needs and parts.endpoint:
            frozen["endpoint"] = {"url": parts.endpoint.url, "model": parts.endpoint.model}
        if CONSTITUTION in self.needs and parts.constitution:
            frozen["principles"] = principles(parts.constitution)
            frozen["constitution"] = parts.constitution.pk
        if REWARD_MODEL in self.needs and parts.reward_model:
            model = parts.reward_model
            frozen["reward_model"] = {"name": model.name, "sha256": model.sha256}
        if PROGRAM in self.needs and parts.program:
            frozen["program"] = dict(parts.program)
        if self.guided and parts.guidance.strip():
            frozen["guidance"] = parts.guidance.strip()
        return frozen

    def job(self, version: JudgeVersion, pairs: Sequence[Pair]) -> tuple[jobs.Job, Inputs]:
        """The job that asks about pairs, and its input files."""
        raise NotImplementedError

    def said(self, version: JudgeVersion, job: Job, pairs: Sequence[Pair]) -> Iterator[Said]:
        """What a finished job says of the pairs it was made for; nothing of those it left out."""
        return by_pair(job, pairs)


def principles(constitution: Constitution) -> list[dict[str, Any]]:
    """The active principles, weights summing to 1. Raises ValueError where none is active."""
    active = list(constitution.principles.filter(active=True).order_by("pk"))
    if not active:
        raise ValueError(f"{constitution} has no active principle.")
    total = sum(one.weight for one in active)
    return [{"id": str(one.pk), "text": one.text, "weight": one.weight / total} for one in active]


def asked(version: JudgeVersion) -> Asked:
    """Whom a version's job asks: the model that the version froze, at the endpoint's present key
    and prices. Raises ValueError where the endpoint is retired."""
    endpoint, frozen = version.endpoint, version.settings["endpoint"]
    assert endpoint is not None
    if endpoint.retired_at is not None:
        raise ValueError(f"{endpoint}, which {version} asks, is retired.")
    return whom(endpoint, frozen["url"], frozen["model"])


def whom(endpoint: Endpoint, url: str, model: str) -> Asked:
    """A model behind an address, by an endpoint's key and prices. Our own engine is known by an
    empty address."""
    own = not url
    urls = [f"{one.strip().rstrip('/')}/v1" for one in settings.ENGINE_URL.split(",")]
    return Asked(
        url=",".join(urls) if own else url,
        model=model,
        key_variable=endpoint.key_variable,
        price_in=float(endpoint.price_in),
        price_out=float(endpoint.price_out),
        own=own,
        limit=endpoint.limit,
        own_temperature=endpoint.own_temperature,
    )


def key(pair: Pair) -> str:
    """What a pair is called in a run directory."""
    return f"{pair[0].pk}:{pair[1].pk}"


def pair_rows(pairs: Sequence[Pair]) -> Iterator[PairRow]:
    for pair in pairs:
        yield {
            "id": key(pair),
            "messages": pair[0].prompt.messages,
            "first": pair[0].text,
            "second": pair[1].text,
        }


def by_pair(job: Job, pairs: Sequence[Pair]) -> Iterator[Said]:
    """The verdicts of a job that read `pair_rows`."""
    known = {key(pair): pair for pair in pairs}
    for row in jobs.read_rows(job.folder / VERDICTS):
        if (pair := known.get(row["id"])) is not None:
            yield Said(
                pair[0].pk,
                pair[1].pk,
                row["q_first"],
                row["q_second"],
                row["detail"],
                row["tokens_in"],
                row["tokens_out"],
                row["error"],
            )


def pair_inputs(pairs: Sequence[Pair]) -> Inputs:
    return {PAIRS: pair_rows(pairs)}


def discover() -> dict[str, type[Kind]]:
    """Kinds by file name."""
    return discovery.discover("plumbline.judges.kinds", Kind)


def get(name: str) -> type[Kind]:
    """The class behind a name. Raises ValueError listing what there is."""
    return discovery.find("plumbline.judges.kinds", Kind, name)


def of(version: JudgeVersion) -> Kind:
    """A version's kind with its knobs. Raises ValueError where its file is gone."""
    return get(version.judge.kind).of(version)
