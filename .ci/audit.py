"""Whether anything that is installed has a known vulnerability: `make audit`.

pip-audit without a network says that there are none, of packages it has looked at none of. So the
number it has looked at is held against the number installed, and all but a full answer is an error.

Exit status: 0 nothing known, 1 something is vulnerable, 2 nothing can be said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

OWN = "plumbline"


class Unknown(Exception):
    """Why nothing can be said."""


def plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def installed() -> dict[str, str]:
    """Name and version of every distribution in this environment but our own. A build's own mark
    (2.13.0+cpu) is left out: advisories know the version alone."""
    found = {}
    for one in metadata.distributions():
        name = plain(one.metadata["Name"])
        if name != OWN:
            found[name] = one.version.partition("+")[0]
    return dict(sorted(found.items()))


def listed(path: Path) -> dict[str, str]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    pairs = [line.partition("==") for line in lines if line and not line.startswith("#")]
    return {plain(name): version for name, _, version in pairs}


def ask(packages: Mapping[str, str], service: str) -> dict[str, Any]:
    """pip-audit's report about exactly these. Raises Unknown where it gives none."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder, "installed.txt")
        wanted.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
        command = [sys.executable, "-m", "pip_audit", "--strict", "--no-deps", "--disable-pip"]
        command += ["--requirement", str(wanted), "--format", "json", "--progress-spinner", "off"]
        command += ["--vulnerability-service", "osv", "--cache-dir", folder]
        command += ["--osv-url", service] if service else []
        done = subprocess.run(command, capture_output=True, text=True)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise Unknown(f"Nothing was audited: pip-audit gave no report. {last}") from None
    return report


def judge(packages: Mapping[str, str], report: Mapping[str, Any]) -> list[str]:
    """A line for each vulnerability. Raises Unknown unless each package was looked at."""
    looked_at = {}
    for one in report.get("dependencies", []):
        if "skip_reason" in one:
            raise Unknown(f"{one['name']} was skipped: {one['skip_reason']}")
        looked_at[plain(one["name"])] = one["version"]
    if looked_at != dict(packages):
        left = sorted(set(packages.items()) ^ set(looked_at.items()))
        raise Unknown(
            f"{len(packages)} packages are installed and {len(looked_at)} were audited; "
            f"the first that differs is {left[0][0]} {left[0][1]}"
        )
    return [
        f"{one['name']} {one['version']}: {wrong['id']}, mended in "
        f"{', '.join(wrong['fix_versions']) or 'no version yet'}"
        for one in report["dependencies"]
        for wrong in one["vulns"]
    ]


def bill(packages: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What is installed, as CycloneDX."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": OWN}},
        "components": [
            {
                "type": "library",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{name}@{version}",
            }
            for name, version in packages
        ],
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", type=Path, help="audit these name==version lines instead")
    parser.add_argument("--service", default="", help="another address of the advisory service")
    parser.add_argument("--write", type=Path, help="write the list of what is installed, and end")
    parser.add_argument("--bill", type=Path, help="write it as a CycloneDX bill, and end")
    options = parser.parse_args(arguments)
    packages = listed(options.list) if options.list else installed()
    if options.write or options.bill:
        if options.write:
            lines = [f"{name}=={version}\n" for name, version in packages.items()]
            options.write.write_text("".join(lines))
        if options.bill:
            options.bill.write_text(json.dumps(bill(packages.items()), indent=1) + "\n")
        return 0
    try:
        found = judge(packages, ask(packages, options.service))
    except Unknown as why:
        print(why, file=sys.stderr)
        return 2
    print("\n".join([*found, f"{len(packages)} packages audited, {len(found)} vulnerabilities"]))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
