"""The rules about words and names: the checkout obeys them, and each bites."""

import pytest

from tests.tidy import exceptions, rules_names, rules_words
from tests.tidy.test_rules import Rule, fail_with
from tests.tidy.tree import Source, sources

A = "services/budget/src/keyforge/budget/core/a.py"
B = "libs/runtime/src/keyforge/runtime/b.py"
TESTKIT = "libs/testkit/src/keyforge/testkit/c.py"


@pytest.mark.parametrize("rule", rules_words.ALL, ids=lambda rule: rule.__name__)
def test_rule(rule: Rule) -> None:
    fail_with([violation for source in sources() for violation in rule(source)])


def test_nothing_is_unused() -> None:
    product, tests = of_product(), [source for source in sources() if source.is_test]
    programs = "\n".join(source.text for source in product if source.path.endswith("pyproject.toml"))
    fail_with(list(rules_names.dead_names(product, tests, programs)))


def test_one_word_one_thing() -> None:
    fail_with(list(rules_names.one_word_one_thing(of_product())))


def of_product() -> list[Source]:
    return [source for source in sources() if source.is_product]


@pytest.fixture
def no_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exceptions, "UNUSED", {})
    monkeypatch.setattr(exceptions, "SHARED_NAMES", {})


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        pytest.param(rules_words.plain_words, "README.md", "It waits for ev" + "er.", id="two words"),
        pytest.param(rules_words.plain_words, B, '"""Tol' + 'd once."""', id="with a capital"),
        pytest.param(rules_words.plain_words, B, "refusals_unto" + "ld = 0", id="in a name"),
        pytest.param(rules_words.plain_words, "docs/a.md", "There is no such\nthing.", id="over a line"),
        pytest.param(rules_words.plain_words, "docs/a.md", "> It waits for\n> ever.", id="over a line of a quotation"),
        pytest.param(rules_words.plain_words, B, 'def f():\n    """It waits for\n    ever."""', id="in a docstring"),
        pytest.param(rules_words.plain_words, B, "# It is not\n# believed.", id="over two comments"),
        pytest.param(rules_words.plain_words, B, 'A = (\n    "no such "\n    "thing"\n)', id="over two strings"),
        pytest.param(rules_words.formatted, B, "a = {1:2}  # fmt: skip", id="skip"),
        pytest.param(rules_words.formatted, B, "# fmt: off", id="off"),
    ],
)
def test_bites(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        pytest.param(rules_words.plain_words, "README.md", "Forever renewed.", id="parts of words"),
        pytest.param(rules_words.plain_words, "tests/unit/test_a.py", "x = 'tol" + "d'", id="tests"),
        pytest.param(rules_words.formatted, "tests/unit/test_a.py", "# fmt: off", id="a table in a test"),
    ],
)
def test_lets_pass(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text))) == []


def test_a_phrase_over_a_line_break_is_found_where_it_begins() -> None:
    (found,) = rules_words.plain_words(Source("docs/a.md", "One.\nTwo, no\nsuch\n  thing.\n"))
    assert str(found).startswith("docs/a.md:2: `no such thing`")


USER = Source(B, "from keyforge.budget.core.a import one\nprint(one.two, 'three')\n")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("def one(): ...\nTWO = 2\nclass Three: ...", ["TWO", "Three"], id="functions, constants, classes"),
        pytest.param("ONE: int = 1", ["ONE"], id="a constant with its type"),
        pytest.param("def alone(n):\n    return alone(n - 1)", ["alone"], id="used by itself"),
        pytest.param("class one:\n    def two(self): ...\n    def four(self): ...", ["four"], id="a method"),
        pytest.param("class one(Protocol[T]):\n    @property\n    def four(self): ...", ["four"], id="of a protocol"),
        pytest.param("class one(asyncio.Protocol):\n    def data_received(self): ...", [], id="called by others"),
        pytest.param("class one(two): ...\nclass two(HTTP):\n    def four(self): ...", [], id="by a base's base"),
        pytest.param("@router.get('/')\ndef four(): ...", [], id="handed to others"),
        pytest.param("@cache\ndef four(): ...", ["four"], id="only shaped"),
        pytest.param("ALL = (ErrorType('three', 400), ErrorType('four', 400))", ["ALL", "four"], id="an error"),
        pytest.param("def three(): ...\ndef main(): ...", [], id="named in a string, and a program"),
    ],
)
def test_unused(text: str, found: list[str]) -> None:
    left = rules_names.unused([Source(A, text), USER], outside='kf = "keyforge.budget.core.a:main"')
    assert sorted(one.name for one in left) == sorted(found)


def test_tests_use_the_testkit_and_nothing_else() -> None:
    test = Source("tests/unit/test_a.py", "from x import one\none()\n")
    assert [one.name for one in rules_names.unused([Source(B, "def one(): ...")], [test])] == ["one"]
    assert list(rules_names.unused([Source(TESTKIT, "def one(): ...")], [test])) == []


@pytest.mark.usefixtures("no_exceptions")
def test_an_exception_that_is_not_needed_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    product = [Source(A, "def one(): ...")]
    assert len(list(rules_names.dead_names(product))) == 1
    monkeypatch.setattr(exceptions, "UNUSED", {"budget::one": "a reason"})
    assert list(rules_names.dead_names(product)) == []
    assert "is used, or gone" in str(*rules_names.dead_names([*product, USER]))


@pytest.mark.usefixtures("no_exceptions")
def test_two_classes_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Source(A, "class Lane: ..."), Source(B, "class Lane: ...")
    assert f"{B}:1: class Lane is also in {A}" in str(*rules_names.one_word_one_thing([two, one]))
    assert list(rules_names.one_word_one_thing([one, Source(B, "class _Lane: ...")])) == []
    monkeypatch.setattr(exceptions, "SHARED_NAMES", {"Lane": "a reason"})
    assert list(rules_names.one_word_one_thing([one, two])) == []
    assert "remove it" in str(*rules_names.one_word_one_thing([one]))
