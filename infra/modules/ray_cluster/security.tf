# Nodes talk to each other, to AWS's endpoints and to the tracking server; nothing else reaches them, and they reach
# nothing else. People come in through SSM sessions, which need no open port. Ray's traffic stays inside this group.

resource "aws_security_group" "nodes" {
  name        = "${var.name}-nodes"
  description = "Ray nodes: each other, AWS endpoints, MLflow"
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-nodes" }
}

resource "aws_vpc_security_group_ingress_rule" "between_nodes" {
  #checkov:skip=CKV_AWS_25:From members of this group alone, not from any address; Ray chooses its ports anew at every start
  security_group_id            = aws_security_group.nodes.id
  description                  = "Ray between its nodes"
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "tcp"
  from_port                    = 1024
  to_port                      = 65535
}

resource "aws_vpc_security_group_egress_rule" "between_nodes" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "Ray between its nodes"
  referenced_security_group_id = aws_security_group.nodes.id
  ip_protocol                  = "tcp"
  from_port                    = 1024
  to_port                      = 65535
}

resource "aws_vpc_security_group_egress_rule" "endpoints" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "HTTPS to the endpoints of AWS services"
  referenced_security_group_id = var.endpoint_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_egress_rule" "s3" {
  security_group_id = aws_security_group.nodes.id
  description       = "HTTPS to S3"
  prefix_list_id    = var.s3_prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "mlflow" {
  security_group_id            = aws_security_group.nodes.id
  description                  = "MLflow"
  referenced_security_group_id = var.mlflow.security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5000
  to_port                      = 5000
}

# Ray's token. Terraform makes the secret but never sees its value: the head writes it at its first boot.
resource "aws_secretsmanager_secret" "token" {
  #checkov:skip=CKV2_AWS_57:Every node reads it at boot; README.md says how to change it, which restarts the cluster
  name                    = "${var.name}/ray-token"
  description             = "Ray's authentication token, written by the head at its first boot"
  kms_key_id              = var.kms_key_arn
  recovery_window_in_days = 0 # a destroyed cluster's token is of no use; its name can be used again at once
}
