# shellcheck shell=bash
# Certificates and keys for tests. To be sourced, behind daemon.sh.
: "${work:?a folder of the test}"

# make_ca DIR: a certificate authority in DIR.
make_ca() {
  mkdir -p "$1"
  printf 'cn = test CA\nca\ncert_signing_key\ncrl_signing_key\n' >"$1/ca.info"
  quietly certtool --generate-privkey --key-type=ecdsa --outfile "$1/ca-key.pem"
  quietly certtool --generate-self-signed --load-privkey "$1/ca-key.pem" --template "$1/ca.info" --outfile "$1/ca-cert.pem"
}

# make_certificate CA DIR server|client NAME: NAME's certificate by the CA in folder CA, in DIR under the names that
# qemu, nbdkit and libnbd use.
make_certificate() {
  mkdir -p "$2"
  [ "$1" = "$2" ] || cp "$1/ca-cert.pem" "$2/"
  printf 'cn = "%s"\ntls_www_%s\nsigning_key\n' "$4" "$3" >"$2/$3.info"
  [ "$3" = client ] || printf 'dns_name = localhost\nip_address = 127.0.0.1\n' >>"$2/$3.info"
  quietly certtool --generate-privkey --key-type=ecdsa --outfile "$2/$3-key.pem"
  quietly certtool --generate-certificate --load-ca-certificate "$1/ca-cert.pem" --load-ca-privkey "$1/ca-key.pem" \
    --load-privkey "$2/$3-key.pem" --template "$2/$3.info" --outfile "$2/$3-cert.pem"
}

# revoke CA CERTIFICATE: the CA's folder gets a revocation list with it.
revoke() {
  printf 'crl_next_update = 30\ncrl_number = 1\n' >"$1/crl.info"
  quietly certtool --generate-crl --load-ca-privkey "$1/ca-key.pem" --load-ca-certificate "$1/ca-cert.pem" \
    --load-certificate "$2" --template "$1/crl.info" --outfile "$1/ca-crl.pem"
}

quietly() { "$@" >"$work/tls.log" 2>&1 || { cat "$work/tls.log" >&2; fail "$*"; }; }
