"""Random commands, legal and illegal, for each chip: every one is answered, no device raises."""

from __future__ import annotations

import random

import pytest

from helpers.qtest_peer import coalesced, result_of

CHIPS = ("VGA,addr=02.0", "isa-vga", "cirrus-vga,addr=02.0", "isa-cirrus-vga")
FEW = 1_000
MANY = 200_000
AT_ONCE = 1_000

LFB = 0xE000_0000
REGISTERS = 0xFEB0_0000
PLACES = (
    *((0xA0000, 0x20000),) * 6,
    *((LFB, 0x200_0000),) * 3,
    *((REGISTERS, 0x1000),) * 3,
    (LFB + (4 << 20) - 0x100, 0x100),
    (LFB + (16 << 20), 0x100),
    (0, 16 << 20),
    (0, 1 << 32),
    (0, 1 << 64),
)
PORTS = (*range(0x3B0, 0x3E0), 0x1CE, 0x1CF, 0x1D0, 0x70, 0x71, *range(0xCF8, 0xD00))
NONSENSE = ("", " ", "inb", "outb 0x3c4", "readb -", "read 0 0", "write 0 9 0", "b64write 0 1 !!!!")


def indexed(rng: random.Random) -> str:
    value = rng.randrange(0x40) | rng.randrange(256) << 8
    return f"outw {rng.choice((0x3C4, 0x3CE, 0x3D4)):#x} {value:#x}"


def port(rng: random.Random) -> str:
    number = rng.choice(PORTS) if rng.random() < 0.98 else rng.randrange(0x10010)
    if rng.random() < 0.5:
        return f"in{rng.choice('bwl')} {number:#x}"
    return f"out{rng.choice('bwl')} {number:#x} {rng.getrandbits(33):#x}"


def config_address(rng: random.Random) -> str:
    return f"outl 0xcf8 {0x8000_1000 | rng.choice((4, 0x10, 0x14, 0x18, 0x30, 0x3C)):#x}"


def config_data(rng: random.Random) -> str:
    """Where the BARs lie, and whether they answer."""
    return f"outl 0xcfc {rng.choice((3, LFB, REGISTERS, rng.getrandbits(32))):#x}"


def nonsense(rng: random.Random) -> str:
    return rng.choice(NONSENSE) + rng.choice(("", "\0", "\x7f", " 0x"))


def place(rng: random.Random) -> int:
    base, size = rng.choice(PLACES)
    return base + rng.randrange(size)


def store(rng: random.Random) -> str:
    return f"write{rng.choice('bwlq')} {place(rng):#x} {rng.getrandbits(64):#x}"


def load(rng: random.Random) -> str:
    return f"read{rng.choice('bwlq')} {place(rng):#x}"


def block(rng: random.Random) -> str:
    length = rng.randrange(1, 64) if rng.random() < 0.95 else rng.randrange(1, 5000)
    where = f"{place(rng):#x} {length}"
    data = rng.randbytes(1 + length % 64).hex()
    return rng.choice(
        (
            f"read {where}",
            f"b64read {where}",
            f"memset {where} {rng.randrange(256)}",
            f"write {where} 0x{data}",
        )
    )


MAKERS = (indexed, port, config_address, config_data, nonsense, store, load, block)
WEIGHTS = (15, 20, 3, 2, 1, 34, 20, 5)


def fuzz(chip: str, count: int, *options: str) -> None:
    """Every command gets a reply; nothing raises; the server ends well."""
    rng = random.Random(f"fuzz {chip}")
    mapping = [
        f"outl {port} {value:#x}"
        for register, answer in ((0x10, LFB), (0x14, REGISTERS), (0x18, REGISTERS), (4, 3))
        for port, value in (("0xcf8", 0x8000_1000 | register), ("0xcfc", answer))
    ]
    with coalesced([chip], "--json", *options) as peer:
        peer.ask_all(mapping)
        for _ in range(0, count, AT_ONCE):
            commands = [maker(rng) for maker in rng.choices(MAKERS, WEIGHTS, k=AT_ONCE)]
            replies = peer.ask_all(commands)
            assert all(reply.startswith(("OK", "FAIL", "ERR")) for reply in replies)
        result = result_of(peer.end())
    assert result["failures"] == []
    assert result["commands"] == count + len(mapping)


@pytest.mark.parametrize("chip", CHIPS)
def test_random_commands(chip: str) -> None:
    fuzz(chip, FEW)


@pytest.mark.heavy
@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("options", [(), ("--accel", "direct")], ids=["process", "direct"])
def test_many_random_commands(chip: str, options: tuple[str, ...]) -> None:
    fuzz(chip, MANY, *options)
