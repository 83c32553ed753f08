"""Who comes next, and where to."""

from django.db import models


class Route(models.Model):
    """Family + model or workflow + filter + credential class: one verdict serves all its tasks.

    `filter`: only, avoid, prefer (executor names), region, tags, and `tried` (executor ids that failed
    this work: avoided while anybody else could serve it).
    """

    id = models.BigAutoField(primary_key=True)
    key = models.CharField(max_length=64, unique=True)  # digest of all below
    family = models.CharField(max_length=50)
    provider = models.CharField(max_length=50)
    model = models.CharField(max_length=200, blank=True)
    workflow_id = models.UUIDField(null=True)
    action = models.CharField(max_length=64, blank=True)
    filter = models.JSONField(default=dict)
    blocked = models.CharField(max_length=40, blank=True)  # why nobody can serve it, or empty
    detail = models.CharField(max_length=300, blank=True)
    verdicts = models.JSONField(default=list)  # one per executor of the provider, for `explain`
    evaluated_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.family}/{self.model or self.workflow_id}"


class Share(models.Model):
    """Stride scheduling: how far a tenant's clock has run in one level of one provider's executors."""

    pk = models.CompositePrimaryKey("provider", "level", "account")
    provider = models.CharField(max_length=50)
    level = models.PositiveSmallIntegerField()
    account = models.ForeignKey("accounts.Account", on_delete=models.CASCADE)
    clock = models.FloatField(default=0)

    def __str__(self) -> str:
        return f"{self.provider}/{self.level}"


class LevelClock(models.Model):
    """By executor id: the clocks of its levels (6:3:1). By provider: the floors tenants back from idle start at."""

    pk = models.CompositePrimaryKey("name", "level")
    name = models.CharField(max_length=50)
    level = models.PositiveSmallIntegerField()
    clock = models.FloatField(default=0)

    def __str__(self) -> str:
        return f"{self.name}/{self.level}"
