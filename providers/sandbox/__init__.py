"""What the built-in engine is made of; the adapter itself is providers/adapters/sandbox.py."""
