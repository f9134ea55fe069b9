"""A round as a folder that stands on its own: settings, data, figures, weights, a model card.

It leaves as a tar, written while it is read, so that neither weights nor votes are ever held whole.
Weights are the files that the policy's manifest lists, unchanged: PEFT and vLLM load `adapter/` as
it is. A policy of full weights has them in `model/`. People are named as exports name them.
"""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from plumbline.fleet.models import Metric
from plumbline.loop import decisions, difference, examples
from plumbline.loop.models import Round
from plumbline.policies import manifest
from plumbline.policies.models import Policy
from plumbline.transfer import formats
from plumbline.transfer.options import ALL, Options
from plumbline.transfer.outgoing import Export, Selection
from plumbline.transfer.stream import lines

CHUNK = 1 << 20  # bytes read at once
VOTES = "votes"  # the format that loses nothing
CARD = "README.md"


@dataclass(frozen=True)
class Entry:
    """A file of the folder: text that is there, lines that are made, or a file on disk."""

    name: str
    text: str | None = None
    lines: Iterable[str] | None = None
    path: Path | None = None


def name(round: Round) -> str:
    """What the folder is called."""
    return f"{round.experiment.project.slug}-e{round.experiment_id}-r{round.number}"


def entries(round: Round) -> Iterator[Entry]:
    """The folder's files, in order. Raises ValueError where the policy's weights are not what they
    were registered as, before anything is given."""
    weights = list(_weights(round.policy_out)) if round.policy_out else []
    export = Export(Selection(round.experiment.project, round=round.pk), Options(split=ALL))
    yield Entry(CARD, text=card(round))
    yield Entry("config.json", text=_json(config(round)))
    yield Entry("evaluation.json", text=_json(figures(round)))
    yield Entry("decisions.json", text=_json(_decisions(round)))
    yield Entry("data/prompts.jsonl", lines=_prompts(round))
    yield Entry("data/votes.jsonl", lines=lines(export, formats.exporter(VOTES)))
    yield Entry("data/examples.jsonl", lines=(_line(row) for row in examples.example_rows(round)))
    for asked in round.jobs.select_related("job").order_by("pk"):
        if asked.job.metrics.exists():
            purpose = asked.purpose.replace(":", "-")
            yield Entry(f"metrics/{purpose}.csv", lines=_metrics(asked.job_id))
    yield from weights


def tar(round: Round) -> Iterator[bytes]:
    """The folder as a tar. Raises as `entries` does, at the first piece."""
    top, at = name(round), int((round.finished_at or round.started_at).timestamp())
    for entry in entries(round):
        with _opened(entry) as source:
            size = source.seek(0, io.SEEK_END)
            source.seek(0)
            header = tarfile.TarInfo(f"{top}/{entry.name}")
            header.size, header.mtime, header.mode = size, at, 0o644
            yield header.tobuf(tarfile.PAX_FORMAT)
            while piece := source.read(CHUNK):
                yield piece
            yield bytes(-size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def config(round: Round) -> dict[str, Any]:
    """All that decided what the round made."""
    experiment, made = round.experiment, round.policy_out
    return {
        "experiment": experiment.name,
        "round": round.number,
        "settings": difference.settings(experiment),
        "starts_from": _named(round.policy_in),
        "policy": _named(made) if made else None,
        "reward_model": _hashed(round.reward_model),
        "votes": round.ballots.count(),
        "votes_sha256": round.ballots_sha256,
        "annotator_share": round.figures.get("annotator_share"),
        "rebuilt_from": round.replays.number if round.replays else None,
        "rebuilt": round.figures.get("rebuilt"),
        "jobs": {one.purpose: one.job.spec for one in round.jobs.select_related("job")},
        "made_by": _made_by(made),
    }


def figures(round: Round) -> dict[str, Any]:
    """What was measured of it, and what its gate said."""
    names = ("wins", "ties", "losses", "rate", "low", "high", "kl", "kl_k3", "kl_start", "tokens")
    return {
        "evaluations": [
            {
                "against": one.against,
                "opponent": one.opponent.name,
                "judge": one.judge,
                **{name: getattr(one, name) for name in names},
                "opponent_tokens": one.opponent_tokens,
            }
            for one in round.evaluations.select_related("opponent").order_by("pk")
        ],
        "gate": round.gate,
        "figures": round.figures,
        "trained": round.policy_out.metrics if round.policy_out else {},
    }


def card(round: Round) -> str:
    """The model card, with the front matter that the Hugging Face hub reads."""
    experiment, made = round.experiment, round.policy_out
    lora = made is not None and made.weights == Policy.Weights.LORA
    front = ["---", f"base_model: {json.dumps(experiment.start.base_model)}"]
    front += ["library_name: " + ("peft" if lora else "transformers")]
    front += ["tags: [preference-alignment, " + experiment.algorithm + "]", "---"]
    words = [f"# {made.name if made else name(round)}", _what(round), "## Evaluation"]
    rows = [
        f"| {one.get_against_display()} | {one.opponent.name} | {one.get_judge_display().lower()} "
        f"| {one.rate:.1%} | {one.low:.1%} to {one.high:.1%} | {_number(one.kl)} "
        f"| {_number(one.tokens)} |"
        for one in round.evaluations.select_related("opponent").order_by("pk")
    ]
    head = "| against | opponent | judged by | win rate | 95 % interval | KL to base | tokens |"
    words += ["\n".join([head, "|---|---|---|---|---|---|---|", *rows])] if rows else ["None."]
    checks = round.gate.get("checks", [])
    if checks:
        passed = "passed" if round.gate.get("passed") else "did not pass"
        words += [f"The gate {passed}:", "\n".join(f"- {one['evidence']}" for one in checks)]
    words += ["## Use", _use(lora) if made else "This round has made no policy."]
    words += ["## Files", FILES]
    return "\n".join(front) + "\n\n" + "\n\n".join(words) + "\n"


FILES = """- `config.json`: settings, seeds, jobs, hashes, versions
- `evaluation.json`, `decisions.json`: figures, the gate, what people decided
- `data/`: prompts, the votes as they were cast, the examples that were trained on
- `metrics/`: every logged step, a file a job
- `adapter/` or `model/`: the weights, with the manifest of their hashes"""


def _what(round: Round) -> str:
    experiment = round.experiment
    told = round.figures.get("rebuilt")
    again = ""
    if round.replays is not None and told:
        again = (
            f" It is rebuilt from round {round.replays.number} of {round.replays.experiment} "
            f"without {told['without']} of its {told['of']} votes."
        )
    return (
        f"Round {round.number} of {experiment.name}: {experiment.algorithm.upper()} on "
        f"{round.examples.count()} examples from {round.ballots.count()} votes, starting from "
        f"{round.policy_in.name}.{again} The list of votes has the SHA-256 "
        f"`{round.ballots_sha256 or 'none'}`."
    )


def _use(lora: bool) -> str:
    if not lora:
        return "```sh\nvllm serve model\n```"
    return (
        "```python\nfrom peft import AutoPeftModelForCausalLM\n\n"
        'model = AutoPeftModelForCausalLM.from_pretrained("adapter")\n```\n\n'
        "`adapter_config.json` names the base model by the folder it was trained from; give another"
        ' place to `PeftModel.from_pretrained(base, "adapter")`, or to vLLM as '
        "`--enable-lora --lora-modules name=adapter`."
    )


def _weights(policy: Policy) -> Iterator[Entry]:
    if policy.weights == Policy.Weights.BASE:
        return
    top = "adapter" if policy.weights == Policy.Weights.LORA else "model"
    folder = Path(policy.path)
    try:
        files = manifest.outline(folder, policy.sha256)["files"]
    except OSError as error:
        raise ValueError(f"The weights of {policy.name} cannot be read: {error}") from error
    for name in [*sorted(files), manifest.MANIFEST]:
        yield Entry(f"{top}/{name}", path=folder / name)


def _opened(entry: Entry) -> IO[bytes]:
    if entry.path is not None:
        return entry.path.open("rb")
    if entry.text is not None:
        return io.BytesIO(entry.text.encode())
    made = TemporaryFile()  # noqa: SIM115  # closed by whoever reads it
    for line in entry.lines or ():
        made.write(line.encode())
    return made


def _prompts(round: Round) -> Iterator[str]:
    for prompt in round.prompts.order_by("pk").iterator():
        yield _line({"id": prompt.pk, "messages": prompt.messages, "digest": prompt.digest})


def _metrics(job: Any) -> Iterator[str]:
    yield "step,name,value\r\n"
    for one in Metric.objects.filter(job=job).order_by("step", "name").iterator():
        row = io.StringIO()
        csv.writer(row).writerow([one.step, one.name, repr(one.value)])
        yield row.getvalue()


def _decisions(round: Round) -> list[dict[str, Any]]:
    made = decisions.history([round.policy_out]) if round.policy_out else []
    return [
        {
            "at": one.at.isoformat(),
            "what": one.words,
            "actor": one.actor,
            "reason": one.reason,
            "evidence": one.evidence,
        }
        for one in made
    ]


def _named(policy: Policy) -> dict[str, Any]:
    return {"name": policy.name, "base": policy.base_model, "sha256": policy.sha256}


def _hashed(model: Any) -> dict[str, Any] | None:
    return {"name": model.name, "sha256": model.sha256} if model else None


def _made_by(policy: Policy | None) -> dict[str, Any]:
    """What the weights' own manifest says of versions, seed and hashes."""
    if policy is None or not policy.path:
        return {}
    body: dict[str, Any] = manifest.outline(Path(policy.path), policy.sha256)["metadata"]
    return body


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
