"""The walls around code that nobody has read: bubblewrap, and limits that hold even without it.

Inside there is a root that cannot be written, with Python's standard library, monty and
`align.inside`, and nothing else: no network, no /proc, no home, no environment, no other process.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from align.inside import confine
from align.judge_jobs import SANDBOX

SCRATCH = 16 << 20  # bytes of the private /tmp
TURNS = 3  # tries to make them stand
PATIENCE = 60.0  # seconds that the walls may take to stand
FLAGS = ("-s", "-B")
INSIDE = Path(__file__).with_name("inside")
DRIVER = "align.inside.driver"
INSTALL = "install it (Debian and Ubuntu: apt install bubblewrap)"
ANYWAY = f"or set {SANDBOX}=rlimits to run programs without these walls"

WRAPPER = """#!{python} -sB
import sys

sys.path.insert(0, {packages!r})
from align.inside import confine

confine.become({monty!r}, *sys.argv[1:])
"""


@dataclass(frozen=True)
class Walls:
    """Where untrusted programs run. Without `bwrap` within limits only, which `warning` says."""

    folder: Path  # private to the job; holds what confines the interpreter
    python: str
    monty: str
    packages: str
    wrapper: str
    bwrap: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    warning: str | None = None

    def start(self, seconds: float, memory: int) -> subprocess.Popen[bytes]:
        """The driver, with pipes to talk to. Nobody reads its stderr, which the programs may have
        written."""
        return self.popen(
            [self.python, *FLAGS, "-m", DRIVER, self.wrapper, str(seconds), str(memory)]
        )

    def popen(
        self, command: Sequence[str], *, stderr: int = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.bwrap, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=self.environment,
            cwd=self.folder,
            start_new_session=True,
        )


@contextlib.contextmanager
def standing(environment: Mapping[str, str] | None = None) -> Iterator[Walls]:
    """The walls that the environment asks for, tried out once.

    Raises ValueError saying what to install, where bubblewrap is missing or may not make
    namespaces and nobody switched it off.
    """
    wish = (os.environ if environment is None else environment).get(SANDBOX, "bubblewrap")
    if wish not in ("bubblewrap", "rlimits"):
        raise ValueError(f"{SANDBOX} is {wish!r}; it can be bubblewrap or rlimits")
    with tempfile.TemporaryDirectory(prefix="plumbline-sandbox-") as name:
        for turn in range(TURNS):  # a machine out of breath is not one that cannot
            folder = Path(name) / str(turn)
            folder.mkdir()
            walls = limits_only(folder) if wish == "rlimits" else bubblewrap(folder)
            if not (why := _try(walls)):
                break
            _bound.cache_clear()
        else:
            raise ValueError(_cannot(walls, why))
        yield walls


def bubblewrap(folder: Path) -> Walls:
    program = shutil.which("bwrap")
    if program is None:
        raise ValueError(f"programs run inside bubblewrap, which is not there: {INSTALL}, {ANYWAY}")
    python, packages, monty = "/python/bin/python3", "/packages", "/monty"
    wrapper = _wrapper(folder, python, packages, monty)
    bound = [part for inner, outer in _bound() for part in ("--ro-bind", outer, inner)]
    return Walls(
        folder=folder,
        python=python,
        monty=monty,
        packages=packages,
        wrapper="/confined",
        bwrap=(
            *(program, "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
            *("--unshare-net", "--unshare-cgroup-try", "--die-with-parent", "--new-session"),
            *("--uid", "65534", "--gid", "65534", "--hostname", "sandbox", "--cap-drop", "ALL"),
            *("--clearenv", "--setenv", "PYTHONPATH", packages),
            *bound,
            *("--ro-bind", str(wrapper), "/confined"),
            *("--size", str(SCRATCH), "--tmpfs", "/tmp", "--chdir", "/tmp", "--remount-ro", "/"),
            "--",
        ),
    )


def limits_only(folder: Path) -> Walls:
    packages = _packages(folder)
    wrapper = _wrapper(folder, sys.executable, packages, monty_binary())
    return Walls(
        folder=folder,
        python=sys.executable,
        monty=monty_binary(),
        packages=packages,
        wrapper=str(wrapper),
        environment={"PYTHONPATH": packages},
        warning=f"{SANDBOX}=rlimits: programs run without bubblewrap. They can start no process and"
        " open no connection, but files that this account may read are not hidden from one that"
        " breaks out of its interpreter",
    )


def kill(process: subprocess.Popen[bytes]) -> None:
    """The process and all that it started; returns when it is gone."""
    end(process)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):  # of what a broken pipe still held
                pipe.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill, and leave the pipes to whoever reads them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def monty_binary() -> str:
    found = shutil.which("monty", path=sysconfig.get_path("scripts")) or shutil.which("monty")
    if found is None:
        raise ValueError("monty is not installed: pip install pydantic-monty")
    return found


def _try(walls: Walls) -> str:
    """What keeps the interpreter's place from being reached and left again; "" where nothing."""
    command = [walls.wrapper, "--version"]
    process = walls.popen(command, stderr=subprocess.PIPE)
    try:
        said, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        said, errors = b"", b"it did not answer"
    finally:
        kill(process)
    if process.returncode == 0 and said:
        return ""
    return " ".join(errors.decode(errors="replace").split())[-600:] or "it said nothing"


def _cannot(walls: Walls, why: str) -> str:
    if not walls.bwrap:
        return f"the interpreter of programs does not start: {why}"
    return (
        f"bubblewrap cannot wall programs in here ({why}): allow unprivileged user namespaces"
        f" (kernel.unprivileged_userns_clone=1, and in a container a seccomp profile that permits"
        f" them), {ANYWAY}"
    )


def _wrapper(folder: Path, python: str, packages: str, monty: str) -> Path:
    path = folder / "confined"
    path.write_text(WRAPPER.format(python=python, packages=packages, monty=monty))
    path.chmod(0o555)
    return path


def _packages(folder: Path) -> str:
    """A folder that holds what may be imported inside, and nothing more."""
    packages = folder / "packages"
    (packages / "align").mkdir(parents=True)
    (packages / "align/__init__.py").touch()
    (packages / "align/inside").symlink_to(INSIDE)
    for inner, outer in _imported().items():
        (packages / inner).symlink_to(outer)
    return str(packages)


@functools.cache
def _imported() -> dict[str, str]:
    """What the driver imports beside the standard library: name in the folder and where it is."""
    found = {}
    for name in ("pydantic_monty", "typing_extensions"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ValueError(f"{name} is not installed: pip install pydantic-monty")
        origin = Path(spec.origin)
        path = origin.parent if origin.name == "__init__.py" else origin
        found[path.name] = str(path)
    return found


@functools.cache
def _bound() -> tuple[tuple[str, str], ...]:
    """(place inside, path outside) of all that can be read there, Python first."""
    python = Path(sys.executable).resolve()
    standard = Path(sysconfig.get_path("stdlib"))
    inside = f"/python/lib/{standard.name}"
    bound = [("/python/bin/python3", str(python)), (inside, str(standard))]
    bound += [("/monty", monty_binary()), ("/packages/align/inside", str(INSIDE))]
    bound += [(f"/packages/{name}", path) for name, path in _imported().items()]
    extensions = [str(one) for one in Path(standard, "lib-dynload").glob("*.so")]
    extensions += [str(one) for one in Path(_imported()["pydantic_monty"]).glob("*.so")]
    loader, home, libraries = _libraries((str(python), monty_binary(), *extensions))
    bound += [(loader, str(Path(loader).resolve()))]
    bound += [(f"{home}/{name}", path) for name, path in libraries.items()]
    return tuple(bound)


def _libraries(programs: Sequence[str]) -> tuple[str, str, dict[str, str]]:
    """The loader's path, the folder where it looks first, and the shared libraries, by name, that
    `programs` are linked with."""
    try:
        said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ValueError("ldd is not there, which says what Python is linked with") from None
    loader, home, found = "", "", {}
    for line in said.stdout.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        path = (rest if arrow else name).partition(" (")[0]
        if not path.startswith("/") or line.endswith(":"):
            continue
        if arrow:
            found[name] = str(Path(path).resolve())
            home = str(Path(path).parent) if name.startswith("libc.so") else home
        else:
            loader = path
    if not loader or not home:
        raise ValueError("ldd does not say what Python is linked with")
    return loader, home, found


def belts() -> list[str]:
    """What does not hold on this machine, in sentences."""
    if confine.filtered():
        return []
    return ["system calls are not filtered on this processor"]
