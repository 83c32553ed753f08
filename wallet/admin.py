"""Django admin's pages for money: the ledger is read-only, and a wallet changes by an adjustment only."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from genpulse.errors import ValidationFailed
from genpulse.http.parsing import parse
from genpulse.money import to_credits, to_micro
from wallet import rules, services
from wallet.models import Entry, Hold, Journal, PriceRule, Wallet
from wallet.price_api import PriceBody

if TYPE_CHECKING:
    WalletPages = admin.ModelAdmin[Wallet]
    HoldPages = admin.ModelAdmin[Hold]
    JournalPages = admin.ModelAdmin[Journal]
    PricePages = admin.ModelAdmin[PriceRule]
    EntryRows = admin.TabularInline[Entry, Journal]
    WalletModelForm = forms.ModelForm[Wallet]
    PriceModelForm = forms.ModelForm[PriceRule]
else:
    WalletPages = HoldPages = JournalPages = PricePages = admin.ModelAdmin
    EntryRows = admin.TabularInline
    WalletModelForm = PriceModelForm = forms.ModelForm


class ReadOnly:
    """Rows that only services write."""

    def has_add_permission(self, *_: Any, **__: Any) -> bool:
        return False

    def has_change_permission(self, *_: Any, **__: Any) -> bool:
        return False

    def has_delete_permission(self, *_: Any, **__: Any) -> bool:
        return False


class WalletForm(WalletModelForm):
    adjust_by = forms.DecimalField(
        decimal_places=6, help_text="Credits to add, or to take with a minus."
    )
    reason = forms.CharField(max_length=200)

    class Meta:
        model = Wallet
        fields: tuple[str, ...] = ()

    def clean_adjust_by(self) -> int:
        try:
            amount = to_micro(self.cleaned_data["adjust_by"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None
        if amount == 0 or self.instance.available + amount < 0:
            raise forms.ValidationError("Must not be 0, and the wallet must cover it.")
        return amount


@admin.register(Wallet)
class WalletAdmin(WalletPages):
    form = WalletForm
    list_display = ("account", "available_credits", "held_credits", "last_seq")
    list_select_related = ("account",)
    search_fields = ("account__name",)
    readonly_fields = ("account", "available_credits", "held_credits", "last_seq")

    @admin.display(description="available")
    def available_credits(self, wallet: Wallet) -> str:
        return to_credits(wallet.available)

    @admin.display(description="held")
    def held_credits(self, wallet: Wallet) -> str:
        return to_credits(wallet.held)

    def save_model(self, request: HttpRequest, obj: Wallet, form: Any, change: bool) -> None:
        services.adjust(
            obj.account_id,
            form.cleaned_data["adjust_by"],
            reason=form.cleaned_data["reason"],
            actor=request.user.get_username(),
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Wallet | None = None) -> bool:
        return False


@admin.register(Hold)
class HoldAdmin(ReadOnly, HoldPages):
    list_display = ("id", "account", "status", "amount", "charged", "task_id", "created_at")
    list_select_related = ("account",)
    list_filter = ("status",)
    search_fields = ("id", "task_id", "reference", "account__name")


class EntryInline(ReadOnly, EntryRows):
    model = Entry


@admin.register(Journal)
class JournalAdmin(ReadOnly, JournalPages):
    list_display = ("id", "kind", "reason", "reference", "actor", "task_id", "created_at")
    list_filter = ("kind",)
    search_fields = ("id", "task_id", "reference")
    inlines = (EntryInline,)


class PriceForm(PriceModelForm):
    minimum = forms.CharField(help_text="Credits.")

    class Meta:
        model = PriceRule
        fields = ("kind", "match_by", "match_value", "task_type", "components", "enabled")
        help_texts = {"components": 'Such as [{"unit": "image", "price": "1.5"}].'}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["minimum"] = to_credits(self.instance.minimum)

    def clean(self) -> dict[str, Any]:
        """What the API would refuse is refused here in the same words."""
        given = dict(self.cleaned_data)
        match = {given.pop("match_by", ""): given.pop("match_value", "")}
        match |= {"task_type": given.pop("task_type", "") or None}
        try:
            return parse(PriceBody, {**given, "match": match}).columns()
        except ValidationFailed as error:
            raise forms.ValidationError(error.detail) from None


@admin.register(PriceRule)
class PriceRuleAdmin(PricePages):
    """Saving makes a new version; tasks keep the one they were quoted by."""

    form = PriceForm
    list_display = ("__str__", "kind", "components", "enabled", "created_at")
    list_filter = ("kind", "match_by", "enabled")
    search_fields = ("match_value",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriceRule]:
        return super().get_queryset(request).filter(current=True)

    def save_model(self, request: HttpRequest, obj: PriceRule, form: Any, change: bool) -> None:
        columns = form.cleaned_data
        obj.pk = (rules.replace(obj.rule_id, columns) if change else rules.create(columns)).pk

    def delete_model(self, request: HttpRequest, obj: PriceRule) -> None:
        rules.delete(obj.rule_id)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[PriceRule]) -> None:
        for rule in queryset:
            rules.delete(rule.rule_id)
