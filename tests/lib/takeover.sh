# shellcheck shell=bash
# What the tests of --takeover share. To be sourced, behind daemon.sh.
: "${work:?a folder of the test}"

# take_over OPTION...: another daemon is started to take over; $successor is its process.
take_over() {
  : "${socket:?of the daemon that runs}" "${control:?}"
  said_from=$(stat -c %s "$work/uzramd.log")
  : >"$work/taken"
  "$UZRAM_BIN/uzramd" --unix "$socket" --control "$control" --takeover "$@" >"$work/taken" 2>>"$work/uzramd.log" &
  successor=$!
}
# What both daemons have said since.
said() { tail -c +$((said_from + 1)) "$work/uzramd.log"; }
is_up() { [ -s "$work/taken" ]; }

# taken_over OPTION...: another daemon takes over, and is $daemon_pid from then on; the one before has ended well.
taken_over() {
  local predecessor=$daemon_pid status=0
  take_over "$@"
  wait_until 20 is_up
  daemon_pid=$successor
  wait "$predecessor" || status=$?
  expect "exit status of the one before" "$status" 0
}

# refused REGEX OPTION...: it ends with one line that says why, and the daemon serves on.
refused() {
  local words=$1 status=0
  shift
  take_over "$@"
  wait "$successor" || status=$?
  expect "exit status of $*" "$status" 1
  [ "$(said | grep -vcE '^[0-9-]+ [0-9:.]+ uzramd\[')" = 1 ] || fail "not one line: $(said)"
  grep -q "^uzramd: .*$words" <(said) || fail "$* does not say '$words': $(said)"
  kill -0 "$daemon_pid" || fail "the daemon has ended"
  uzramctl list >/dev/null
}
