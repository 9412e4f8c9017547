"""What the broker keeps for all frames: chunks, documents and the head of the repository."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from ota.models.artifact import Artifact


class RetainedObject(models.Model):
    """One retained message below ``repo/``; or an empty one, which has the broker forget a retired frame's own.

    ``payload`` holds the bytes, or is empty for a chunk that is read from ``artifact`` at ``offset`` when it is due. A
    new payload gets a new ``revision``, so that the broker's answer to an older one does not pass for its own.
    """

    class Order(models.IntegerChoices):
        """Everything of one class is with the broker before the next class begins."""

        CHUNK = 0
        DOCUMENT = 1
        HEAD = 2

    topic = models.CharField(primary_key=True, max_length=128)
    order = models.SmallIntegerField(choices=Order.choices)
    payload = models.BinaryField(null=True)
    artifact = models.ForeignKey(Artifact, null=True, on_delete=models.CASCADE, related_name="retained")
    offset = models.BigIntegerField(default=0)
    length = models.IntegerField()
    revision = models.BigIntegerField(default=1)
    published = models.BooleanField(default=False)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["order", "topic"], name="retained_due", condition=Q(published=False)),
        ]

    def __str__(self) -> str:
        return self.topic
