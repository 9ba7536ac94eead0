"""Random scripts about the chips behind a PC's ISA bridge. The clock stands still."""

from __future__ import annotations

from random import Random

from conformance_script import Lines, Script, seeded

LENGTH = 1500


def _initialise_pic(lines: Lines, rng: Random, port: int) -> None:
    lines.out(port, 0x10 | rng.randrange(16))
    for _ in range(rng.randrange(5)):
        lines.out(
            port + 1, rng.choice((rng.randrange(256), rng.randrange(4) | rng.choice((0, 16))))
        )


def _pic(lines: Lines) -> None:
    """Commands of both controllers, while the timer's output rises and falls as modes change."""
    rng = seeded("pic")
    lines.reset()
    while len(lines) < LENGTH:
        port, do = rng.choice((0x20, 0xA0)), rng.randrange(20)
        if do < 6:
            lines.in_(port + rng.randrange(2))
        elif do < 8:
            lines.in_(rng.choice((0x4D0, 0x4D1)))
        elif do < 9:
            lines.in_(port, 2)
        elif do < 13:
            lines.out(0x43, rng.choice((0x10, 0x16)))
            lines.out(0x40, 100)
        elif do < 14:
            lines.out(rng.choice((0x4D0, 0x4D1)), rng.randrange(256))
        elif do < 15:
            lines.out(port + 1, rng.choice((0, 0, 0xFF, rng.randrange(256))))
        elif do < 18:
            lines.out(port, rng.choice((0x20, 0x0A, 0x0B, 0x0C, 0x68, rng.randrange(256) & ~0x10)))
        elif rng.randrange(3) == 0:
            _initialise_pic(lines, rng, port)
        elif rng.randrange(20) == 0:
            lines.reset()


def _pit(lines: Lines) -> None:
    """Counters that stand: control words, latches, halves of counts, the speaker's port."""
    rng = seeded("pit")
    lines.reset()
    while len(lines) < LENGTH:
        port, do = 0x40 + rng.choice((0, 0, 1, 2)), rng.randrange(20)
        if do < 8:
            lines.in_(port)
        elif do < 9:
            lines.in_(rng.choice((0x40, 0x41, 0x42)), 2)
        elif do < 11:
            lines.in_(rng.choice((0x61, 0x61, 0x43, 0x20)))
        elif do < 14:
            lines.out(port, rng.choice((0, 1, 2, 3, 255, rng.randrange(256))))
        elif do < 17:
            lines.out(0x43, rng.randrange(256))
        elif do < 18:
            lines.out(0x61, rng.randrange(4))
        elif do < 19:
            lines.out(0x43, 0xC0 | rng.randrange(64))
        elif rng.randrange(30) == 0:
            lines.reset()


SCRIPTS = (
    Script("pic", (), _pic),
    Script("pit", (), _pit),
)
