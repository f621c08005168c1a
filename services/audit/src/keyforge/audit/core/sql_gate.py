"""Decides whether a reader's query may run on the embedded engine: one statement that reads tables and nothing else.

The engine has no users, and its read-only mode still lets a query read files (`file()`), write one (INTO OUTFILE) and
end other queries. So every query passes this gate first. It splits the query into tokens itself, refuses whatever it
and the engine might read differently (other comments, heredocs, curly quotes), and knows by name every function that
reaches outside the tables. The engine's read-only mode is the second, independent barrier (ADR 18).
"""

import re
from typing import Final, NamedTuple

STATEMENTS: Final = frozenset(("select", "with", "show", "describe", "desc", "explain", "exists", "from"))
"""The first word of a statement that reads."""
HARMLESS_TABLE_FUNCTIONS: Final = frozenset(
    """
    format generate_series generateseries null numbers numbers_mt sqlstandardvalues values view zeros zeros_mt
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
"""All other table functions of the engine are refused: they read files, networks, other servers or Python's memory."""
EXTERNAL_TABLE_FUNCTIONS: Final = frozenset(
    """
    cluster clusterallreplicas dictionary eval executable filesystem hdfs input jdbc loop merge mongodb mysql odbc
    postgresql python redis remote remotesecure s3 sqlite url
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
"""Table functions that reach outside the tables; refused even if the engine does not list them."""
EXTERNAL_FUNCTIONS: Final = frozenset(
    """
    catboostevaluate evalmlmethod file filesystemavailable filesystemcapacity filesystemunreserved getclienthttpheader
    getmacro getserversetting logtrace showcertificate
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
"""Other functions that do. Refused without a parenthesis too: `arrayMap(file, ...)` and `* APPLY(file)` call them."""
REFUSED_WORDS: Final = frozenset(("outfile", "infile", "identifier"))
QUERY_CHARS_MAX: Final = 256 * 1024
"""Precedent: 256 KiB is ClickHouse's own default for `max_query_size`."""

_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t\r\n\f\v]+|--[^\n]*|/\*(?:(?!/\*).)*?\*/)
      |(?P<text>'(?:[^'\\]|\\.|'')*')
      |(?P<quoted>"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`)
      |(?P<word>[A-Za-z_][A-Za-z_0-9]*)
      |(?P<number>[0-9][A-Za-z_0-9.]*)
      |(?P<other>[-+*/%=<>!?:.,;()\[\]{}@|^~&])""",
    re.VERBOSE | re.DOTALL,
)
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_AI: Final = re.compile(r"ai(classify|embed|extract|filter|generate|redact|similarity|translate|[a-z]*model)")


class AllowedQuery(NamedTuple):
    """A query that may run. `format` is the one that it names itself, empty if it names none."""

    sql: str
    format: str
    bare: str
    """The query without its FORMAT clause."""


class RefusedQuery(NamedTuple):
    """Why a query may not run."""

    why: str


class _Token(NamedTuple):
    kind: str
    text: str
    start: int

    @property
    def name(self) -> str:
        """The name of an identifier in lower case; empty for other tokens."""
        if self.kind == "word":
            return self.text.lower()
        return self.text[1:-1].lower() if self.kind == "quoted" else ""


def judge(sql: str, table_functions: frozenset[str]) -> AllowedQuery | RefusedQuery:
    """Decide on a query. `table_functions` are those that the engine lists, in lower case."""
    if len(sql) > QUERY_CHARS_MAX:
        return RefusedQuery(f"the query is longer than {QUERY_CHARS_MAX} characters")
    tokens = _tokens(sql)
    if isinstance(tokens, RefusedQuery):
        return tokens
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    if not tokens:
        return RefusedQuery("the query is empty")
    if why := _violation(tokens, table_functions):
        return RefusedQuery(why)
    last = tokens[-1]
    end = last.start + len(last.text)
    if len(tokens) > 2 and tokens[-2].kind == "word" and tokens[-2].name == "format" and last.kind == "word":
        return AllowedQuery(sql[:end], last.text, sql[: tokens[-2].start])
    return AllowedQuery(sql[:end], "", sql[:end])


def is_database(name: str) -> bool:
    """Return whether this is an identifier, which may name a database."""
    return _IDENTIFIER.fullmatch(name) is not None


def _tokens(sql: str) -> list[_Token] | RefusedQuery:
    tokens: list[_Token] = []
    at = 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None or sql.startswith("//", at) or (sql.startswith("/*", at) and match.lastgroup != "space"):
            return RefusedQuery(f"unsupported syntax at character {at + 1}")
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup or "", match.group(), at))
        at = match.end()
    return tokens


def _violation(tokens: list[_Token], table_functions: frozenset[str]) -> str:
    first = next((token for token in tokens if token.text != "("), tokens[0])
    if first.kind != "word" or first.name not in STATEMENTS:
        return "only statements that read are allowed: SELECT, WITH, FROM, SHOW, DESCRIBE, EXPLAIN, EXISTS"
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        after = following.text if following else ""
        name = token.name
        if token.text == ";":
            return "only one statement is allowed"
        if token.kind == "word" and name in REFUSED_WORDS:
            return f"{token.text} is not allowed"
        if token.kind == "quoted" and ("\\" in token.text or after == "("):
            return f"the name {token.text[:80]} is not allowed"
        if _is_external(name) or (after == "(" and _is_external_table(name, table_functions)):
            return f"the function {token.text[:80]} is not allowed"
        if name == "default" and after == ".":
            return "the database default is not allowed"
    return ""


def _is_external(name: str) -> bool:
    return name in EXTERNAL_FUNCTIONS or _AI.fullmatch(name) is not None


def _is_external_table(name: str, table_functions: frozenset[str]) -> bool:
    return name not in HARMLESS_TABLE_FUNCTIONS and (name in EXTERNAL_TABLE_FUNCTIONS or name in table_functions)
