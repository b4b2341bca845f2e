#!/usr/bin/env bash
# What a newcomer does: a fresh clone in a new folder, `make run`, `dropframe demo`, Ctrl-C. In an environment of its own:
# only Git, make, a shell and Python with venv are found, however much more is installed. As root it is done twice, the
# second time as an ordinary user. Nothing is fetched but libraries.
#   tests/first_run.sh [--test] [--user] [--weights FILE]
# --user leaves root's turn out. --test runs `make test` as well; --weights puts object weights in place, so that objects must be found, too.
set -euo pipefail

project=$(cd "$(dirname "$0")/.." && pwd)
test="" weights="" user_alone=""
while (($#)); do
    case $1 in
        --test) test=yes ;;
        --user) user_alone=yes ;;
        --weights) weights=$(realpath "${2:?--weights needs a file}") && shift ;;
        *) echo "usage: tests/first_run.sh [--test] [--user] [--weights FILE]" >&2 && exit 2 ;;
    esac
    shift
done
python=$(${PYTHON:-python3} -c 'import sys; print(sys.executable)')
base=$(mktemp -d)
trap 'pkill -f "^$base/" || true; rm -rf "$base"' EXIT # also a Dropframe that was left running by what failed
chmod 755 "$base"

die() {
    echo "first_run.sh: $*" >&2
    exit 1
}

# What is on a machine with Git, make and Python alone.
mkdir "$base/bin"
for program in bash cat chmod cp cut date dirname env expand getent git grep head id ln ls make mkdir mktemp mv \
    nice nproc ps pwd rm sed sh sleep sort tail tee touch tr true uname wc; do
    found=$(type -P "$program") && ln -s "$found" "$base/bin/$program"
done
git clone -q --no-local "$project" "$base/clone"

# One newcomer. $1: the folder; the rest: how to become the user.
newcomer() {
    local folder=$1 begun ready took make
    shift
    # An ordinary user may not be let into the folder of root's Python; then it is the system's.
    "$@" "$python" -c "" 2>/dev/null || python=/usr/bin/python3
    ln -sfn "$python" "$base/bin/python3"
    local as=("$@" env -i PATH="$base/bin" HOME="$folder/home" LANG=C.UTF-8)
    for name in PIP_INDEX_URL PIP_FIND_LINKS PIP_CERT SSL_CERT_FILE http_proxy https_proxy no_proxy TORCH_INDEX; do
        [[ -n ${!name:-} ]] && as+=("$name=${!name}")
    done
    cp -r "$base/clone" "$folder/dropframe"
    mkdir -p "$folder/home" "$folder/dropframe/data/models"
    [[ -z $weights ]] || cp "$weights" "$folder/dropframe/data/models/"
    [[ $# == 0 ]] || chown -R "$user" "$folder"
    cd "$folder/dropframe"
    begun=$SECONDS
    "${as[@]}" make run ARGS="--offline --port 0" >"$folder/log" 2>&1 &
    make=$!
    until grep -q "^No video at hand" "$folder/log"; do
        kill -0 "$make" 2>/dev/null || die "make run has ended: $(tail -40 "$folder/log")"
        ((SECONDS - begun < 900)) || die "make run was not ready: $(tail -40 "$folder/log")"
        sleep 0.5
    done
    ready=$((SECONDS - begun))
    "${as[@]}" make demo >"$folder/demo" 2>&1 || die "dropframe demo: $(cat "$folder/demo" "$folder/log")"
    took=$((SECONDS - begun - ready))
    grep -q "DROPFRAME DEMO" "$folder/demo" || die "the text was not read: $(cat "$folder/demo")"
    [[ -z $weights ]] || grep -q "stop sign (" "$folder/demo" || die "no object was found: $(cat "$folder/demo")"
    kill -TERM "$(pgrep -f "^$folder/dropframe/.venv/bin/python .*dropframe run ")"
    wait "$make" || die "it did not end well: $(cat "$folder/log")"
    for number in 1 2 3 4; do
        grep -q "^$number/4 " "$folder/log" || die "step $number was not told: $(cat "$folder/log")"
    done
    grep -E "^(Ready|Drop videos|No video)" "$folder/log"
    cat "$folder/demo"
    echo "first_run.sh: ${*:-$(id -un)}: ready after $ready s, a result $took s later, $(du -sm .venv | cut -f1) MiB"
    if [[ -n $test ]]; then
        "${as[@]}" make test
    fi
    cd /
}

if [[ -z $user_alone ]]; then
    mkdir "$base/one"
    newcomer "$base/one"
    rm -rf "$base/one"
fi
if ((EUID == 0)); then
    user=nobody
    mkdir "$base/two"
    newcomer "$base/two" runuser -u "$user" --
fi
echo "first_run.sh: 1 passed, 0 failed"
