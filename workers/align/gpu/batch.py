"""Every running request of a model in one batch: each step gives every draw its next token.

Requests join and leave between steps. What a request is answered depends on nothing but itself:
layers keep rows apart bit for bit (`align.gpu.steady`, `align.gpu.reading`), and every choice has a
random number of its own. A prompt is read once for all its draws. Models that this cannot be said
of are refused by `why_alone`, and sampled by `align.gpu.generate`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from align.gpu import reading, steady
from align.gpu.answers import Answers, Draw, Sampling, next_tokens
from align.gpu.shelves import SHORTEST, Measures, Shelf, length_for

ROWS = 256  # draws that run at a time; more of a request wait, but not its first prompt's
PORTION = 1024  # prompt tokens read between two steps, or one prompt

Moved = dict[Answers, list[Draw]]


class _Prompt:
    """A prompt that has been read, and what is being answered to it."""

    def __init__(self, answers: Answers, index: int) -> None:
        self.answers = answers
        self.tokens = answers.prompts[index]
        n = answers.sampling.n
        self.draws = answers.draws[index * n : (index + 1) * n]
        self.rows: list[_Row | None] = [None] * n
        self.number = 0  # its row of the shelf

    @property
    def shelf(self) -> tuple[int, int]:
        return len(self.draws), length_for(len(self.tokens))


@dataclass(eq=False)
class _Row:
    """A draw with at least one token."""

    prompt: _Prompt
    draw: Draw
    shelf: int = SHORTEST
    number: int = 0  # its row of the shelf
    length: int = 0  # tokens of its own that have been read: all but the newest
    at: int = 0  # its place in this step


class Batch:
    """`model` is any of the same weights' callables; the adapter it should have is the caller's to
    switch on before each step."""

    def __init__(self, model: Any) -> None:
        config = model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None)
        self._measures = Measures(
            layers=config.num_hidden_layers,
            heads=heads,
            width=width or config.hidden_size // config.num_attention_heads,
            dtype=model.dtype,
            device=model.device,
        )
        self._vocabulary = int(config.vocab_size)
        self._model = model
        self._waiting: dict[Answers, deque[int]] = {}  # prompts of each that are not yet read
        self._live: dict[Answers, int] = {}  # rows of each
        self._own: dict[int, Shelf[_Row]] = {}
        self._read: dict[tuple[int, int], Shelf[_Prompt]] = {}

    @property
    def busy(self) -> bool:
        return bool(self._live)

    def add(self, answers: Answers) -> None:
        """Raises ValueError for a token that the model does not know."""
        strange = [t for one in answers.prompts for t in one if not 0 <= t < self._vocabulary]
        if strange:
            raise ValueError(f"the model has no token {strange[0]}")
        self._waiting[answers] = deque(range(len(answers.prompts)))
        self._live[answers] = 0

    @torch.inference_mode()
    def drop(self, answers: Answers) -> None:
        """Forget a request, done or not."""
        for shelf in list(self._own.values()):
            for row in [one for one in shelf.owners if one.prompt.answers is answers]:
                self._forget(row)
        self._waiting.pop(answers, None)
        self._live.pop(answers, None)

    @torch.inference_mode()
    def step(self) -> Moved:
        """A token for every row, then the first ones of prompts for which there is room."""
        moved: Moved = defaultdict(list)
        rows = [row for _, shelf in sorted(self._own.items()) for row in shelf.owners]
        if rows:
            self._settle(self._advance(), moved)
        if prompts := list(self._admit()):
            self._settle(self._open(prompts), moved)
        return moved

    def _admit(self) -> Iterator[_Prompt]:
        """Prompts to read now: of the requests with the fewest rows first, so that a long one does
        not keep short ones waiting."""
        tokens, rows = 0, sum(self._live.values())
        while self._waiting:
            answers = min(self._waiting, key=lambda one: self._live[one])
            index, n = self._waiting[answers][0], answers.sampling.n
            length = len(answers.prompts[index])
            full = rows + n > ROWS and self._live[answers] > 0
            if full or (tokens and tokens + length > PORTION):
                return
            self._waiting[answers].popleft()
            if not self._waiting[answers]:
                del self._waiting[answers]
            tokens, rows = tokens + length, rows + n
            self._live[answers] += n
            yield _Prompt(answers, index)

    def _open(self, prompts: Sequence[_Prompt]) -> tuple[list[_Row], Tensor]:
        """Read prompts; their draws as rows, and logits (rows, V) for the first tokens."""
        places = []
        for prompt in prompts:
            shelf = self._read.setdefault(
                prompt.shelf, Shelf[_Prompt](self._measures, prompt.shelf[1])
            )
            prompt.number = shelf.add(prompt)
            places.append((shelf, prompt.number))
            for k, draw in enumerate(prompt.draws):
                prompt.rows[k] = self._shelve(_Row(prompt, draw))
        lengths = [len(prompt.tokens) for prompt in prompts]
        ids = [token for prompt in prompts for token in prompt.tokens]
        positions = [at for length in lengths for at in range(length)]
        last = torch.tensor(lengths).cumsum(0) - 1
        logits = self._forward(ids, positions, reading.Prompts(places, lengths), last)  # (P, V)
        rows = [row for prompt in prompts for row in prompt.rows if row is not None]
        counts = torch.tensor([len(prompt.draws) for prompt in prompts])
        return rows, logits.repeat_interleave(counts, 0)

    def _advance(self) -> tuple[list[_Row], Tensor]:
        """Read every row's newest token; the rows, and logits (rows, V) for the next ones."""
        for row in [r for shelf in self._own.values() for r in shelf.owners]:
            if row.length == row.shelf:
                self._move(row)
        shelves = [shelf for _, shelf in sorted(self._own.items()) if shelf.owners]
        rows = [row for shelf in shelves for row in shelf.owners]
        for at, row in enumerate(rows):
            row.at = at
        ids = [row.draw.tokens[-1] for row in rows]
        positions = [len(row.prompt.tokens) + row.length for row in rows]
        own = [reading.Stored(one, [row.length + 1 for row in one.owners]) for one in shelves]
        logits = self._forward(ids, positions, self._plan(own, len(rows)), 0)
        for row in rows:
            row.length += 1
        return rows, logits[: len(rows)]

    def _plan(self, own: Sequence[reading.Stored], rows: int) -> reading.Step:
        prompts: list[tuple[reading.Stored, int]] = []
        gather: list[int] = []
        back = [0] * steady.padded(rows, self._measures.dtype)
        for (n, _), shelf in sorted(self._read.items()):
            if shelf.owners:
                lengths = [len(prompt.tokens) for prompt in shelf.owners]
                prompts.append((reading.Stored(shelf, lengths), n))
            for prompt in shelf.owners:
                for row in prompt.rows:
                    if row is not None:
                        back[row.at] = len(gather)
                    gather.append(row.at if row is not None else 0)
        return reading.Step(own, prompts, torch.tensor(gather), torch.tensor(back))

    def _forward(
        self,
        ids: list[int],
        positions: list[int],
        what: reading.Prompts | reading.Step,
        keep: Tensor | int,
    ) -> Tensor:
        """fp32 logits (T or those kept, V) of one packed row."""
        rest = [0] * (steady.padded(len(ids), self._measures.dtype) - len(ids))
        packed = torch.tensor([ids + rest, positions + rest])  # (2, T)
        logits: Tensor = self._model(
            input_ids=packed[:1],
            # A 4D mask is one that no model tries to make; who sees what is in the reading.
            attention_mask=packed.new_ones(1, 1, 1, 1),
            position_ids=packed[1:],
            use_cache=False,
            logits_to_keep=keep,
            reading=what,
        ).logits
        return logits[0].float()

    def _settle(self, step: tuple[list[_Row], Tensor], moved: Moved) -> None:
        """Choose tokens, rows of one rule at a time, and let go of the draws that have ended."""
        rows, logits = step
        rules: dict[Any, list[int]] = defaultdict(list)
        for at, row in enumerate(rows):
            rules[row.prompt.answers.sampling.rule].append(at)
        for places in rules.values():
            mine = logits if len(rules) == 1 else logits[torch.tensor(places)]
            chosen = [rows[at] for at in places]
            sampling = chosen[0].prompt.answers.sampling
            tokens, logprobs = next_tokens(mine, [row.draw for row in chosen], sampling)
            for row, token, logprob in zip(chosen, tokens, logprobs, strict=True):
                answers = row.prompt.answers
                answers.take(row.draw, token, logprob)
                moved[answers].append(row.draw)
                if row.draw.finish_reason is not None:
                    self._forget(row)

    def _shelve(self, row: _Row) -> _Row:
        shelf = self._own.setdefault(row.shelf, Shelf[_Row](self._measures, row.shelf))
        row.number = shelf.add(row)
        return row

    def _unshelve(self, row: _Row) -> None:
        follower = self._own[row.shelf].remove(row.number)
        if follower is not None:
            follower.number = row.number

    def _move(self, row: _Row) -> None:
        """To a shelf twice as long."""
        before, there = row.shelf, row.number
        row.shelf *= 2
        self._shelve(row)
        self._own[row.shelf].copy_row(row.number, self._own[before], there, row.length)
        after = row.shelf, row.number
        row.shelf, row.number = before, there
        self._unshelve(row)
        row.shelf, row.number = after

    def _forget(self, row: _Row) -> None:
        self._unshelve(row)
        prompt = row.prompt
        prompt.rows[row.draw.index] = None
        self._live[prompt.answers] -= 1
        if not any(prompt.rows):
            follower = self._read[prompt.shelf].remove(prompt.number)
            if follower is not None:
                follower.number = prompt.number
        if not self._live[prompt.answers] and prompt.answers not in self._waiting:
            del self._live[prompt.answers]


def prepare(model: Any, max_length: int, tokenizer: Any) -> str | None:
    """None, and the model attends by `align.gpu.reading` from here on; or else the reason why its
    requests must be computed alone, and it stays as it was.

    Nothing about an architecture is taken for granted: a few draws are compared with the plain
    model's log-probabilities. What so few cannot show is asked of its configuration.
    """
    config = model.config.get_text_config()
    before = model.config._attn_implementation
    if model.device.type != "cpu":
        return "its attention has kernels for CPUs only"
    kinds = {*(getattr(config, "layer_types", None) or ())}
    if odd := sorted(kinds - {"full_attention", "sliding_attention"}):
        return f"it has layers of {odd[0]}"
    if getattr(config, "attention_chunk_size", None):
        return "its attention goes by chunks"
    if (getattr(config, "sliding_window", None) or max_length) < max_length:
        return f"its attention sees no further than {config.sliding_window} tokens"
    if (reason := steady.unsteady(model)) is not None:
        return reason
    try:
        drawn = _trial(model, tokenizer)
        off = max(_off(model, prompt, draw) for prompt, draw in drawn)
        if off <= (0.3 if model.dtype == torch.bfloat16 else 1e-3):
            return None
        reason = f"a batch changes its log-probabilities by up to {off:.2g}"
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
    steady.undo(model)
    model.set_attn_implementation(before)
    return reason


def adopt(model: Any) -> None:
    """Set a model up for batches, of which its architecture is known to be capable."""
    model.set_attn_implementation(reading.NAME)
    steady.steady(model, model.get_output_embeddings())


def _trial(model: Any, tokenizer: Any) -> list[tuple[Sequence[int], Draw]]:
    """A few draws, after the model has been set up for batches."""
    asked = [[1, 3, 2], [2, 0, 1, 3, 1, 2, 2], [3]]
    sampling = Sampling(n=2, max_tokens=4, top_logprobs=0)
    answers = Answers(tokenizer, frozenset(), asked, sampling, max_length=64)
    adopt(model)
    batch = Batch(model)
    batch.add(answers)
    while batch.busy:
        batch.step()
    return [(asked[draw.prompt], draw) for draw in answers.draws]


@torch.inference_mode()
def _off(model: Any, prompt: Sequence[int], draw: Draw) -> float:
    """How far a draw's log-probabilities are from the plain model's."""
    ids = torch.tensor([[*prompt, *draw.tokens]])
    logits = model(ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
    logps = torch.log_softmax(logits.float(), -1)
    expected = logps.gather(-1, torch.tensor(draw.tokens)[:, None])[:, 0]
    return float((expected - torch.tensor([one.logprob for one in draw.logprobs])).abs().max())
