"""Who may speak in a frame's name: claims that frames are born with, and the certificates they hold."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils import timezone

from fleet.models.frames import Frame


class Claim(models.Model):
    """What a frame's label carries: good once, for a while. Of the token only its SHA-256 is kept.

    A frame has one at most; a new one takes the place of the old. ``key_fingerprint`` is that of the key which used it.
    """

    frame = models.OneToOneField(Frame, primary_key=True, on_delete=models.CASCADE, related_name="claim")
    digest = models.CharField(max_length=64, unique=True)
    made_by = models.CharField(max_length=150)
    made_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    key_fingerprint = models.CharField(max_length=64, blank=True)

    def __str__(self) -> str:
        return f"claim of {self.frame_id}"


class FrameCertificate(models.Model):
    """One client certificate of one frame.

    Good until ``good_until``, unless revoked: ``not_after``, or earlier where a successor has taken its place.
    ``serial_hex`` is the serial number in lower-case hex without leading zeros, ``authority`` the ``Authority.id`` that
    signed, ``key_fingerprint`` the SHA-256 of the public key (SubjectPublicKeyInfo, DER) in hex.
    """

    frame = models.ForeignKey(Frame, on_delete=models.CASCADE, related_name="certificates", db_index=False)
    serial_hex = models.CharField(max_length=40, unique=True)
    fingerprint = models.CharField(max_length=64, unique=True)
    key_fingerprint = models.CharField(max_length=64, db_index=True)
    authority = models.CharField(max_length=16)
    der = models.BinaryField()
    issued_at = models.DateTimeField()
    not_after = models.DateTimeField()
    good_until = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_reason = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ("frame_id", "-issued_at", "-id")
        indexes: ClassVar = [
            models.Index(fields=["frame", "-issued_at"]),
            models.Index(fields=["revoked_at"], name="certificate_revoked", condition=Q(revoked_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.frame_id}: {self.serial_hex}"


class SpentNonce(models.Model):
    """A nonce of the birth endpoint that a renewal has used; kept until it would have expired anyway."""

    nonce = models.CharField(primary_key=True, max_length=32)
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return self.nonce


class BrokerUsers(models.Model):
    """One row: ``revision`` grows whenever somebody else may connect to the broker than before."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    revision = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"revision {self.revision}"
