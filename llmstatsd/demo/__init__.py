"""Realistic calls of LLMs that need no LLM: what to send, who sends it, and a daemon to look at."""
