"""A process gives up what it will never need: the belts that hold with or without bubblewrap.

Limits and filters are inherited and cannot be taken back. The driver confines itself first; the
interpreter's own process, started through `become`, may in addition start no other. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER = 2
KILL, REFUSE, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000  # seccomp's answers
EPERM, ENOSYS = 1, 38
CLONE_THREAD = 0x00010000
CLONE_NEW = 0x7E020080  # every flag that asks for a namespace
X32 = 0x40000000

ADDRESSES = 1 << 30  # bytes of address space
CPU = 1800  # seconds that one process may compute; a call's own limit is far below
FILES = 64
PROCESSES = 64  # threads count too; root is not held to it, but to the filter

# Number of each system call on x86-64 and on arm64; None where there is none.
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    "socket": (41, 198),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "open_by_handle_at": (304, 265),
    "pidfd_getfd": (438, 438),
    "memfd_create": (319, 279),
}
ALONE: dict[str, tuple[int | None, int | None]] = {  # of a process that needs no other
    "fork": (57, None),
    "vfork": (58, None),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424),
}
CLONE, CLONE3 = (56, 220), (435, 435)


def confine(*, alone: bool) -> None:
    """Of this process and all that it starts. `alone`: it may have threads, but start no process
    and send no signal."""
    for what, most in (
        (resource.RLIMIT_CPU, CPU),
        (resource.RLIMIT_AS, ADDRESSES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_NPROC, PROCESSES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        resource.setrlimit(what, (most, most))
    libc = ctypes.CDLL(None, use_errno=True)
    _prctl(libc, PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(libc, PR_SET_NO_NEW_PRIVS, 1)
    if filtered():
        _install(libc, program(platform.machine(), alone=alone))


def filtered() -> bool:
    """Whether system calls are filtered on this machine's processor."""
    return platform.machine() in ARCHITECTURES


def become(program: str, *arguments: str) -> None:
    """Confine this process to itself and replace it."""
    confine(alone=True)
    os.execv(program, [program, *arguments])


def program(machine: str, *, alone: bool) -> bytes:
    """The filter as classic BPF: what is forbidden fails with EPERM; another architecture's calls
    kill the process, and clone3, whose flags no filter can see, is said not to exist."""
    architecture, column = ARCHITECTURES[machine]
    code = [_load(4), _jump(0x15, architecture, 1, 0), _give(KILL), _load(0)]
    if machine == "x86_64":
        code += [_jump(0x35, X32, 0, 1), _give(KILL)]
    calls = FORBIDDEN | (ALONE if alone else {})
    for numbers in calls.values():
        number = numbers[column]
        if number is not None:
            code += [_jump(0x15, number, 0, 1), _give(REFUSE | EPERM)]
    code += [_jump(0x15, CLONE3[column], 0, 1), _give(REFUSE | ENOSYS)]
    code += [_jump(0x15, CLONE[column], 1, 0), _give(ALLOW), _load(16)]
    code += [_jump(0x45, CLONE_NEW, 0, 1), _give(REFUSE | EPERM)]
    if alone:
        code += [_jump(0x45, CLONE_THREAD, 1, 0), _give(REFUSE | EPERM)]
    return b"".join([*code, _give(ALLOW)])


def _load(offset: int) -> bytes:
    return struct.pack("<HBBI", 0x20, 0, 0, offset)


def _jump(test: int, value: int, yes: int, no: int) -> bytes:
    return struct.pack("<HBBI", test, yes, no, value)


def _give(answer: int) -> bytes:
    return struct.pack("<HBBI", 0x06, 0, 0, answer)


def _install(libc: ctypes.CDLL, code: bytes) -> None:
    text = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: how many instructions, padding, where they are.
    argument = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(text))
    _prctl(libc, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.create_string_buffer(argument))


def _prctl(libc: ctypes.CDLL, what: int, *arguments: object) -> None:
    padded = [*arguments, 0, 0, 0][:4]
    values = [ctypes.c_ulong(int(one)) if isinstance(one, int) else one for one in padded]
    if libc.prctl(what, *values) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {what}")
