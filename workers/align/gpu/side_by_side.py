"""Two answers in one prompt, and the token that says which is better.

Both orders of a pair are asked about. For a whole batch a pair is four sequences: each order's
question, followed by either label. As a reward an answer gets its mean log-odds against the other
answers to its prompt that are scored with it, so these are never scored apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from align.gpu import model
from align.gpu.comparisons import Comparison
from align.gpu.data import Encoder, Exchange
from align.gpu.logps import sequence_logps
from align.gpu.panel import Marks
from align.objective import Objective, Said

LABELS = ("A", "B")
QUESTION = """Two answers to the same conversation are compared.

[Conversation]
{conversation}

[Answer A]
{first}

[Answer B]
{second}

Which answer is better? Say A or B."""
NEXT = "\n"  # between turns
RIVALS = 8  # answers to one prompt that each is compared with at most, the next ones in order


@dataclass
class SideBySide:
    """A language model that names the better of two answers."""

    policy: model.Policy
    objective: Objective
    max_length: int
    whole_prompts = True  # all answers to a prompt are scored in one batch

    def __post_init__(self) -> None:
        self.encoder = Encoder(self.policy.tokenizer)
        self.labels = [_label(self.encoder, text) for text in LABELS]

    @property
    def heads(self) -> tuple[nn.Module, ...]:
        return ()

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.policy.parameters()

    def save(self, folder: Path, state: dict[str, Tensor] | None = None) -> None:
        model.save(self.policy, folder, state)

    def values(self, sequences: Sequence[Exchange]) -> Tensor:
        """What `asked` made of P pairs -> log-probabilities of both labels, (2 P, 2), fp32."""
        return sequence_logps(self.policy, sequences).float().view(-1, 2)

    def asked(self, first: Exchange, second: Exchange) -> list[Exchange] | None:
        """The four sequences of a pair; None where it does not fit."""
        found = []
        for a, b in ((first, second), (second, first)):
            answers = {"first": self._text(a.response), "second": self._text(b.response)}
            ids = self._ids(conversation=self._conversation(a.prompt), **answers)
            # The conversation loses its beginning, never an answer its end. Markers are several
            # tokens when they are text, so what is one token less there may be more than one here.
            cut = 0
            while len(ids) >= self.max_length and cut < len(a.prompt):
                cut += len(ids) + 1 - self.max_length
                ids = self._ids(conversation=self._conversation(a.prompt, cut), **answers)
            if len(ids) >= self.max_length:
                return None
            found += [Exchange(ids, (label,)) for label in self.labels]
        return found

    def rewritten(self, compared: Sequence[Comparison]) -> tuple[list[Comparison], int]:
        """Comparisons whose sequences are those of their pairs, and how many do not fit."""
        found: list[Comparison] = []
        for one in compared:
            pairs = [self.asked(one.sequences[i], one.sequences[j]) for i, j, *_ in one.preferences]
            if all(pairs):
                sequences = [row for pair in pairs if pair for row in pair]
                found.append(replace(one, sequences=sequences))
        return found, len(compared) - len(found)

    def marks(self, rows: Sequence[Exchange]) -> Marks:
        """The reward of each row's response, (B,), in fp32. Pairs that do not fit are even."""
        prompts: dict[tuple[int, ...], list[int]] = {}
        for at, row in enumerate(rows):
            prompts.setdefault(row.prompt, []).append(at)
        total = torch.zeros(len(rows), device=self.policy.device)
        met = torch.zeros(len(rows), device=self.policy.device)
        for group in prompts.values():
            for i, j in _meetings(group):
                asked = self.asked(rows[i], rows[j])
                met[i] += 1
                met[j] += 1
                if asked is not None:
                    ahead = self.objective.logit(self.values(asked), met, met)[0]
                    total[i] += ahead
                    total[j] -= ahead
        reward = total / met.clamp(min=1)
        return Marks(reward, reward[:, None])

    def scores(self, rows: Sequence[Exchange]) -> Tensor:
        return self.marks(rows).reward

    def read(self, sequences: Sequence[Exchange], said: Said) -> Tensor:
        """The values (1, 2 P, 2) of a batch, as its one member has them."""
        return self.values(sequences)[None]

    def _conversation(self, ids: Sequence[int], cut: int = 0) -> str:
        """A prompt as text, less its first `cut` tokens. Where it has several turns, the control
        tokens that tell them apart are spelled out, and as text, so that they open no turn here."""
        if sum(token == self.encoder.end for token in ids) < 2:
            return self._text(ids[cut:])
        tokenizer, parts = self.policy.tokenizer, []
        special = set(tokenizer.all_special_ids)
        for control, some in groupby(ids[cut:], special.__contains__):
            if control:
                names = cast(list[str], tokenizer.convert_ids_to_tokens(list(some)))
                parts += [NEXT if name == self.encoder.end_text else marker(name) for name in names]
            else:
                parts.append(str(tokenizer.decode(list(some))))
        return "".join(parts).strip()

    def _text(self, ids: Sequence[int]) -> str:
        text = self.policy.tokenizer.decode(list(ids), skip_special_tokens=True)
        return str(text).strip()

    def _ids(self, *, conversation: str, first: str, second: str) -> tuple[int, ...]:
        asked = QUESTION.format(conversation=conversation, first=first, second=second)
        return tuple(self.encoder.prompt([{"role": "user", "content": asked}]))


def marker(name: str) -> str:
    """A control token's name as plain text."""
    return f"[{name.strip('<|>')}] "


def _label(encoder: Encoder, text: str) -> int:
    ids = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ValueError(f"the tokenizer has no single token for the label {text!r}")
    return int(ids[0])


def _meetings(group: Sequence[int]) -> list[tuple[int, int]]:
    """Who is compared with whom: all with all, or each with the next ones around a circle."""
    count = len(group)
    if count <= RIVALS + 1:
        return [(group[a], group[b]) for a in range(count) for b in range(a + 1, count)]
    near = range(1, RIVALS // 2 + 1)
    return [(group[a], group[(a + step) % count]) for a in range(count) for step in near]
