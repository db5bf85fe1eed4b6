# Passwords and the certificate: Terraform makes the secrets, the server writes their values at its first boot. "server"
# holds the administrator's password and the key that signs sessions, "tls" the server's key and certificate,
# "certificate" what clients verify the server by, and "user-<name>" the password of a person or team.

locals {
  secrets = toset(concat(["server", "tls", "certificate"], [for user in var.users : "user-${user}"]))
}

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV2_AWS_57:Made at the first boot; README.md says how to change them. AWS rotates the database's password
  for_each = local.secrets

  name                    = "${var.name}/mlflow-${each.key}"
  description             = "MLflow, ${each.key}: written by the tracking server at its first boot"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = var.database_keeps_on_destroy ? 7 : 0
}

resource "aws_iam_role" "server" {
  name = "${var.name}-mlflow"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_instance_profile" "server" {
  name = aws_iam_role.server.name
  role = aws_iam_role.server.name
}

resource "aws_iam_role_policy" "server" {
  name = "server"
  role = aws_iam_role.server.id

  policy = templatefile("${path.module}/policies/server.json", {
    artifacts_bucket_arn = var.artifacts_bucket.arn
    kms_key_arn          = var.kms_key_arn
    region               = var.region
    repository_arn       = var.repository.arn
    secret_arns          = jsonencode(values(aws_secretsmanager_secret.this)[*].arn)
    database_secret_arn  = aws_db_instance.this.master_user_secret[0].secret_arn
  })
}
