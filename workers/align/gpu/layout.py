"""Prompts with responses as one model's input: packed without padding, or padded.

Packed: all different prompts one after the other, then all different responses, as one row without
padding; positions go on from its prompt in each response, and `align.gpu.attention` shows it that
prompt and itself. A prompt that several rows share is computed once, a response that several rows
name as well. Padded: right-padded rows, as any model takes them. What is read afterwards (the
states that predict response tokens, and the last ones) comes in the same order from either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from align.gpu.attention import Spans
from align.gpu.data import Exchange


@dataclass(frozen=True)
class Layout:
    """S different sequences behind B rows, and their N response tokens, sequence by sequence.

    Positions are indices into the input's tokens, row-major. A layout that is made without `ends`
    leaves out each response's last token, whose state predicts nothing; `own` and `last` are then
    empty.
    """

    ids: Tensor  # (1, T) packed or (S, T) padded, int64
    mask: Tensor | None  # (S, T), 1 on real tokens; None where packed
    positions: Tensor | None  # (1, T) where packed
    spans: Spans | None  # where packed
    before: Tensor  # (N,) position whose state predicts the token
    targets: Tensor  # (N,) token ids
    own: Tensor  # (N,) position of the token itself
    last: Tensor  # (S,) position of the last token
    lengths: list[int]  # response tokens by sequence
    rows: Tensor  # (B,) the sequence of each row

    @property
    def asked(self) -> Tensor:
        """(S,) position of the last token of each sequence's prompt."""
        lengths = torch.tensor(self.lengths, device=self.before.device)
        return self.before.index_select(0, lengths.cumsum(0) - lengths)

    def split(self, tokens: Tensor) -> list[Tensor]:
        """(N, ...) -> what belongs to each row."""
        parts = torch.split(tokens, self.lengths)
        return [parts[index] for index in self.rows.tolist()]

    def sums(self, tokens: Tensor) -> Tensor:
        """(N, ...) -> (B, ...) fp64: a sum over each row's response tokens."""
        # A sum per sequence repeats bit for bit on a GPU as well, and whatever its company. In
        # fp32 a log-probability of -1,000 nats has steps of 6e-5, which margins inherit.
        each = torch.stack([part.double().sum(0) for part in torch.split(tokens, self.lengths)])
        return each.index_select(0, self.rows)


def pack(rows: Sequence[Exchange], place: torch.device, *, ends: bool = False) -> Layout:
    """One row without padding, prompts and responses once each."""
    groups: dict[tuple[int, ...], dict[tuple[int, ...], int]] = {}
    for row in rows:
        groups.setdefault(row.prompt, {})[row.response] = 0
    sequences = [(prompt, response) for prompt, found in groups.items() for response in found]
    which = {sequence: index for index, sequence in enumerate(sequences)}
    ids = [token for prompt in groups for token in prompt]
    positions = [at for prompt in groups for at in range(len(prompt))]
    heads, end = {}, 0  # position of each prompt's last token
    for prompt in groups:
        end += len(prompt)
        heads[prompt] = end - 1
    reads: list[tuple[int, int]] = []  # (position of the last prompt token, of the first after)
    for prompt, response in sequences:
        inputs = response if ends else response[:-1]
        reads.append((heads[prompt], len(ids)))
        ids += inputs
        positions += range(len(prompt), len(prompt) + len(inputs))
    spans = Spans(
        tuple(len(prompt) for prompt in groups),
        tuple(tuple(len(r) - (not ends) for r in found) for found in groups.values()),
        max(len(row) for row in rows),
        place,
    )
    return _layout(
        torch.tensor([ids], device=place),
        None,
        torch.tensor([positions], device=place),
        spans,
        [response for _, response in sequences],
        reads,
        [which[row.prompt, row.response] for row in rows],
        ends,
    )


def pad(rows: Sequence[Exchange], place: torch.device, *, ends: bool = False) -> Layout:
    """Right-padded rows. Padding is masked, so its id never matters."""
    inputs = [(row.prompt + row.response)[: None if ends else -1] for row in rows]
    width = max(len(row) for row in inputs)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for index, row in enumerate(inputs):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    starts = [index * width + len(row.prompt) for index, row in enumerate(rows)]
    return _layout(
        ids.to(place),
        mask.to(place),
        None,
        None,
        [row.response for row in rows],
        [(start - 1, start) for start in starts],
        range(len(rows)),
        ends,
    )


def _layout(
    ids: Tensor,
    mask: Tensor | None,
    positions: Tensor | None,
    spans: Spans | None,
    responses: Sequence[tuple[int, ...]],
    reads: Sequence[tuple[int, int]],
    rows: Sequence[int],
    ends: bool,
) -> Layout:
    before: list[int] = []
    targets: list[int] = []
    own: list[int] = []
    last: list[int] = []
    for (head, start), response in zip(reads, responses, strict=True):
        targets += response
        before += [head, *range(start, start + len(response) - 1)]
        if ends:
            own += range(start, start + len(response))
            last.append(start + len(response) - 1)

    def indices(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=ids.device)

    return Layout(
        ids, mask, positions, spans, indices(before), indices(targets), indices(own),
        indices(last), [len(response) for response in responses], indices(rows),
    )  # fmt: skip
