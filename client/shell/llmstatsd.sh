# shellcheck shell=sh
#
# llmstatsd.sh 0.1.0 - tells llmstatsd, or any other StatsD server, about finished LLM calls.
#
# SPDX-License-Identifier: Apache-2.0
#
# For any POSIX shell with awk and a netcat that knows UDP. Source it, then:
#
#     llmstatsd_send --model gpt-4o --operation chat --duration-seconds 1.84 --tokens 230
#     llmstatsd_time --model llama3:8b -- ollama run llama3:8b 'Why is the sky blue?'
#     llmstatsd_stats
#
# README.md beside this file has the options, the settings and the limits.
# Nothing here fails, prints or ends the calling script, whatever its options (set -eu) and
# whatever the arguments are; what could not be sent is counted.
#
# All names here begin with llmstatsd or _llmstatsd, as POSIX has no local variables.

# The client's state. All of it is this shell's own: a subshell counts for itself.
if [ -z "${_llmstatsd_events+sourced}" ]; then
  _llmstatsd_events=0 _llmstatsd_refused_fields=0 _llmstatsd_closed_events=0
  _llmstatsd_sent_datagrams=0 _llmstatsd_sent_bytes=0 _llmstatsd_dropped_full=0
  _llmstatsd_dropped_unresolved=0 _llmstatsd_dropped_unreachable=0 _llmstatsd_dropped_error=0
  _llmstatsd_closed=''
  _llmstatsd_netcat=''   # which kind there is, see _llmstatsd_find_netcat
  _llmstatsd_timeout=''  # whether there is `timeout`: yes or no
  _llmstatsd_unix=''     # whether netcat knows unix datagram sockets: yes or no
  _llmstatsd_retry_to='' # a name that was not resolved
  _llmstatsd_retry_at=0  # when it may be tried again, in seconds of the system's clock
  _llmstatsd_full_to=''  # a unix socket that was full
  _llmstatsd_full_until=0 # when it may be tried again
fi

_llmstatsd_newline='
'

# ---- public ----

# Reports a finished call: llmstatsd_send [--FIELD VALUE]... [--rate-limited] [--fallback]
llmstatsd_send() {
  _llmstatsd_send "$@" || :
  return 0
}

# Runs a command, reports how long it took and whether it failed, and returns its exit status:
# llmstatsd_time [--FIELD VALUE]... [--] COMMAND [ARGUMENT]...
llmstatsd_time() {
  _llmstatsd_count_fields "$@"
  if [ "$_llmstatsd_fields" -ge "$#" ]; then return 0; fi
  # What is needed after the command is kept among the arguments: it may be a function that
  # reports calls itself.
  set -- "$_llmstatsd_fields" "$(_llmstatsd_clock)" "$@"
  _llmstatsd_status=0
  _llmstatsd_run "$@" || _llmstatsd_status=$?
  set -- "$_llmstatsd_status" "$@"
  _llmstatsd_report "$@" || :
  return "$1"
}

# Prints the lines of an event, with an empty line between datagrams; sends nothing:
# llmstatsd_encode [--max-datagram-bytes N] [--FIELD VALUE]... [--rate-limited] [--fallback]
llmstatsd_encode() {
  if [ "${1-}" = --max-datagram-bytes ] && [ "$#" -ge 2 ]; then
    _llmstatsd_lines=$2
    shift 2
    set -- "$_llmstatsd_lines" "$@"
  else
    set -- 1432 "$@"
  fi
  _llmstatsd_lines=$(_llmstatsd_encode "$@" 2>/dev/null || :)
  printf '%s\n' "${_llmstatsd_lines#*"$_llmstatsd_newline"}" || :
  return 0
}

# Prints the counts of this shell as one line of JSON.
llmstatsd_stats() {
  set -- "\"events\": $_llmstatsd_events" "\"refused_fields\": $_llmstatsd_refused_fields" \
    "\"closed_events\": $_llmstatsd_closed_events" \
    "\"sent_datagrams\": $_llmstatsd_sent_datagrams" \
    "\"sent_bytes\": $_llmstatsd_sent_bytes" "\"dropped_full\": $_llmstatsd_dropped_full" \
    "\"dropped_unresolved\": $_llmstatsd_dropped_unresolved" \
    "\"dropped_unreachable\": $_llmstatsd_dropped_unreachable" \
    "\"dropped_error\": $_llmstatsd_dropped_error"
  printf '{%s, %s, %s, %s, %s, %s, %s, %s, %s}\n' "$@" || :
  return 0
}

# Later events are counted in closed_events and not sent. There is no socket to close.
llmstatsd_close() {
  _llmstatsd_closed=yes
  return 0
}

# ---- timing a command ----

# Sets _llmstatsd_fields to the number of arguments before the command, less a "--".
_llmstatsd_count_fields() {
  _llmstatsd_fields="$#"
  while [ "$#" -gt 0 ]; do
    case $1 in
      --) break ;;
      --rate-limited | --fallback | --*=*) ;;
      --*)
        shift
        if [ "$#" -eq 0 ]; then return 0; fi
        ;;
      *) break ;;
    esac
    shift
  done
  _llmstatsd_fields=$((_llmstatsd_fields - $#))
}

_llmstatsd_run() { # FIELDS BEGIN [FIELD]... [--] COMMAND...
  shift "$(($1 + 2))"
  if [ "$1" = -- ]; then shift; fi
  "$@"
}

_llmstatsd_report() { # STATUS FIELDS BEGIN [FIELD]... COMMAND...
  _llmstatsd_status=$1 _llmstatsd_fields=$2
  _llmstatsd_seconds=$(B=$3 E=$(_llmstatsd_clock) awk \
    'BEGIN { printf "%.2f", ENVIRON["E"] - ENVIRON["B"] }' 2>/dev/null || :)
  shift 3
  # The fields go to the end, and then all before them goes.
  _llmstatsd_others=$(($# - _llmstatsd_fields))
  while [ "$_llmstatsd_fields" -gt 0 ]; do
    _llmstatsd_field=$1
    shift
    set -- "$@" "$_llmstatsd_field"
    _llmstatsd_fields=$((_llmstatsd_fields - 1))
  done
  shift "$_llmstatsd_others"
  case $_llmstatsd_status in # the last one of an option stands
    0) set -- "$@" --error '' ;;
    124) set -- --error timeout "$@" ;;
    130 | 143) set -- --error cancelled "$@" ;;
    *) set -- --error other "$@" ;;
  esac
  _llmstatsd_send --duration-seconds "$_llmstatsd_seconds" "$@"
}

# Seconds: of /proc/uptime, to the hundredth, which never goes back, or of the system's clock.
_llmstatsd_clock() {
  if [ -r /proc/uptime ] && IFS=' ' read -r _llmstatsd_now _llmstatsd_idle </proc/uptime; then
    printf %s "$_llmstatsd_now"
  else
    _llmstatsd_date
  fi
}

_llmstatsd_date() {
  date +%s 2>/dev/null || printf 0
}

# ---- encode: arguments to lines; no I/O but of awk, no clock ----

# Prints the number of refused fields and the bytes of each datagram in one line, and then the
# datagrams with an empty line between them. To be called in a subshell.
_llmstatsd_encode() { # MAX [ARGUMENT]...
  _llmstatsd_arguments="$#"
  while [ "$_llmstatsd_arguments" -gt 0 ]; do # the system limits an argument of awk
    _llmstatsd_argument=$1
    shift
    if [ "${#_llmstatsd_argument}" -gt 600 ]; then
      _llmstatsd_argument=$(printf '%.600s_' "$_llmstatsd_argument")
      _llmstatsd_argument=${_llmstatsd_argument%_}
    fi
    set -- "$@" "$_llmstatsd_argument"
    _llmstatsd_arguments=$((_llmstatsd_arguments - 1))
  done
  LC_ALL=C awk "$_llmstatsd_awk" "$@" # in this locale a text is bytes
}

# shellcheck disable=SC2016 # the dollar signs are for awk
_llmstatsd_awk='
BEGIN {
  for (i = 1; i < 256; i++) code[sprintf("%c", i)] = i
  max = ARGV[1] ~ /^[0-9]+$/ ? ARGV[1] + 0 : 1432
  known = "^__(model|operation|error|(prompt_|completion_|cached_)?tokens|cost_dollars|" \
    "((load_|prompt_eval_|total_)?duration|time_to_first_token|time_per_output_token)_seconds)$"
  types = "^(timeout|connection|rate_limit|quota|auth|permission|not_found|context_length|" \
    "content_filter|invalid_request|overloaded|server_error|invalid_response|cancelled)$"
  arguments()
  m = value["model"] == "" ? "" : "|#model:" label(value["model"])
  mo = m
  if (value["operation"] != "") mo = next_tag(m) "operation:" label(value["operation"])
  add("llm_request_total:1|c" mo)
  seconds("llm_request_duration_seconds", "duration_seconds", mo)
  tokens()
  add_number("llm_cost_dollars_total", decimal(number("cost_dollars", 9, 1e15), 9), "|c" m)
  seconds("llm_model_load_duration_seconds", "load_duration_seconds", m)
  seconds("llm_prompt_eval_duration_seconds", "prompt_eval_duration_seconds", m)
  seconds("llm_total_duration_seconds", "total_duration_seconds", m)
  seconds("llm_time_to_first_token_seconds", "time_to_first_token_seconds", mo)
  seconds("llm_time_per_output_token_seconds", "time_per_output_token_seconds", mo)
  failure(value["error"])
  if (on["fallback"]) add("llm_fallback_total:1|c")
  print refused + 0 bytes " " length(datagram)
  print datagrams datagram
}

# Sorts the arguments into value and on; the last one of an option stands.
function arguments(  i, name, given, at) {
  for (i = 2; i < ARGC; i++) {
    name = ARGV[i] ""
    at = index(name, "=")
    if (name == "--rate-limited" || name == "--fallback") given = "true"
    else if (name !~ /^--/) given = ""
    else if (at > 0) { given = substr(name, at + 1); name = substr(name, 1, at - 1) }
    else if (++i < ARGC) given = ARGV[i] ""
    else { refused++; return }
    gsub(/-/, "_", name)
    if (name == "__rate_limited" || name == "__fallback") switch_on(substr(name, 3), given)
    else if (name ~ known) value[substr(name, 3)] = given
    else refused++
  }
}

function switch_on(name, given) {
  if (given == "true") on[name] = 1
  else if (given == "false" || given == "") on[name] = 0
  else refused++
}

# Fills datagrams with as many lines as go into each; a line that is longer stands alone.
function add(line) {
  if (datagram == "") datagram = line
  else if (length(datagram) + 1 + length(line) <= max) datagram = datagram "\n" line
  else {
    datagrams = datagrams datagram "\n\n"
    bytes = bytes " " length(datagram)
    datagram = line
  }
}

function add_number(series, text, rest) {
  if (text != "") add(series ":" text rest)
}

function seconds(series, field, tags) {
  add_number(series, decimal(number(field, 6, 1e15), 3), "|ms" tags)
}

function tokens(  most, total, prompt, completion, cached) {
  most = 9007199254740991
  total = number("tokens", 0, most)
  prompt = number("prompt_tokens", 0, most)
  completion = number("completion_tokens", 0, most)
  cached = number("cached_tokens", 0, most)
  if (total == "" && prompt completion != "") {
    total = prompt + completion
    total = total <= most ? sprintf("%.0f", total) : ""
  }
  add_number("llm_tokens_total", total, "|c" m)
  add_number("llm_prompt_tokens_total", prompt, "|c" m)
  add_number("llm_completion_tokens_total", completion, "|c" m)
  add_number("llm_cached_tokens_total", cached, "|c" m)
}

function failure(type) {
  if (type == "" && on["rate_limited"]) type = "rate_limit"
  if (type != "" && type !~ types) type = "other"
  if (type != "") add("llm_error_total:1|c" next_tag(m) "type:" type)
  if (on["rate_limited"] || type == "rate_limit") add("llm_rate_limit_exceeded_total:1|c" m)
}

function next_tag(tags) { return tags == "" ? "|#" : tags "," }

# The whole number of parts of 10^-places in a field, as text, rounded half up.
# Nothing if the field is missing, or refused as it is no number from 0 to most parts.
function number(field, places, most,  made) {
  if (value[field] == "") return ""
  made = length(value[field]) > 400 ? "" : parts(value[field], places, most)
  if (made == "") refused++
  return made
}

# The same for a text, whose digits are moved as text, so that nothing is lost.
# With no places, the number has to be whole.
function parts(text, places, most,  at, sign, exponent, point, digits, rest, whole) {
  if (text !~ /^[+-]?[0-9]*[.]?[0-9]*([eE][+-]?[0-9]+)?$/ || text !~ /^[+-]?[.]?[0-9]/) return ""
  sign = substr(text, 1, 1)
  sub(/^[+-]/, "", text)
  if (at = match(text, /[eE]/)) {
    exponent = substr(text, at + 1) + 0
    text = substr(text, 1, at - 1)
  }
  point = index(text, ".")
  digits = text
  sub(/[.]/, "", digits)
  point = (point ? point - 1 : length(digits)) + exponent + places
  while (substr(digits, 1, 1) == "0") { digits = substr(digits, 2); point-- }
  sub(/0+$/, "", digits)
  if (digits == "") return "0"
  if (sign == "-" || point > 16) return ""
  if (places == 0 && point < length(digits)) return ""
  if (point < 0) return "0"
  rest = substr(digits, point + 1)
  whole = substr(substr(digits, 1, point) "0000000000000000", 1, point) + 0
  if (whole > most || (whole == most && rest != "")) return ""
  return sprintf("%.0f", whole + (rest ~ /^[5-9]/ ? 1 : 0))
}

# A whole number of parts of 10^-places, as a decimal without trailing zeros.
function decimal(n, places,  rest) {
  if (n == "") return ""
  while (length(n) <= places) n = "0" n
  rest = substr(n, length(n) - places + 1)
  sub(/0+$/, "", rest)
  return substr(n, 1, length(n) - places) (rest == "" ? "" : "." rest)
}

# The first 128 characters of a text, with _ for what StatsD cannot carry and for each byte
# that is not UTF-8.
function label(text,  made, at, n, size, c) {
  at = 1
  for (n = 0; n < 128 && at <= length(text); n++) {
    size = character(text, at)
    c = substr(text, at, size)
    made = made (size == 0 || size == 1 && !safe(c) ? "_" : c)
    at += size ? size : 1
  }
  return made
}

function safe(c) { return code[c] >= 32 && code[c] != 127 && index("|,#", c) == 0 }

# The bytes of the character that begins at a byte, by the table of well-formed byte sequences
# in the Unicode Standard; 0 if there is none.
function character(text, at,  first, size, low, high, i, next_byte) {
  first = code[substr(text, at, 1)]
  if (first < 128) return 1
  if (first < 194 || first > 244) return 0
  size = first < 224 ? 2 : first < 240 ? 3 : 4
  low = first == 224 ? 160 : first == 240 ? 144 : 128
  high = first == 237 ? 159 : first == 244 ? 143 : 191
  for (i = 1; i < size; i++) {
    next_byte = code[substr(text, at + i, 1)] + 0
    if (next_byte < low || next_byte > high) return 0
    low = 128
    high = 191
  }
  return size
}
'

# ---- settings ----

# Sets _llmstatsd_socket, or _llmstatsd_host and _llmstatsd_port.
_llmstatsd_destination() {
  _llmstatsd_socket=${LLMSTATSD_SOCKET-}
  _llmstatsd_pair "${LLMSTATSD_HOST-}" "${LLMSTATSD_PORT-}" ||
    _llmstatsd_pair "${DD_AGENT_HOST-}" "${DD_DOGSTATSD_PORT-}" ||
    _llmstatsd_pair "${STATSD_HOST-}" "${STATSD_PORT-}" || :
  _llmstatsd_host=${_llmstatsd_host:-127.0.0.1} _llmstatsd_port=${_llmstatsd_port:-8125}
  if [ "$_llmstatsd_host" = localhost ]; then
    _llmstatsd_host=127.0.0.1 # netcat might prefer IPv6
  fi
}

# Fails if there is neither a host nor a port. A port is a number from 1 to 65535: Kubernetes
# sets LLMSTATSD_PORT=udp://10.0.0.1:8125 in pods beside a service of that name.
_llmstatsd_pair() { # HOST PORT
  _llmstatsd_host=$1 _llmstatsd_port=''
  case $2 in
    '' | *[!0-9]* | ??????*) ;;
    *) if [ "$2" -ge 1 ] && [ "$2" -le 65535 ]; then _llmstatsd_port=$2; fi ;;
  esac
  [ -n "$_llmstatsd_host$_llmstatsd_port" ]
}

_llmstatsd_disabled() {
  case ${LLMSTATSD_DISABLE-} in
    1 | [Tt][Rr][Uu][Ee] | [Yy][Ee][Ss] | [Oo][Nn]) return 0 ;;
  esac
  return 1
}

# ---- sender ----

_llmstatsd_send() {
  _llmstatsd_events=$((_llmstatsd_events + 1))
  if [ -n "$_llmstatsd_closed" ]; then
    _llmstatsd_closed_events=$((_llmstatsd_closed_events + 1))
    return 0
  fi
  if _llmstatsd_disabled; then return 0; fi
  _llmstatsd_destination
  _llmstatsd_max=1024 # some netcats read no more at once, and send that
  if [ -n "$_llmstatsd_socket" ]; then _llmstatsd_max=4096; fi
  _llmstatsd_lines=$(_llmstatsd_encode "$_llmstatsd_max" "$@" 2>/dev/null || :)
  if [ -z "$_llmstatsd_lines" ]; then # no awk
    _llmstatsd_dropped_error=$((_llmstatsd_dropped_error + 1))
    return 0
  fi
  _llmstatsd_send_lines
}

# Sends the datagrams of _llmstatsd_lines, which are as _llmstatsd_encode prints them.
_llmstatsd_send_lines() {
  _llmstatsd_bytes=${_llmstatsd_lines%%"$_llmstatsd_newline"*}
  _llmstatsd_lines=${_llmstatsd_lines#*"$_llmstatsd_newline"}
  _llmstatsd_refused_fields=$((_llmstatsd_refused_fields + ${_llmstatsd_bytes%% *}))
  while [ -n "$_llmstatsd_lines" ]; do
    _llmstatsd_bytes=${_llmstatsd_bytes#* }
    _llmstatsd_datagram=${_llmstatsd_lines%%"$_llmstatsd_newline$_llmstatsd_newline"*}
    _llmstatsd_lines=${_llmstatsd_lines#"$_llmstatsd_datagram"}
    _llmstatsd_lines=${_llmstatsd_lines#"$_llmstatsd_newline$_llmstatsd_newline"}
    if [ -n "$_llmstatsd_socket" ]; then
      _llmstatsd_to_socket
    else
      _llmstatsd_to_host
    fi
  done
}

_llmstatsd_sent() {
  _llmstatsd_sent_datagrams=$((_llmstatsd_sent_datagrams + 1))
  _llmstatsd_sent_bytes=$((_llmstatsd_sent_bytes + ${_llmstatsd_bytes%% *}))
}

_llmstatsd_unresolved() {
  _llmstatsd_dropped_unresolved=$((_llmstatsd_dropped_unresolved + 1))
}

_llmstatsd_to_host() {
  _llmstatsd_find_netcat
  case $_llmstatsd_host in
    -* | *[!A-Za-z0-9._:%-]*) _llmstatsd_unresolved ;;
    *:*) _llmstatsd_to_address ;;
    *[!0-9.]*) _llmstatsd_to_name ;;
    *) _llmstatsd_to_address ;;
  esac
}

_llmstatsd_to_address() {
  if _llmstatsd_give_netcat; then
    _llmstatsd_sent
  else
    _llmstatsd_dropped_error=$((_llmstatsd_dropped_error + 1))
  fi
}

# netcat looks a name up each time. After an error this is not done again before a second has
# gone by, and not before 60 have when it took seconds.
_llmstatsd_to_name() {
  _llmstatsd_now=$(_llmstatsd_date)
  if [ "$_llmstatsd_retry_to" = "$_llmstatsd_host" ] &&
    [ "$_llmstatsd_now" -lt "$_llmstatsd_retry_at" ]; then
    _llmstatsd_unresolved
  elif _llmstatsd_give_netcat; then
    _llmstatsd_sent
  else
    _llmstatsd_unresolved
    _llmstatsd_took=$(($(_llmstatsd_date) - _llmstatsd_now))
    _llmstatsd_retry_at=$((_llmstatsd_now + _llmstatsd_took + (_llmstatsd_took > 1 ? 60 : 1)))
    _llmstatsd_retry_to=$_llmstatsd_host
  fi
}

# Sets _llmstatsd_netcat to what there is, by what its help says:
#   ncat    of Nmap
#   quits   OpenBSD's, and the traditional one: ends with its input if told so
#   stays   others: ends a second after its last input, and is left to itself meanwhile
#   none    none that knows UDP
_llmstatsd_find_netcat() {
  if [ -n "$_llmstatsd_netcat" ]; then return 0; fi
  _llmstatsd_unix=no
  _llmstatsd_timeout=no
  if timeout 2 true >/dev/null 2>&1; then _llmstatsd_timeout=yes; fi
  case $(nc -h 2>&1 </dev/null || :) in
    *--send-only*) _llmstatsd_netcat=ncat ;;
    *' [-'*U*' [-q '*) _llmstatsd_netcat=quits _llmstatsd_unix=yes ;;
    *-u*-q\ * | *-q\ *-u*) _llmstatsd_netcat=quits ;;
    *-u*) _llmstatsd_netcat=stays ;;
    *) _llmstatsd_netcat=none ;;
  esac
}

# Hands the datagram to netcat, which is given two seconds. Without `timeout` to see to that,
# netcat is left to itself, and nothing is known of its success.
_llmstatsd_give_netcat() {
  case $_llmstatsd_netcat$_llmstatsd_timeout in
    none*) return 1 ;;
    ncatyes | quitsyes) _llmstatsd_netcat timeout 2 ;;
    *) ( (_llmstatsd_netcat) >/dev/null 2>&1 </dev/null &) ;; # holds nothing of the script open
  esac
}

_llmstatsd_netcat() { # [COMMAND]...
  case $_llmstatsd_netcat in
    ncat) set -- "$@" nc -u --send-only ;;
    quits) set -- "$@" nc -u -q 0 -w 1 ;;
    *) set -- "$@" nc -u -w 1 ;;
  esac
  printf %s "$_llmstatsd_datagram" |
    "$@" "$_llmstatsd_host" "$_llmstatsd_port" >/dev/null 2>&1
}

# Only OpenBSD's netcat sends to unix datagram sockets. Where there is `timeout`, a full socket is
# waited for a fifth of a second, and then left alone for a second; else netcat waits for one, and
# nothing is known of its success.
_llmstatsd_to_socket() {
  _llmstatsd_find_netcat
  _llmstatsd_now=$(_llmstatsd_date)
  case $_llmstatsd_unix$_llmstatsd_socket in
    no* | yes-*) _llmstatsd_dropped_error=$((_llmstatsd_dropped_error + 1)) ;;
    *)
      if [ "$_llmstatsd_full_to" = "$_llmstatsd_socket" ] &&
        [ "$_llmstatsd_now" -lt "$_llmstatsd_full_until" ]; then
        _llmstatsd_dropped_full=$((_llmstatsd_dropped_full + 1))
      elif [ -S "$_llmstatsd_socket" ]; then
        _llmstatsd_through_netcat
      else
        _llmstatsd_dropped_unreachable=$((_llmstatsd_dropped_unreachable + 1))
      fi
      ;;
  esac
}

_llmstatsd_through_netcat() {
  set -- nc -u -U -q 0 -w 1 "$_llmstatsd_socket"
  if timeout 0.2 true >/dev/null 2>&1; then set -- timeout 0.2 "$@"; fi
  _llmstatsd_status=0
  printf %s "$_llmstatsd_datagram" | "$@" >/dev/null 2>&1 || _llmstatsd_status=$?
  case $_llmstatsd_status in
    0) _llmstatsd_sent ;;
    124 | 143) # of coreutils, and of busybox
      _llmstatsd_full_to=$_llmstatsd_socket
      _llmstatsd_full_until=$((_llmstatsd_now + 2)) # the clock has whole seconds
      _llmstatsd_dropped_full=$((_llmstatsd_dropped_full + 1))
      ;;
    *) _llmstatsd_dropped_unreachable=$((_llmstatsd_dropped_unreachable + 1)) ;;
  esac
}
