"""Kubernetes quantities as numbers."""

import re
from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal

_FACTORS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTP", 1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTP", 1)},
}


_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([a-zA-Z]*)")


def amount(quantity: str) -> Decimal:
    """Return a quantity such as 500m, 2 or 4Gi as a number; raises ValueError for no such."""
    found = _QUANTITY.fullmatch(quantity)
    if found is None or found[2] not in _FACTORS:
        raise ValueError(f"{quantity!r} is no quantity such as 500m, 2 or 4Gi")
    return Decimal(found[1]) * _FACTORS[found[2]]


def thousandths(quantity: str) -> int:
    """Return a quantity in thousandths, rounded up: CPU in millicores, 1Gi as 1024**3 * 1000.

    Whole numbers, so that sums of many are exact. Raises ValueError for what is no quantity.
    """
    return int((amount(quantity) * 1000).to_integral_value(ROUND_CEILING))


def vector(amounts: Mapping[str, str]) -> dict[str, int]:
    """Return amounts in thousandths by the name of the resource; what cannot be read is left out.

    The server checks our own resources; a node may say what it likes.
    """
    out = {}
    for name, quantity in amounts.items():
        try:
            out[name] = thousandths(str(quantity))
        except ValueError:
            continue
    return out


def readable(name: str, value: int) -> str:
    """Return thousandths of the resource *name* as people write them: 1500m, 2, 4Gi."""
    whole, rest = divmod(value, 1000)
    if name in {"memory", "ephemeral-storage"}:
        for unit, size in (("Gi", 1024**3), ("Mi", 1024**2), ("Ki", 1024)):
            if whole >= size and whole % size == 0:
                return f"{whole // size}{unit}"
        for unit, size in (("Gi", 1024**3), ("Mi", 1024**2), ("Ki", 1024)):
            if whole >= 10 * size:
                return f"{whole // size}{unit}"
        return str(whole)
    return f"{value}m" if rest else str(whole)


def exact(name: str, value: int) -> str:
    """Return thousandths of the resource *name* as a quantity of just that amount."""
    whole, rest = divmod(value, 1000)
    if rest:
        return f"{value}m"
    if name in {"memory", "ephemeral-storage"} and whole and whole % 1024 == 0:
        return f"{whole // 1024}Ki"
    return str(whole)
