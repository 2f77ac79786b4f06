# shellcheck shell=sh
# SPDX-License-Identifier: MIT
# Sourced in the project's root, by root: new Debians by debootstrap, in $bases, and commands inside of their copies.

bases=$PWD/build/container

# In a chroot with mounts of its own, name servers, and how this machine reaches the package index. With --net as the
# first word, it has only a loopback network of its own, where all may use port 123.
# shellcheck disable=SC2016 # expanded there
inside() { # --mount|--net ROOT USER COMMAND...
    unshare --mount "$1" --propagation private sh -euc '
        network=$1 root=$2 user=$3
        shift 3
        if [ "$network" = --net ]; then
            ip link set lo up
            echo 123 >/proc/sys/net/ipv4/ip_unprivileged_port_start
        fi
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/run"
        for file in /etc/resolv.conf /etc/pip.conf; do
            [ ! -e "$file" ] || { touch "$root$file" && mount --bind "$file" "$root$file"; }
        done
        certificates=/etc/ssl/certs/ca-certificates.crt
        if [ -e "$certificates" ]; then
            touch "$root/run/ca.pem" && mount --bind "$certificates" "$root/run/ca.pem"
            set -- PIP_CERT=/run/ca.pem "$@"
        fi
        exec chroot --userspec="$user" "$root" env -i HOME=/ LANG=C.UTF-8 \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
    ' sh "$@"
}

base() { # SUITE: a new Debian, once
    [ ! -e "$bases/$1.done" ] || return 0
    # shellcheck disable=SC2016 # apt's
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)
    rm -rf "${bases:?}/$1"
    debootstrap --variant=minbase "$1" "$bases/$1" "$mirror" && touch "$bases/$1.done"
}
