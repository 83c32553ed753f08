"""What the layers above may listen to."""

from django.dispatch import Signal

# Sent in the transaction that creates a user, with `user`; a receiver that raises undoes the creation.
user_created = Signal()

# Sent after the commit that takes access away, with `user_id` and `key_id` (None: every credential of
# the user), so that open connections can be closed.
access_ended = Signal()
