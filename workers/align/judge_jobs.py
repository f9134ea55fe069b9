"""Jobs that judge answers without training or loading a model: over HTTP, or by a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NotRequired, TypedDict

from align.rows import SCHEMA, Message

PAIRS = "pairs.jsonl"  # JudgeJob, CompareJob in: PairRow
VERDICTS = "verdicts.jsonl"  # both out: VerdictRow; pairs that a cap left unasked have none
QUESTIONS = "questions.jsonl"  # AskJob in: QuestionRow
CALLS = "calls.jsonl"  # WriteJob in: CallRow
WRITTEN = "written.jsonl"  # WriteJob out: WrittenRow
REPLIES = "replies.jsonl"  # AskJob out: ReplyRow
PROGRAMS = "programs.jsonl"  # ProgramJob in: ProgramRow
PROGRAM_ITEMS = "items.jsonl"  # ProgramJob in: ProgramItemRow
PROGRAM_SCORES = "program_scores.jsonl"  # ProgramJob out: ProgramScoreRow
PROGRAMS_CHECKED = "programs_checked.jsonl"  # ProgramJob out: ProgramCheckedRow, one a program

# Of a program's ladder, in order; "scoring" is where a program falls that is only used.
RUNGS = ("static", "smoke", "scoring", "determinism", "pool", "speed")

UNASKED = "not scored by the rubric: a cap was met"  # the error of such an answer

# In the workers' environment: "rlimits" runs programs without bubblewrap (`align.walls`).
SANDBOX = "PLUMBLINE_SANDBOX"

# In the workers' environment: host:port, with commas between, that may be asked though private.
PRIVATE_ENDPOINTS = "PLUMBLINE_PRIVATE_ENDPOINTS"
KEY_PREFIX = "PLUMBLINE_ENDPOINT_"  # of the only environment variables that may hold a key

Mode = Literal["auto", "tokens", "schema", "marker"]
Labels = Literal["letters", "random"]
Choose = Literal["one", "all"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Whom a job asks: an OpenAI-compatible endpoint. `url` is up to and with /v1; prices are
    dollars a million tokens; caps of 0 are none. `own`: it is our own engine, the only one at a
    private address that needs no permission. `limit` and `own_temperature`: how it wants to be
    asked (`align.manners`)."""

    url: str
    model: str
    key_variable: str = ""
    price_in: float = 0.0
    price_out: float = 0.0
    max_dollars: float = 0.0
    max_tokens: int = 0
    concurrency: int = 8
    own: bool = False
    limit: str = "max_tokens"
    own_temperature: bool = False


@dataclass(frozen=True, kw_only=True)
class Held:
    """A principle that answers are held against; weights of a job's principles need not sum to
    1."""

    id: str
    text: str
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class JudgeJob:
    """Ask which of two answers is better, of every row of pairs.jsonl, in both orders.

    `system` and `question` are the prompt (`align.judging` says what is filled in), `guidance` the
    guidelines or criteria it quotes. With `principles` each question is about one of them: one a
    pair, drawn by weight, or all, whose log-odds are averaged by weight. `mode`: how a verdict is
    read; "auto" takes the probabilities of its token where the endpoint gives them, and JSON where
    it does not. `slight` and `clear`: P(better) of the two strengths of a verdict in words.
    `temperature` 0 asks for the likeliest words; `seed` and the pair decide nonces and labels, so a
    rerun asks exactly the same.
    """

    kind: ClassVar[str] = "judge"
    asked: Asked
    system: str
    question: str
    guidance: str = ""
    principles: tuple[Held, ...] = ()
    choose: Choose = "one"
    mode: Mode = "auto"
    labels: Labels = "letters"
    slight: float = 0.75
    clear: float = 0.95
    least_mass: float = 0.05
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int = 0
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        found = tuple(Held(**one) if isinstance(one, Mapping) else one for one in self.principles)
        object.__setattr__(self, "principles", found)


@dataclass(frozen=True, kw_only=True)
class AskJob:
    """Ask every row of questions.jsonl, and what is to follow on each answer, turn by turn."""

    kind: ClassVar[str] = "ask"
    asked: Asked
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int = 0
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class CompareJob:
    """Which of two answers a pairwise generative reward model prefers, of every row of pairs.jsonl,
    in both orders (`align.gpu.compare`)."""

    kind: ClassVar[str] = "compare"
    reward_model: str  # a committed weights folder of a RewardJob
    max_length: int = 1024
    schema: int = SCHEMA


@dataclass(frozen=True, kw_only=True)
class WriteJob:
    """Ask a writer for a reward program for every row of calls.jsonl (`align.writer`). asked: a
    chat endpoint; None: the seeded writer, which needs no model. rubric: whether programs may have
    one."""

    kind: ClassVar[str] = "write"
    asked: Asked | None = None
    rubric: bool = False
    temperature: float = 1.0
    max_tokens: int = 4096
    schema: int = SCHEMA


class CallRow(TypedDict):
    """`wants`: a program, or one sentence on how `good[0]` became `good[1]`. `good` and `bad` are
    programs as JSON; a model reads of them what `messages` say."""

    id: str
    messages: list[Message]
    emphasis: str
    good: list[dict[str, Any]]
    bad: dict[str, Any] | None
    seed: int
    wants: Literal["program", "sentence"]


class WrittenRow(TypedDict):
    """`reply`: as it came. `program`: None where there is none in it, and `problem` says why.
    `error`: why there is no reply."""

    id: str
    reply: str
    program: dict[str, Any] | None
    problem: str
    tokens_in: int
    tokens_out: int
    error: str


@dataclass(frozen=True, kw_only=True)
class ProgramJob:
    """What every program of programs.jsonl says of every answer of items.jsonl, and, with `check`,
    how far up its ladder it gets (`align.program_job`).

    asked: who scores the rubrics; None where no program has one. cache: a folder where these scores
    are kept for all jobs that name it. seconds: what one call of a program may take.
    """

    kind: ClassVar[str] = "programs"
    asked: Asked | None = None
    cache: str | None = None
    check: bool = True
    seconds: float = 2.0
    schema: int = SCHEMA


class PairRow(TypedDict):
    """Two answers to one conversation."""

    id: str
    messages: list[Message]
    first: str
    second: str


class VerdictRow(TypedDict):
    """`q_first` is P(the answer shown first is picked) with `first` shown first, `q_second` the
    same with `second` shown first. Both are None where one order gave no verdict; `error` says
    why."""

    id: str
    q_first: float | None
    q_second: float | None
    detail: dict[str, Any]
    tokens_in: int
    tokens_out: int
    error: str


class QuestionRow(TypedDict):
    """`then`: what is said to the first answer, to the answer to that, and so on. `shape`: a JSON
    schema for the last answer."""

    id: str
    messages: list[Message]
    then: NotRequired[list[str]]
    shape: NotRequired[dict[str, Any]]


class ReplyRow(TypedDict):
    """`texts`: the answers in order; [] where there is an `error`."""

    id: str
    texts: list[str]
    tokens_in: int
    tokens_out: int
    error: str


class ProgramRow(TypedDict):
    id: str
    program: dict[str, Any]  # `align.programs.to_json`


class ProgramItemRow(TypedDict):
    """An answer; items of one prompt have equal `messages`."""

    id: str
    messages: list[Message]
    text: str
    tokens: int


class ProgramScoreRow(TypedDict):
    """What a program said of an answer: a total, or None and the error that it ended with."""

    program: str
    item: str
    total: float | None
    components: dict[str, float]
    judge: dict[str, int | None]  # the rubric's scores, 1 to 5; None where the judge gave none
    error: str


class ProgramCheckedRow(TypedDict):
    """How far a program got. `rung`: where it fell, or "" of a valid one; `problems`: why, in
    sentences. An invalid program may have scores, but none that anything should be built on."""

    program: str
    valid: bool
    problems: list[str]
    rung: str  # one of RUNGS, or ""
    milliseconds: float  # of one call, the median
