"""Every route of every engine is decided on: passed to clients, used by us alone, or by nobody."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from plumbline.accounts import keys
from tests.security.test_gateway_access import NOWHERE

ROOT = Path(__file__).resolve().parents[2]
VLLM = ROOT / ".venv-vllm/lib/python3.11/site-packages/vllm/entrypoints"
# Clients get these, through the gateway's own checks of every parameter.
PASSED = {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/models", "/health"}
PASSED |= {"/metrics"}  # the gateway's own, never the engine's
# The platform asks these on the private network.
OURS = {
    *("/version", "/load", "/tokenize", "/v1/load_lora_adapter", "/v1/unload_lora_adapter"),
    *("/sleep", "/wake_up", "/is_sleeping"),
}
# Nobody asks these of an engine of ours.
NOBODYS = {
    *(
        "/abort_requests",
        "/classify",
        "/cohere/v2/chat",
        "/cohere/v2/chat/render",
        "/collective_rpc",
        "/detokenize",
    ),
    *("/fault_tolerance/apply", "/fault_tolerance/status", "/finish_weight_update"),
    *("/generative_scoring", "/get_world_size", "/inference/v1/generate"),
    *("/inference/v1/abort_requests", "/init_weight_transfer_engine", "/invocations", "/is_paused"),
    *("/is_scaling_elastic_ep", "/kv_event_sources", "/pause", "/ping", "/pooling"),
    *("/release_kv_cache_memory", "/rerank", "/reset_encoder_cache", "/reset_mm_cache"),
    *("/reset_prefix_cache", "/resume", "/scale_elastic_ep", "/score", "/server_info"),
    *("/shutdown_weight_transfer_engine", "/start_draft_weight_update", "/start_profile"),
    *("/start_weight_update", "/stop_profile", "/tokenizer_info", "/update_weight_version"),
    *("/update_weights", "/v1/audio/transcriptions", "/v1/audio/translations"),
    *("/v1/chat/completions/batch", "/v1/chat/completions/derender"),
    *("/v1/chat/completions/render", "/v1/completions/derender", "/v1/completions/render"),
    *("/v1/embeddings", "/v1/messages", "/v1/messages/count_tokens", "/v1/messages/render"),
    *("/v1/realtime", "/v1/rerank", "/v1/responses/render", "/v1/responses/{response_id}"),
    *("/v1/responses/{response_id}/cancel", "/v1/score", "/v1/systemone", "/v2/embed"),
    *("/v2/rerank", "/weight_checker", "/weight_info", "/docs", "/ready", "/readyz", "/static"),
}
DECLARED = re.compile(
    r"(?:router|app)\.(?:get|post|put|delete|patch|head|websocket|api_route|add_api_route|"
    r'add_route|mount)\(\s*"(/[^"]*)"'
)


def test_the_lists_do_not_contradict_each_other():
    assert not PASSED & OURS
    assert not (PASSED | OURS) & NOBODYS


def test_every_route_of_our_own_engine_is_decided_on():
    source = (ROOT / "workers/align/gpu/serve.py").read_text()
    found = set(re.findall(r'(?:Route|post)\("(/[^"]*)"', source))
    assert len(found) > 10
    assert found <= PASSED | OURS, found - PASSED - OURS


@pytest.mark.vllm
def test_every_route_that_vllm_declares_is_decided_on():
    """A newer vLLM with a route of another name fails here until somebody has looked at it."""
    if not VLLM.is_dir():
        pytest.skip("no vLLM (make engine)")
    found = {path for file in VLLM.rglob("*.py") for path in DECLARED.findall(file.read_text())}
    assert len(found) > 50
    assert found <= PASSED | OURS | NOBODYS, found - PASSED - OURS - NOBODYS


# Words of other servers of ours, or of the gateway's own answers.
ELSEWHERE = {"/ready", "/static", "/load", "/version", "/resume", "/pause", "/score"}


def test_the_gateway_asks_an_engine_for_nothing_else():
    files = (ROOT / "platform/plumbline/gateway").glob("*.py")
    source = "".join(file.read_text() for file in files)
    for path in (OURS | NOBODYS) - ELSEWHERE:
        assert f'"{path}"' not in source, path


@pytest.mark.django_db(transaction=True)
def test_no_route_that_is_not_passed_is_there_for_clients(start_gateway, project, alice):
    _, secret = keys.create(project, "app", list(keys.Scope.values), alice)
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=start_gateway(NOWHERE).url, headers=headers, timeout=30) as client:
        for path in (OURS | NOBODYS) - {"/ready"}:
            for method in ("GET", "POST"):
                answer = client.request(method, path.replace("{response_id}", "resp_1"))
                assert answer.status_code == 404, (method, path)
