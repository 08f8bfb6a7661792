# SPDX-License-Identifier: Apache-2.0
"""A command prefix under which some devices do not exist, without touching the host's /dev."""

# A mount namespace of its own, in which /dev is a copy without the named nodes; /dev/shm is the real one. All of
# it ends with the process.
_SCRIPT = """
set -euo pipefail
new=$1
hidden=" $2 "
shift 2
mkdir -p "$new"
mount -t tmpfs -o mode=755 thermocline-dev "$new"
for node in /dev/*; do
    name=${node##*/}
    if [[ -c $node && $hidden != *" $name "* ]]; then cp -a "$node" "$new/"; fi
done
mkdir "$new/shm"
mount --bind /dev/shm "$new/shm"
mount --rbind "$new" /dev
exec "$@"
"""


def without_devices(names, directory):
    """`directory` becomes the mount point; it stays behind, empty."""
    return ["unshare", "--mount", "--propagation", "private", "bash", "-c", _SCRIPT, "without-devices", str(directory),
            " ".join(names)]
