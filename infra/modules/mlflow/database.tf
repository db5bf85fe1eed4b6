# PostgreSQL for runs, metrics and users: encrypted, TLS forced (RDS's default since 15), reached by the server alone. AWS makes and rotates its
# password in a secret that Terraform never reads.

resource "aws_db_subnet_group" "this" {
  name       = "${var.name}-mlflow"
  subnet_ids = var.subnets[*].id
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV2_AWS_30:A log of every statement would repeat what users store, and nobody reads it
  #checkov:skip=CKV_AWS_161:Its one client logs in with a password that AWS makes and rotates
  #checkov:skip=CKV_AWS_118:CPU, memory and disk once a minute are enough for a tracking server
  #checkov:skip=CKV_AWS_353:A tracking server's queries are few and not ours to tune
  identifier                    = "${var.name}-mlflow"
  engine                        = "postgres"
  engine_version                = "16"
  instance_class                = var.database_instance_class
  allocated_storage             = 20
  max_allocated_storage         = 200
  storage_type                  = "gp3"
  storage_encrypted             = true
  kms_key_id                    = var.kms_key_arn
  db_name                       = "mlflow"
  username                      = "mlflow"
  manage_master_user_password   = true
  master_user_secret_kms_key_id = var.kms_key_arn
  db_subnet_group_name          = aws_db_subnet_group.this.name
  vpc_security_group_ids        = [aws_security_group.database.id]
  publicly_accessible           = false
  multi_az                      = var.database_in_two_zones
  backup_retention_period       = 7
  copy_tags_to_snapshot         = true
  auto_minor_version_upgrade    = true

  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]

  deletion_protection       = var.database_keeps_on_destroy
  skip_final_snapshot       = !var.database_keeps_on_destroy
  final_snapshot_identifier = "${var.name}-mlflow-last"
}

resource "aws_security_group" "database" {
  name        = "${var.name}-mlflow-database"
  description = "PostgreSQL from the tracking server"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-mlflow-database" }
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  security_group_id            = aws_security_group.database.id
  description                  = "PostgreSQL from the tracking server"
  referenced_security_group_id = aws_security_group.server.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}
