"""Money: integers in micro-credits inside, decimal strings in credits outside.

1 credit = 1 point = 1 000 000 micro-credits. No float ever touches an amount.
"""

from decimal import Decimal, InvalidOperation

MICRO = 1_000_000
LARGEST = 10**10 * MICRO  # 10^16: the sum of 900 such amounts still fits a bigint


def to_credits(micro: int) -> str:
    """`1500000` -> `"1.5"`: no exponent, no trailing zeros."""
    sign, whole = ("-" if micro < 0 else ""), abs(micro)
    text = f"{whole // MICRO}.{whole % MICRO:06d}".rstrip("0").rstrip(".")
    return f"{sign}{text}"


def to_micro(amount: str | int | float | Decimal) -> int:
    """`"1.5"` -> `1500000`. Raises ValueError for more than six decimals, NaN, infinity or absurd size."""
    try:
        value = Decimal(str(amount)) * MICRO
    except InvalidOperation as error:
        raise ValueError("not a decimal number") from error
    if not value.is_finite() or abs(value) > LARGEST:
        raise ValueError("out of range")
    if value != value.to_integral_value():
        raise ValueError("more than six decimals")
    return int(value)
