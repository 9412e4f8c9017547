"""The second factor: codes from an app (TOTP), and recovery codes for the day the phone is gone.

An app's secret is made here, shown as a QR code, and counts from the moment its first code is right. Recovery codes are
kept as hashes and work once each. django-otp checks the app's codes: each works once, and a wrong one makes the next
wait, twice as long each time.
"""

import base64
import hashlib
import re
import secrets

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django_otp.plugins.otp_totp.models import TOTPDevice

from fleet.models.access import RecoveryCode
from fleet.permissions import role_of
from fleet.services.audit import audit

RECOVERY_CODES = 10
_CODE_BYTES = 10
_APP_CODE = re.compile(r"[0-9]{6}")
_RECOVERY_CODE = re.compile(r"[A-Z2-7]{16}")


def app_of(user: User) -> TOTPDevice | None:
    """The app whose codes count, None when the user has none."""
    found: TOTPDevice | None = TOTPDevice.objects.filter(user=user, confirmed=True).first()
    return found


def is_required(user: User) -> bool:
    """Whether the user's role asks for a second factor (FRAMEFLEET_REQUIRE_TOTP)."""
    role = role_of(user)
    return role is not None and role.word in settings.FRAMEFLEET_REQUIRE_TOTP


def begin(user: User) -> TOTPDevice:
    """The app that is being added: the same one until its first code is right. Raises HasApp."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        if app_of(user) is not None:
            raise HasApp
        device: TOTPDevice = TOTPDevice.objects.get_or_create(user=user, confirmed=False)[0]
        return device


def confirm(user: User, code: str) -> tuple[TOTPDevice, list[str]] | None:
    """Let the begun app count from now on: the app, and recovery codes that are shown once. None: the code is wrong."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)
        device = TOTPDevice.objects.select_for_update().filter(user=user, confirmed=False).first()
        if device is None or app_of(user) is not None or not _is_right(device, _plain(code)):
            return None
        device.confirmed = True
        device.save(update_fields=["confirmed"])
        audit(user.get_username(), "add_second_factor", user.get_username())
        return device, _make_codes(user)


def check(user: User, code: str) -> tuple[TOTPDevice, str] | None:
    """The user's app, and what was given (``code`` or ``recovery_code``), which is used up by this. None when wrong."""
    plain = _plain(code)
    with transaction.atomic():
        device = TOTPDevice.objects.select_for_update().filter(user=user, confirmed=True).first()
        if device is None:
            return None
        if _APP_CODE.fullmatch(plain):
            return (device, "code") if _is_right(device, plain) else None
        if _RECOVERY_CODE.fullmatch(plain):
            used, _ = RecoveryCode.objects.filter(user=user, digest=_digest(plain)).delete()
            if used:
                left = user.recovery_codes.count()
                audit(user.get_username(), "use_recovery_code", user.get_username(), {"left": left})
                return device, "recovery_code"
    return None


def renew_codes(user: User) -> list[str]:
    """New recovery codes; the old ones stop working."""
    with transaction.atomic():
        return _make_codes(user)


def remove(user: User, actor: str) -> bool:
    """Take the second factor away; False when there was none."""
    with transaction.atomic():
        removed, _ = TOTPDevice.objects.filter(user=user).delete()
        RecoveryCode.objects.filter(user=user).delete()
        if removed:
            audit(actor, "remove_second_factor", user.get_username())
        return bool(removed)


def readable(code: str) -> str:
    """A recovery code in groups of four."""
    return "-".join(code[start : start + 4] for start in range(0, len(code), 4))


def _make_codes(user: User) -> list[str]:
    RecoveryCode.objects.filter(user=user).delete()
    codes = [base64.b32encode(secrets.token_bytes(_CODE_BYTES)).decode() for _ in range(RECOVERY_CODES)]
    RecoveryCode.objects.bulk_create(RecoveryCode(user=user, digest=_digest(code)) for code in codes)
    audit(user.get_username(), "make_recovery_codes", user.get_username(), {"count": len(codes)})
    return [readable(code) for code in codes]


def _is_right(device: TOTPDevice, code: str) -> bool:
    return bool(_APP_CODE.fullmatch(code) and device.verify_token(code))


def _plain(code: str) -> str:
    return re.sub(r"[\s-]", "", code[:64]).upper()


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


class HasApp(Exception):
    """An app is there already: remove it first."""
