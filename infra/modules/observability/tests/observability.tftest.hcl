mock_provider "aws" {
  source          = "../../mocks"
  override_during = plan
}

variables {
  name               = "test"
  kms_key_arn        = "arn:aws:kms:eu-central-1:123456789012:key/k"
  retention_days     = 30
  alarm_email        = "someone@example.org"
  mlflow_instance_id = "i-mlflow"
  database_id        = "test-mlflow"
}

run "logs_are_kept_and_alarms_reach_somebody" {
  command = plan

  assert {
    condition     = alltrue([for group in aws_cloudwatch_log_group.this : group.retention_in_days == 30 && group.kms_key_id == var.kms_key_arn])
    error_message = "Log groups are encrypted and end some day."
  }

  assert {
    condition = { for name, alarm in aws_cloudwatch_metric_alarm.this : name => "${alarm.metric_name} ${alarm.comparison_operator} ${alarm.threshold}" } == {
      ray-does-not-answer = "HeadHealthy LessThanThreshold 1"
      disk-fills-up       = "ray_node_disk_utilization_percentage GreaterThanThreshold 85"
      mlflow-is-down      = "StatusCheckFailed GreaterThanThreshold 0"
      database-fills-up   = "FreeStorageSpace LessThanThreshold 2147483648"
    }
    error_message = "The alarms that somebody should get up for."
  }

  assert {
    condition     = alltrue([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_actions == toset([aws_sns_topic.alarms.arn]) && alarm.treat_missing_data == "notBreaching"])
    error_message = "Every alarm mails somebody, and a cluster that is switched off raises none."
  }

  assert {
    condition     = aws_sns_topic_subscription.mail.endpoint == "someone@example.org" && aws_sns_topic.alarms.kms_master_key_id == var.kms_key_arn
    error_message = "The topic is encrypted and has its reader."
  }
}

run "a_retention_that_cloudwatch_does_not_know_is_refused" {
  command = plan

  variables {
    retention_days = 31
  }

  expect_failures = [var.retention_days]
}
