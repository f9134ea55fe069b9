"""Programs in their sandbox: what they are given, what comes out, and what is never believed."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import sys
import threading
import time

import pytest

from align import sandbox, walls
from align.sandbox import Breach, Case, WalledSandbox
from tests.align.hostile import CLOCKS, READS, Hostile, inside

LENGTH = inside(
    "return {'total': len(response) * meta['params']['a'], 'components': {'n': len(response)}}"
)
CASE = Case(prompt="p", response="four", meta={"params": {"a": 0.5}, "tokens": 1, "turns": 1})


@pytest.fixture(scope="module")
def wall():
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed (apt: bubblewrap)")
    with walls.standing({}) as found:
        yield found


@pytest.fixture(scope="module")
def box(wall):
    with WalledSandbox(wall, seconds=1) as found:
        yield found


def case(response: str, **judge: int) -> Case:
    return Case(prompt="p", response=response, judge=judge, meta=CASE.meta)


def test_a_program_gets_texts_scores_and_params(box):
    code = inside(
        """
        import unicodedata
        found = [prompt, response, judge, meta, unicodedata.name('é')]
        wanted = ['What?\\x00', 'é\U0001f600', {'kind': 4}]
        wanted.append({'params': {'a': 0.5}, 'tokens': 3, 'turns': 2})
        wanted.append('LATIN SMALL LETTER E WITH ACUTE')
        return {'total': float(found == wanted), 'components': {'kind': judge['kind']}}
        """
    )
    given = Case(
        prompt="What?\x00",
        response="é\U0001f600",
        judge={"kind": 4},
        meta={"params": {"a": 0.5}, "tokens": 3, "turns": 2},
    )
    (said,) = box.score(code, [given])
    assert (said.total, said.components, said.error) == (1.0, {"kind": 4.0}, None)
    assert said.milliseconds > 0


def test_scores_do_not_depend_on_the_order_or_the_company_of_answers(box):
    code = inside(
        """
        import re
        parts = {'words': len(re.findall(r'\\w+', response)), 'kind': judge['kind'] / 7}
        return {'total': sum(parts.values()) / 3, 'components': parts}
        """
    )
    cases = [case("word " * place, kind=1 + place % 5) for place in range(100)]
    straight = box.score(code, cases)
    order = list(range(100))
    random.Random(0).shuffle(order)
    mixed = box.score(code, [cases[place] for place in order])
    plain = [(one.total, one.components) for one in straight]
    assert [plain[place] for place in order] == [(one.total, one.components) for one in mixed]
    (alone,) = box.score(code, [cases[7]])
    assert (alone.total, alone.components) == plain[7]


@pytest.mark.parametrize(
    "body",
    [
        "kept.append(1)\nreturn {'total': len(kept), 'components': {}}",
        "global count\ncount += 1\nreturn {'total': count, 'components': {}}",
        "meta['params']['a'] += 1\nreturn {'total': meta['params']['a'], 'components': {}}",
        "judge['n'] = judge.get('n', 0) + 1\nreturn {'total': judge['n'], 'components': {}}",
        "import re\nre.n = getattr(re, 'n', 0) + 1\nreturn {'total': re.n, 'components': {}}",
        "compute_reward.seen = 1\nreturn {'total': 0, 'components': {}}",
        "import math\nmath.pi = math.pi + 1\nreturn {'total': math.pi, 'components': {}}",
    ],
)
def test_nothing_leaks_from_one_answer_to_the_next(box, body):
    said = box.score("kept = []\ncount = 0\n" + inside(body), [CASE] * 5)
    assert len({(one.total, one.error) for one in said}) == 1


def test_an_error_names_the_line_as_it_was_written_and_spoils_no_other_answer(box):
    code = "# what is it worth?\n\n\n" + inside(
        "\n\nreturn {'total': 1 / len(response),\n\n  'components': {}}"
    )
    said = box.score(code, [case("ab"), case(""), case("abcd")])
    assert [one.total for one in said] == [0.5, None, 0.25]
    assert said[1].error == "ZeroDivisionError: division by zero (line 5)"


def test_a_program_that_breaks_the_sandbox_is_told_apart_and_the_next_one_goes_on(box):
    box.score(LENGTH, [CASE])
    before = box.pid
    for code, why in [
        (inside("while True:\n    pass"), "computed for longer than 1 s"),
        (inside("return [0] * 10 ** 10"), "wanted more than 64 MiB of memory"),
    ]:
        with pytest.raises(Breach, match=why):
            box.score(code, [CASE] * 100)
        assert box.score(LENGTH, [CASE])[0].total == 2.0
    assert box.pid == before, "the driver lives; only the interpreter is replaced"


def test_a_sandbox_that_died_is_started_again_and_a_closed_one_is_not(wall):
    box = WalledSandbox(wall)
    box.score(LENGTH, [CASE])
    assert box.pid is not None
    os.kill(box.pid, signal.SIGKILL)
    os.waitid(os.P_PID, box.pid, os.WEXITED | os.WNOWAIT)
    before = box.pid
    assert box.score(LENGTH, [CASE])[0].total == 2.0
    assert box.pid != before
    box.close()
    with pytest.raises(Breach, match="stopped with its sandbox"):
        box.score(LENGTH, [CASE])


class Unguarded(walls.Walls):
    """The same walls around a driver that takes nothing out of a program: what is tried here meets
    the interpreter's own doors."""

    def start(self, seconds, memory):
        script = "from align.inside import driver, guard\nguard.rewrite = lambda code: (code, {})\n"
        line = [self.wrapper, str(seconds), str(memory)]
        return self.popen([self.python, *walls.FLAGS, "-c", f"{script}driver.main()", *line])


@pytest.fixture(scope="module")
def unguarded(wall):
    with WalledSandbox(Unguarded(**vars(wall)), seconds=1) as found:
        yield found


ANSWERED = {"time.process_time", "random with a seed", "hash", "id"}  # always the same


@pytest.mark.parametrize("hostile", [*READS, *CLOCKS], ids=lambda one: one.name)
def test_the_interpreter_itself_gives_no_file_no_time_and_no_chance(unguarded, hostile):
    assert _end(unguarded, hostile) == ("fine" if hostile.name in ANSWERED else "refused")


def test_time_and_chance_cannot_be_had_even_where_the_first_rung_is_skipped(box):
    for hostile in CLOCKS:
        assert _end(box, hostile) == "refused", hostile.name


def _end(box: WalledSandbox, hostile: Hostile) -> str:
    try:
        (said,) = box.score(hostile.code.replace("FILE", __file__), [CASE])
    except Breach:
        return "refused"
    return "refused" if said.error else "fine"


TURN = "0123"
FINE = {"turn": TURN, "outcomes": [[1.0, {"a": 2}, None, 0.1]], "breach": None}


@pytest.mark.parametrize(
    "change",
    [
        {"turn": "another"},
        {"outcomes": []},
        {"outcomes": [[1.0, {}, None, 0.1]] * 2},
        {"outcomes": [[float("nan"), {}, None, 0.1]]},
        {"outcomes": [[10**400, {}, None, 0.1]]},
        {"outcomes": [[101.0, {}, None, 0.1]]},
        {"outcomes": [[None, {}, None, 0.1]]},
        {"outcomes": [[1.0, {}, "an error too", 0.1]]},
        {"outcomes": [[None, {}, "x" * 10_000, 0.1]]},
        {"outcomes": [[1.0, {str(i): 1 for i in range(13)}, None, 0.1]]},
        {"outcomes": [[1.0, {"x" * 61: 1}, None, 0.1]]},
        {"outcomes": [[1.0, ["a"], None, 0.1]]},
        {"outcomes": [[True, {}, None, 0.1]]},
        {"outcomes": [["1", {}, None, 0.1]]},
        {"outcomes": 1},
        {"breach": 1},
        {"breach": "x" * 10_000},
    ],
)
def test_a_word_that_the_driver_never_says_is_a_breach(change):
    line = json.dumps({**FINE, **change}).encode()
    with pytest.raises(Breach, match="what it never says"):
        sandbox.read(line, TURN, 1)
    outcomes, breach = sandbox.read(json.dumps(FINE).encode(), TURN, 1)
    assert (outcomes[0].total, outcomes[0].components, breach) == (1.0, {"a": 2.0}, None)


@pytest.mark.parametrize("line", [b"", b"[]", b"null", b"{}", b"[" * 100_000, b"1 2", b"\xff"])
def test_noise_is_a_breach(line):
    with pytest.raises(Breach):
        sandbox.read(line, TURN, 1)


class Talker(walls.Walls):
    """Walls whose process says what a test wants instead of driving programs."""

    def start(self, seconds, memory):
        script = self.environment["SCRIPT"]
        return walls.Walls.popen(self, [self.python, "-c", script])


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import sys\nwhile True: sys.stdout.write('x' * 4096)", "say more than 262144 bytes"),
        ("pass", "ended the process"),
        ("import sys; sys.stdin.close(); sys.stdout.write('{'); sys.stdout.flush()", "ended"),
        ("print('{}', flush=True)\nimport time; time.sleep(100)", "what it never says"),
        ("import time; time.sleep(100)", "took too long"),
    ],
)
def test_a_process_that_floods_dies_lies_or_hangs_is_killed(tmp_path, monkeypatch, script, why):
    monkeypatch.setattr(sandbox, "START", 0.5)
    talker = Talker(
        folder=tmp_path,
        python=sys.executable,
        monty="",
        packages="",
        wrapper="",
        environment={"SCRIPT": script},
    )
    started = time.monotonic()
    with WalledSandbox(talker, seconds=0.1) as box:
        with pytest.raises(Breach, match=why):
            box.score(LENGTH * 3000, [CASE])  # more than a pipe holds, so both sides are busy
        assert box.pid is None
    assert time.monotonic() - started < 20


def test_an_answer_and_a_question_may_both_be_longer_than_a_pipe():
    there, back = os.pipe()
    away, home = os.pipe()
    with (
        open(there, "rb", 0) as theirs,
        open(back, "wb", 0) as ours,
        open(away, "rb", 0) as listening,
        open(home, "wb", 0) as speaking,
    ):

        def echo() -> None:
            line = io.BufferedReader(theirs).readline()
            speaking.write(line)

        thread = threading.Thread(target=echo)
        thread.start()
        request = b"x" * (sandbox.SPOKEN - 1) + b"\n"
        assert sandbox.converse(ours, listening, request, time.monotonic() + 30) == request
        thread.join()
