"""Starts jobs from a process that has already loaded what all of them load.

Loading torch, transformers and peft takes a processor five seconds, longer than many a job of a
tiny model. `python -m align.warm torch peft` loads them once and then only waits: each message on
its standard input, a socket, has it fork, and the fork runs a module just as `python -m` would. It
ends when nobody holds the other end of that socket any more, and its forks with it.

A message is the command, `["align.gpu.train", "RUNDIR"]`, as JSON, and two descriptors: what
becomes the fork's standard output and error, and a socket that gets the fork's process id, when it
is in a session of its own, and then its exit status, as subprocess tells it, each in one message.

Only for jobs without a GPU: CUDA may not survive a fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import signal
import socket
import sys
from dataclasses import dataclass

from align.tether import die_with_parent

LONGEST = 65_536  # bytes of a message
STANDARD_INPUT = 0


@dataclass(frozen=True)
class Order:
    command: list[str]
    output: int
    answer: socket.socket


def main() -> None:
    for library in sys.argv[1:]:
        importlib.import_module(library)
    gc.collect()
    gc.freeze()  # or the collector would touch, and so copy, all of it in every fork
    order = wait_for_orders(socket.socket(fileno=os.dup(STANDARD_INPUT)))
    if order is not None:  # in a fork
        module, *arguments = order.command
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def wait_for_orders(control: socket.socket) -> Order | None:
    """Fork for each order as long as any may come. Returns the order in the fork, else None."""
    here = os.getpid()
    with selectors.DefaultSelector() as ready:
        ready.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.data is not None:
                    ready.unregister(key.fileobj)
                    _report(*key.data)
                    continue
                order = _receive(control)
                if order is None:
                    return None
                fork = os.fork()
                if not fork:
                    control.close()
                    _settle_in(order, here)
                    return order
                os.close(order.output)
                ended = os.pidfd_open(fork)  # readable when the fork has ended
                ready.register(ended, selectors.EVENT_READ, (fork, ended, order.answer))


def _receive(control: socket.socket) -> Order | None:
    said, descriptors, _, _ = socket.recv_fds(control, LONGEST, 2)
    if not said:
        return None
    output, answer = descriptors
    return Order(json.loads(said), output, socket.socket(fileno=answer))


def _settle_in(order: Order, parent: int) -> None:
    """Make a fork what a program started for the job alone would be."""
    die_with_parent(parent, signal.SIGKILL)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, STANDARD_INPUT)
    os.dup2(order.output, 1)
    os.dup2(order.output, 2)
    os.close(nothing)
    os.close(order.output)
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # else the same draws in every fork
    order.answer.send(str(os.getpid()).encode())
    order.answer.close()


def _report(fork: int, ended: int, answer: socket.socket) -> None:
    os.close(ended)
    status = os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])
    with answer, contextlib.suppress(OSError):  # nobody may wait for it any more
        answer.send(str(status).encode())


if __name__ == "__main__":
    main()
