"""Decides whether a query may be run for a reader of the embedded engine: one statement that reads tables and no more.

The engine has no users, and its read-only mode still lets a query read files (`file()`), write one (INTO OUTFILE) and
end other queries. So this gate stands in front of it, as strict as can be: it takes the query apart itself, refuses
whatever it and the engine might take apart differently (other comments, heredocs, curly quotes), and knows by name
every function that reaches outside. The engine's read-only mode stands behind it.
"""

import re
from typing import Final, NamedTuple

READING: Final = frozenset(("select", "with", "show", "describe", "desc", "explain", "exists", "from"))
"""What a statement may begin with."""
HARMLESS_TABLE_FUNCTIONS: Final = frozenset(
    """
    format generate_series generateseries null numbers numbers_mt sqlstandardvalues values view zeros zeros_mt
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
"""All other table functions of the engine are refused: they read files, networks, other servers, Python's memory."""
OUTSIDE: Final = frozenset(
    """
    cluster clusterallreplicas dictionary eval executable filesystem hdfs input jdbc loop merge mongodb mysql odbc
    postgresql python redis remote remotesecure s3 sqlite url
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
"""Table functions that reach outside the tables, whatever the engine says of itself."""
OUTSIDE_AS_VALUES: Final = frozenset(
    """
    catboostevaluate evalmlmethod file filesystemavailable filesystemcapacity filesystemunreserved getclienthttpheader
    getmacro getserversetting logtrace showcertificate
    """.split()  # noqa: SIM905  # a list of words reads better as words
)
"""Other functions that do. No parenthesis need follow: `arrayMap(file, ...)` and `* APPLY(file)` call them too."""
REFUSED_WORDS: Final = frozenset(("outfile", "infile", "identifier"))
QUERY_CHARS_MAX: Final = 256 * 1024

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


class Allowed(NamedTuple):
    """A query that may be run. `format`: what it asks for itself, empty if it leaves that open."""

    sql: str
    format: str
    bare: str
    """The query without its FORMAT."""


class Refused(NamedTuple):
    """Why a query may not be run."""

    why: str


class _Token(NamedTuple):
    kind: str
    text: str
    start: int

    @property
    def name(self) -> str:
        """The name that an identifier stands for, in lower case; empty if it is none."""
        if self.kind == "word":
            return self.text.lower()
        return self.text[1:-1].lower() if self.kind == "quoted" else ""


def judge(sql: str, table_functions: frozenset[str]) -> Allowed | Refused:
    """Judge a query. `table_functions` are the engine's own, in lower case."""
    if len(sql) > QUERY_CHARS_MAX:
        return Refused("the query is too long")
    tokens = _tokens(sql)
    if isinstance(tokens, Refused):
        return tokens
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    if not tokens:
        return Refused("the query is empty")
    if why := _why_not(tokens, table_functions):
        return Refused(why)
    last = tokens[-1]
    end = last.start + len(last.text)
    if len(tokens) > 2 and tokens[-2].kind == "word" and tokens[-2].name == "format" and last.kind == "word":
        return Allowed(sql[:end], last.text, sql[: tokens[-2].start])
    return Allowed(sql[:end], "", sql[:end])


def is_database(name: str) -> bool:
    """Say whether this may name a database."""
    return _IDENTIFIER.fullmatch(name) is not None


def _tokens(sql: str) -> list[_Token] | Refused:
    tokens: list[_Token] = []
    at = 0
    while at < len(sql):
        match = _TOKEN.match(sql, at)
        if match is None or sql.startswith("//", at) or (sql.startswith("/*", at) and match.lastgroup != "space"):
            return Refused(f"cannot be read from character {at + 1} on")
        if match.lastgroup != "space":
            tokens.append(_Token(match.lastgroup or "", match.group(), at))
        at = match.end()
    return tokens


def _why_not(tokens: list[_Token], table_functions: frozenset[str]) -> str:
    first = next((token for token in tokens if token.text != "("), tokens[0])
    if first.kind != "word" or first.name not in READING:
        return "only statements that read are allowed"
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        after = following.text if following else ""
        name = token.name
        if token.text == ";":
            return "one statement at a time"
        if token.kind == "word" and name in REFUSED_WORDS:
            return f"{token.text} is not allowed"
        if token.kind == "quoted" and ("\\" in token.text or after == "("):
            return f"the name {token.text[:80]} is not allowed"
        if _reaches_outside(name) or (after == "(" and _reads_outside(name, table_functions)):
            return f"the function {token.text[:80]} is not allowed"
        if name == "default" and after == ".":
            return "the database default is not allowed"
    return ""


def _reaches_outside(name: str) -> bool:
    return name in OUTSIDE_AS_VALUES or _AI.fullmatch(name) is not None


def _reads_outside(name: str, table_functions: frozenset[str]) -> bool:
    return name not in HARMLESS_TABLE_FUNCTIONS and (name in OUTSIDE or name in table_functions)
