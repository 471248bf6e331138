#!/bin/sh
# Starts systemd as process 1 of a machine of namespaces; the first process in them calls this.
#
# usage: boot.sh FOLDER LAYER
#   FOLDER  an empty folder to mount the machine's files below
#   LAYER   a folder whose files the machine has beside those of the host
#
# Nothing of it reaches the host: what is written goes to memory, the kernel's settings are
# read-only, and nothing that the host has enabled is started or mounted.
set -eu

folder=$1 layer=$2
root=$folder/root

mount --make-rprivate /
mount -t tmpfs -o size=512m tmpfs "$folder"
mkdir "$folder/written" "$folder/work" "$root"
cp -a "$layer/." "$folder/written"
chmod 755 "$folder/written"
mount -t overlay -o "lowerdir=/,upperdir=$folder/written,workdir=$folder/work" overlay "$root"

mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
[ ! -e "$root/proc/sysrq-trigger" ] || mount --bind /dev/null "$root/proc/sysrq-trigger"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"

units=usr/lib/systemd/system
for place in run tmp dev etc/systemd/system usr/lib/systemd/system-generators \
    "$units/local-fs.target.wants" "$units/sysinit.target.wants" \
    "$units/sockets.target.wants" "$units/timers.target.wants"; do
    mount -t tmpfs -o size=64m,mode=755 tmpfs "$root/$place"
done
chmod 1777 "$root/tmp"

for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o size=64m tmpfs "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

ip link set lo up

mkdir "$root/host"
cd "$root"
pivot_root . host
umount -l /host

# The kernel has one audit log for all.
ln -s /dev/null /etc/systemd/system/systemd-journald-audit.socket
cat >/etc/systemd/system/machine.target <<'UNIT'
[Unit]
Wants=systemd-journald.service basic.target
UNIT
: >/etc/machine-id
exec env -i container=llmstatsd /lib/systemd/systemd --system --unit=machine.target --show-status=no
