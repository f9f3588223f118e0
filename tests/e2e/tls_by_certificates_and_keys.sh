#!/usr/bin/env bash
# nbds:// with certificates and with pre-shared keys, by libnbd and by qemu: data, who is let in, and who is not.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../lib/tls.sh"

make_ca "$work/pki"
make_certificate "$work/pki" "$work/pki" server localhost
make_certificate "$work/pki" "$work/alice" client alice
make_certificate "$work/pki" "$work/eve" client eve
make_certificate "$work/pki" "$work/old" client old
mkdir "$work/nobody" && cp "$work/pki/ca-cert.pem" "$work/nobody/"
make_ca "$work/foreign"
make_certificate "$work/foreign" "$work/forger" client alice
cp "$work/pki/ca-cert.pem" "$work/forger/"
revoke "$work/pki" "$work/old/client-cert.pem"
psktool -u alice -p "$work/keys.psk" >/dev/null
psktool -u eve -p "$work/keys.psk" >/dev/null
mkdir "$work/key" && grep alice "$work/keys.psk" >"$work/key/keys.psk"
make_data "$work/image" 16

cat >"$work/config" <<CONFIG
port = $(free_port)
tls-certificates = $work/pki
tls-psk = $work/keys.psk
tls-require = true

[device.open]
size = 16M

[device.alices]
size = 16M
allow = "cert:alice, psk:alice"
CONFIG
start_daemon --config "$work/config"
port=$(sed -n 's/^port = //p' "$work/config")
host=localhost:$port
by_certificate() { echo "nbds://$host/$2?tls-certificates=$work/$1"; }
by_key() { echo "nbds://$1@$host/$2?tls-psk-file=$work/keys.psk"; }
refused() { ! "$@" >/dev/null 2>"$work/refused" || fail "was let in: $*"; }

uzramctl list --json | grep -q "nbds://127.0.0.1:$port/open" || fail "uzramctl does not name the URI: $(uzramctl list --json)"

# libnbd
for uri in "$(by_certificate alice alices)" "$(by_key alice alices)"; do
  nbdcopy "$work/image" "$uri"
  nbdcopy "$uri" - | cmp - "$work/image"
  nbdinfo --json "$uri" | grep -q '"TLS": true' || nbdinfo "$uri" | grep -q 'with TLS'
done
expect "size" "$(nbdinfo --size "$(by_certificate nobody open)")" $((16 << 20))
refused nbdinfo --size "$(by_certificate eve alices)"
grep -qi 'policy\|not permitted\|denied' "$work/refused" || fail "not a refusal by policy: $(cat "$work/refused")"
refused nbdinfo --size "$(by_certificate nobody alices)"
refused nbdinfo --size "$(by_certificate forger open)"
refused nbdinfo --size "$(by_certificate old open)"
refused nbdinfo --size "$(by_key eve alices)"
refused nbdinfo --size "$(by_certificate alice none)"
refused nbdinfo --size "nbd://$host/open"
expect "what is listed for nobody" "$(nbdinfo --list --json "$(by_certificate nobody '')" | grep -c '"export-name"')" 1
expect "what is listed for alice" "$(nbdinfo --list --json "$(by_certificate alice '')" | grep -c '"export-name"')" 2
# Every command, as without TLS: requests longer than a record and a window, parts of pages, several connections.
for uri in "$(by_certificate alice alices)" "$(by_key alice alices)"; do
  nbdcopy --connections=4 --threads=4 --requests=16 --request-size=1048576 "$work/image" "$uri"
  nbdcopy --connections=4 --request-size=33554432 "$uri" - | cmp - "$work/image"
  URI=$uri nbdsh -c '
import nbd, os
h.set_uri_allow_local_file(True)
h.add_meta_context("base:allocation")
h.connect_uri(os.environ["URI"])
noise = os.urandom(9 << 20)
h.pwrite(noise, 12345, nbd.CMD_FLAG_FUA)
assert h.pread(len(noise), 12345) == noise
chunks = []
h.pread_structured(1 << 20, 12345, lambda b, o, s, e: chunks.append(bytes(b)), nbd.CMD_FLAG_DF)
assert chunks == [noise[: 1 << 20]]
h.zero(1 << 20, 4096)
h.trim(4096, 2 << 20)
h.cache(16 << 20, 0)
h.flush()
assert h.pread(1 << 20, 4096) == bytes(1 << 20)
extents = []
h.block_status(16 << 20, 0, lambda context, offset, entries, error: extents.extend(entries))
assert sum(extents[0::2]) == 16 << 20, extents
h.set_strict_mode(0)
try:
    h.pread(4096, 16 << 20)
    assert False
except nbd.Error as e:
    assert e.errno == "EINVAL", e.errno
h.shutdown()'
done
nbdcopy "$work/image" "$(by_key alice alices)"
# The unix socket stays as it is.
expect "size, unencrypted" "$(nbdinfo --size "$(unix_uri open)")" $((16 << 20))
refused nbdinfo --size "$(unix_uri alices)"

# qemu
x509() { echo "tls-creds-x509,id=tls,endpoint=client,dir=$work/$1"; }
psk=tls-creds-psk,id=tls,endpoint=client,dir=$work/key,username=alice
image() { echo "driver=nbd,host=localhost,port=$port,export=$1,tls-creds=tls"; }
qemu-img compare --object "$(x509 alice)" --image-opts "driver=raw,file.driver=file,file.filename=$work/image" \
  "driver=raw,file.driver=nbd,file.host=localhost,file.port=$port,file.export=alices,file.tls-creds=tls" >/dev/null
for credentials in "$(x509 alice)" "$psk"; do
  qemu-io --object "$credentials" --image-opts "$(image alices)" -c 'write -P 0xaa 64k 1M' -c 'read -P 0xaa 64k 1M' \
    -c 'write -z 128k 4k' -c 'read -P 0 128k 4k' -c 'discard 64k 64k' -c 'read -P 0 64k 64k' -c flush >/dev/null
done
refused qemu-img info --object "$(x509 eve)" --image-opts "$(image alices)"
refused qemu-img info --object "$(x509 forger)" --image-opts "$(image open)"
refused qemu-img info --image-opts "driver=nbd,host=localhost,port=$port,export=open"
stop_daemon

# A certificate of the CA's, or a key, is demanded.
start_daemon --size 8M --port "$port" --tls-certificates "$work/pki" --tls-psk "$work/keys.psk" --tls-require --tls-verify-peer
expect "size for eve" "$(nbdinfo --size "$(by_certificate eve zram0)")" $((8 << 20))
expect "size by key" "$(nbdinfo --size "$(by_key eve zram0)")" $((8 << 20))
refused nbdinfo --size "$(by_certificate nobody zram0)"
stop_daemon

# What is wrong with the files is said in one line.
rm "$work/pki/server-key.pem"
says() {
  local status=0
  "$UZRAM_BIN/uzramd" --size 8M --unix "$work/x" --control "$work/y" "${@:2}" 2>"$work/said" || status=$?
  expect "the status of ${*:2}" "$status" 1
  expect "what it says" "$(cat "$work/said")" "uzramd: $1"
}
says "$work/pki/server-key.pem: No such file or directory" --tls-certificates "$work/pki"
echo nothing >"$work/pki/server-key.pem"
echo "alice" >"$work/bad.psk"
says "$work/bad.psk:1: a line is name:key" --tls-psk "$work/bad.psk"
