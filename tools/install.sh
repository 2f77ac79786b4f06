#!/bin/sh
# SPDX-License-Identifier: MIT
# install.sh install | uninstall: the suite in $DESTDIR$PREFIX, for `make`. Takes all from the built checkout: scripts,
# package and C code, the Python packages of .venv in a new one of the same Python, man pages, and systemd's files.
# $DESTDIR/etc/nts/server.ini is made if it is missing. Neither it nor master keys are ever changed or removed.
set -eu
: "${PREFIX:=/usr/local}" "${DESTDIR:=}" "${PYTHON:=.venv/bin/python}"
usage() { echo 'usage: tools/install.sh install | uninstall   (PREFIX, DESTDIR and PYTHON from the environment)' >&2; exit 2; }

[ $# -eq 1 ] || usage
case $PREFIX in /*) ;; *) echo "install: error: PREFIX=$PREFIX is no absolute path" >&2; exit 2 ;; esac
lib=$PREFIX/lib/nts # as the installed files know it
config=/etc/nts/server.ini
umask 022

remove() {
    rm -rf "$DESTDIR$lib"
    for script in *.py; do
        command=$(command_of "$script")
        (cd "$DESTDIR$PREFIX" 2>/dev/null && rm -f "bin/$script" "bin/$command" "share/man/man1/$command.1" \
            "share/bash-completion/completions/$command" "share/zsh/site-functions/_$command" \
            "share/fish/vendor_completions.d/$command.fish") || : # nothing is there yet
    done
    (cd deploy && find systemd sysusers.d tmpfiles.d -type f) | while read -r file; do rm -f "$(place "$file")"; done
}

command_of() { # SCRIPT.py: as pip names it (nts.system.console)
    basename "$1" .py | sed 's/^\(server\|fleet\)_/nts-\1-/; s/_/-/g'
}

place() { # where a file of deploy/ goes
    case $1 in
        systemd/*) printf %s "$DESTDIR$PREFIX/lib/systemd/system/${1#*/}" ;;
        *) printf %s "$DESTDIR$PREFIX/lib/$1" ;;
    esac
}

copy() {
    dest=$DESTDIR$lib
    mkdir -p "$dest/libaes_siv" "$DESTDIR$PREFIX/bin"
    find nts \( -name '*.py' -o -name '_engine*.so' -o -name '*.cnf' -o -name '*.css' -o -name py.typed \) | tar -cf - -T - | tar -xf - -C "$dest" --no-same-owner
    cp -P libaes_siv/libaes_siv.so* "$dest/libaes_siv"
    cp LICENSE "$dest"
    : >"$dest/installed" # nts.IS_CHECKOUT
    for script in *.py; do
        { printf '#!%s/.venv/bin/python\n' "$lib" && tail -n +2 "$script"; } >"$dest/$script"
        chmod 755 "$dest/$script"
        for name in "$script" "$(command_of "$script")"; do ln -s "../lib/nts/$script" "$DESTDIR$PREFIX/bin/$name"; done
    done

    "$PYTHON" -m venv --without-pip "$dest/.venv"
    rm -f "$dest"/.venv/bin/[Aa]ctivate* # they name $DESTDIR
    "$PYTHON" -m tools.runtime_packages "$(echo "$dest"/.venv/lib/python*/site-packages)"
    # The servers cannot write there.
    "$dest/.venv/bin/python" -m compileall -q -s "$DESTDIR" -p / "$dest/nts" "$dest"/.venv/lib/python*/site-packages

    if "$PYTHON" -c 'import build_manpages, pytest, shtab' 2>/dev/null; then
        "$PYTHON" -m tools.manuals "$DESTDIR$PREFIX/share"
    else
        echo 'install: no man pages or shell completion: what makes them comes with ./bootstrap test' >&2
    fi

    (cd deploy && find systemd sysusers.d tmpfiles.d -type f) | while read -r file; do
        mkdir -p "$(dirname -- "$(place "$file")")"
        sed "s|/usr/local/lib/nts|$lib|g" "deploy/$file" >"$(place "$file")"
    done
    [ -e "$DESTDIR$config" ] || { mkdir -p "$DESTDIR/etc/nts" && cp deploy/server.ini "$DESTDIR$config"; }
}

case $1 in
    install)
        remove # what an older version had
        copy
        case $(readlink -f "$PYTHON") in
            /home/* | /root/*) echo "install: warning: systemd's units hide $(readlink -f "$PYTHON") from the servers" >&2 ;;
        esac
        echo "installed in $DESTDIR$lib; README.md, \"Install\", says what to do next"
        ;;
    uninstall) remove ;;
    *) usage ;;
esac
