#!/bin/sh
# SPDX-License-Identifier: MIT
# peers.sh [RELEASE]: unpack the NTS programs of a Debian release (trixie, or a later one), with their libraries, into
# .tools/peers/RELEASE. Nothing is installed or started. bin has what runs chronyd, ntpd and ntp-daemon there, on a Debian
# of another age too. Done once: to have newer ones, remove the folder.
set -eu
cd -- "$(dirname -- "$0")/.."
. tools/step.sh

release=${1:-trixie}
programs='chrony ntpsec ntpd-rs'
target=.tools/peers/$release work=$PWD/build/peers/$release root=$PWD/build/peers/$release/root
die() { printf 'peers: error: %s\n' "$*" >&2; exit 1; }

[ ! -e "$target/bin" ] || exit 0
need_writable .tools build || exit 1
command -v apt-get dpkg-deb >/dev/null || die 'this takes apt-get and dpkg-deb, as Debian has them'

# apt with folders of its own, so that this machine's package lists stay as they are.
apt() { # PROGRAM ARGUMENT...
    program=$1
    shift
    "$program" -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=- -o Dir::State="$work/state" \
        -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" -o Acquire::Languages=none -o APT::Sandbox::User= "$@"
}

unpack() {
    rm -rf "$work"
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/packages" "$root/bin"
    : >"$work/status"
    # shellcheck disable=SC2016 # apt's
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" >"$work/sources.list"
    apt apt-get update || return
    todo=$programs wanted=''
    while [ -n "$todo" ]; do # of what they depend on, the libraries alone
        wanted="$wanted $todo" found=''
        # shellcheck disable=SC2086 # words
        for name in $(apt apt-cache depends -i $todo | sed -n 's/^ *|*\(Pre\)*Depends: \(lib[^ <]*\)$/\2/p' | sort -u); do
            case " $wanted " in *" $name "*) ;; *) found="$found $name" ;; esac
        done
        todo=$found
    done
    # shellcheck disable=SC2086 # words
    (cd "$work/packages" && apt apt-get download $wanted) || return
    for package in "$work"/packages/*.deb; do dpkg-deb -x "$package" "$root" || return; done
    loader=$(cd "$root" && find usr/lib* -name 'ld-linux*.so*' -type f) && [ -n "$loader" ] || return
    libraries=$(dirname "$loader")
    for program in usr/sbin/chronyd usr/bin/chronyc usr/sbin/ntpd usr/bin/ntp-daemon usr/bin/ntp-ctl; do
        [ -e "$root/$program" ] || return
        cat >"$root/bin/$(basename $program)" <<TEXT
#!/bin/sh
here=\$(CDPATH='' cd -- "\$(dirname -- "\$0")/.." && pwd)
exec "\$here/$loader" --library-path "\$here/$libraries" "\$here/$program" "\$@"
TEXT
    done
    chmod +x "$root"/bin/*
    mkdir -p .tools/peers && mv "$root" "$target" && rm -rf "$work"
}

mkdir -p build/log
step "peers: $programs of Debian $release, unpacked into $target ..." build/log/peers.log 'see what apt-get said' unpack
