"""The platform dialect for services that act for their users: wallet, tasks, notifications."""
