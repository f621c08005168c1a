"""Money is integer nano-dollars (nusd); decimal strings exist only at the operators' API, and are rounded up there."""

from decimal import ROUND_CEILING, Context, Decimal, InvalidOperation
from typing import Final

NUSD_PER_USD: Final = 1_000_000_000
TOKENS_PER_MTOK: Final = 1_000_000
USD_MAX: Final = Decimal(9_000_000_000)
"""The largest amount that fits a signed 64-bit count of nano-dollars, with room."""
_UP: Final = Context(prec=28, rounding=ROUND_CEILING)
"""28 digits are more than an amount in nano-dollars has; any remainder beyond them rounds up as well."""


class MoneyError(ValueError):
    """The text is not an amount of zero up to USD_MAX dollars."""


def nusd(text: str) -> int:
    """Return a decimal string of dollars as nano-dollars, rounded up. Raises MoneyError."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise MoneyError("not a decimal number") from None
    if not amount.is_finite() or amount < 0:
        raise MoneyError("not a finite amount of zero or more")
    if amount > USD_MAX:
        raise MoneyError(f"more than {USD_MAX} dollars")
    return int(_UP.multiply(amount, NUSD_PER_USD).to_integral_value(ROUND_CEILING))


def usd(amount_nusd: int) -> str:
    """Return nano-dollars as an exact decimal string of dollars without trailing zeros: 1_500_000_000 -> "1.5"."""
    sign = "-" if amount_nusd < 0 else ""
    whole, part = divmod(abs(amount_nusd), NUSD_PER_USD)
    return f"{sign}{whole}.{part:09d}".rstrip("0").rstrip(".") if part else f"{sign}{whole}"
