"""House rules about what services answer over HTTP: each shape is a class, and its name says that it is an answer."""

import ast
import re
from collections.abc import Iterator

from tests.tidy.rules_code import SERVICES
from tests.tidy.tree import Source, Violation, dotted

METHODS = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "api_route"})
MODELS = re.compile(r"(^|\.)(BaseModel|RootModel|Struct|TypedDict)$|(Request|Response)$")
NAMED = re.compile(r"(Request|Response)$")
OTHER_WORDS = re.compile(r"(View|Out|Answer|Dto|DTO)$")
CONTAINERS = frozenset({"list", "tuple", "dict", "Annotated", "Optional", "Sequence", "Mapping"})


def answers(source: Source) -> Iterator[Violation]:
    """What a route returns, and what is rendered into it, ends in `Response`; what it takes ends in `Request`."""
    if not source.is_python or len(source.package) < 3 or source.package[1] != "inbound":
        return
    if source.package[0] not in SERVICES:
        return
    for node in source.nodes:
        if isinstance(node, ast.ClassDef) and _is_model(node) and not NAMED.search(node.name):
            yield source.at(node.lineno, f"class {node.name}: …Response if it is answered, …Request if it is taken")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for shape in _shapes(node):
                for name in _names(shape):
                    if not name.endswith("Response"):
                        yield source.at(shape.lineno, f"{node.name} answers `{name}`: a class that ends in Response")


def _is_model(node: ast.ClassDef) -> bool:
    bases = [dotted(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]
    return bool(OTHER_WORDS.search(node.name)) or any(MODELS.search(base) for base in bases)


def _shapes(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.expr]:
    """What a route answers, by its annotation and by `response_model`; nothing for a function that is no route."""
    for decorator in function.decorator_list:
        if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Attribute):
            continue
        if decorator.func.attr in METHODS:
            yield from (keyword.value for keyword in decorator.keywords if keyword.arg == "response_model")
            if function.returns is not None:
                yield function.returns


def _names(shape: ast.expr) -> Iterator[str]:
    """The classes of an annotation: those inside a list or a union, one by one."""
    match shape:
        case ast.Constant(value=str(text)):
            yield from _names(ast.parse(text, mode="eval").body)
        case ast.BinOp():
            yield from _names(shape.left)
            yield from _names(shape.right)
        case ast.Subscript(value=value, slice=inside) if dotted(value).rpartition(".")[2] in CONTAINERS:
            for part in inside.elts if isinstance(inside, ast.Tuple) else (inside,):
                yield from _names(part)
        case ast.Subscript(value=value):
            yield from _names(value)
        case ast.Name() | ast.Attribute():
            yield dotted(shape).rpartition(".")[2]


ALL = (answers,)
