"""`python -m align.writer`: a process of its own, against a scripted endpoint and a real engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from align import jobs, seeded_writer, writer
from align.icpl import prompt
from align.judge_jobs import CALLS, WRITTEN, Asked, WriteJob
from align.programs import from_json, to_json
from tests.scripted import Scripted

TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say something."}]


def call(name: str, **fields):
    usual = {"messages": TALK, "emphasis": "tone", "good": [], "bad": None, "seed": 3}
    return {"id": name, **usual, "wants": "program", **fields}


def start(folder: Path, job: WriteJob, calls, **env) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    jobs.write_json(folder / jobs.JOB, jobs.to_json(job))
    jobs.write_rows(folder / CALLS, calls)
    return subprocess.run(
        [sys.executable, "-m", "align.writer", str(folder)],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def written(folder: Path):
    return list(jobs.read_rows(folder / WRITTEN))


def test_the_seeded_writer_answers_as_a_model_would(tmp_path):
    good, other = seeded_writer.write(1, "tone"), seeded_writer.write(2, "concise")
    calls = [
        call("a"),
        call("b", good=[to_json(good)], bad=to_json(other)),
        call("c", wants="sentence", good=[to_json(good), to_json(other)]),
    ]
    assert start(tmp_path / "run", WriteJob(), calls).returncode == 0
    first, second, third = written(tmp_path / "run")
    assert from_json(first["program"]) == seeded_writer.write(3, "tone")
    assert from_json(second["program"]) == seeded_writer.write(3, "tone", good, other)
    assert third["program"] is None
    assert third["reply"].startswith("It rewards")


def test_a_killed_writer_pays_for_no_call_twice(tmp_path):
    program = to_json(seeded_writer.write(9, "free"))
    folder = tmp_path / "run"
    folder.mkdir()
    kept = {**call("a"), "key": "a", "reply": "kept", "program": program, "problem": ""}
    kept |= {"tokens_in": 1, "tokens_out": 1, "error": ""}
    torn = json.dumps({"key": "b"})[:-2]
    (folder / writer.PARTS).write_text(json.dumps(kept) + "\n" + torn)
    with Scripted(lambda body: f"```json\n{json.dumps(program)}\n```") as stub:
        job = WriteJob(asked=Asked(url=stub.url, model="m"))
        done = start(folder, job, [call("a"), call("b")], PLUMBLINE_PRIVATE_ENDPOINTS=stub.place)
        assert done.returncode == 0, done.stderr
        assert len(stub.bodies) == 1
        assert stub.bodies[0]["seed"] == 3
        assert stub.bodies[0]["temperature"] == 1.0
    assert [row["reply"] for row in written(folder)][0] == "kept"
    assert not (folder / writer.PARTS).exists()


def test_one_call_that_is_refused_is_its_own_trouble_and_all_of_them_the_jobs(tmp_path):
    def answer(body):
        if "loud" in body["messages"][-1]["content"]:
            return 400, {}, {"error": {"message": "too loud"}}
        return "No program here."

    loud = [TALK[0], {"role": "user", "content": "Be loud."}]
    with Scripted(answer) as stub:
        env = {"PLUMBLINE_PRIVATE_ENDPOINTS": stub.place}
        job = WriteJob(asked=Asked(url=stub.url, model="m"))
        some = start(tmp_path / "one", job, [call("a", messages=loud), call("b")], **env)
        assert some.returncode == 0, some.stderr
        refused, talk = written(tmp_path / "one")
        assert "too loud" in refused["error"]
        assert (talk["error"], talk["program"]) == ("", None)
        assert "holds no program" in talk["problem"]
        every = start(tmp_path / "two", job, [call("a", messages=loud)], **env)
    assert every.returncode == 2
    assert "The writer answered no call." in every.stderr


def test_neighbours_of_one_role_are_one_message():
    three = [*prompt.first("Be kind."), {"role": "user", "content": prompt.opening()}]
    told = writer.merged(three)
    assert [one["role"] for one in told] == ["system", "user"]
    assert told[1]["content"].endswith(prompt.opening())


def test_a_real_engine_is_asked_and_its_words_are_kept(tmp_path, engine):
    asked = Asked(url=f"{engine.url}/v1", model="base", own=True)
    job = WriteJob(asked=asked, max_tokens=24)
    done = start(tmp_path / "run", job, [call("a"), call("b", wants="sentence")])
    assert done.returncode == 0, done.stderr
    program, sentence = written(tmp_path / "run")
    assert program["reply"]
    assert program["program"] is None
    assert program["tokens_out"] > 0
    assert sentence["error"] == ""
