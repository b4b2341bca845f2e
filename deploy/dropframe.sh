#!/bin/sh
# The dropframe command of this host's installation. Root becomes the user that the services run as, so that all
# files keep one owner; others need the group dropframe to look at jobs.
export DROPFRAME_HOME="${DROPFRAME_HOME:-/var/lib/dropframe}"
export DROPFRAME_CONFIG="${DROPFRAME_CONFIG:-/etc/dropframe/dropframe.toml}"
python=/opt/dropframe/current/bin/python
if [ "$(id -u)" = 0 ]; then
    user=$(id -u dropframe) || exit 5
    export HOME="$DROPFRAME_HOME"
    exec setpriv --reuid "$user" --regid "$(id -g dropframe)" --init-groups -- "$python" -P -m daemon "$@"
fi
exec "$python" -P -m daemon "$@"
