#!/bench/busybox sh
# PID 1 of a guest that is measured. Its marks go through the kernel's log, which stamps them with
# the guest's own clock; the host reads them from the console.
# shellcheck disable=SC2086

PATH=/bench
busybox() { /bench/busybox "$@"; }
mark() { echo "bench: $*" >/dev/kmsg; }

busybox mkdir -p /proc /sys /dev /root /tmp
busybox mount -t proc none /proc
busybox mount -t sysfs none /sys
busybox mount -t devtmpfs none /dev

for word in $(busybox cat /proc/cmdline); do
    case "$word" in
    bench.share=*) share="${word#*=}" ;;
    bench.load=*) load="${word#*=}" ;;
    esac
done

case "$share" in
9p) options="-t 9p -o trans=virtio,version=9p2000.L,msize=524288,cache=loose root" ;;
virtiofs) options="-t virtiofs root" ;;
disk) options="-t ext4 -o noatime /dev/vda" ;;
esac
# What only other machines and images need.
busybox grep -vE '/(squashfs|erofs|overlay|loop|virtio_net|virtio_rng|virtio_mmio)\.ko' \
    /lib/modules/outcrop.list >/tmp/modules
while read -r module; do
    busybox insmod "$module" 2>/dev/null
done </tmp/modules

# step NAME COMMAND: in the tree, timed.
step() {
    mark "$1 begin"
    if busybox chroot /root /bin/sh -ec "$2" >/tmp/said 2>&1; then
        mark "$1 end"
    else
        mark "$1 failed: $(busybox tail -n 3 /tmp/said | busybox tr '\n' ' ')"
    fi
}

work() {
    for place in proc dev tmp bench; do
        busybox mkdir -p /root/$place
    done
    busybox mount -t proc none /root/proc
    busybox mount -o bind /dev /root/dev
    busybox mount -t tmpfs none /root/tmp
    busybox mount -o bind /bench /root/bench
    export PATH=/usr/local/bin:/usr/bin:/bin HOME=/tmp
    # An earlier guest that was killed may have left something.
    busybox chroot /root /bin/sh -c 'rm -rf /work; mkdir /work'
    step find-cold 'find /usr -ls | wc -l > /tmp/names'
    mark "find-cold count $(busybox cat /root/tmp/names)"
    step find-warm 'find /usr -ls | wc -l > /tmp/names'
    step untar 'tar xf /bench/files.tar -C /work; sync'
    step git-cold 'cd /srv/repository; test -z "$(git status --porcelain)"'
    step git-warm 'cd /srv/repository; test -z "$(git status --porcelain)"'
    step configure 'mkdir /work/configure; cd /work/configure; sh /srv/configure'
    busybox chroot /root /bin/sh -c 'rm -rf /work'
    PATH=/bench
    for place in bench tmp dev proc; do
        busybox umount /root/$place
    done
}

mark "usable begin"
if busybox mount $options /root && busybox ls -l /root >/dev/null; then
    mark "usable end"
    [ "$load" = load ] && work
else
    mark "usable failed"
fi
busybox umount /root
busybox sync
busybox dmesg | busybox grep 'bench: ' >/dev/console
echo "bench: over" >/dev/console
busybox poweroff -f
