"""Doors about people: keys, users and `me` of the native API, the platform's log-in, the log-in pages."""
