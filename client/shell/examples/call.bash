#!/usr/bin/env bash
# A call timed around a function that stands for the LLM:
#
#     bash client/shell/examples/call.bash
#
# Without a daemon it runs as well: that is the point. `llmstatsd tap` shows what arrives.
set -euo pipefail
. "$(dirname "$0")/../llmstatsd.bash"

ask() {
  sleep 0.05
  echo 'As a pretended model, I do not know.'
}

answer=$(ask 'What is the meaning of all this?')
llmstatsd_send --model gpt-4o --operation chat --tokens "$(wc -w <<<"$answer")"

# Or timed, with its exit status and its output as they are:
llmstatsd_time --model gpt-4o --operation chat -- ask 'And what is not?'

llmstatsd_stats
