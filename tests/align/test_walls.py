"""The walls alone: real Python code behind them, as if a program had broken out of its interpreter
and could do whatever the machine lets it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from align import walls
from align.inside import confine
from align.judge_jobs import SANDBOX
from align.sandbox import Case, WalledSandbox
from tests.align.canaries import SECRET, VARIABLE, watched
from tests.align.hostile import inside

GOOD = inside("return {'total': 1.0, 'components': {}}")


@pytest.fixture(scope="module")
def bubble():
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed (apt: bubblewrap)")
    with walls.standing({}) as found:
        yield found


@pytest.fixture(scope="module")
def limits():
    with walls.standing({SANDBOX: "rlimits"}) as found:
        yield found


@pytest.fixture
def canaries(tmp_path):
    with watched(tmp_path) as found:
        yield found


def escaped(wall: walls.Walls, payload: str, *, confined: str = "", seconds: float = 60) -> object:
    """What `payload`, code that sets `found`, finds behind the walls. confined: "interpreter" gives
    up what monty's process gives up, "driver" what the one around it does."""
    belts = f"confine.confine(alone={confined == 'interpreter'})" if confined else ""
    code = f"import json\nfrom align.inside import confine\n{belts}\n{textwrap.dedent(payload)}\n"
    process = wall.popen(
        [wall.python, *walls.FLAGS, "-c", f"{code}print(json.dumps(found))"],
        stderr=subprocess.PIPE,
    )
    try:
        said, errors = process.communicate(timeout=seconds)
    finally:
        walls.kill(process)
    assert said, errors.decode()[-2000:]
    return json.loads(said)


TRY = """
def tried(what):
    try:
        return what() or "done"
    except BaseException as error:
        return type(error).__name__
"""


def test_there_is_nothing_of_the_host_to_read(bubble, canaries):
    found = escaped(
        bubble,
        f"""
        import os
        {textwrap.indent(TRY, "        ").strip()}
        roots = ["/", "/root", "/home", "/etc", "/proc", "/sys", "/dev", "/var", "/usr", "/work"]
        found = {{
            "there": [one for one in roots[1:] if os.path.exists(one)],
            "top": sorted(os.listdir("/")),
            "canary": tried(lambda: open({str(canaries.file)!r}).read()),
            "home": tried(lambda: os.listdir({str(canaries.home)!r})),
            "environment": sorted(os.environ),
            "write": [tried(lambda: open(one + "/x", "w")) for one in ("", "/packages", "/python")],
            "scratch": os.listdir("/tmp"),
            "links": [os.readlink("/packages/" + one) for one in os.listdir("/packages")
                      if os.path.islink("/packages/" + one)],
        }}
        """,
    )
    assert found["canary"] == found["home"] == "FileNotFoundError"
    assert not {"/etc", "/proc", "/sys", "/dev", "/var", "/home", "/root", "/work"} & {
        *found["there"]
    }
    assert {*found["top"]} <= {
        "confined",
        "lib",
        "lib64",
        "monty",
        "packages",
        "python",
        "tmp",
        "usr",
    }
    assert VARIABLE not in found["environment"]
    assert {*found["environment"]} <= {"PYTHONPATH", "PWD", "LC_CTYPE"}
    assert {*found["write"]} <= {"OSError", "PermissionError"}
    assert found["scratch"] == found["links"] == []
    canaries.check()


def test_no_link_leads_out(bubble, canaries):
    """Made inside, absolute, climbing, by way of /proc, or hard: there is nothing at its end."""
    found = escaped(
        bubble,
        f"""
        import os
        {textwrap.indent(TRY, "        ").strip()}
        ends = [{str(canaries.file)!r}, "../" * 40 + {str(canaries.file)!r}, "/proc/1/root", "/etc"]
        found = []
        for number, end in enumerate(ends):
            link = f"/tmp/link{{number}}"
            os.symlink(end, link)
            found.append(tried(lambda: open(link).read()))
            found.append(tried(lambda: os.listdir(link)))
            found.append(tried(lambda: os.link(end, link + "hard")))
        """,
    )
    assert {*found} <= {"FileNotFoundError", "PermissionError", "OSError"}
    canaries.check()


def test_nobody_can_be_called(bubble, canaries, tmp_path):
    """No route leads out, and neither a socket file nor an abstract name of the host is there."""
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0plumbline-canary")
    abstract.listen()
    found = escaped(
        bubble,
        f"""
        import socket
        {textwrap.indent(TRY, "        ").strip()}
        found = {{
            "tcp": tried(lambda: socket.create_connection(("127.0.0.1", {canaries.port}), 2)),
            "out": tried(lambda: socket.create_connection(("192.0.2.1", 53), 2)),
            "abstract": tried(lambda: socket.socket(socket.AF_UNIX).connect("\\0plumbline-canary")),
            "interfaces": [name for _, name in socket.if_nameindex()],
        }}
        """,
    )
    abstract.close()
    assert found["tcp"] == "ConnectionRefusedError"
    assert found["out"] == "OSError"
    assert found["abstract"] == "ConnectionRefusedError"
    assert found["interfaces"] == ["lo"]
    canaries.check()


def test_no_process_of_the_host_can_be_seen_or_killed(bubble):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        found = escaped(
            bubble,
            f"""
            import os
            {textwrap.indent(TRY, "            ").strip()}
            found = {{
                "pid": os.getpid(),
                "parent": os.getppid(),
                "kill": tried(lambda: os.kill({victim.pid}, 9)),
                "hurt": [tried(lambda: os.kill(pid, 0)) for pid in range(4, 40)],
                "uid": os.getuid(),
                "host": os.uname().nodename,
            }}
            """,
        )
        assert victim.poll() is None
        victim.kill()
    assert found["pid"] < 10, "a process space of its own"
    assert found["kill"] == "ProcessLookupError"
    assert {*found["hurt"]} == {"ProcessLookupError"}
    assert (found["uid"], found["host"]) == (65534, "sandbox")


@pytest.mark.parametrize("kind", ["bubble", "limits"])
@pytest.mark.parametrize("confined", ["interpreter", "driver"])
def test_the_belts_hold_with_and_without_bubblewrap(request, kind, confined, canaries):
    if not confine.filtered():
        pytest.skip(f"system calls are not filtered on {platform.machine()}")
    found = escaped(
        request.getfixturevalue(kind),
        f"""
        import ctypes, os, resource, signal, socket, subprocess, threading
        {textwrap.indent(TRY, "        ").strip()}
        libc = ctypes.CDLL(None, use_errno=True)
        def call(name, *arguments):
            ctypes.set_errno(0)
            answer = getattr(libc, name)(*arguments)
            return ctypes.get_errno() if answer == -1 else 0
        thread = threading.Thread(target=int)
        def run():
            pid = os.fork()
            if not pid:
                os._exit(0)
            os.waitpid(pid, 0)
        def start():
            thread.start()
            thread.join()
        def write():
            try:
                with open("/tmp/plumbline-belts", "wb", 0) as out:
                    return out.write(b"x")
            finally:
                os.unlink("/tmp/plumbline-belts")
        found = {{
            "socket": tried(lambda: socket.socket()),
            "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
            "netlink": tried(lambda: socket.socket(16, 3)),
            "fork": tried(run),
            "thread": tried(start),
            "kill": tried(lambda: os.kill(os.getppid(), 0)),
            "unshare": call("unshare", 0x10000000),
            "chroot": call("chroot", b"/"),
            "mount": call("mount", None, b"/tmp", b"tmpfs", 0, None),
            "ptrace": call("ptrace", 16, os.getppid(), 0, 0),
            "keys": call("syscall", 250 if os.uname().machine == "x86_64" else 219, 0, 0, 0),
            "write": tried(write),
            "limits": [resource.getrlimit(one)[1] for one in (
                resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC,
                resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_CPU)],
            "raise": tried(lambda: resource.setrlimit(resource.RLIMIT_CORE, (9, 9))),
            "memory": tried(lambda: len(bytearray(2 << 30))),
            "privileges": libc.prctl(39, 0, 0, 0, 0),
        }}
        """,
        confined=confined,
    )
    assert found["socket"] == found["unix"] == found["netlink"] == "PermissionError"
    assert found["fork"] == ("PermissionError" if confined == "interpreter" else "done")
    assert found["thread"] == "done"
    allowed = ("done", "ProcessLookupError")  # within bubblewrap the parent is out of sight
    assert (found["kill"] in allowed) == (confined == "driver")
    assert [found[one] for one in ("unshare", "chroot", "mount", "ptrace", "keys")] == [1] * 5
    assert found["write"] == "OSError"
    assert found["limits"] == [
        *(0, 0, confine.PROCESSES, confine.FILES, confine.ADDRESSES, confine.CPU)
    ]
    assert found["memory"] == "MemoryError"
    assert found["privileges"] == 1, "no_new_privs"
    canaries.check()


def test_the_numbers_of_system_calls_are_the_kernels(tmp_path):
    header = {
        "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
        "aarch64": "/usr/include/asm-generic/unistd.h",
    }
    known = 0
    for machine, path in header.items():
        if not os.path.exists(path):
            continue
        with open(path) as lines:
            parts = [line.split() for line in lines if line.startswith("#define __NR")]
        numbers = {
            one[1].split("_", 3)[-1] if one[1].startswith("__NR3264") else one[1][5:]: one[2]
            for one in parts
            if len(one) > 2
        }
        column = confine.ARCHITECTURES[machine][1]
        calls = {**confine.FORBIDDEN, **confine.ALONE}
        calls |= {"clone": confine.CLONE, "clone3": confine.CLONE3}
        for name, ours in calls.items():
            if ours[column] is not None:
                assert numbers[name] == str(ours[column]), (machine, name)
                known += 1
    if not known:
        pytest.skip("the kernel's headers are not installed (apt: linux-libc-dev)")


def test_a_fork_bomb_dies_with_its_walls(bubble, canaries):
    """Whoever got so far as to run code beside the driver is bounded by the clock outside."""
    process = bubble.popen(
        [
            bubble.python,
            *walls.FLAGS,
            "-c",
            "import os, time\nfor _ in range(5): os.fork()\nos.write(1, b'up\\n')\ntime.sleep(100)",
        ]
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(32)] == [b"up\n"] * 32
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) > 30
    walls.kill(process)
    gone, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    canaries.check()


def test_what_runs_inside_dies_with_whoever_started_it(bubble, tmp_path):
    """A job that is killed leaves nobody behind."""
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from align import walls
            from align.sandbox import Case, WalledSandbox
            with walls.standing({}) as wall, WalledSandbox(wall) as box:
                box.score(sys.argv[1], [Case(prompt="", response="")])
                print(box.pid, flush=True)
                time.sleep(100)
            """
        )
    )
    with subprocess.Popen([sys.executable, str(script), GOOD], stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        inside_pid = int(job.stdout.readline())
        family = [psutil.Process(inside_pid), *psutil.Process(inside_pid).children(recursive=True)]
        assert len(family) >= 4  # bubblewrap twice, the driver, the interpreter
        job.kill()
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not alive


def test_without_bubblewrap_the_job_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    said = pytest.raises(ValueError, match="apt install bubblewrap.*PLUMBLINE_SANDBOX=rlimits")
    with said, walls.standing({}):
        pass


def test_a_bubblewrap_that_may_make_no_namespaces_says_so(monkeypatch, tmp_path):
    refusing = tmp_path / "bwrap"
    refusing.write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n"
    )
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    said = pytest.raises(ValueError, match="No permissions.*allow unprivileged user namespaces")
    with said, walls.standing({}):
        pass


def test_only_an_explicit_wish_does_without_bubblewrap_and_it_is_warned_of(limits):
    assert limits.bwrap == ()
    assert "without bubblewrap" in limits.warning
    with WalledSandbox(limits) as box:
        assert box.score(GOOD, [Case(prompt="", response="")])[0].total == 1.0
    said = pytest.raises(ValueError, match="PLUMBLINE_SANDBOX is 'none'; it can be bubblewrap or")
    with said, walls.standing({SANDBOX: "none"}):
        pass


def test_without_bubblewrap_the_environment_is_still_not_passed_on(limits, canaries):
    found = escaped(limits, "import os\nfound = sorted(os.environ)")
    assert {*found} <= {"PYTHONPATH", "LC_CTYPE"}
    assert os.environ[VARIABLE] == SECRET


def test_the_walls_stand_and_fall_in_little_time(bubble):
    """A sandbox a program is only cheap if it is there quickly."""
    started = time.monotonic()
    for _ in range(3):
        with WalledSandbox(bubble) as box:
            box.score(GOOD, [Case(prompt="", response="")])
    assert time.monotonic() - started < 15
