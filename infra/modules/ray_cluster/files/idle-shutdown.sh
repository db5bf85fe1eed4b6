#!/bin/bash
# Every five minutes: powers the head off once no job has been waiting or running for IDLE_MINUTES. A Ray that does not
# answer counts as idle: a broken cluster must not cost money for ever.
set -euo pipefail
source /etc/fss/node.env
busy_at=/run/fss-busy # its time stamp is the last moment that something ran; /run starts empty, so boot counts as busy
jobs=$(curl -sf --max-time 20 -H "Authorization: Bearer $(cat /run/fss/token)" http://127.0.0.1:8265/api/jobs/ || true)
if [[ ! -e $busy_at ]] || grep -Eq '"status": *"(PENDING|RUNNING)"' <<<"$jobs"; then touch "$busy_at"; fi
idle=$((($(date +%s) - $(stat -c %Y "$busy_at")) / 60))
if ((idle >= IDLE_MINUTES)); then
    echo "no job for $idle minutes: powering off"
    systemctl poweroff
fi
