"""The gate before the embedded engine: what reads passes, all else does not, however it is written."""

import pytest

from keyforge.audit.core import sql_gate
from keyforge.audit.core.sql_gate import AllowedQuery, RefusedQuery

TABLE_FUNCTIONS = frozenset(("file", "url", "numbers", "newreader", "view"))


@pytest.mark.parametrize(
    ("sql", "format_"),
    [
        ("SELECT 1", ""),
        ("select count() from records FORMAT Native", "Native"),
        ("SELECT 1 FORMAT JSON ;", "JSON"),
        ("WITH 1 AS x SELECT x", ""),
        ("(SELECT 1) UNION ALL (SELECT 2)", ""),
        ("FROM numbers(3) SELECT number", ""),
        ("SHOW TABLES", ""),
        ("DESCRIBE TABLE records", ""),
        ("EXPLAIN SELECT 1", ""),
        ("EXISTS TABLE records", ""),
        ("SELECT 'INSERT; it''s \\' file(x)' -- file(1)\n, \"a\"\"b\", `c``d` /* url( */ FROM t", ""),
        ("SELECT format('{}', 'x'), countIf(status = 200) FROM requests WHERE tenant = {t:String}", ""),
        ("SELECT url, input AS remote FROM t", ""),
        ("SELECT '日本', 1.5e3, 0x1F, [1, 2], (1, 'a').1, x -> x + 1, a::UInt8, m['k'], @@version", ""),
        ("SELECT aim(1), airport(2)", ""),
    ],
)
def test_what_reads_passes(sql: str, format_: str) -> None:
    found = sql_gate.judge(sql, TABLE_FUNCTIONS)
    assert isinstance(found, AllowedQuery), found
    assert found.format == format_


@pytest.mark.parametrize(
    "sql",
    [
        "",
        " ; ",
        "INSERT INTO t VALUES (1)",
        "DROP TABLE records",
        "ALTER TABLE records DELETE WHERE 1",
        "SET readonly = 0",
        "SYSTEM FLUSH LOGS",
        "KILL QUERY WHERE 1",
        "BACKUP TABLE t TO File('x')",
        "CHECK TABLE t",
        "USE default",
        "ATTACH TABLE x FROM '/tmp' (a UInt8) ENGINE = File(TSV)",
        "SELECT 1; DROP TABLE records",
        "SELECT 1;;SELECT 2",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
        "SELECT file('/etc/passwd')",
        "SELECT FILE ('/etc/passwd')",
        "SELECT file/**/('/etc/passwd')",
        "SELECT file --\n('/etc/passwd')",
        # A function is called by its name alone where it is a value.
        "SELECT arrayMap(file, ['/etc/passwd'])",
        "SELECT * APPLY(file) FROM (SELECT '/etc/passwd' AS x)",
        "SELECT * APPLY file FROM (SELECT '/etc/passwd' AS x)",
        "SELECT * APPLY(`File`) FROM (SELECT '/etc/passwd' AS x)",
        "SELECT arrayMap(aiGenerate, ['x'])",
        "SELECT file FROM t",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
        "SELECT * FROM `file`('/etc/passwd', 'LineAsString')",
        "SELECT * FROM \"file\"('/etc/passwd')",
        # No name in quotes is called, whatever it is: the engine may unescape more than we do.
        "SELECT * FROM `numbers`(3)",
        'SELECT "upper"(name) FROM t',
        "SELECT * FROM \"f\\x69le\"('/etc/passwd')",
        'SELECT * FROM "f\\x69le"',
        "DESCRIBE TABLE url('http://127.0.0.1/', 'CSV')",
        "SELECT * FROM newreader('x')",
        "SELECT * FROM executable('id', 'TSV', 'x String')",
        "SELECT * FROM Python(x)",
        "SELECT * FROM remote('127.0.0.1', system.one)",
        "SELECT * FROM merge('default', '.*')",
        "SELECT * FROM default.`/etc/passwd`",
        "SELECT * FROM `default`.`/etc/passwd`",
        "SELECT aiGenerate('x')",
        "SELECT * FROM {t:Identifier}",
        "EXPLAIN TABLE OVERRIDE mysql('127.0.0.1:1', 'a', 'b', 'c', 'd') PARTITION BY x",
        # What might be taken apart in two ways is not taken at all.
        "SELECT 1 # comment",
        "SELECT 1 // comment",
        "SELECT /* a /* b */ 1 */",
        "SELECT $$file('x')$$",
        "SELECT \u2018a\u2019",
        "SELECT\u00a01",
        "SELECT 'a",
        "SELECT 'a\\'",
        'SELECT "a',
        "SELECT 1 \0",
        "SELECT /* 1",
        "SELECT '" + "x" * sql_gate.QUERY_CHARS_MAX + "'",
    ],
)
def test_all_else_does_not(sql: str) -> None:
    assert isinstance(sql_gate.judge(sql, TABLE_FUNCTIONS), RefusedQuery)
