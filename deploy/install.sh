#!/usr/bin/env bash
# Installs Dropframe as two services on a host with systemd, upgrades it, or removes it. Running it again is safe.
set -euo pipefail
umask 022 # the user that runs the services must be able to read the program

usage() {
    cat <<'TEXT'
usage: deploy/install.sh [--wheel FILE] [--root DIR] [--no-start]
       deploy/install.sh --uninstall [--root DIR]

  --wheel FILE  the wheel to install (default: the newest in dist/, which "make release" makes)
  --root DIR    install below DIR and start nothing: for trying it out
  --no-start    do not enable or start the services
  --uninstall   remove program, units and command; videos, results, jobs, settings and the user stay

What goes where:
  /opt/dropframe/VERSION    the program; /opt/dropframe/current points at the one in use
  /etc/dropframe            settings: dropframe.toml
  /var/lib/dropframe        inbox, outbox, data
  /etc/systemd/system       dropframe.service, dropframe-sidecar.service
  /usr/local/bin/dropframe  the command, run as the user dropframe
TEXT
}

die() {
    echo "install.sh: $*" >&2
    exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
root="" wheel="" uninstall="" start=yes
while (($#)); do
    case $1 in
        --root) root=$(realpath -m "${2:?--root needs a folder}") && shift ;;
        --wheel) wheel=${2:?--wheel needs a file} && shift ;;
        --uninstall) uninstall=yes ;;
        --no-start) start="" ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    shift
done
[[ $root == / ]] && root=""

((EUID == 0)) || die "run it as root (sudo)."
python=${PYTHON:-python3}
units=(dropframe.service dropframe-sidecar.service)
managed=""
[[ -z $root && -d /run/systemd/system ]] && managed=yes

if [[ -n $uninstall ]]; then
    if [[ -n $managed ]]; then
        systemctl disable --now "${units[@]}" 2>/dev/null || true
    fi
    rm -f "${units[@]/#/$root/etc/systemd/system/}"
    rm -f "$root/usr/lib/sysusers.d/dropframe.conf" "$root/usr/lib/tmpfiles.d/dropframe.conf"
    rm -f "$root/usr/local/bin/dropframe"
    rm -rf "$root/opt/dropframe"
    [[ -n $managed ]] && systemctl daemon-reload
    echo "Dropframe is removed. These stay; remove them yourself when nothing in them is needed any more:"
    echo "  $root/var/lib/dropframe (videos, results, jobs), $root/etc/dropframe (settings), the user dropframe"
    exit 0
fi

"$python" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null ||
    die "$python is not Python 3.11 to 3.14 with venv; install python3-venv, or name another with PYTHON=."
if [[ -z $wheel ]]; then
    wheel=$(find "$project/dist" -name 'dropframe-*.whl' -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -1 | cut -d' ' -f2-) || true
    [[ -n $wheel ]] || die "there is no wheel in $project/dist; run make release first, or name one with --wheel."
fi
[[ -f $wheel ]] || die "$wheel is not there."
version=$(basename "$wheel" | cut -d- -f2)

# The user and the folders.
install -D -m 644 "$here/systemd/dropframe.sysusers" "$root/usr/lib/sysusers.d/dropframe.conf"
install -D -m 644 "$here/systemd/dropframe.tmpfiles" "$root/usr/lib/tmpfiles.d/dropframe.conf"
install -d -m 755 "$root/etc"
systemd-sysusers --root="$root/" dropframe.conf
systemd-tmpfiles --root="$root/" --create dropframe.conf

# The program: a folder for each version, so that an upgrade leaves the old one whole to go back to.
target="$root/opt/dropframe/$version"
if [[ ! -x $target/bin/python ]]; then
    install -d -m 755 "$root/opt/dropframe"
    "$python" -m venv "$target"
fi
"$target/bin/pip" install --quiet --disable-pip-version-check -c "$project/constraints.txt" "$wheel"
# A wheel of the same version that was made anew counts as installed for pip.
"$target/bin/pip" install --quiet --disable-pip-version-check --no-deps --force-reinstall "$wheel"
install -D -m 644 -t "$target/share/doc/dropframe" "$project/README.md" "$project"/docs/*.md
ln -sfn "$version" "$root/opt/dropframe/current.new"
mv -T "$root/opt/dropframe/current.new" "$root/opt/dropframe/current"

# Settings are made once and never overwritten.
group=$(grep '^dropframe:' "$root/etc/group" | cut -d: -f3)
if [[ ! -e $root/etc/dropframe/dropframe.toml ]]; then
    install -d -m 750 -g "$group" "$root/etc/dropframe"
    install -m 640 -g "$group" "$here/dropframe.toml" "$root/etc/dropframe/dropframe.toml"
fi

install -D -m 755 "$here/dropframe.sh" "$root/usr/local/bin/dropframe"
for unit in "${units[@]}"; do
    install -D -m 644 "$here/systemd/$unit" "$root/etc/systemd/system/$unit"
done

if [[ -n $managed ]]; then
    systemctl daemon-reload
    if [[ -n $start ]]; then
        systemctl enable --quiet "${units[@]}"
        systemctl restart "${units[@]}"
    fi
fi
echo "Dropframe $version is in $target."
echo "Drop videos into $root/var/lib/dropframe/inbox; results appear in $root/var/lib/dropframe/outbox."
