"""GenPulse: a self-hosted platform for generative-AI work."""

__version__ = "1.0.0"
