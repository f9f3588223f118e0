#!/usr/bin/env bash
# What README.md tells to type in a container works as it stands there, for a user with no rights and no folder of its own.
. "$(dirname "$0")/lib.sh"

sed -n 's/^    \(uzramd .*--run .*\)/\1/p' "$(dirname "$0")/../../README.md" >"$work/typed"
cat "$work/typed"
[ "$(wc -l <"$work/typed")" = 1 ] || fail "README.md does not say what to type"
mkdir "$work/home"
cp "$UZRAM_BIN/uzramd" "$work/home"
head -c 20M "$UZRAM_BIN/uzramd" >"$work/home/disk.img"
truncate -s 24M "$work/home/disk.img"
# And see that it arrives.
sed -i "s|\"\\\$uri\"'|\"\$uri\" \&\& nbdcopy \"\$uri\" back.img'|" "$work/typed"
chmod 711 "$work"
as_nobody=()
if [ "$(id -u)" = 0 ]; then
  chown -R 65534:65534 "$work/home"
  as_nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set=-all)
fi
chmod 644 "$work/typed"
cd "$work/home"
env -i PATH="$work/home:$PATH" "${as_nobody[@]}" bash -e "$work/typed" || fail "README.md's command fails"
cmp -n "$(stat -c %s disk.img)" disk.img back.img
