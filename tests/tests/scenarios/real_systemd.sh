#!/bin/bash
# What `real_systemd` does inside its container, as root. Every finding is a line `name=value`, or a file of its own; the
# scenario judges them.
cd /scenario || exit
exec >walk.log 2>&1
set -u

say() { printf '%s=%s\n' "$1" "$2" >>findings; }

# try NAME COMMAND...: its status, milliseconds and output.
try() {
    local name=$1 begin=${EPOCHREALTIME/./} status
    shift
    "$@" >"out.$name" 2>&1
    status=$?
    say "$name.status" "$status"
    say "$name.ms" $(((${EPOCHREALTIME/./} - begin) / 1000))
}

# await NAME SECONDS COMMAND...: whether the command succeeds within the time.
await() {
    local name=$1 end=$((SECONDS + $2))
    shift 2
    until "$@"; do
        if ((SECONDS >= end)); then
            say "$name" no
            return 1
        fi
        sleep 0.1
    done
    say "$name" yes
}

show() { systemctl show --property="$1" --value devourd; }
settings() { install -m 640 -g devour "settings.$1" /etc/devour/devour.yaml; }
digested() { wc -l <"ledgers/$1" 2>/dev/null || echo 0; }
status_says() { [[ $(show StatusText) == *"$1"* ]]; }
digests_beyond() { (($(digested "$1") > $2)); }
runs_beside() { [[ $(show ActiveState) == active && $(show MainPID) != "$1" ]]; }
is_there() { [ -e "$1" ]; }

# Of version 1 the controllers are read-only in a container, and MemoryMax= would do nothing.
if [ -d /sys/fs/cgroup/memory ]; then
    mount -o remount,bind,rw /sys/fs/cgroup/memory
    systemctl daemon-reexec
fi
say systemd "$(systemctl --version | head -n 1)"

## The package.
try install dpkg -i devourd.deb
say user "$(id -un devour):$(id -gn devour)"
say settings "$(stat -c %U:%G:%a /etc/devour/devour.yaml)"
say plugins "$(ls -A /usr/lib/devour/plugins | wc -l)"
say after_install "$(show ActiveState)"
try verify systemd-analyze verify devourd.service
systemd-analyze security --no-pager devourd.service >out.security
say exposure "$(sed -n 's/.*Overall exposure level for devourd.service: \([0-9.]*\).*/\1/p' out.security)"
try check runuser -u devour -- devourd check --settings /etc/devour/devour.yaml
try demo devourd demo --messages 400 --json
try start_default systemctl start devourd
say default_status "$(show StatusText)"
try stop_default systemctl stop devourd

## Real routes.
mkdir /etc/systemd/system/devourd.service.d
install -m 644 drop-in.conf /etc/systemd/system/devourd.service.d/scenario.conf
systemctl daemon-reload
install -m 755 libdevour_test_ledger.so /usr/lib/devour/plugins/
settings first
try start systemctl start devourd
await running 30 status_says "1 running"
await digests 30 digests_beyond orders 200
systemctl status --no-pager devourd >out.status
pid=$(show MainPID)

settings bad
try reload_bad systemctl reload devourd
say after_bad "$(show ActiveState):$(show StatusText)"
say same_after_bad "$([ "$(show MainPID)" = "$pid" ] && echo yes)"

## A plugin that the kernel takes for its memory: the good reload adds it.
settings hungry
before=$(digested orders)
try reload_good systemctl reload devourd
await hungry_digested 60 grep -q $'\tok\t' ledgers/hungry
await others_went_on 30 digests_beyond orders $((before + 100))
# How often its bound was met (version 1), or how many the kernel took for it (version 2).
own=system.slice/devourd.service
say bound_met "$(cat /sys/fs/cgroup/memory/$own/memory.failcnt 2>/dev/null ||
    sed -n 's/^oom_kill //p' /sys/fs/cgroup/$own/memory.events)"
journalctl --no-pager -u devourd >out.after_oom
say taken "$(grep '"route":"hungry"' out.after_oom | grep -c 'plugin down.*killed by SIGKILL')"
say same_after_oom "$([ "$(show MainPID)" = "$pid" ] && echo yes)"
await well_after_oom 30 status_says "2 running"

## A daemon that stands still: the watchdog's.
kill -STOP "$pid"
await watchdog 40 runs_beside "$pid"
before=$(digested orders)
await digests_after_watchdog 30 digests_beyond orders "$before"

## Crashes.
for signal in ABRT KILL; do
    pid=$(show MainPID)
    kill -"$signal" "$pid"
    await "after_$signal" 40 runs_beside "$pid"
    before=$(digested orders)
    await "digests_after_$signal" 30 digests_beyond orders "$before"
done
say restarts "$(show NRestarts)"

## Another version of the package: what runs is restarted.
pid=$(show MainPID)
try upgrade dpkg -i devourd.deb
await upgraded 30 runs_beside "$pid"
say kept_settings "$(cmp -s settings.hungry /etc/devour/devour.yaml && echo yes)"

## The end.
touch drain
await drained 120 is_there drained
try stop systemctl stop devourd
say after_stop "$(show ActiveState):$(show Result):$(show ExecMainStatus)"
systemctl start devourd
try remove dpkg -r devourd
say after_remove "$(grep -lx devourd /proc/[0-9]*/comm 2>/dev/null | wc -l):$(systemctl is-active devourd)"
say plugin_stays "$(ls /usr/lib/devour/plugins)"
say unit_gone "$(systemctl cat devourd 2>&1 | grep -c 'No files found')"
try purge dpkg -P devourd
say left "$(ls -d /etc/devour /var/lib/devour /usr/bin/devourd 2>/dev/null | wc -l)"
journalctl --no-pager -u devourd >out.journal
