#!/usr/bin/env bash
# Sends the event of the vector "a failed call with all fields" to the destination that the
# environment names, and prints the client's counts as one line of JSON.
#
#     bash client/shell/tests/acceptance.bash --threads 2 --calls 100
#
# A shell's counts are lost with its subshells, so that the threads run one after the other.
# --buffered is accepted and means nothing: the shells do not buffer.
set -euo pipefail
. "$(dirname "$0")/../llmstatsd.bash"

threads=1 calls=1
while (($# > 0)); do
  case $1 in
    --threads) threads=$2 && shift ;;
    --calls) calls=$2 && shift ;;
  esac
  shift
done

for ((call = 0; call < threads * calls; call++)); do
  llmstatsd_send --model gpt-4o --operation chat --duration-seconds 1.84 --tokens 230 \
    --prompt-tokens 200 --completion-tokens 30 --cached-tokens 128 --cost-dollars 0.0123 \
    --load-duration-seconds 0.5 --prompt-eval-duration-seconds 0.12 \
    --total-duration-seconds 1.8 --time-to-first-token-seconds 0.3 \
    --time-per-output-token-seconds 0.0375 --error timeout --rate-limited --fallback
done
llmstatsd_close
llmstatsd_stats
