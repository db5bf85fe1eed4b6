output "log_groups" {
  description = "Log groups for Ray's logs and metrics: names and ARNs."
  value       = { for kind, group in aws_cloudwatch_log_group.this : kind => { name = group.name, arn = group.arn } }
}
