"""`manage.py verify` names whatever is not as the database says; a healthy project is silent."""

from __future__ import annotations

import io
import json
import shutil
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from plumbline.audit import seals
from plumbline.audit.models import AuditEntry
from plumbline.audit.record import record
from plumbline.collect import versions
from plumbline.collect.models import Ballot, Comparison
from plumbline.fleet.models import Job
from plumbline.loop import rounds
from plumbline.loop.models import Round, RoundStage
from plumbline.operations import signs, verifying
from plumbline.operations.models import Sign, Verification
from plumbline.policies import serving
from plumbline.policies.models import Deployment, Policy
from tests.comparisons import open_campaign
from tests.loop.conftest import run_round
from tests.operations.conftest import age

pytestmark = pytest.mark.django_db


def found(**options: Any) -> list[tuple[str, str]]:
    """Names of checks with what each of their findings is about."""
    return [(one.check, one.about) for one in verifying.verify(**options).findings]


@pytest.fixture
def own_weights(house: dict[str, Any], tmp_path: Path) -> Path:
    """The policy's folder, to be harmed."""
    policy = house["policy"]
    folder = Path(shutil.copytree(policy.path, tmp_path / "own"))
    Policy.objects.filter(pk=policy.pk).update(path=str(folder))
    return folder


def test_a_healthy_project_reports_nothing(house):
    report = verifying.verify()
    assert report.findings == []
    assert report.checked["weights"] == 3  # the base, the policy, the reward model
    assert report.checked["votes"] == 3
    assert report.checked["engines"] == 1
    assert all(report.checked[name] for name in ("rounds", "aliases", "files", "jobs"))


def test_a_deleted_file_is_named(house, own_weights):
    (own_weights / "adapter_config.json").unlink()
    for quick in (True, False):
        (one,) = verifying.verify(quick=quick, only=["weights"]).findings
        assert one.about == house["policy"].name
        assert f"{own_weights / 'adapter_config.json'} is missing" in one.sentence


def test_one_edited_byte_is_found_by_its_hash_and_missed_by_a_quick_look(house, own_weights):
    path = own_weights / "adapter_model.safetensors"
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)
    assert found(quick=True, only=["weights"]) == []
    (one,) = verifying.verify(only=["weights"]).findings
    assert (one.about, str(path) in one.sentence) == (house["policy"].name, True)


def test_a_base_model_that_is_away_is_named(house, tmp_path):
    away = str(tmp_path / "no-such-base")
    Policy.objects.filter(pk=house["policy"].pk).update(base_model=away)
    assert found(only=["weights"]) == [("weights", away)]


def test_what_no_row_names_is_an_orphan_once_it_is_not_fresh(house, homes):
    run, upload = homes / "runs" / str(uuid.uuid4()), homes / "uploads" / str(uuid.uuid4())
    scores = homes / "scores" / f"{'0' * 64}.jsonl"
    half = homes / "runs" / f".{uuid.uuid4()}.tmp"
    run.mkdir()
    half.mkdir()
    upload.write_text("x")
    scores.write_text("")
    assert found(only=["files"]) == []  # their rows may be on their way
    for path in (run, upload, scores, half):
        age(path)
    assert {about for _, about in found(only=["files"])} == {
        str(path) for path in (run, upload, scores, half)
    }


def test_a_row_whose_file_is_gone_is_named(house):
    shutil.rmtree(house["job"].folder)
    house["upload"].path.unlink()
    assert found(only=["files"]) == [
        ("files", str(house["job"].pk)),
        ("files", str(house["upload"].pk)),
    ]


def test_more_votes_than_were_wanted_and_a_person_who_counts_twice_are_named(house, carol):
    first = Ballot.objects.order_by("pk").first()
    copy = Ballot.objects.get(pk=first.pk)
    copy.pk, copy.annotator, copy.seat, copy.idempotency_key = uuid.uuid4(), carol, 7, None
    copy.save(force_insert=True)
    assert found(only=["votes"]) == [("votes", f"comparison {first.comparison_id}")]
    again = Ballot.objects.get(pk=first.pk)
    again.pk, again.revision, again.seat, again.idempotency_key = uuid.uuid4(), 2, 8, None
    again.save(force_insert=True)
    sentences = [one.sentence for one in verifying.verify(only=["votes"]).findings]
    assert any("bob has 2 seats" in one for one in sentences)


def test_fewer_wanted_later_is_no_drift(house, project, alice, vote, bob, carol):
    campaign = versions.create(open_campaign(project, comparisons=1, overlap=2), alice)
    assert vote(campaign, bob)
    assert vote(campaign, carol)
    versions.change(campaign, {"overlap": 1}, alice)
    assert found(only=["votes"]) == []


def test_a_full_comparison_that_asks_for_more_is_named(house):
    campaign = house["campaign"]
    campaign.overlap_applied = campaign.overlap
    campaign.save(update_fields=["overlap_applied"])
    one = campaign.comparisons.order_by("pk").first()
    Comparison.objects.filter(pk=one.pk).update(full=False)
    assert found(only=["votes"]) == [("votes", f"comparison {one.pk}")]


def test_frozen_votes_that_changed_are_named(house):
    house["round"].ballots.remove(Ballot.objects.first())
    assert found(only=["rounds"]) == [("rounds", "First round 1")]


def test_a_done_round_without_a_policy_is_named(house):
    Round.objects.filter(pk=house["round"].pk).update(policy_out=None)
    assert found(only=["rounds"]) == [("rounds", "First round 1")]


def test_a_round_that_nothing_runs_for_is_stuck(house):
    stuck = Round.objects.create(
        experiment=house["round"].experiment, number=2, policy_in=house["policy"], stage="train"
    )
    stage = RoundStage.objects.create(round=stuck, stage="train", started_at=timezone.now())
    assert found(only=["rounds"]) == []
    stage.started_at -= timedelta(hours=1)
    stage.save()
    (one,) = verifying.verify(only=["rounds"]).findings
    assert "stands at train" in one.sentence


def test_a_job_beyond_its_lease_and_one_that_waits_for_nobody_are_named(house):
    job = house["job"]
    Job.objects.filter(pk=job.pk).update(created_at=timezone.now() - timedelta(hours=1))
    assert found(only=["jobs"]) == [("jobs", f"queue {job.queue}")]
    lost = timezone.now() - timedelta(hours=1)
    Job.objects.filter(pk=job.pk).update(state="running", lease_until=lost, worker="w1")
    assert found(only=["jobs"]) == [("jobs", str(job.pk))]


def test_an_alias_on_a_policy_that_did_not_pass_is_named(house):
    Policy.objects.filter(pk=house["policy"].pk).update(state="rejected")
    assert found(only=["aliases"]) == [("aliases", "alpha/current")]
    Policy.objects.filter(pk=house["policy"].pk).update(state="promoted")
    assert found(only=["aliases"]) == []
    Deployment.objects.update(policy=house["policy"].parent)  # past the audit
    assert found(only=["aliases"]) == [("aliases", "alpha/current")]


def test_an_audit_entry_that_nobody_can_prove_is_named(alice, monkeypatch):
    record("person.forgotten", alice, actor=alice)
    assert found(only=["audit"]) == []
    monkeypatch.setattr(seals, "known", dict)  # as without the key
    last = AuditEntry.objects.order_by("-number").first()
    assert ("audit", f"entry {last.number}") in found(only=["audit"])


def test_an_engine_that_serves_something_else_is_named(house, tmp_path):
    url, policy = house["engine"].url, house["policy"]
    httpx.post(f"{url}/v1/unload_lora_adapter", json={"lora_name": policy.name})
    (one,) = verifying.verify(only=["engines"]).findings
    assert one.about == url
    assert f"does not serve {policy.name}" in one.sentence
    other = shutil.copytree(policy.path, tmp_path / "other")
    body = {"lora_name": policy.name, "lora_path": str(other)}
    assert httpx.post(f"{url}/v1/load_lora_adapter", json=body, timeout=60).is_success
    (one,) = verifying.verify(only=["engines"]).findings
    assert f"{other} under the name {policy.name}" in one.sentence


def test_an_engine_that_is_away_is_a_finding_in_a_sentence(house, settings):
    settings.ENGINE_URL = "http://127.0.0.1:9"
    (one,) = verifying.verify(only=["engines"]).findings
    assert one.sentence.startswith("The engine at http://127.0.0.1:9 does not answer")


def test_the_command_speaks_sentences_or_json_and_fails_when_something_is_wrong(house):
    out = io.StringIO()
    call_command("verify", stdout=out)
    assert "Nothing is wrong" in out.getvalue()
    shutil.rmtree(house["job"].folder)
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify", "--json", "--quick", "--no-engines", stdout=out)
    assert ended.value.code == 1
    told = json.loads(out.getvalue())
    assert (told["ok"], told["quick"], "engines" in told["checked"]) == (False, True, False)
    assert told["findings"][0]["about"] == str(house["job"].pk)
    kept = Verification.objects.first()
    assert kept.findings == told["findings"]
    with pytest.raises(CommandError, match="no check 'nonsense'"):
        call_command("verify", "--only", "nonsense")


@pytest.mark.sqlite
def test_a_real_round_leaves_nothing_to_find(homes, engine, settings, experiment_of, rater):
    settings.ENGINE_URL = engine.url
    experiment = experiment_of()
    serving.promote(experiment.project, experiment.start, actor=None, reason="first", evidence={})
    round = run_round(rounds.begin(experiment), rater)
    assert round.stage == "done", round.error
    report = verifying.verify()
    assert report.findings == []
    assert report.checked["weights"] >= 3


def test_the_loop_says_that_it_lives(db):
    watch = signs.Watch()
    assert signs.loops() == []
    watch.look()
    watch.look()
    (one,) = signs.loops()
    assert one.started_at <= one.seen_at
    Sign.objects.update(seen_at=timezone.now() - 2 * signs.SILENT)
    assert signs.loops() == []
