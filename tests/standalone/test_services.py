"""What tests do where the embedded services are not installed."""

from pathlib import Path

import pytest

from standalone.processes import ServiceError
from tests.services import require


def _missing() -> Path:
    raise ServiceError("The embedded broker is not installed: run 'make setup'.")


def test_a_test_that_needs_a_missing_service_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="run 'make setup'"):
        require(_missing)


def test_in_ci_a_missing_service_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(ServiceError, match="not installed"):
        require(_missing)
