output "uri" {
  description = "Address of the tracking server inside the network."
  value       = "http://${local.address}:5000"
}

output "security_group_id" {
  description = "Security group of the server: allow port 5000 to it."
  value       = aws_security_group.server.id
}

output "jobs_secret_arn" {
  description = "Secret with the password of the user that jobs log in as."
  value       = aws_secretsmanager_secret.this["jobs"].arn
}

output "instance_id" {
  description = "The server: the target of SSM sessions."
  value       = aws_instance.server.id
}

output "database_id" {
  description = "The database, for its alarms."
  value       = aws_db_instance.this.identifier
}
