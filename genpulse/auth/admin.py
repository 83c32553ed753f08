"""Django admin's pages for people. Keys are shown without secrets and can only be revoked."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from genpulse.auth import names, services
from genpulse.auth.models import Account, ApiKey, User

if TYPE_CHECKING:
    UserPages = admin.ModelAdmin[User]
    AccountPages = admin.ModelAdmin[Account]
    KeyPages = admin.ModelAdmin[ApiKey]
    UserModelForm = forms.ModelForm[User]
else:
    UserPages = AccountPages = KeyPages = admin.ModelAdmin
    UserModelForm = forms.ModelForm


class UserForm(UserModelForm):
    new_password = forms.CharField(
        required=False,
        min_length=10,
        widget=forms.PasswordInput,
        help_text="Empty: unchanged. A new password ends all log-ins of the user.",
    )

    class Meta:
        model = User
        fields = ("name", "email", "role", "is_active")

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if not names.valid(name):
            raise forms.ValidationError("A-Z a-z 0-9 . _ @ : + -, not beginning with . or -")
        return name

    def clean_email(self) -> str | None:
        email: str = self.cleaned_data["email"]
        return email.lower() if email else None


@admin.register(User)
class UserAdmin(UserPages):
    form = UserForm
    list_display = ("name", "email", "role", "is_active", "last_login", "created_at")
    list_filter = ("role", "is_active")
    search_fields = ("name", "email")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        return ("name",) if obj else ()

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        password = form.cleaned_data["new_password"]
        if change:
            changed: services.UserChanges = {"email": obj.email}
            if password:
                changed["password"] = password
            services.change_user(obj, changed, {})
            return
        user = services.create_user(obj.name, email=obj.email, password=password, role=obj.role)
        obj.pk, obj.account = user.pk, user.account

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False


@admin.register(Account)
class AccountAdmin(AccountPages):
    """Limits of a tenant; amounts in micro-credits."""

    list_display = ("name", "weight", "max_concurrency", "max_waiting", "budget_amount")
    readonly_fields = ("name",)
    search_fields = ("name",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Account | None = None) -> bool:
        return False


@admin.register(ApiKey)
class ApiKeyAdmin(KeyPages):
    list_display = ("__str__", "user", "scopes", "created_at", "last_used_at", "revoked_at")
    list_select_related = ("user",)
    search_fields = ("name", "lookup", "user__name")
    exclude = ("digest",)
    actions = ("revoke",)

    @admin.action(description="Revoke the chosen keys")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        for key in queryset:
            services.revoke_key(key)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        return False
