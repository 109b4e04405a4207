#!/usr/bin/env bash
# A machine with systemd as its first process, made of this one, of which it sees everything and can change nothing.
#
#   machine.sh FOLDER GIFTS
#
# FOLDER is an empty one, and takes what the machine writes, in memory; it is gone with the machine. GIFTS is a folder that
# the machine sees as /srv/rig. The cgroup that it is started in is the machine's own, and is left for the caller to remove.
#
# systemd cleans up /tmp and mounts and writes as it likes when it starts. So this must never get there with the root, the
# devices, the settings or the cgroups of the machine that it runs on: each is replaced first, and looked at last.
set -euo pipefail
folder=$1 gifts=$2 root=$1/root

# Not left to the caller: without namespaces of its own all that follows would be done to this machine.
if [ $$ != 1 ]; then
    exec unshare --mount --pid --fork --uts --ipc --net --cgroup --kill-child "$0" "$@"
fi

# Nothing that is mounted from here on is seen outside.
mount --make-rprivate /
mount -t tmpfs -o mode=755 machine "$folder"
mkdir "$folder/changes" "$folder/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$folder/changes,workdir=$folder/work" machine "$root"
for hidden in home mnt root run tmp; do
    mkdir -p "$root/$hidden"
    mount -t tmpfs -o mode=755 machine "$root/$hidden"
done
chmod 1777 "$root/tmp"

mount -t tmpfs -o mode=755 machine "$root/dev"
# Nodes of its own, so that nothing here changes whom the other machine's are for.
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<<"$device"
    mknod --mode=666 "$root/dev/$name" c "$major" "$minor"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=1777 machine "$root/dev/shm"
mount -t devpts -o newinstance,mode=620,ptmxmode=666 machine "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

mount -t proc proc "$root/proc"
for settings in sys sysrq-trigger; do
    [ -e "$root/proc/$settings" ] || continue
    mount --bind "$root/proc/$settings" "$root/proc/$settings"
    mount -o remount,bind,ro "$root/proc/$settings"
done
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"

mkdir -p "$root/srv/rig"
mount --bind "$gifts" "$root/srv/rig"
mount -o remount,bind,ro "$root/srv/rig"

hostname machine
ip link set lo up
# Where the provider and the API are, as on another machine.
ip address add 203.0.113.10/32 dev lo

cd "$root"
mkdir -p outside
pivot_root . outside
umount -l /outside
rmdir /outside
# systemd leaves this to whoever starts it in a container; its credentials come by it.
mount --make-rshared /

# The last look: nothing is mounted but what was made above, apart from the gifts, which are read-only.
foreign=$(awk '$5 != "/srv/rig" { for (i = 7; $i != "-"; i++); print $(i + 1) }' /proc/self/mountinfo | sort -u |
    grep -vxE 'overlay|tmpfs|devpts|proc|sysfs|cgroup2' || true)
if [ "$(stat -f -c %T /)" != overlayfs ] || [ "$(stat -f -c %T /tmp)" != tmpfs ] || [ -n "$foreign" ]; then
    echo "machine.sh: this is not a machine of its own ($foreign)" >&2
    exit 1
fi

# What a service needs of a machine, without what would look for hardware, log people in, or upgrade packages.
for unit in getty.target systemd-logind.service systemd-udevd.service systemd-udev-trigger.service timers.target; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
# What the other machine mounts is none of this one's.
rm -f /etc/fstab /etc/crypttab
# Container images forbid packages to start anything; a machine does not.
rm -f /usr/sbin/policy-rc.d
if ! command -v sudo >/dev/null; then
    printf '#!/bin/sh\nexec "$@"\n' >/usr/local/bin/sudo
    chmod 755 /usr/local/bin/sudo
fi
exec env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin setpriv \
    --bounding-set=-mac_admin,-mac_override,-mknod,-sys_boot,-sys_module,-sys_rawio,-sys_time,-sys_tty_config,-syslog,-wake_alarm \
    /lib/systemd/systemd --system --log-target=journal --show-status=no --unit=basic.target
