output "uri" {
  description = "Address of the tracking server inside the network."
  value       = "https://${local.address}:5000"
}

output "security_group_id" {
  description = "Security group of the server: allow port 5000 to it."
  value       = aws_security_group.server.id
}

output "user_secret_arns" {
  description = "Secrets with the passwords of the users, by the name of the user."
  value       = { for user in var.users : user => aws_secretsmanager_secret.this["user-${user}"].arn }
}

output "certificate_secret_arn" {
  description = "Secret with the certificate by which clients verify the server."
  value       = aws_secretsmanager_secret.this["certificate"].arn
}

output "instance_id" {
  description = "The server: the target of SSM sessions."
  value       = aws_instance.server.id
}

output "database_id" {
  description = "The database, for its alarms."
  value       = aws_db_instance.this.identifier
}
