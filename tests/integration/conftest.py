"""Fixtures of the tests with real servers and the real engine."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _databases_dropped() -> Iterator[None]:
    """Drop the databases that a test of audit made."""
    engine = sys.modules.get("tests.integration.audit_engine")
    if engine is None:
        yield
    else:
        with engine.databases_dropped():
            yield
