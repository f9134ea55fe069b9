"""Sessions as the loop leaves them, without its jobs: programs of the seeded writer, whose code is
our own and is run here."""

from __future__ import annotations

from typing import Any

from align import seeded_writer
from align.icpl.emphases import of_arm
from align.icpl.traces import picked
from align.programs import RewardProgram, to_json
from plumbline.evolve import asking, panel, ranking
from plumbline.evolve.models import Evolution, Generation, Pick, Program, ProgramScore, Stage
from tests.evolve.conftest import rank_everything


def add(
    generation: Generation, arm: int, made: RewardProgram, status: str = "validated"
) -> Program:
    """A program that has been through the ladder, with its scores and picks."""
    program = Program.objects.create(
        generation=generation, arm=arm, attempt=0, emphasis=of_arm(arm), program=to_json(made),
        sha256=made.sha256, status="validated", reply=seeded_writer.reply(made),
    )  # fmt: skip
    space: dict[str, Any] = {}
    exec(compile(made.code, "program", "exec"), space)
    meta = {"params": dict(made.params), "tokens": 1, "turns": 1}
    for pool in panel.pools(generation.evolution):
        question = pool.prompt.messages[-1]["content"]
        said = [space["compute_reward"](question, one.text, {}, meta) for one in pool.texts]
        ProgramScore.objects.bulk_create(
            ProgramScore(
                program=program, completion=one, total=row["total"], components=row["components"]
            )
            for one, row in zip(pool.texts, said, strict=True)
        )
        best = pool.texts[picked([row["total"] for row in said])]
        Pick.objects.create(program=program, prompt=pool.prompt, completion=best)
    return program


def ranked(evolution: Evolution, user: Any, **said: Any) -> Generation:
    """A generation of four programs that has been ranked and written down."""
    generation = evolution.generations.get(number=1)
    for arm in range(4):
        add(generation, arm, seeded_writer.write(arm, of_arm(arm)))
    Program.objects.create(
        generation=generation, arm=0, attempt=1, emphasis="concise", status="invalid",
        reply="<script>alert(1)</script> no", problems=["The reply holds no program."],
    )  # fmt: skip
    generation.messages = [
        {"role": "system", "content": "You are <b>bold</b>."},
        {"role": "user", "content": "Write."},
        {"role": "user", "content": "There is none."},
    ]
    generation.prompt_sha256 = "ab" * 32
    generation.save()
    asking.opened(generation)
    asking.open_hidden(evolution)
    rank_everything(user, evolution, **said)
    generation.refresh_from_db()
    ranking.settle(generation, ranking.standing(generation))
    generation.stage = Stage.DONE
    found = ranking.hidden_accuracy(generation.good, evolution.hidden_campaign)
    generation.figures["hidden"] = {"right": found[0], "pairs": found[1]} if found else None
    generation.difference, generation.sentence = "-a\n+b", "It rewards calm more."
    generation.save()
    evolution.best = generation.good
    evolution.save()
    return generation
