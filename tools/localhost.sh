#!/bin/sh
# SPDX-License-Identifier: MIT
# localhost.sh PYTEST...: run the tests that talk over names and sockets where localhost is what it is on other machines,
# in namespaces of their own. Nothing of this machine changes. Root may do so, and most users may; where neither may,
# it says why and leaves the tests out.
set -u

debian_hosts=build/hosts
no_ipv6=build/no_ipv6.so
failed=0
mkdir -p build/log
printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' >"$debian_hosts"

# Run in new namespaces, by their root.
has_ipv6='
    mount --bind '$debian_hosts' /etc/hosts
    ip link set lo up
    grep -q "^0\{31\}1 " /proc/net/if_inet6 || { echo "this kernel has no IPv6" >&2; exit 1; }'
ipv6_off='
    mount --bind '$debian_hosts' /etc/hosts
    ip link set lo up
    [ ! -e /proc/net/if_inet6 ] || echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6'

# inside SETUP COMMAND...: COMMAND as this user in new namespaces, once SETUP has run there.
inside() {
    setup=$1
    shift
    if [ "$(id -u)" = 0 ]; then
        unshare --mount --net sh -ec "$setup"'; exec "$@"' sh "$@"
    else
        unshare --user --map-root-user --mount --net sh -ec "$setup"'; exec "$@"' sh \
            unshare --user --map-user="$(id -u)" --map-group="$(id -g)" "$@"
    fi
}

# with TITLE SETUP COMMAND...
with() {
    title=$1 setup=$2
    shift 2
    if ! inside "$setup" true 2>build/log/localhost.log; then
        echo "localhost: $title: LEFT OUT, since this machine does not allow it: $(tail -n 1 build/log/localhost.log)"
        return
    fi
    echo "localhost: $title"
    inside "$setup" "$@" || failed=1
}

cc -Wall -Wextra -Werror -shared -fPIC -o "$no_ipv6" tools/no_ipv6.c || exit 1
set -- "$@" -q tests/server/test_ke_daemon.py tests/server/test_ke_daemon_operation.py tests/test_readme.py \
    tests/check/test_peer.py tests/client/test_both_clients.py \
    'tests/check/test_client_cases.py::test_case_passes_a_right_client[ours-C19]'
with "Debian's hosts file, in which ::1 comes first" "$has_ipv6" "$@" \
    tests/client/test_ntske_client.py tests/client/test_ntsts_client_*.py
with 'IPv6 switched off (sysctl disable_ipv6)' "$ipv6_off" "$@" \
    tests/server/ts_daemon/test_ts_daemon_time.py::test_reply_comes_from_the_address_that_was_asked \
    tests/server/ts_daemon/test_ts_daemon_time.py::test_listens_only_where_told
with 'a kernel without IPv6' "$ipv6_off" env LD_PRELOAD="$PWD/$no_ipv6" "$@"
exit "$failed"
