"""A provider's variable over the starts of a home: one credential in use, or none; what an operator did stays."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from keyforge.embedded import seeded
from keyforge.embedded.errors import StackError
from keyforge.embedded.seeded import (
    AddCredential,
    Credential,
    CredentialStep,
    LeaveRevoked,
    Remember,
    RevokeCredential,
    Seeded,
)

PROVIDER, VARIABLE = "openai", "OPENAI_API_KEY"
OPERATORS = Credential("operator's", "own", active=True)


def group(secret: str) -> str:
    return seeded.quota_group(PROVIDER, secret, "https://x", b"fixture-mark")


class Home:
    """What a home wrote down, and what keys has; a start may be interrupted after any of its writes."""

    def __init__(self) -> None:
        self.known: dict[str, Seeded] = {}
        self.credentials: list[Credential] = [OPERATORS]

    def plan(self, secret: str) -> list[CredentialStep]:
        wanted = group(secret) if secret else None
        known = list(self.known.values())
        return list(seeded.steps(PROVIDER, VARIABLE, wanted, secret, known=known, credentials=self.credentials))

    def start(self, secret: str, *, writes_max: int = 99) -> list[str]:
        """Do what is planned, as `Seeding` does it; return the names of the steps."""
        done = []
        for step in self.plan(secret):
            done.append(type(step).__name__)
            for write in self._writes(step):
                if not writes_max:
                    return done
                write()
                writes_max -= 1
        return done

    def _writes(self, step: CredentialStep):  # type: ignore[no-untyped-def]  # of calls without arguments
        one = step.seeded

        def remember(state: seeded.State) -> None:
            self.known[one.group] = replace(one, state=state)

        match step:
            case Remember():
                yield lambda: remember(one.state)
            case AddCredential(secret=secret):
                yield lambda: remember("made")
                yield lambda: self.credentials.append(Credential(f"{secret}-{one.group}", one.group, active=True))
            case RevokeCredential(id=credential):
                yield lambda: remember("ending")
                yield lambda: self.revoke(credential)
                yield lambda: remember("ended")

    def revoke(self, credential: str) -> None:
        self.credentials = [replace(one, active=False) if one.id == credential else one for one in self.credentials]

    def active(self) -> list[str]:
        return [one.group for one in self.credentials if one.active and one != OPERATORS]


def test_set_changed_gone_and_back() -> None:
    home = Home()
    assert home.start("a") == ["AddCredential"]
    assert home.start("a") == []
    assert home.active() == [group("a")]
    assert home.start("b") == ["AddCredential", "RevokeCredential"]
    assert home.active() == [group("b")]
    assert home.start("") == ["RevokeCredential"]
    assert home.active() == []
    assert home.start("") == []
    assert home.start("a") == ["AddCredential"]
    assert home.active() == [f"{group('a')}-2"]
    assert home.start("b") == ["AddCredential", "RevokeCredential"]
    assert home.active() == [f"{group('b')}-2"]
    assert OPERATORS in home.credentials


@pytest.mark.parametrize("writes", range(6))
@pytest.mark.parametrize("then", ["a", "b", ""])
def test_an_interrupted_start_is_completed_by_the_next_one(writes: int, then: str) -> None:
    home = Home()
    home.start("a")
    home.start("b", writes_max=writes)
    home.start(then)
    assert [one[:20] for one in home.active()] == ([group(then)] if then else [])
    assert home.start(then) == []
    assert OPERATORS in home.credentials


def test_what_an_operator_revoked_is_not_added_again() -> None:
    home = Home()
    home.start("a")
    home.revoke(home.credentials[-1].id)
    for secret in ("a", "", "b", "a"):
        home.start(secret)
    assert home.active() == []
    assert isinstance(home.plan("a")[0], LeaveRevoked)
    home.start("b")
    assert [one[:20] for one in home.active()] == [group("b")]


def test_an_operator_s_credential_in_the_same_quota_group_is_left_alone() -> None:
    home = Home()
    home.start("a")
    also = Credential("also", group("a"), active=True)
    home.credentials.append(also)
    home.start("")
    assert [one for one in home.credentials if one.active] == [OPERATORS, also]


def test_a_home_that_wrote_nothing_down_adopts_the_credential_of_its_variable() -> None:
    home = Home()
    home.credentials.append(Credential("old", group("a"), active=True))
    assert home.start("a") == ["Remember"]
    assert home.start("") == ["RevokeCredential"]
    assert home.active() == []


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "seeded.json"
    assert seeded.read(path) == []
    known = {one.group: one for one in (Seeded("openai", group("a")), Seeded("sim", group("b"), "ended"))}
    path.write_text(seeded.text(known))
    assert seeded.read(path) == list(known.values())
    assert all("fixture" not in text for one in json.loads(path.read_text()) for text in one.values())


@pytest.mark.parametrize(
    "text", ["", "{}x", "3", "[3]", '[{"provider": "openai"}]', '[{"provider": 1, "group": "g"}]', "[" * 100_000]
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "seeded.json"
    path.write_text(text)
    with pytest.raises(StackError, match=r"seeded\.json must hold the credentials that `up` made"):
        seeded.read(path)
