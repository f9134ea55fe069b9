"""Labels are computed from votes and never edited: raters weighed, preferences turned, told why."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from align import jobs, labels
from align.gpu import crowd, reward, strength
from align.gpu.comparisons import Comparison
from align.gpu.data import Exchange
from align.gpu.probe import Table
from align.labels import Labels
from align.objective import Preferences
from tests.align.conftest import do
from tests.align.test_reward import comparison, comparisons, reward_job

Rundir = Callable[..., Path]
PLAIN = labels.weigher(Labels(), {})


def vote(ranking: list[list[int]], rater: str = "1", **more: Any) -> dict[str, Any]:
    told = {"rater": rater, "ranking": ranking, "strength": None, "p": None, "human": True}
    return {**told, "age": 0, **more}


def row(*votes: dict[str, Any], name: str = "c", count: int = 2, **more: Any) -> dict[str, Any]:
    made = {**comparison(name, [f"answer {k}" for k in range(count)]), "votes": list(votes), **more}
    return labels.count(made, PLAIN)


def test_votes_of_weight_one_are_the_plain_count():
    found = row(vote([[0], [1]]), vote([[0, 1]]), vote([[1], [0]], strength=3), count=2)
    assert found["preferences"] == [(0, 1, 0.5, 3.0)]
    assert found["details"] == [(pytest.approx(1 / 3), pytest.approx(-1 / 3), 0.0)]
    assert found["rankings"] == [([[0], [1]], 1.0), ([[0, 1]], 1.0), ([[1], [0]], 1.0)]
    sure = row(vote([[0], [1]], p=0.8))
    assert sure["preferences"] == [(0, 1, 0.8, 1.0)]


def test_votes_of_a_row_weigh_what_the_row_says():
    rated = vote([[0], [1]], ratings=[(0, "clear", 1.0)])
    found = row(rated, vote([[1], [0]]), counts=0.5)
    assert found["preferences"] == [(0, 1, 0.5, 1.0)]
    assert [weight for _, weight in found["rankings"]] == [0.5, 0.5]
    assert found["ratings"] == [(0, "clear", 1.0, 0.5)]


def test_ai_votes_count_less_and_the_newest_round_more():
    votes = [vote([[0], [1]], human=False, age=1), vote([[1], [0]], age=0), vote([[1], [0]], age=2)]
    weigh = labels.weigher(Labels(machines=0.5, newest=3.0), {})
    found = labels.count({**row(), "votes": votes}, weigh)
    assert found["preferences"] == [(0, 1, pytest.approx(0.5 / 4.5), 4.5)]
    nobody = labels.count({**row(), "votes": votes[:1]}, labels.weigher(Labels(machines=0), {}))
    assert nobody["preferences"] == []


def test_held_out_votes_are_peoples_where_there_are_any():
    mixed = row(vote([[0], [1]]), vote([[1], [0]], human=False), name="mixed", heldout=True)
    machine = row(vote([[1], [0]], human=False), name="machine", heldout=True)
    trained = row(vote([[1], [0]], human=False), name="trained", heldout=False)
    found = {one["id"]: one["preferences"] for one in labels.by_people([mixed, machine, trained])}
    assert found == {"mixed": [(0, 1, 1.0, 1.0)], "trained": [(0, 1, 0.0, 1.0)]}
    assert labels.by_people([machine, trained]) == [machine, trained]


def ballots(rng: random.Random, eta: list[float], items: int = 40, each: int = 150) -> Any:
    """Votes of raters with known reliability on pairs of items with known scores."""
    scores = [rng.gauss(0, 1.5) for _ in range(items)]
    said = []
    for who, honest in enumerate(eta):
        for _ in range(each):
            i, j = rng.sample(range(items), 2)
            chance = 1 / (1 + pow(2.718281828, scores[j] - scores[i]))
            won = rng.random() < honest * chance + (1 - honest) * (1 - chance)
            said.append((who, i, j, float(won)))
    return scores, said


def test_planted_reliabilities_are_recovered():
    """Six raters, 150 votes each: within 0.15 of the truth, and the scores in their order."""
    eta = [0.95, 0.95, 0.9, 0.9, 0.5, 0.1]
    scores, said = ballots(random.Random(0), eta)
    found, solved = crowd.solve(said, len(eta), len(scores))
    assert found.tolist() == pytest.approx(eta, abs=0.15)
    both = torch.stack([torch.tensor(scores, dtype=torch.float64), solved])
    assert torch.corrcoef(both)[0, 1] > 0.95  # the adversary's votes help as much as others'


def test_raters_who_are_all_alike_count_alike():
    _, said = ballots(random.Random(1), [0.95] * 4)
    found = crowd.reliability(said, 4, 40)
    assert (found.max() - found.min()).item() < 0.08
    assert found.min() > 0.85


def test_a_rater_without_votes_keeps_the_prior():
    _, said = ballots(random.Random(2), [0.9])
    prior = 1 / (1 + 2.718281828**-2)
    assert crowd.reliability(said, 2, 40)[1].item() == pytest.approx(prior, abs=1e-5)


def crowd_rows(raters: dict[str, Callable[[int], bool]], count: int = 60) -> list[dict[str, Any]]:
    """Comparisons whose first answer is the better one in every even row; each rater says, row by
    row, whether they follow the truth."""
    rows = []
    for n in range(count):
        truth = [[0], [1]] if n % 2 == 0 else [[1], [0]]
        votes = [
            vote(truth if follows(n) else truth[::-1], rater) for rater, follows in raters.items()
        ]
        made = comparison(str(n), [f"answer {n} a", f"answer {n} b"])
        rows.append({**made, "votes": votes})
        for k, one in enumerate(made["responses"]):
            one["id"] = f"{n}-{k}"
    return rows


def test_a_lone_contrarian_is_read_turned_around_and_a_guesser_counts_for_little():
    rng = random.Random(3)
    guesses = [rng.random() < 0.5 for _ in range(60)]
    honest = {name: (lambda n: n % 11 != 0) for name in ("ann", "bob", "cid", "dee")}
    rows = crowd_rows({**honest, "contrary": lambda n: False, "guesser": lambda n: guesses[n]})
    found = crowd.raters(rows)
    assert found["ann"].weight > 0.7
    assert not found["ann"].turned
    assert found["contrary"].turned
    assert "turned around" in found["contrary"].note
    assert found["guesser"].weight < 0.5
    weighed = labels.count(rows[2], labels.weigher(Labels(raters=True), found))
    assert weighed["preferences"][0][2] > 0.9  # the contrarian's word now speaks for the truth
    assert rows[2]["votes"][4]["ranking"] == [[1], [0]]  # what was cast is as it was


def test_a_minority_with_a_taste_of_its_own_is_not_discounted():
    honest = {name: (lambda n: True) for name in ("ann", "bob", "cid", "dee")}
    minority = {name: (lambda n: n % 3 == 0) for name in ("eve", "fay")}
    found = crowd.raters(crowd_rows({**honest, **minority}))
    assert found["eve"].weight == found["fay"].weight == 1.0
    assert not found["eve"].turned
    assert "agrees with other doubted raters on" in found["eve"].note


def noisy(share: float, count: int = 400, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Preferences by a known linear taste, a share of them turned around: rows, what the probe
    reads of them, the comparisons, and which were turned."""
    torch.manual_seed(seed)
    x = torch.randn(2 * count, 9, dtype=torch.float64)
    taste = torch.randn(9, dtype=torch.float64) * 2
    i = torch.arange(count) * 2
    truth = (x[i] - x[i + 1]) @ taste > 0
    turned = torch.rand(count) < share
    p = (truth ^ turned).float()
    table = Table(x, Preferences(i, i + 1, p, torch.ones(count)), torch.arange(count))
    compared, rows = [], []
    for n, value in enumerate(p.tolist()):
        pair = [(0, 1, value, 1.0)]
        compared.append(Comparison([Exchange((n,), (0,)), Exchange((n,), (1,))], pair, id=str(n)))
        rows.append({**comparison(str(n), ["a", "b"]), "preferences": pair})
    return rows, table, compared, turned


def test_planted_flips_are_found_among_the_weakest():
    """Of 20 % turned votes, more than 0.7 are among the weakest 20 %, and most get turned back."""
    rows, table, compared, turned = noisy(0.2)
    found = strength.strengths(table, compared, seed=0)
    support = torch.tensor([
        found[row["id"], 0, 1] * (1 if row["preferences"][0][2] > 0.5 else -1) for row in rows
    ])  # fmt: skip
    weakest = support.argsort()[: int(0.2 * len(rows))]
    assert turned[weakest].sum() / turned.sum() > 0.7
    after, changes = labels.relabel(rows, found, Labels(flip=0.2))
    assert len(changes) <= 80
    wrong = sum(
        (row["preferences"][0][2] > 0.5) != truth
        for row, truth in zip(after, truth_of(rows, turned), strict=True)
    )
    assert wrong < 0.5 * turned.sum().item()


def truth_of(rows: list[dict[str, Any]], turned: torch.Tensor) -> list[bool]:
    return [
        (row["preferences"][0][2] > 0.5) != bool(flip)
        for row, flip in zip(rows, turned.tolist(), strict=True)
    ]


def test_votes_without_noise_are_left_alone():
    rows, table, compared, _ = noisy(0.0)
    found = strength.strengths(table, compared, seed=0)
    _, changes = labels.relabel(rows, found, Labels(flip=0.2))
    assert len(changes) < 0.03 * len(rows)


def test_a_preference_is_turned_softened_or_given_a_margin_and_the_reason_is_kept():
    rows = [row(vote([[0], [1]]), name=name) for name in ("worst", "bad", "fine", "sure")]
    said = {"worst": -2.0, "bad": -0.5, "fine": 0.7, "sure": 9.0}
    view = Labels(flip=0.25, smooth=0.2, margin=True, cap=1.0)
    after, changes = labels.relabel(rows, {(k, 0, 1): u for k, u in said.items()}, view)
    found = {one["id"]: (one["preferences"][0][2], one["details"][0][2]) for one in after}
    assert found["worst"] == (0.0, -2.0)
    assert found["bad"] == (pytest.approx(0.8), 0.0)
    assert found["fine"] == (1.0, 0.7)
    assert found["sure"] == (1.0, labels.WIDEST)
    reasons = {one.key[0]: one.reason for one in changes}
    assert reasons == {
        "worst": "turned around, margin", "bad": "softened", "fine": "margin", "sure": "margin",
    }  # fmt: skip
    assert all(one["preferences"] == [(0, 1, 1.0, 1.0)] for one in rows)


def test_no_rater_has_more_than_their_share_turned():
    rows = [row(vote([[0], [1]], rater="a" if n < 10 else "b"), name=str(n)) for n in range(40)]
    contradicted = {(str(n), 0, 1): -1.0 for n in range(10)}
    agreed = {(str(n), 0, 1): 1.0 for n in range(10, 40)}
    _, changes = labels.relabel(rows, contradicted | agreed, Labels(flip=0.5, cap=0.3))
    assert len(changes) == 3  # of a's ten


def test_held_out_and_tied_preferences_are_never_changed():
    rows = [row(vote([[0], [1]]), heldout=True), row(vote([[0, 1]]), name="tie")]
    view = Labels(flip=0.5, smooth=0.2, margin=True, cap=1.0)
    _, changes = labels.relabel(rows, {("c", 0, 1): -3.0, ("tie", 0, 1): -3.0}, view)
    assert changes == []


def test_from_votes_an_answer_is_rated_by_what_it_beat():
    said = [row(vote([[0], [1, 2]]), vote([[0], [2], [1]]), count=3)]
    rows, criteria = labels.rated(said, from_votes=True)
    assert criteria == [labels.PREFERRED]
    assert rows[0]["ratings"] == [
        (0, "preferred", 1.0, 4.0), (1, "preferred", 0.125, 4.0), (2, "preferred", 0.375, 4.0),
    ]  # fmt: skip
    given = {**row(), "ratings": [(0, "true", 1.0, 1.0), (1, "clear", 0.5, 1.0)]}
    assert labels.rated([given])[1] == ["clear", "true"]


def test_peoples_ratings_are_never_made_up_from_votes():
    with pytest.raises(ValueError, match="nobody has rated an answer yet"):
        labels.rated([row(vote([[0], [1]]))])
    held_out = {**row(heldout=True), "ratings": [(0, "true", 1.0, 1.0)]}
    with pytest.raises(ValueError, match="nobody has rated"):
        labels.rated([row(vote([[0], [1]])), held_out])


def test_ratings_are_weighed_and_turned_around_as_their_voters_votes_are():
    told = row(
        {**vote([[0], [1]]), "ratings": [(0, "true", 1.0), (1, "true", 0.5)]},
        {**vote([]), "ratings": [(0, "true", 0.0)]},
    )
    weights = iter([(3.0, False), (1.0, True), (3.0, False), (0.0, False)])
    found = labels.count(told, lambda _: next(weights))
    assert found["ratings"] == [(0, "true", 1.0, 4.0), (1, "true", 0.5, 3.0)]
    assert found["rankings"] == [([[0], [1]], 3.0)]
    without = labels.count(told, lambda _: next(weights))
    assert without["ratings"] == [(0, "true", 1.0, 3.0), (1, "true", 0.5, 3.0)]


def contradicting(count: int = 60) -> list[dict[str, Any]]:
    """Ballots of three raters on the planted preference; the third says the opposite."""
    rows = []
    for one in comparisons(count):
        one = {**one, "responses": one["responses"][:2]}
        one["responses"] = [{**r, "id": f"{one['id']}-{r['id']}"} for r in one["responses"]]
        good = [r["text"].startswith("good") for r in one["responses"]]
        if good[0] == good[1]:
            continue
        truth = [[0], [1]] if good[0] else [[1], [0]]
        votes = [vote(truth, "ann"), vote(truth, "bob"), vote(truth[::-1], "contrary")]
        rows.append(labels.count({**one, "votes": votes}, PLAIN))
    return rows


@pytest.mark.parametrize("form", ["tuned", "probe"])
def test_a_job_tells_what_it_did_to_the_labels_and_edits_none(
    rundir: Rundir, tiny_base: Path, form: Any
) -> None:
    view = Labels(raters=True, flip=0.1, smooth=0.2, margin=True)
    job = dataclasses.replace(reward_job(tiny_base, epochs=1), labels=view, form=form)
    folder = rundir(job, comparisons=contradicting())
    before = (folder / jobs.COMPARISONS).read_bytes()
    found = do(reward.work, folder)["labels"]
    assert (folder / jobs.COMPARISONS).read_bytes() == before
    assert found["raters"]["contrary"]["turned"]
    assert found["changed"]["votes weighed"] > 0
    assert found["machine_votes"] == 0
    told = list(jobs.read_rows(folder / jobs.LABELS))
    assert all(one["reason"] for one in told)
    assert {"comparison", "p", "label", "weight", "trained_weight", "reason"} <= told[0].keys()


@pytest.mark.parametrize(
    ("wrong", "objective", "sentence"),
    [
        (Labels(flip=0.9), "bradley_terry", "flip must be between 0 and 0.5"),
        (Labels(newest=0.0), "bradley_terry", "newest must be above 0"),
        (Labels(margin=True), "plackett_luce", "plackett_luce reads rankings"),
    ],
)
def test_labels_that_cannot_be_made_get_a_sentence(
    rundir: Rundir, tiny_base: Path, capsys: Any, wrong: Labels, objective: str, sentence: str
) -> None:
    job = dataclasses.replace(reward_job(tiny_base), labels=wrong, objective=objective)
    with pytest.raises(SystemExit):
        do(reward.work, rundir(job, comparisons=comparisons(4)))
    assert sentence in capsys.readouterr().err
