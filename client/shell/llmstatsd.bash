# shellcheck shell=bash
#
# llmstatsd.bash 0.1.0 - tells llmstatsd, or any other StatsD server, about finished LLM calls.
#
# SPDX-License-Identifier: Apache-2.0
#
# For bash 4.2 or later with /dev/udp, which is bash's own. Source it, then:
#
#     llmstatsd_send --model gpt-4o --operation chat --duration-seconds 1.84 --tokens 230
#     llmstatsd_time --model llama3:8b -- ollama run llama3:8b 'Why is the sky blue?'
#     llmstatsd_stats
#
# README.md beside this file has the options, the settings and the limits.
# Nothing here fails, prints or ends the calling script, whatever its options (set -euo pipefail)
# and whatever the arguments are; what could not be sent is counted.

# All names here begin with llmstatsd or _llmstatsd, and the functions' own variables with _l_,
# as a variable that the script has made readonly cannot be used again, not even locally.

if [[ -n ${_llmstatsd_printf+sourced} ]]; then return 0; fi

# The client's state. All of it is this shell's own: a subshell counts for itself.
declare -gA _llmstatsd_counts=(
  [events]=0 [refused_fields]=0 [closed_events]=0 [sent_datagrams]=0 [sent_bytes]=0
  [dropped_full]=0 [dropped_unresolved]=0 [dropped_unreachable]=0 [dropped_error]=0
)
_llmstatsd_closed=
_llmstatsd_fd=           # of the open socket
_llmstatsd_fd_to=        # the destination that it was opened for
_llmstatsd_fd_until=0    # when a name is looked up again, in seconds of the system's clock
_llmstatsd_retry_to=     # a destination that could not be opened
_llmstatsd_retry_at=0    # when it may be tried again
_llmstatsd_printf=$(type -P printf || :)
_llmstatsd_unix=         # whether there is a netcat for unix sockets: yes or no
_llmstatsd_full_to=      # a unix socket that was full
_llmstatsd_full_until=0  # when it may be tried again
_llmstatsd_timeout=      # the command before netcat that keeps it from waiting, if there is one

# ---- public ----

# Reports a finished call: llmstatsd_send [--FIELD VALUE]... [--rate-limited] [--fallback]
llmstatsd_send() {
  { _llmstatsd_send "$@" || :; } >/dev/null 2>&1 </dev/null
  return 0
}

# Runs a command, reports how long it took and whether it failed, and returns its exit status:
# llmstatsd_time [--FIELD VALUE]... [--] COMMAND [ARGUMENT]...
llmstatsd_time() {
  local -a _llmstatsd_fields=()
  while (($# > 0)); do
    case $1 in
      --)
        shift
        break
        ;;
      --rate-limited | --fallback | --*=*) ;;
      --*)
        if (($# == 1)); then return 0; fi
        _llmstatsd_fields+=("$1")
        shift
        ;;
      *) break ;;
    esac
    _llmstatsd_fields+=("$1")
    shift
  done
  if (($# == 0)); then return 0; fi
  local _llmstatsd_begin _llmstatsd_end _llmstatsd_status=0
  _llmstatsd_clock _llmstatsd_begin
  "$@" || _llmstatsd_status=$?
  _llmstatsd_clock _llmstatsd_end
  _llmstatsd_end=$((_llmstatsd_end - _llmstatsd_begin))
  printf -v _llmstatsd_end %d.%06d "$((_llmstatsd_end / 1000000))" "$((_llmstatsd_end % 1000000))"
  case $_llmstatsd_status in # the last one of an option stands
    0) _llmstatsd_fields+=(--error '') ;;
    124) _llmstatsd_fields=(--error timeout "${_llmstatsd_fields[@]}") ;;
    130 | 143) _llmstatsd_fields=(--error cancelled "${_llmstatsd_fields[@]}") ;;
    *) _llmstatsd_fields=(--error other "${_llmstatsd_fields[@]}") ;;
  esac
  llmstatsd_send --duration-seconds "$_llmstatsd_end" "${_llmstatsd_fields[@]}"
  return "$_llmstatsd_status"
}

# Prints the lines of an event, with an empty line between datagrams; sends nothing:
# llmstatsd_encode [--max-datagram-bytes N] [--FIELD VALUE]... [--rate-limited] [--fallback]
llmstatsd_encode() {
  { _llmstatsd_print "$@" || :; } 2>/dev/null
  return 0
}

# Prints the counts of this shell as one line of JSON.
llmstatsd_stats() {
  local _l_name _l_between='{' _l_line=
  for _l_name in events refused_fields closed_events sent_datagrams sent_bytes dropped_full \
    dropped_unresolved dropped_unreachable dropped_error; do
    _l_line+="$_l_between\"$_l_name\": ${_llmstatsd_counts[$_l_name]}"
    _l_between=', '
  done
  printf '%s}\n' "$_l_line" || :
  return 0
}

# Closes the socket. Later events are counted in closed_events and not sent.
llmstatsd_close() {
  _llmstatsd_closed=yes
  { _llmstatsd_shut || :; } 2>/dev/null
  return 0
}

# ---- encode: arguments to datagrams; no I/O, no clock ----

# Fills _llmstatsd_datagrams and adds to _llmstatsd_refused, which the caller declares.
# The caller has LC_ALL=C: a text is bytes here.
_llmstatsd_encode() {
  local _l_max=$1 IFS=$' \t\n'
  shift
  local -A _l_field=()
  local _l_rate_limited='' _l_fallback=''
  _llmstatsd_arguments "$@"
  local _l_model=${_l_field[model]-} _l_operation=${_l_field[operation]-}
  local _l_error=${_l_field[error]-}
  local _l_m='' _l_mo _l_number
  if [[ -n $_l_model ]]; then
    _llmstatsd_label _l_model "$_l_model"
    _l_m="|#model:$_l_model"
  fi
  _l_mo=$_l_m
  if [[ -n $_l_operation ]]; then
    _llmstatsd_label _l_operation "$_l_operation"
    _l_mo="${_l_m:-|#}${_l_m:+,}operation:$_l_operation"
  fi
  local -a _l_lines=("llm_request_total:1|c$_l_mo")
  _llmstatsd_seconds llm_request_duration_seconds duration_seconds "$_l_mo"
  _llmstatsd_tokens
  if _llmstatsd_number cost_dollars 9 1000000000000000; then
    _llmstatsd_decimal _l_number 1000000000
    _l_lines+=("llm_cost_dollars_total:$_l_number|c$_l_m")
  fi
  _llmstatsd_seconds llm_model_load_duration_seconds load_duration_seconds "$_l_m"
  _llmstatsd_seconds llm_prompt_eval_duration_seconds prompt_eval_duration_seconds "$_l_m"
  _llmstatsd_seconds llm_total_duration_seconds total_duration_seconds "$_l_m"
  _llmstatsd_seconds llm_time_to_first_token_seconds time_to_first_token_seconds "$_l_mo"
  _llmstatsd_seconds llm_time_per_output_token_seconds time_per_output_token_seconds "$_l_mo"
  _llmstatsd_failure
  if [[ -n $_l_fallback ]]; then _l_lines+=('llm_fallback_total:1|c'); fi
  _llmstatsd_cut "$_l_max"
}

_llmstatsd_print() { # [--max-datagram-bytes N] [ARGUMENT]...
  local LC_ALL=C _l_max=1432 _l_datagram _l_between='' _llmstatsd_refused=0
  local -a _llmstatsd_datagrams=()
  if [[ ${1-} == --max-datagram-bytes ]] && (($# > 1)); then
    case $2 in '' | *[!0-9]* | ??????*) ;; *) _l_max=$((10#$2)) ;; esac
    shift 2
  fi
  _llmstatsd_encode "$_l_max" "$@"
  for _l_datagram in "${_llmstatsd_datagrams[@]}"; do
    printf '%s%s\n' "$_l_between" "$_l_datagram"
    _l_between=$'\n'
  done
}

# Sorts the arguments into the caller's field, rate_limited and fallback.
_llmstatsd_arguments() {
  local _l_name _l_value
  while (($# > 0)); do
    _l_name=$1 _l_value=
    shift
    case $_l_name in
      --rate-limited | --fallback) _l_value=true ;;
      --*=*) _l_value=${_l_name#*=} _l_name=${_l_name%%=*} ;;
      --*)
        if (($# == 0)); then
          ((++_llmstatsd_refused))
          return 0
        fi
        _l_value=$1
        shift
        ;;
    esac
    _l_name=${_l_name//-/_}
    case $_l_name in
      __rate_limited) _llmstatsd_switch _l_rate_limited "$_l_value" ;;
      __fallback) _llmstatsd_switch _l_fallback "$_l_value" ;;
      __model | __operation | __error | __duration_seconds | __load_duration_seconds | \
        __prompt_eval_duration_seconds | __total_duration_seconds | \
        __time_to_first_token_seconds | __time_per_output_token_seconds | __tokens | \
        __prompt_tokens | __completion_tokens | __cached_tokens | __cost_dollars)
        _l_field[${_l_name#__}]=$_l_value
        ;;
      *) ((++_llmstatsd_refused)) ;;
    esac
  done
}

_llmstatsd_switch() { # NAME VALUE
  case $2 in
    true) printf -v "$1" yes ;;
    false | '') printf -v "$1" '' ;;
    *) ((++_llmstatsd_refused)) ;;
  esac
}

# Makes a label's value safe, in the variable named first.
_llmstatsd_label() { # NAME TEXT
  local _l_text=${2:0:512} # no 128 _l_characters are longer
  if [[ $_l_text == *[!' '-'~']* ]]; then
    _llmstatsd_unicode "$_l_text"
  else
    _l_text=${_l_text:0:128}
  fi
  printf -v "$1" %s "${_l_text//[|,#]/_}"
}

# Leaves in the caller's text its first 128 characters, with _ for each control character and
# for each byte that is not UTF-8 by the Unicode Standard's table of well-formed sequences.
_llmstatsd_unicode() { # TEXT
  local _l_rest=$1 _l_characters=0
  _l_text=
  local _l_tail=$'[\x80-\xbf]'
  while [[ -n $_l_rest ]] && ((_l_characters++ < 128)); do
    case $_l_rest in
      [' '-'~']*) _l_text+=${_l_rest:0:1} _l_rest=${_l_rest:1} ;;
      [$'\xc2'-$'\xdf']$_l_tail*) _l_text+=${_l_rest:0:2} _l_rest=${_l_rest:2} ;;
      $'\xe0'[$'\xa0'-$'\xbf']$_l_tail* | [$'\xe1'-$'\xec\xee\xef']$_l_tail$_l_tail* | \
        $'\xed'[$'\x80'-$'\x9f']$_l_tail*) _l_text+=${_l_rest:0:3} _l_rest=${_l_rest:3} ;;
      $'\xf0'[$'\x90'-$'\xbf']$_l_tail$_l_tail* | [$'\xf1'-$'\xf3']$_l_tail$_l_tail$_l_tail* | \
        $'\xf4'[$'\x80'-$'\x8f']$_l_tail$_l_tail*) _l_text+=${_l_rest:0:4} _l_rest=${_l_rest:4} ;;
      *) _l_text+=_ _l_rest=${_l_rest:1} ;;
    esac
  done
}

# Sets the caller's number to a field in parts of 10^-PLACES, rounded half up.
# Fails if the field is missing, or refused as it is no number from 0 to MOST parts.
_llmstatsd_number() { # FIELD PLACES MOST
  _l_number=${_l_field[$1]-}
  [[ -n $_l_number ]] || return 1
  if ((${#_l_number} <= 400)) && _llmstatsd_parts "$_l_number" "$2" "$3"; then return 0; fi
  ((++_llmstatsd_refused))
  return 1
}

# The same for a text; by text alone, so that nothing is lost. Fails if it is refused.
# With PLACES of 0, the number has to be whole.
_llmstatsd_parts() { # TEXT PLACES MOST
  [[ $1 =~ ^([+-]?)([0-9]*)\.?([0-9]*)([eE]([+-]?)([0-9]+))?$ ]] || return 1
  local _l_sign=${BASH_REMATCH[1]} _l_digits=${BASH_REMATCH[2]}${BASH_REMATCH[3]}
  local _l_point=${#BASH_REMATCH[2]} _l_exponent=${BASH_REMATCH[6]} _l_down=${BASH_REMATCH[5]}
  [[ -n $_l_digits ]] || return 1
  _l_exponent=${_l_exponent#"${_l_exponent%%[!0]*}"}
  if ((${#_l_exponent} > 6)); then _l_exponent=999999; fi
  _l_exponent=${_l_exponent:-0}
  if [[ $_l_down == - ]]; then _l_exponent=$((-_l_exponent)); fi
  _l_point=$((_l_point + $2 + _l_exponent))
  local _l_zeros=${_l_digits%%[!0]*}
  _l_digits=${_l_digits#"$_l_zeros"} _l_point=$((_l_point - ${#_l_zeros}))
  _l_digits=${_l_digits%"${_l_digits##*[!0]}"}
  _l_number=0
  [[ -n $_l_digits ]] || return 0
  [[ $_l_sign != - ]] && ((_l_point <= 16)) || return 1
  if (($2 == 0 && _l_point < ${#_l_digits})); then return 1; fi
  if ((_l_point < 0)); then return 0; fi
  local _l_rest=${_l_digits:_l_point}
  local _l_whole=${_l_digits:0:_l_point}0000000000000000
  _l_whole=${_l_whole:0:_l_point}
  _l_number=$((10#0$_l_whole))
  ((_l_number < $3 || (_l_number == $3 && ${#_l_rest} == 0))) || return 1
  case $_l_rest in [5-9]*) ((++_l_number)) ;; esac
}

# Writes a number of parts as a decimal without trailing zeros.
_llmstatsd_decimal() { # NAME PARTS-OF-A-UNIT
  local _l_whole=$((_l_number / $2)) _l_rest=$((_l_number % $2))
  if ((_l_rest > 0)); then
    _l_rest=$(($2 + _l_rest))
    _l_rest=${_l_rest#1}
    _l_whole+=.${_l_rest%"${_l_rest##*[!0]}"}
  fi
  printf -v "$1" %s "$_l_whole"
}

_llmstatsd_seconds() { # SERIES FIELD TAGS
  _llmstatsd_number "$2" 6 1000000000000000 || return 0
  _llmstatsd_decimal _l_number 1000
  _l_lines+=("$1:$_l_number|ms$3")
}

_llmstatsd_tokens() {
  local _l_most=9007199254740991 _l_total='' _l_prompt='' _l_completion='' _l_cached=''
  if _llmstatsd_number tokens 0 "$_l_most"; then _l_total=$_l_number; fi
  if _llmstatsd_number prompt_tokens 0 "$_l_most"; then _l_prompt=$_l_number; fi
  if _llmstatsd_number completion_tokens 0 "$_l_most"; then _l_completion=$_l_number; fi
  if _llmstatsd_number cached_tokens 0 "$_l_most"; then _l_cached=$_l_number; fi
  if [[ -z $_l_total && -n $_l_prompt$_l_completion ]]; then
    _l_total=$((${_l_prompt:-0} + ${_l_completion:-0}))
    if ((_l_total > _l_most)); then _l_total=; fi
  fi
  if [[ -n $_l_total ]]; then _l_lines+=("llm_tokens_total:$_l_total|c$_l_m"); fi
  if [[ -n $_l_prompt ]]; then _l_lines+=("llm_prompt_tokens_total:$_l_prompt|c$_l_m"); fi
  if [[ -n $_l_completion ]]; then _l_lines+=("llm_completion_tokens_total:$_l_completion|c$_l_m"); fi
  if [[ -n $_l_cached ]]; then _l_lines+=("llm_cached_tokens_total:$_l_cached|c$_l_m"); fi
}

_llmstatsd_failure() {
  if [[ -z $_l_error && -n $_l_rate_limited ]]; then _l_error=rate_limit; fi
  case $_l_error in
    rate_limit) _l_rate_limited=yes ;;
    '' | timeout | connection | quota | auth | permission | not_found | context_length | \
      content_filter | invalid_request | overloaded | server_error | invalid_response | \
      cancelled) ;;
    *) _l_error=other ;;
  esac
  if [[ -n $_l_error ]]; then _l_lines+=("llm_error_total:1|c${_l_m:-|#}${_l_m:+,}type:$_l_error"); fi
  if [[ -n $_l_rate_limited ]]; then _l_lines+=("llm_rate_limit_exceeded_total:1|c$_l_m"); fi
}

# Fills datagrams with as many lines as go into each; a line that is longer stands alone.
_llmstatsd_cut() { # MAX
  local _l_line _l_datagram=
  for _l_line in "${_l_lines[@]}"; do
    if [[ -z $_l_datagram ]]; then
      _l_datagram=$_l_line
    elif ((${#_l_datagram} + 1 + ${#_l_line} <= $1)); then
      _l_datagram+=$'\n'$_l_line
    else
      _llmstatsd_datagrams+=("$_l_datagram")
      _l_datagram=$_l_line
    fi
  done
  _llmstatsd_datagrams+=("$_l_datagram")
}

# ---- settings ----

# Sets the caller's socket, or host and port.
_llmstatsd_destination() {
  _l_socket=${LLMSTATSD_SOCKET-} _l_host='' _l_port=''
  if [[ -n $_l_socket ]]; then return 0; fi
  local _l_names
  for _l_names in LLMSTATSD_HOST:LLMSTATSD_PORT DD_AGENT_HOST:DD_DOGSTATSD_PORT \
    STATSD_HOST:STATSD_PORT; do
    _l_host=${_l_names%:*} _l_port=${_l_names#*:}
    _l_host=${!_l_host-}
    _llmstatsd_port "${!_l_port-}"
    if [[ -n $_l_host$_l_port ]]; then break; fi
  done
  _l_host=${_l_host:-127.0.0.1} _l_port=${_l_port:-8125}
  if [[ $_l_host == localhost ]]; then _l_host=127.0.0.1; fi # bash would prefer IPv6
}

# Sets the caller's port to a number from 1 to 65535, or to nothing: Kubernetes sets
# LLMSTATSD_PORT=udp://10.0.0.1:8125 in pods beside a service of that name.
_llmstatsd_port() { # TEXT
  _l_port=
  case $1 in '' | *[!0-9]* | ??????*) return 0 ;; esac
  if ((10#$1 >= 1 && 10#$1 <= 65535)); then _l_port=$((10#$1)); fi
}

_llmstatsd_disabled() {
  case ${LLMSTATSD_DISABLE-} in
    1 | [Tt][Rr][Uu][Ee] | [Yy][Ee][Ss] | [Oo][Nn]) return 0 ;;
  esac
  return 1
}

# ---- sender ----

_llmstatsd_count() { # NAME [AMOUNT]
  _llmstatsd_counts[$1]=$((_llmstatsd_counts[$1] + ${2:-1}))
}

# Microseconds of the system's clock; bash before version 5 asks `date`, or counts in seconds.
_llmstatsd_clock() { # NAME
  local _l_now=${EPOCHREALTIME-}
  if [[ -n $_l_now ]]; then
    _l_now=${_l_now/[.,]/}
  else
    _l_now=$(date +%s%6N 2>/dev/null || :)
    case $_l_now in '' | *[!0-9]*) printf -v _l_now '%(%s)T000000' -1 ;; esac
  fi
  printf -v "$1" %s "$_l_now"
}

_llmstatsd_send() {
  local LC_ALL=C
  _llmstatsd_count events
  if [[ -n $_llmstatsd_closed ]]; then
    _llmstatsd_count closed_events
    return 0
  fi
  if _llmstatsd_disabled; then return 0; fi
  local _l_socket _l_host _l_port _l_datagram _l_max=1432 _llmstatsd_refused=0
  local -a _llmstatsd_datagrams=()
  _llmstatsd_destination
  if [[ -n $_l_socket ]]; then _l_max=4096; fi # what printf writes at once
  _llmstatsd_encode "$_l_max" "$@"
  _llmstatsd_count refused_fields "$_llmstatsd_refused"
  for _l_datagram in "${_llmstatsd_datagrams[@]}"; do
    if [[ -n $_l_socket ]]; then
      _llmstatsd_to_socket "$_l_datagram"
    else
      _llmstatsd_to_host "$_l_datagram"
    fi
  done
}

_llmstatsd_sent() { # DATAGRAM
  _llmstatsd_count sent_datagrams
  _llmstatsd_count sent_bytes "${#1}"
}

# A write that fails is tried once more: a refusal is about an earlier datagram.
_llmstatsd_to_host() { # DATAGRAM
  local _l_unsent=
  if ! _llmstatsd_open; then
    _llmstatsd_count "$_l_unsent"
  elif _llmstatsd_write "$1" >&"$_llmstatsd_fd" || _llmstatsd_write "$1" >&"$_llmstatsd_fd"; then
    _llmstatsd_sent "$1"
  else
    _llmstatsd_shut
    _llmstatsd_count dropped_unreachable
  fi
}

# Writes a datagram to stdout in one piece: bash's own printf would write each line by itself.
_llmstatsd_write() { # DATAGRAM
  if [[ $1 == *$'\n'* && -n $_llmstatsd_printf ]]; then
    "$_llmstatsd_printf" %s "$1"
  else
    printf %s "$1"
  fi
}

# Opens the socket if it is not open for this destination yet. bash looks names up for that: so
# it is done again every 60 seconds for a name, after an error not before a second has gone by,
# and not before 60 have when the look-up took seconds.
# Fails with the caller's unsent set to what to count.
_llmstatsd_open() {
  local _l_to=$_l_host/$_l_port _l_now _l_begin
  printf -v _l_now '%(%s)T' -1
  if [[ -n $_llmstatsd_fd && $_llmstatsd_fd_to == "$_l_to" ]] &&
    ((_l_now < _llmstatsd_fd_until)); then
    return 0
  fi
  _l_unsent=dropped_unresolved
  case $_l_host in -* | *[!A-Za-z0-9._:%-]*) return 1 ;; esac
  if [[ $_llmstatsd_retry_to == "$_l_to" ]] && ((_l_now < _llmstatsd_retry_at)); then return 1; fi
  _l_begin=$_l_now
  local _l_fd
  if { command exec {_l_fd}>"/dev/udp/$_l_host/$_l_port"; } 2>/dev/null; then
    _llmstatsd_shut
    _llmstatsd_fd=$_l_fd _llmstatsd_fd_to=$_l_to _llmstatsd_fd_until=$((_l_now + 60)) _llmstatsd_retry_to=
    if ! _llmstatsd_is_name; then _llmstatsd_fd_until=$((_l_now + 1000000000)); fi
    return 0
  fi
  printf -v _l_now '%(%s)T' -1
  _llmstatsd_retry_to=$_l_to _llmstatsd_retry_at=$((_l_now + (_l_now - _l_begin > 1 ? 60 : 1)))
  if [[ -n $_llmstatsd_fd && $_llmstatsd_fd_to == "$_l_to" ]]; then
    _llmstatsd_fd_until=$_llmstatsd_retry_at # the address that is known stays
    return 0
  fi
  if ! _llmstatsd_is_name; then _l_unsent=dropped_error; fi
  return 1
}

_llmstatsd_is_name() {
  case $_l_host in *:*) return 1 ;; *[!0-9.]*) return 0 ;; esac
  return 1
}

_llmstatsd_shut() {
  if [[ -n $_llmstatsd_fd ]]; then
    { exec {_llmstatsd_fd}>&-; } 2>/dev/null || :
  fi
  _llmstatsd_fd=
}

# bash has no unix sockets; OpenBSD's netcat has. Where there is `timeout`, a full socket is waited
# for a fifth of a second, and then left alone for a second; else netcat waits for one, and nothing
# is known of its success.
_llmstatsd_to_socket() { # DATAGRAM
  local _l_now _l_status=0
  printf -v _l_now '%(%s)T' -1
  _llmstatsd_find_netcat
  if [[ $_llmstatsd_unix == no || $_l_socket == -* ]]; then
    _llmstatsd_count dropped_error
    return 0
  fi
  if [[ $_llmstatsd_full_to == "$_l_socket" ]] && ((_l_now < _llmstatsd_full_until)); then
    _llmstatsd_count dropped_full
    return 0
  fi
  if [[ ! -S $_l_socket ]]; then
    _llmstatsd_count dropped_unreachable
    return 0
  fi
  # shellcheck disable=SC2086 # the command has arguments
  _llmstatsd_write "$1" | $_llmstatsd_timeout nc -u -U -q 0 -w 1 "$_l_socket" || _l_status=$?
  case $_l_status in
    0) _llmstatsd_sent "$1" ;;
    124 | 143) # of coreutils, and of busybox
      _llmstatsd_full_to=$_l_socket _llmstatsd_full_until=$((_l_now + 2)) # whole seconds
      _llmstatsd_count dropped_full
      ;;
    *) _llmstatsd_count dropped_unreachable ;;
  esac
}

_llmstatsd_find_netcat() {
  if [[ -n $_llmstatsd_unix ]]; then return 0; fi
  _llmstatsd_unix=no
  case $(nc -h 2>&1 </dev/null || :) in *U*-q\ *) _llmstatsd_unix=yes ;; esac
  if timeout 0.2 true; then _llmstatsd_timeout='timeout 0.2'; fi
}
