"""What the layers above may listen to."""

from django.dispatch import Signal

# Sent in the transaction that creates a user, with `user`; a receiver that raises undoes the creation.
user_created = Signal()
