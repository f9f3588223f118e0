# shellcheck shell=bash
# Installs what tests/packages lists. To be sourced.

# install_packages KIND...: installs the packages of these kinds that are missing; asks apt nothing when none is.
install_packages() {
  local list name kind missing=()
  list=$(dirname "${BASH_SOURCE[0]}")/../packages
  while read -r name kind _; do
    [[ $name != '#' && " $* " == *" $kind "* ]] || continue
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
  done <"$list"
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "installing ${missing[*]}"
  local sudo=() log
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  log=$(mktemp)
  if ! { "${sudo[@]}" apt-get -q update &&
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
      install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}
