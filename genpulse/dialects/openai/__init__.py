"""The OpenAI dialect, below `/openai/v1`: the official client libraries work against it unchanged."""
