"""Counting the calls of SDKs: `wrap` for clients, a callback for LiteLLM, a handler for LangChain.

Importing this package imports none of them.
"""
