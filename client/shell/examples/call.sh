#!/bin/sh
# A call timed around a function that stands for the LLM:
#
#     sh client/shell/examples/call.sh
#
# Without a daemon it runs as well: that is the point. `llmstatsd tap` shows what arrives.
set -eu
. "$(dirname "$0")/../llmstatsd.sh"

ask() {
  sleep 1
  echo 'As a pretended model, I do not know.'
}

llmstatsd_time --model gpt-4o --operation chat -- ask 'What is the meaning of all this?'
llmstatsd_stats
