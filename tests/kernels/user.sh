# Run by init.sh: a user without privileges profiles own processes. Debian's kernels deny that at
# first.

as_user="/bin/setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all"

mkdir -m 777 /tmp/user
cd /tmp/user
answer user_denied $as_user everytick record -q -o denied.folded -- chain
echo 2 >/proc/sys/kernel/perf_event_paranoid
answer user_record $as_user everytick record -v -F 199 -o user.folded -- \
	sh -c "timeout 4 taskset 1 chain; true"
answer user_folded cat user.folded
$as_user taskset 1 chain &
wait_for_cpu_time $! 1
answer user_attach $as_user everytick record -v -F 199 -d 5 -o attach.folded -p $!
answer attach_folded cat attach.folded
killall chain
cd /
