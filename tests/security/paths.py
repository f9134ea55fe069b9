"""Texts that some file system, some day, took for a way out of where it was told to stay."""

from __future__ import annotations

import itertools
from urllib.parse import quote

STEPS = (
    *("../", "..\\", "..%2f", "..%5c", "%2e%2e/", "%2e%2e%2f", "..%252f", "%252e%252e%252f"),
    *("....//", "..;/", "..%00/", "..%c0%af", "..%ef%bc%8f", "․․/", "../", "..∕", "..⁄"),
    *(".%2e/", "/..//", "\\..\\", "..%u2215", "..%01/", "../\0"),
)
TARGETS = ("etc/passwd", "canary", "secret_key", "db.sqlite3", "windows\\win.ini")
WHOLE = (
    *("/etc/passwd", "//etc/passwd", "file:///etc/passwd", "\\\\host\\share\\x", "C:\\boot.ini"),
    *(
        "C:/boot.ini",
        "c:..\\x",
        "\\\\?\\C:\\x",
        "\\\\.\\pipe\\x",
        "CON",
        "nul.jsonl",
        "aux",
        "COM1.txt",
    ),
    *("~root/.ssh/id_rsa", "$HOME/.ssh", "`id`", "$(id)", "a;id", "a|id", "-rf", "--help", "."),
    *("..", "...", "", " ", "\0", "a\0.jsonl", "a.jsonl\0.html", "a\r\nX-Evil: 1", "a\nb", "\x7f"),
    *("con\u202egpj.exe", "\u2028", "\ufeff..", "é" * 300, "a" * 5000, "/" * 3000, "../" * 1000),
    *("/proc/self/environ", "/dev/zero", "/dev/stdin", "/proc/self/fd/0", "file.jsonl/..", "a/./b"),
    *(
        'x".jsonl',
        "x';.jsonl",
        "x%0d%0aSet-Cookie: a=1",
        "日本語.jsonl",
        "𝕏.jsonl",
        ".htaccess",
        "~",
    ),
)


def corpus() -> list[str]:
    """A thousand and more, each as it is and as an address would carry it."""
    climbing = [
        step * depth + target
        for step, depth, target in itertools.product(STEPS, (1, 2, 3, 5, 12), TARGETS)
    ]
    plain = dict.fromkeys((*WHOLE, *climbing))
    coded = [quote(one, safe="") for one in plain]
    return list(dict.fromkeys((*plain, *coded)))
