"""Each house rule shown something bad and something good: a rule that lets both pass guards nothing."""

import ast

import pytest

from tests.tidy import rules_code, rules_pace, rules_routes, rules_text
from tests.tidy.test_rules import Rule
from tests.tidy.tree import Source, dotted, sources

CORE = "services/budget/src/keyforge/budget/core/admit.py"
SHELL = "services/budget/src/keyforge/budget/outbound/writer.py"
ROUTES = "services/keys/src/keyforge/keys/inbound/tenants.py"
ROUTE = "@router.get('/')\nasync def f(){}: ..."
TEST = "tests/unit/test_budget_admit.py"
BODY = "\n".join(f"    a{n} = {n}" for n in range(60))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        pytest.param(rules_text.parses, CORE, "def (", id="syntax"),
        pytest.param(rules_text.file_length, CORE, "a = 1\n" * 301, id="long file"),
        pytest.param(rules_text.function_length, CORE, f"def f():\n{BODY}\n", id="long function"),
        pytest.param(rules_text.module_docstring, CORE, "a = 1\n", id="no docstring"),
        pytest.param(rules_text.vague_names, "libs/runtime/src/keyforge/runtime/http_utils.py", "", id="vague file"),
        pytest.param(rules_text.vague_names, CORE, "class LedgerManager: ...", id="vague class"),
        pytest.param(rules_text.reasons, CORE, 'A = 1\n"""How many. Chosen."""', id="chosen, no reason"),
        pytest.param(rules_text.reasons, CORE, 'A = 1\n"""Chosen: it is enough."""', id="chosen, no figure"),
        pytest.param(rules_text.explained, CORE, "WAIT_S: Final = 1.0", id="a time, no docstring"),
        pytest.param(rules_text.explained, CORE, "_A_BYTES: Final[int] = 4 * 1024\n\n'Far.'", id="a docstring apart"),
        pytest.param(rules_text.explained, CORE, "ITEMS_MAX: Final = 1\ndef f(): ...", id="a limit, a function"),
        pytest.param(rules_text.explained, CORE, "A_MS: Final = 1\nf()\n'It.'", id="a limit, a call"),
        pytest.param(rules_text.conflicts, "docs/architecture.md", "<<<<<<" + "< HEAD", id="a merge"),
        pytest.param(rules_text.unfinished, CORE, "# TO" + "DO: later", id="unfinished"),
        pytest.param(rules_text.unfinished, CORE, "raise NotImplemented" + "Error", id="not implemented"),
        pytest.param(
            rules_text.addresses, "docs/a.md", "index: https://mirror.example/pypi" + "/simple", id="registry"
        ),
        pytest.param(rules_text.addresses, "docs/a.md", "see " + "/Us" + "ers/ann/kf", id="machine path"),
        pytest.param(rules_text.secrets, TEST, "key = 'sk-" + "a1" * 12 + "'", id="secret"),
        pytest.param(rules_text.top_level, "notes.txt", "", id="top level"),
        pytest.param(rules_text.package_marker, "libs/chain/src/keyforge/__init__.py", "", id="namespace"),
        pytest.param(rules_code.purity, CORE, "import asyncio", id="core imports asyncio"),
        pytest.param(rules_code.purity, CORE, "from time import monotonic", id="core imports a clock"),
        pytest.param(rules_code.purity, CORE, "from urllib.request import urlopen", id="core opens an address"),
        pytest.param(rules_code.purity, CORE, "from keyforge.runtime import clock", id="core imports runtime"),
        pytest.param(rules_code.purity, CORE, "from keyforge.budget.outbound import writer", id="core looks outward"),
        pytest.param(
            rules_code.purity, CORE, "import sys\nx = sys.version_info, sys.argv", id="core reads what sys has"
        ),
        pytest.param(rules_code.purity, CORE, "async def admit(): ...", id="async core"),
        pytest.param(rules_code.purity, CORE, "def f():\n    open('a')", id="core opens a file"),
        pytest.param(rules_code.independence, SHELL, "from keyforge.edge import flow", id="service imports service"),
        pytest.param(rules_code.clocks, SHELL, "import datetime as dt\nx = dt.datetime.now()", id="clock"),
        pytest.param(rules_code.clocks, SHELL, "import time\ndef f(now=time.time): ...", id="clock by reference"),
        pytest.param(rules_code.clocks, SHELL, "from time import time", id="clock imported bare"),
        pytest.param(rules_code.random_ids, SHELL, "import uuid\nx = uuid.uuid4()", id="uuid4"),
        pytest.param(rules_code.random_ids, SHELL, "from uuid import uuid4", id="uuid4 bare"),
        pytest.param(rules_code.environment, SHELL, "import os\nURL = os.environ['A']", id="environment"),
        pytest.param(rules_code.environment, SHELL, "import os\ndef f(a=os.getenv('A')): ...", id="default argument"),
        pytest.param(
            rules_code.environment, SHELL, "import os\nclass A:\n    b = os.environ.get('A')", id="class body"
        ),
        pytest.param(rules_code.subjects, SHELL, "x = f'kf.log.{1}.adm'", id="subject in an f-string"),
        pytest.param(rules_code.subjects, SHELL, "x = '$JS.API.>'", id="server's subject"),
        pytest.param(rules_code.subjects, SHELL, "x = 'KF_LOG_1'", id="stream"),
        pytest.param(
            rules_code.honest_tests, TEST, "import pytest\n@pytest.mark.skip\ndef test_a(): ...", id="bare skip"
        ),
        pytest.param(rules_code.honest_tests, TEST, "import pytest\ndef test_a():\n    pytest.skip()", id="bare call"),
        pytest.param(rules_code.honest_tests, TEST, "import time\ndef test_a():\n    time.sleep(1)", id="bare sleep"),
        pytest.param(rules_code.honest_tests, TEST, "from unittest.mock import patch", id="mock"),
        pytest.param(rules_code.honest_tests, "tests/unit/budget.py", "def test_a(): ...", id="never collected"),
        pytest.param(rules_code.secrets_compared, SHELL, "if found.mac != mac: ...", id="mac by !="),
        pytest.param(rules_code.secrets_compared, SHELL, "x = key.digest == digest(text)[:8]", id="digest by =="),
        pytest.param(rules_code.secrets_compared, SHELL, "x = hmac.new(a, b).hexdigest() == c", id="fresh digest"),
        pytest.param(rules_pace.patience, TEST, "async with asyncio.timeout(5): ...", id="short wait"),
        pytest.param(rules_pace.patience, TEST, "W_S = 2.0\nwait_until(f, 'it', timeout_s=W_S)", id="short by a name"),
        pytest.param(rules_pace.patience, TEST, "self.process.wait(10)", id="short wait for a process"),
        pytest.param(rules_pace.hangs, TEST, "@pytest.mark.timeout(120)\ndef test_a(): ...", id="a mark that shortens"),
        pytest.param(rules_pace.hypothesis_pace, TEST, "@settings(deadline=500)\ndef test_a(): ...", id="deadline"),
        pytest.param(rules_routes.answers, ROUTES, "class TenantModel(BaseModel): ...", id="a model of pydantic"),
        pytest.param(rules_routes.answers, ROUTES, "class Row(msgspec.Struct, frozen=True): ...", id="of msgspec"),
        pytest.param(rules_routes.answers, ROUTES, "class TenantsView(TenantResponse): ...", id="of one of ours"),
        pytest.param(rules_routes.answers, ROUTES, "class KeyOut: ...", id="another word"),
        pytest.param(rules_routes.answers, ROUTES, "class KeyAnswer: ...", id="one more word"),
        pytest.param(rules_routes.answers, ROUTES, ROUTE.format(" -> responses.Tenant"), id="returned"),
        pytest.param(rules_routes.answers, ROUTES, ROUTE.format(" -> list[Tenant] | None"), id="returned in a list"),
        pytest.param(rules_routes.answers, ROUTES, ROUTE.format(" -> dict[str, Any]"), id="returned without a class"),
        pytest.param(
            rules_routes.answers, ROUTES, "@app.post('/', response_model=Key)\ndef f(): ...", id="response_model"
        ),
    ],
)
def test_bites(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text)))


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        pytest.param(rules_text.function_length, CORE, f'def f():\n    """{BODY}"""\n', id="a docstring may be long"),
        pytest.param(rules_text.vague_names, "libs/runtime/src/keyforge/runtime/commons.py", "", id="part of a word"),
        pytest.param(rules_text.addresses, "README.md", "git clone https://github.com/x/y\ncd libs/work/x", id="links"),
        pytest.param(rules_text.secrets, TEST, "key = 'sk-fixture-" + "a1" * 12 + "'", id="a fixture says so"),
        pytest.param(
            rules_code.purity, CORE, "from keyforge.chain import header\nfrom .ledger import Ledger", id="core"
        ),
        pytest.param(rules_code.purity, CORE, "from urllib.parse import urlsplit", id="core reads an address"),
        pytest.param(
            rules_code.purity,
            CORE,
            "import sys\nif sys.version_info >= (3, 14): ...",
            id="core asks which Python it is",
        ),
        pytest.param(rules_code.purity, SHELL, "import asyncio\nasync def f(): ...", id="a shell may be async"),
        pytest.param(rules_code.clocks, SHELL, "import time\nx = time.monotonic()", id="monotonic"),
        pytest.param(
            rules_code.environment, SHELL, "import os\ndef f():\n    return os.environ['A']", id="when called"
        ),
        pytest.param(rules_code.subjects, SHELL, '"""Reads kf.log.1.adm."""', id="prose"),
        pytest.param(
            rules_code.honest_tests, TEST, "import time\ndef test_a():\n    time.sleep(1)  # the tick", id="a reason"
        ),
        pytest.param(rules_code.secrets_compared, SHELL, "x = compare_digest(a.mac, mac)", id="constant time"),
        pytest.param(rules_code.secrets_compared, SHELL, "x = len(mac) == 32 or secret == ''", id="lengths, nothing"),
        pytest.param(rules_code.secrets_compared, SHELL, "x = machine == emacs", id="parts of words"),
        pytest.param(rules_pace.patience, TEST, "async with asyncio.timeout(60): ...", id="a long wait"),
        pytest.param(
            rules_pace.patience, TEST, "W_S = 1.0  # nothing may come\nasyncio.timeout(W_S)", id="short, it says why"
        ),
        pytest.param(
            rules_pace.hangs, TEST, "@pytest.mark.timeout(3600)\ndef test_a(): ...", id="a mark that lengthens"
        ),
        pytest.param(rules_text.reasons, CORE, 'A = 1\n"""Chosen: a tenth of `B_S`."""', id="chosen for a reason"),
        pytest.param(rules_text.explained, CORE, "A_S: Final = 1\nB_MAX: Final = 2\n'It.'", id="a docstring for two"),
        pytest.param(rules_text.explained, CORE, "_NAMES: Final = 1\nA = 2", id="no limit"),
        pytest.param(rules_text.reasons, TEST, 'A = 1\n"""Chosen."""', id="chosen in a test"),
        pytest.param(rules_routes.answers, ROUTES, ROUTE.format(" -> list[a.KeyResponse] | None"), id="an answer"),
        pytest.param(rules_routes.answers, ROUTES, "def f() -> Key: ...\nclass Guard: ...", id="no route, no model"),
        pytest.param(rules_routes.answers, ROUTES, "class KeyRequest(BaseModel): ...", id="what is taken"),
        pytest.param(rules_routes.answers, SHELL, "class Row(msgspec.Struct): ...", id="a row that is not answered"),
    ],
)
def test_lets_pass(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source(path, text))) == []


def in_constant_time() -> list[tuple[str, str]]:
    """Path and text of each comparison in the product that takes as long whatever differs."""
    return [
        (source.path, " != ".join(map(ast.unparse, node.args)))
        for source in sources()
        if source.is_product and "compare_digest" in source.text  # only those are parsed, and by every worker
        for node in source.nodes
        if isinstance(node, ast.Call) and dotted(node.func) == "hmac.compare_digest"
    ]


@pytest.mark.parametrize(("path", "comparison"), in_constant_time(), ids=lambda text: str(text)[-60:])
def test_no_comparison_in_constant_time_can_become_another(path: str, comparison: str) -> None:
    """No test at run time could see it."""
    assert list(rules_code.secrets_compared(Source(path, f"x = {comparison}")))
