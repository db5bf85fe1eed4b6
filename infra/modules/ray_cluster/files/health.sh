#!/bin/bash
# Every minute: tells CloudWatch whether Ray answers on this head, and restarts it when Docker has called it unhealthy.
set -euo pipefail
source /etc/fss/node.env
status=$(docker inspect --format '{{.State.Health.Status}}' ray 2>/dev/null || echo absent)
healthy=0
[[ $status == healthy || $status == starting ]] && healthy=1
aws cloudwatch put-metric-data --region "$REGION" --namespace "$METRIC_NAMESPACE" --metric-name HeadHealthy \
    --dimensions "cluster=$CLUSTER" --value "$healthy"
if [[ $status == unhealthy ]]; then systemctl restart ray.service; fi
