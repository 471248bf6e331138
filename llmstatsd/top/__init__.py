"""`llmstatsd top`: what a daemon's API tells, in a terminal."""
