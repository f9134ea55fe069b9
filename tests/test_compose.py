"""docker-compose.yml can be read, and what it names is there. It is not run: that needs Docker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def test_services_wait_for_services_that_there_are(compose: dict[str, Any]) -> None:
    waits = {other for one in compose["services"].values() for other in one.get("depends_on", {})}
    assert waits
    assert waits <= compose["services"].keys()


def test_every_named_volume_is_declared(compose: dict[str, Any]) -> None:
    mounted = {
        volume.partition(":")[0]
        for one in compose["services"].values()
        for volume in one.get("volumes", [])
    }
    assert {name for name in mounted if not name.startswith(".")} == compose["volumes"].keys()


def test_images_of_our_own_are_built_by_some_service(compose: dict[str, Any]) -> None:
    services = compose["services"].values()
    built = {one["image"] for one in services if "build" in one}
    assert {one["image"] for one in services if one["image"].startswith("plumbline")} == built


def test_what_images_copy_is_in_the_repository(compose: dict[str, Any]) -> None:
    for one in compose["services"].values():
        for line in one.get("build", {}).get("dockerfile_inline", "").splitlines():
            if line.startswith("COPY"):
                assert all((ROOT / name).exists() for name in line.split()[1:-1]), line


def test_only_the_pages_and_the_gateway_are_published_and_only_here(
    compose: dict[str, Any],
) -> None:
    published = {name: one["ports"] for name, one in compose["services"].items() if "ports" in one}
    assert published.keys() == {"web", "gateway"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_keys_of_endpoints_reach_one_service_only(compose: dict[str, Any]) -> None:
    holders = [name for name, one in compose["services"].items() if "env_file" in one]
    assert holders == ["worker-cpu"]
