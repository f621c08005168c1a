"""What was settled and what is reserved, per scope and limit; kept by window id, so none opens twice."""

import msgspec

from keyforge.contracts.limits import Debit, Limit


class Balance(msgspec.Struct, gc=False):
    """One window of one account: what ended requests took, and what open ones reserve. nano-dollars or counts."""

    settled: int = 0
    reserved: int = 0


class Account(msgspec.Struct, eq=False):
    """The windows of one limit at one scope: the newest, and older ones while requests are open in them.

    Admissions never go back in time (`admitted.at` only grows), so an older window never admits again.
    `limit` is its id. `held` belongs to `holds`, not to the folded state: what the owner has admitted here and not
    folded yet, by window.
    """

    limit: str
    unit: str
    newest: int = -1
    windows: dict[int, Balance] = msgspec.field(default_factory=dict)
    held: dict[int, int] = msgspec.field(default_factory=dict)

    def open_window(self, window_id: int) -> Balance:
        """Return the balance of a window that has none yet; older windows with nothing open in them are dropped."""
        balance = self.windows[window_id] = Balance()
        if window_id > self.newest:
            self.newest = window_id
            for old in [number for number, held in self.windows.items() if number < window_id and not held.reserved]:
                del self.windows[old]
        return balance

    def close_window(self, window_id: int) -> None:
        """Drop a window older than the newest if nothing is open in it any more."""
        balance = self.windows.get(window_id)
        if balance is not None and not balance.reserved:
            del self.windows[window_id]


class Scope(msgspec.Struct, eq=False):
    """Where limits count. `checks` pairs each limit in force with its account; accounts, by the id of their limit,
    outlive a limit that is taken away."""

    kind: str
    id: str
    accounts: dict[str, Account] = msgspec.field(default_factory=dict)
    checks: tuple[tuple[Limit, Account], ...] = ()

    def set_limits(self, limits: tuple[Limit, ...]) -> None:
        """Put these limits in force, in place of those before."""
        self.checks = tuple((limit, self._account(limit)) for limit in limits)

    def _account(self, limit: Limit) -> Account:
        """Return the account of a limit, made if there is none."""
        account = self.accounts.get(limit.id)
        if account is None:
            account = self.accounts[limit.id] = Account(limit.id, limit.unit)
        return account


def accounts_of(path: tuple[Scope, ...], debits: tuple[Debit, ...]) -> tuple[Account, ...] | Debit:
    """Return the account that each debit counts at, or the first debit of a scope or limit that is not on the path."""
    found: list[Account] = []
    for debit in debits:
        account = None
        for scope in path:
            if scope.id == debit.scope:
                account = scope.accounts.get(debit.limit)
                break
        if account is None:
            return debit
        found.append(account)
    return tuple(found)
