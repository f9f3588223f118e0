#!/usr/bin/env bash
# Every option and verb that --help names stands in the manual page, and the page names no other option.
set -euo pipefail
: "${UZRAM_BIN:?the folder of uzramd and uzramctl}"
pages=$(dirname "$0")/../../docs/man
options() { grep -oE -- '--[a-z][a-z-]+' | sort -u; }
help_of_ctl() {
  "$UZRAM_BIN/uzramctl" --help
  for verb in $("$UZRAM_BIN/uzramctl" --help | sed -n '/^Subcommands:/,$s/^  \([a-z]*\) .*/\1/p'); do
    "$UZRAM_BIN/uzramctl" "$verb" --help
    grep -q "^\*$verb\*\|; \*$verb\*" "$pages/uzramctl.8.scd" || { echo "the page does not name $verb" >&2; exit 1; }
  done
}
diff <("$UZRAM_BIN/uzramd" --help | options) <(options <"$pages/uzramd.8.scd")
diff <(help_of_ctl | options) <(grep -v 'uzramd --size' "$pages/uzramctl.8.scd" | options | grep -vx -e --swap-safe)
