"""`llmstatsd doctor`: what is wrong with a live daemon, and what to change."""
