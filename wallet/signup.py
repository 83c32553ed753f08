"""What every new user starts with: SIGNUP_CREDITS, in the transaction that creates the user."""

from typing import Any

from django.dispatch import receiver

from genpulse.auth.models import User
from genpulse.auth.signals import user_created
from genpulse.config import config
from genpulse.money import to_micro
from wallet.services import deposit


@receiver(user_created)
def give_signup_credits(sender: Any, *, user: User, **_: Any) -> None:
    amount = to_micro(config.signup_credits)
    if amount > 0:
        deposit(user.account_id, amount, reason="Welcome", reference="signup")
