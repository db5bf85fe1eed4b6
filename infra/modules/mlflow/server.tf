# The tracking server: the project's image on a private instance, TLS and passwords required, artifacts passed on to S3.

locals {
  address = cidrhost(var.subnets[0].cidr, 11)

  environment = {
    REGION          = var.region
    IMAGE           = "${var.repository.url}@${var.image}"
    ADDRESS         = local.address
    DATABASE_HOST   = aws_db_instance.this.address
    DATABASE_SECRET = aws_db_instance.this.master_user_secret[0].secret_arn
    SECRETS         = "${var.name}/mlflow" # their names begin with it
    USERS           = join(" ", var.users)
    ARTIFACTS       = "s3://${var.artifacts_bucket.name}/mlflow"
  }
}

resource "aws_instance" "server" {
  #checkov:skip=CKV_AWS_126:The alarm uses status checks, which come every minute without detailed monitoring
  ami                         = var.ami_id
  instance_type               = var.instance_type
  subnet_id                   = var.subnets[0].id
  private_ip                  = local.address
  associate_public_ip_address = false
  vpc_security_group_ids      = [aws_security_group.server.id]
  iam_instance_profile        = aws_iam_instance_profile.server.name
  ebs_optimized               = true
  user_data_replace_on_change = true

  user_data = join("\n", ["#cloud-config", yamlencode({
    packages = ["amazon-ssm-agent", "awscli-2", "jq", "openssl"]
    write_files = [
      {
        path        = "/etc/fss/mlflow.env"
        permissions = "0644"
        content     = join("", [for key, value in local.environment : "${key}=\"${value}\"\n"])
      },
      {
        path        = "/usr/local/bin/fss-mlflow"
        permissions = "0755"
        content     = file("${path.module}/files/mlflow.sh")
      },
      {
        path        = "/usr/local/bin/fss-mlflow-check"
        permissions = "0755"
        content     = file("${path.module}/files/mlflow-check.sh")
      },
      {
        path        = "/etc/systemd/system/mlflow.service"
        permissions = "0644"
        content     = file("${path.module}/files/mlflow.service")
      },
      {
        path        = "/etc/systemd/system/mlflow-check.service"
        permissions = "0644"
        content     = "[Service]\nType=oneshot\nExecStart=/usr/local/bin/fss-mlflow-check\n"
      },
      {
        path        = "/etc/systemd/system/mlflow-check.timer"
        permissions = "0644"
        content     = "[Timer]\nOnBootSec=2min\nOnUnitActiveSec=2min\n\n[Install]\nWantedBy=timers.target\n"
      },
    ]
    runcmd = [
      "systemctl mask --now --no-block ecs",
      "systemctl enable --now --no-block amazon-ssm-agent",
      "systemctl daemon-reload",
      "systemctl enable --now --no-block mlflow.service mlflow-check.timer",
    ]
  })])

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 60
    encrypted   = true
  }

  tags = { Name = "${var.name}-mlflow" }

  lifecycle {
    ignore_changes = [ami] # a newer machine image does not replace a running server
  }
}

resource "aws_security_group" "server" {
  name        = "${var.name}-mlflow"
  description = "MLflow from the Ray nodes"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-mlflow" }
}

resource "aws_vpc_security_group_ingress_rule" "server" {
  security_group_id            = aws_security_group.server.id
  description                  = "MLflow from the Ray nodes"
  referenced_security_group_id = var.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5000
  to_port                      = 5000
}

resource "aws_vpc_security_group_egress_rule" "database" {
  security_group_id            = aws_security_group.server.id
  description                  = "PostgreSQL"
  referenced_security_group_id = aws_security_group.database.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  security_group_id            = aws_security_group.server.id
  description                  = "HTTPS to the endpoints of AWS services"
  referenced_security_group_id = var.endpoint_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "s3" {
  security_group_id = aws_security_group.server.id
  description       = "HTTPS to S3"
  prefix_list_id    = var.s3_prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}
