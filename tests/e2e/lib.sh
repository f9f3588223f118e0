# shellcheck shell=bash
# What the tests with real clients share. To be sourced first.

# shellcheck source=../lib/daemon.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/daemon.sh"

# unix_uri NAME: the export's URI on the daemon's unix socket.
unix_uri() { echo "nbd+unix:///$1?socket=$socket"; }

# expect WHAT ACTUAL EXPECTED: fails the test unless both are the same words.
expect() { [ "$2" = "$3" ] || fail "$1: $2, not $3"; }
