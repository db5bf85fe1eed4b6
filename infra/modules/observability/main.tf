# Log groups for Ray, and the alarms that somebody should get up for.

resource "aws_cloudwatch_log_group" "this" {
  for_each = toset(["logs", "metrics"])

  name              = "/fss/${var.name}/ray-${each.key}"
  retention_in_days = var.retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = var.kms_key_arn
}

resource "aws_sns_topic_subscription" "mail" {
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

locals {
  alarms = {
    # A head that stopped itself sends nothing, which is no alarm; one that is up and sends 0 is.
    ray-does-not-answer = {
      description = "The head is up but Ray has not answered its health check for five minutes."
      namespace   = "fss"
      metric      = "HeadHealthy"
      dimensions  = { cluster = var.name }
      statistic   = "Maximum"
      comparison  = "LessThanThreshold"
      threshold   = 1
      minutes     = 1
    }
    disk-fills-up = {
      description = "A node's disk is more than 85 % full: what Ray spills will soon have no room."
      namespace   = "fss"
      metric      = "ray_node_disk_utilization_percentage"
      dimensions  = { cluster = var.name }
      statistic   = "Maximum"
      comparison  = "GreaterThanThreshold"
      threshold   = 85
      minutes     = 1
    }
    mlflow-is-down = {
      description = "The tracking server's instance fails its status checks."
      namespace   = "AWS/EC2"
      metric      = "StatusCheckFailed"
      dimensions  = { InstanceId = var.mlflow_instance_id }
      statistic   = "Maximum"
      comparison  = "GreaterThanThreshold"
      threshold   = 0
      minutes     = 1
    }
    database-fills-up = {
      description = "The tracking database has less than 2 GiB left."
      namespace   = "AWS/RDS"
      metric      = "FreeStorageSpace"
      dimensions  = { DBInstanceIdentifier = var.database_id }
      statistic   = "Minimum"
      comparison  = "LessThanThreshold"
      threshold   = 2147483648
      minutes     = 5
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  period              = each.value.minutes * 60
  evaluation_periods  = 5
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}
