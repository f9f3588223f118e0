# shellcheck shell=bash
# What every test with a running uzramd shares. To be sourced first, by a script that bash runs; it needs UZRAM_BIN, the
# folder of uzramd and uzramctl. Everything happens in $work, a folder of the test's own; what the test has started ends
# with it, and where the test fails, the daemon's log is told.

set -euo pipefail
: "${UZRAM_BIN:?the folder of uzramd and uzramctl}"
PATH=/usr/bin:/usr/sbin:/bin:/sbin  # Debian's clients and their python, whatever else the machine has
work=$(mktemp -d "${TMPDIR:-/tmp}/uzram.XXXXXX")
daemon_pid=
uri=
cleanups=()  # commands, run in reverse order at the end

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

# finally COMMAND...: to be run at the end, whatever happens.
finally() { cleanups+=("$(printf '%q ' "$@")"); }

finish() {
  local status=$? i
  trap - EXIT INT TERM
  set +e
  for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do eval "${cleanups[i]}" >/dev/null 2>&1; done
  [ -z "$daemon_pid" ] || { kill -KILL "$daemon_pid" && wait "$daemon_pid"; } 2>/dev/null
  if [ "$status" != 0 ]; then
    echo "--- exit status $status; the end of the daemon's log:"
    tail -n 40 "$work/uzramd.log" 2>/dev/null
  fi >&2
  rm -rf --one-file-system "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# wait_until SECONDS COMMAND...: fails the test where the command does not succeed within that time.
wait_until() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "waited in vain for: $*"
    sleep 0.05
  done
}

# start_daemon OPTION...: runs uzramd with its sockets in $work; afterwards $uri, $socket, $control and $daemon_pid
# are set and clients may connect.
start_daemon() {
  socket=$work/nbd.sock control=$work/control.sock
  : >"$work/uri"
  "$UZRAM_BIN/uzramd" --unix "$socket" --control "$control" "$@" >"$work/uri" 2>>"$work/uzramd.log" </dev/null &
  daemon_pid=$!
  local end=$((SECONDS + 30))
  until [ "$(wc -l <"$work/uri")" -ge 1 ]; do
    kill -0 "$daemon_pid" 2>/dev/null || fail "uzramd $* has ended"
    [ "$SECONDS" -lt "$end" ] || fail "uzramd $* is not ready after 30 s"
    sleep 0.02
  done
  # shellcheck disable=SC2034  # the tests use it
  uri=$(head -n 1 "$work/uri")
}

# stop_daemon: SIGTERM; the daemon must end with status 0, without a sanitizer's report, and remove its sockets.
stop_daemon() {
  local status=0 pid=$daemon_pid
  kill -TERM "$pid"
  wait "$pid" || status=$?
  daemon_pid=
  [ "$status" = 0 ] || fail "uzramd ended with status $status after SIGTERM"
  ! grep -E 'Sanitizer|runtime error' "$work/uzramd.log" >&2 || fail "a sanitizer has something to say"
  [ ! -e "$socket" ] || fail "$socket is left behind"
  [ ! -e "$control" ] || fail "$control is left behind"
}

uzramctl() { "$UZRAM_BIN/uzramctl" --control "$control" "$@"; }

# mm_stat DEVICE COLUMN: one figure of mm_stat (1 orig_data_size, 2 compr_data_size, 3 mem_used_total, 4 mem_limit,
# 5 mem_used_max, 6 same_pages, 7 pages_compacted, 8 huge_pages, 9 huge_pages_since).
mm_stat() { uzramctl show "$1" mm_stat | awk -v column="$2" '{ print $column }'; }

# free_port: a TCP port of the loopback that nobody listens on.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# make_data FILE MEGABYTES: a file as memory is: program text, text, zeroes, and an eighth of noise.
make_data() {
  local eighth=$(($2 * 1024 * 1024 / 8)) programs=(/usr/lib/x86_64-linux-gnu/*.so.*) texts=(/usr/include/*.h /usr/share/perl5/*/*)
  {
    cat "${programs[@]}" 2>/dev/null | head -c $((4 * eighth)) || true
    cat "${texts[@]}" 2>/dev/null | head -c $((2 * eighth)) || true
    head -c "$eighth" /dev/urandom
  } >"$1"
  truncate -s "$2M" "$1"
}

# make_tree FOLDER: some thousand files, folders and links of this machine.
make_tree() {
  mkdir -p "$1"
  cp -a /usr/include/linux /usr/include/c++ /etc/alternatives /usr/sbin "$1/"
}

# same_trees A B: fails the test unless both hold the same names, contents, links, owners, modes and times.
same_trees() {
  diff -r --no-dereference "$1" "$2" || fail "$1 and $2 differ"
  diff <(describe_tree "$1") <(describe_tree "$2") || fail "$1 and $2 differ in their metadata"
}
describe_tree() { (cd "$1" && find . -name lost+found -prune -o -printf '%p %y %m %U %G %T@ %l\n' | LC_ALL=C sort); }
