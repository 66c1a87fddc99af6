#!/bin/busybox sh
# The first process of the guest that tests/power.rs boots: tells what the last life left on the disk, then accepts windows
# until somebody turns the machine off.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /disk /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo 1 >/proc/sys/kernel/printk # the console is ours
mount -t ext4 /dev/nvme0n1 /disk

story() { power --exact "$1" --ignored --nocapture 2>&1; }
story delivers_what_is_in_the_spool && story accepts_until_the_power_is_gone
echo "== ended"
poweroff -f
