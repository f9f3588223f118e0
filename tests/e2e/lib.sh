# shellcheck shell=bash
# What the tests with real clients share. To be sourced first.

# shellcheck source=../lib/daemon.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/daemon.sh"

# unix_uri NAME: the export's URI on the daemon's unix socket.
unix_uri() { echo "nbd+unix:///$1?socket=$socket"; }

# expect WHAT ACTUAL EXPECTED: fails the test unless both are the same words.
expect() { [ "$2" = "$3" ] || fail "$1: $2, not $3"; }

# refused STATUS TEXT COMMAND...: the command fails with that status and one line that holds the text.
refused() {
  local want=$1 text=$2 status=0
  shift 2
  timeout 20 "$@" >"$work/stdout" 2>"$work/stderr" </dev/null || status=$?
  [ "$status" = "$want" ] || fail "$*: status $status, not $want: $(cat "$work/stderr")"
  [ "$(wc -l <"$work/stderr")" = 1 ] || fail "$*: not one line: $(cat "$work/stderr")"
  grep -qF -- "$text" "$work/stderr" || fail "$*: '$text' is not in: $(cat "$work/stderr")"
  [ ! -s "$work/stdout" ] || fail "$*: standard output: $(cat "$work/stdout")"
}
