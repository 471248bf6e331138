#!/bin/sh
# The same as acceptance.bash for the client of POSIX shells:
#
#     sh client/shell/tests/acceptance.sh --threads 2 --calls 10
set -eu
. "$(dirname "$0")/../llmstatsd.sh"

threads=1 calls=1
while [ $# -gt 0 ]; do
  case $1 in
    --threads) threads=$2 && shift ;;
    --calls) calls=$2 && shift ;;
  esac
  shift
done

calls=$((threads * calls))
while [ "$calls" -gt 0 ]; do
  llmstatsd_send --model gpt-4o --operation chat --duration-seconds 1.84 --tokens 230 \
    --prompt-tokens 200 --completion-tokens 30 --cached-tokens 128 --cost-dollars 0.0123 \
    --load-duration-seconds 0.5 --prompt-eval-duration-seconds 0.12 \
    --total-duration-seconds 1.8 --time-to-first-token-seconds 0.3 \
    --time-per-output-token-seconds 0.0375 --error timeout --rate-limited --fallback
  calls=$((calls - 1))
done
llmstatsd_close
llmstatsd_stats
