output "head_instance_id" {
  description = "The head: the target of SSM sessions."
  value       = aws_instance.head.id
}

output "autoscaler_instance_id" {
  description = "The autoscaler's instance, to start beside a head that has stopped itself."
  value       = aws_instance.autoscaler.id
}

output "nodes_security_group_id" {
  description = "Security group of the Ray nodes: let it reach the tracking server."
  value       = aws_security_group.nodes.id
}

output "token_secret_name" {
  description = "Secret with Ray's authentication token."
  value       = aws_secretsmanager_secret.token.name
}

output "autoscaler" {
  description = "The configuration of Ray's autoscaler."
  value       = local.autoscaler
}
