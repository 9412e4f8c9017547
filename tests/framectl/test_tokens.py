"""``framectl tokens`` against a server that runs."""

import json

import pytest

from framectl.__main__ import main

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


def test_a_token_is_made_used_listed_and_revoked(
    live_server: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fleet.services.tokens import create_token
    from tests.fleet.factories import make_user

    monkeypatch.setenv("FRAMEFLEET_SERVER", str(getattr(live_server, "url", "")))
    monkeypatch.setenv("FRAMEFLEET_TOKEN", create_token(make_user("eng"), "tests"))
    assert main(["tokens", "create", "ci", "--days", "7"]) == 0
    token = capsys.readouterr().out.strip()
    assert main(["tokens", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["scope"]) for row in listed] == [("tests", "admin"), ("ci", "read")]
    assert main(["--token", token, "groups", "list"]) == 0
    capsys.readouterr()
    assert main(["--token", token, "groups", "create", "zh"]) == 1
    assert "needs a token of the scope operate" in capsys.readouterr().err
    assert main(["tokens", "revoke", "ci"]) == 0
    assert main(["--token", token, "groups", "list"]) == 1
    assert "unknown or has expired" in capsys.readouterr().err
    assert main(["tokens", "revoke", "ci"]) == 1
