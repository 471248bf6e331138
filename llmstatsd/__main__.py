"""`python -m llmstatsd`: the same as the command `llmstatsd`."""

from llmstatsd.cli import main

if __name__ == "__main__":
    main(prog_name="llmstatsd")
