#!/bin/sh
# SPDX-License-Identifier: MIT
# wheel_try.sh: install the wheel that wheel.sh has made in a new Debian without a compiler, with what it needs from the
# package index, and run both servers and both clients there. As root. The Debian is the one whose Python the wheel is for.
set -eu
cd -- "$(dirname -- "$0")/.."
. tools/step.sh
. tools/chroot.sh
die() { printf 'wheel_try: error: %s\n' "$*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die 'a chroot takes root'
for tool in debootstrap unshare ip; do
    command -v "$tool" >/dev/null || die "$tool is missing (Debian: debootstrap, util-linux, iproute2)"
done
wheel=$(ls build/wheel/*.whl 2>/dev/null) || die 'there is no wheel: run tools/wheel.sh first'
case $wheel in
    *-cp311-*) suite=bookworm ;;
    *-cp313-*) suite=trixie ;;
    *) die "no Debian has the Python of $wheel" ;;
esac
root=$PWD/build/wheel/root log=$PWD/build/log/wheel_try.log
mkdir -p "$bases" build/log

try() { # TITLE COMMAND...
    title=$1
    shift
    step "wheel_try: $title ..." "$log" 'see what it said' "$@" || exit 1
}

copy() {
    rm -rf "$root" && cp -a "$bases/$suite" "$root" && cp "$wheel" server.ini "$root/root" &&
        echo '127.0.0.1 localhost' >"$root/etc/hosts"
}
try "debootstrap $suite" base "$suite"
try 'a copy of it' copy
# shellcheck disable=SC2016 # expanded there
try 'Python, and no compiler' inside --mount "$root" root sh -euc '
    apt-get -q update && apt-get -q install -y --no-install-recommends python3-venv
    ! command -v cc gcc make cmake'
try "pip install $(basename "$wheel")" inside --mount "$root" root sh -euc '
    python3 -m venv /opt/nts && /opt/nts/bin/pip install --disable-pip-version-check /root/*.whl'
# shellcheck disable=SC2016 # expanded there
try 'both servers, both clients, the library' inside --net "$root" root sh -euc '
    PATH=/opt/nts/bin:$PATH
    mkdir -p /etc/nts && cp /root/server.ini /etc/nts/server.ini
    ntske-server & key_exchange=$!
    ntsts-server & time_server=$!
    trap "kill $time_server $key_exchange 2>/dev/null || :" EXIT
    sleep 3
    ntske-client -c /etc/nts/certs/ca.pem localhost 4446
    ntsts-client --verbose
    [ -e /.local/state/nts/client.ini ]
    python3 -c "import nts; print(nts.Client(\"localhost\", 4446, ca=\"/etc/nts/certs/ca.pem\").query())"
    kill $time_server $key_exchange
    wait $time_server
    wait $key_exchange'
grep -q 'engine: native' "$log" || die "the native engine is not in use: see $log"
echo "wheel_try: the wheel works in a new Debian $suite; $log has what it said"
