"""The public half of an ed25519 key, worked out of its secret in plain Python (RFC 8032, section 5.1.5).

A library that signs takes a tenth of a second to import, which every query would wait for to learn who asks. This takes
two thousandths. It signs nothing and is not made for secrets that somebody times: it runs where the secret lies in a
file of the one who runs it.
"""

from __future__ import annotations

import hashlib
from functools import cache

_P = 2**255 - 19
_D = -121665 * pow(121666, _P - 2, _P) % _P
_BASE_Y = 4 * pow(5, _P - 2, _P) % _P
_BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202

Point = tuple[int, int, int, int]


@cache
def public_of(secret: bytes) -> bytes:
    """The 32 bytes of the public key that belongs to a secret of 32 bytes."""
    scalar = int.from_bytes(hashlib.sha512(secret).digest()[:32], "little")
    scalar = scalar & ((1 << 254) - 8) | (1 << 254)
    x, y, z, _ = _times(scalar, (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P))
    inverse = pow(z, _P - 2, _P)
    x, y = x * inverse % _P, y * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _times(scalar: int, point: Point) -> Point:
    result: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _add(first: Point, second: Point) -> Point:
    x1, y1, z1, t1 = first
    x2, y2, z2, t2 = second
    a, b = (y1 - x1) * (y2 - x2) % _P, (y1 + x1) * (y2 + x2) % _P
    c, d = 2 * t1 * t2 * _D % _P, 2 * z1 * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P
