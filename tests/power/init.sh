#!/bin/busybox sh
# The first process of the guest that tests/power.rs boots: delivers and reports what the last boot
# left on the disk, then accepts windows until the emulator is killed.
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /disk /tmp
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
echo 1 >/proc/sys/kernel/printk # only errors of the kernel on the console
mount -t ext4 /dev/nvme0n1 /disk

run() { power --exact "$1" --ignored --nocapture 2>&1; }
run delivers_the_spool && run accepts_until_power_loss
echo "== ended"
poweroff -f
